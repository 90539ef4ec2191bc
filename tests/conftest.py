"""What the tests share."""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import anyio
import pytest

if TYPE_CHECKING:
    from streamkit.testing import Server

PARAMS: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
# Real streams, which are not part of the project: beside it, or absent.
RECORDINGS = Path(__file__).resolve().parents[1].parent / "shared" / "recordings"
RECORDED = sorted(RECORDINGS.glob("*.sse")) or [
    pytest.param(None, marks=pytest.mark.skip(reason="the recordings are not beside the project"))
]
FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.sse"))
BETA = frozenset({"beta_compaction", "beta_mcp"})


_TLS = ssl.create_default_context()  # loading the certificates takes longer than a test


def pytest_collection_finish() -> None:
    gc.freeze()  # what the imports made stays: a collection takes a tenth of the time without it


def sdk(server: Server, **options: Any) -> anthropic.Anthropic:
    """A client of the SDK for this server; without retries of its own, unless they are asked for."""
    http_client = anthropic.DefaultHttpxClient(verify=_TLS, trust_env=False)
    return server.client(http_client=http_client, **{"max_retries": 0, **options})


def async_sdk(server: Server, **options: Any) -> anthropic.AsyncAnthropic:
    """The same, async. Has to be closed."""
    http_client = anthropic.DefaultAsyncHttpxClient(verify=_TLS, trust_env=False)
    return server.async_client(http_client=http_client, **{"max_retries": 0, **options})


@contextlib.asynccontextmanager
async def client_for(mode: str, server: Server, **options: Any) -> AsyncIterator[Any]:
    """A client of either kind, by the name of the mode: "sync", "asyncio", "trio" or "aiohttp"."""
    if mode == "sync":
        yield sdk(server, **options)
        return
    if mode == "aiohttp":
        pytest.importorskip("aiohttp", reason="the SDK's extra is not installed")
        options = {"http_client": anthropic.DefaultAioHttpClient(), "max_retries": 0, **options}
        async with server.async_client(**options) as client:
            yield client
        return
    async with async_sdk(server, **options) as client:
        yield client


async def settled(value: Any) -> Any:
    """What a call of either kind of client gives."""
    return await value if inspect.isawaitable(value) else value


def run(mode: str, function: Callable[[], Awaitable[Any]]) -> Any:
    """In an event loop, and never for longer than this: nothing may hang."""

    async def guarded() -> Any:
        with anyio.fail_after(20):
            return await function()

    return anyio.run(guarded, backend="trio" if mode == "trio" else "asyncio")


@contextlib.contextmanager
def cancelled_once(stream: Any, ready: Callable[[Any], bool]) -> Iterator[None]:
    """Another thread cancels the stream, as soon as it is `ready`."""

    def cancel() -> None:
        while not ready(stream):
            threading.Event().wait(0.001)
        stream.cancel()

    thread = threading.Thread(target=cancel, daemon=True)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


def free(client: Any) -> None:
    """No connection of the client is in use."""
    pool = client._client._transport._pool
    assert [connection for connection in pool.connections if not connection.is_idle()] == []


def sse(*events: Any) -> bytes:
    """Frame events as the API does: a dict as an event of its type, bytes as they are."""
    return b"".join(
        event if isinstance(event, bytes) else f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        for event in events
    )


def start(*content: dict[str, Any], usage: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A `message_start`."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5"}
    message |= {"content": list(content), "stop_reason": None, "stop_sequence": None, **fields}
    return {"type": "message_start", "message": message | {"usage": usage or {"input_tokens": 3, "output_tokens": 1}}}


def opened(index: int = 0, kind: str = "text", **fields: Any) -> dict[str, Any]:
    """A `content_block_start`; of an empty text block by default."""
    block = {"type": kind, **({"text": ""} if kind == "text" else {}), **fields}
    return {"type": "content_block_start", "index": index, "content_block": block}


def tool(index: int = 0, name: str = "get_tide", kind: str = "tool_use") -> dict[str, Any]:
    """A `content_block_start` of a tool use, without input so far."""
    return opened(index, kind, id=f"toolu_{index}", name=name, input={})


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    """A `content_block_delta`."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def text(said: str, index: int = 0) -> dict[str, Any]:
    """A text delta."""
    return delta(index, "text_delta", text=said)


def tool_input(piece: str, index: int = 0) -> dict[str, Any]:
    """A piece of tool input."""
    return delta(index, "input_json_delta", partial_json=piece)


def closed(index: int = 0) -> dict[str, Any]:
    """A `content_block_stop`."""
    return {"type": "content_block_stop", "index": index}


def ending(stop_reason: str | None = "end_turn", output_tokens: int = 7, **usage: Any) -> dict[str, Any]:
    """A `message_delta`."""
    return {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": None},
        "usage": {"output_tokens": output_tokens, **usage},
    }


STOP = {"type": "message_stop"}
PING = {"type": "ping"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    return request.param


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> Path:
    """Each recorded body."""
    return request.param


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name that is the same in every process, for values whose `repr` tells where in memory they are."""
    return type(val).__name__ if " at 0x" in repr(val) else None


@pytest.fixture(params=RECORDED, ids=lambda path: path and path.name)
def recording(request: pytest.FixtureRequest) -> Path:
    """Each real stream."""
    return request.param


FUNCTIONS = ("stream_text", "stream_events", "collect", "streamed")


async def read_through(function: str, resource: Any, options: dict[str, Any] | None = None, **params: Any) -> str:
    """Read a reply to its end with one of the four functions, by name, and give its text as that function gives it."""
    import streamkit

    options, params = options or {}, {**PARAMS, **params}
    if function in ("collect", "streamed"):
        if function == "collect":
            given = streamkit.collect(resource, **options, **params)
        else:
            given = streamkit.streamed(resource.create, **options)(**params)
        given = await settled(given)
        content = given.content if function == "streamed" else given.message.content
        return "".join(block.text for block in content if block.type == "text")
    stream = getattr(streamkit, function)(resource, **options, **params)
    items = []
    if hasattr(stream, "__anext__"):
        async with stream:
            items += [item async for item in stream]
    else:
        with stream:
            items += stream
    if function == "stream_events":
        deltas = [item.delta for item in items if item.type == "content_block_delta"]
        items = [piece.text for piece in deltas if piece.type == "text_delta"]
    return "".join(items)


# The clients of the SDK for other clouds, each with what it asks for; nothing of it is anybody's.
PLATFORMS: dict[str, dict[str, Any]] = {
    "Bedrock": {"aws_access_key": "made-up", "aws_secret_key": "made-up", "aws_region": "nowhere-1"},
    "BedrockMantle": {"api_key": "made-up-key"},
    "AWS": {"api_key": "made-up-key", "workspace_id": "made-up-workspace"},
    "Vertex": {"access_token": "made-up-token", "project_id": "made-up-project", "region": "nowhere-1"},
    "GoogleCloud": {"token_provider": lambda: "made-up-token", "workspace_id": "made-up-workspace"},
    "Foundry": {"api_key": "made-up-key"},
}


@contextlib.asynccontextmanager
async def platform_for(mode: str, name: str, server: Server, **options: Any) -> AsyncIterator[Any]:
    """The client of either kind for a platform, by its name in the name of the class, on this server."""
    kind = getattr(anthropic, f"{'Async' if mode != 'sync' else ''}Anthropic{name}", None)
    if kind is None:
        pytest.skip(f"this SDK has no Anthropic{name}")
    if name == "Bedrock":
        pytest.importorskip("boto3", reason="Bedrock signs and decodes with boto3")
    http = anthropic.DefaultHttpxClient if mode == "sync" else anthropic.DefaultAsyncHttpxClient
    client = kind(
        **{"base_url": server.url, "max_retries": 0, **PLATFORMS[name], **options},
        http_client=http(verify=_TLS, trust_env=False),
    )
    try:
        yield client
    finally:
        closing = client.close()
        if mode != "sync":
            await closing
