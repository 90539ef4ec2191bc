"""The ways through the SDK to Claude, each with all four functions, over real sockets to a server on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage

import streamkit
from streamkit import BufferSink, StreamAPIError, StreamError, StreamTruncatedError
from streamkit.testing import Reply, Server, serve
from tests.support.clients import (
    PARAMS,
    PLATFORMS,
    assert_no_connection_in_use,
    client_for,
    platform_client_for,
    sdk_client,
)
from tests.support.harness import FUNCTIONS, awaited, entered, run

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

REPLY = Reply.text(["One ", "two"])
Handed = AbstractAsyncContextManager[tuple[Any, dict[str, Any]]]


def source(pick: Callable[[Any], Any]) -> Callable[[Any], Handed]:
    """A source that streamkit opens itself."""

    @contextlib.asynccontextmanager
    async def hand(client: Any) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
        yield pick(client), PARAMS

    return hand


def opened_stream(pick: Callable[[Any], Any]) -> Callable[[Any], Handed]:
    """What the SDK has opened, or is about to open."""

    @contextlib.asynccontextmanager
    async def hand(client: Any) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
        yield await awaited(pick(client)), {}

    return hand


def entered_manager(pick: Callable[[Any], Any]) -> Callable[[Any], Handed]:
    @contextlib.asynccontextmanager
    async def hand(client: Any) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
        async with entered(pick(client)) as stream:
            yield stream, {}

    return hand


@contextlib.asynccontextmanager
async def first_turn(client: Any) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    runner = client.beta.messages.tool_runner(**PARAMS, tools=[], stream=True)
    turns = aiter(runner) if hasattr(runner, "__aiter__") else iter(runner)
    try:
        yield await awaited(anext(turns) if hasattr(turns, "__anext__") else next(turns)), {}
    finally:
        with contextlib.suppress(anthropic.APIError, AssertionError):  # the runner misses the end of the turn
            await awaited(turns.aclose() if hasattr(turns, "aclose") else turns.close())


@dataclass(frozen=True)
class SourceCase:
    """A kind of source: `hand` gives what a program hands over, `name` and `code` are in the table of the docs."""

    name: str
    code: str
    hand: Callable[[Any], Handed]
    create: Callable[[Any], Any] | None = None
    """The function for `streamed`; what is opened already has none."""
    platform: str = ""
    by: str = "bytes"
    modes: tuple[str, ...] = ("sync", "asyncio")
    since: str = "0.80"
    note: str = ""
    beta: bool = False


def messages(client: Any) -> Any:
    return client.messages


def beta_messages(client: Any) -> Any:
    return client.beta.messages


def clients(
    name: str, code: str, adapt: Callable[[Any], Any] = lambda client: client, **fields: Any
) -> list[SourceCase]:
    """A client, stable and beta."""

    def beta(client: Any) -> Any:
        return adapt(client).beta.messages

    return [
        SourceCase(name, code, source(adapt), lambda client: adapt(client).messages.create, **fields),
        SourceCase(
            f"{name}, beta",
            f"{code}.beta.messages",
            source(beta),
            lambda client: beta(client).create,
            beta=True,
            **fields,
        ),
    ]


def streams(pick: Callable[[Any], Any], where: str, name: str, *, beta: bool) -> list[SourceCase]:
    """What the SDK makes of a resource."""

    def raw(client: Any) -> Any:
        return pick(client).create(stream=True, **PARAMS)

    def manager(client: Any) -> Any:
        return pick(client).stream(**PARAMS)

    return [
        SourceCase(f"an opened stream{name}", f"{where}.create(stream=True, ...)", opened_stream(raw), beta=beta),
        SourceCase(f"a manager{name}", f"{where}.stream(...)", opened_stream(manager), beta=beta),
        SourceCase(
            f"an entered manager{name}",
            f"with {where}.stream(...) as stream",
            entered_manager(manager),
            by="events",
            beta=beta,
        ),
    ]


NEW = "between 0.81 and 0.125"
SOURCES = {
    case.name: case
    for case in [
        *clients("a client", "Anthropic(...)"),
        SourceCase("a resource", "client.messages", source(messages), lambda client: client.messages.create),
        *clients("with_options", "client.with_options(...)", lambda client: client.with_options(timeout=30)),
        *streams(messages, "client.messages", "", beta=False),
        *streams(beta_messages, "client.beta.messages", ", beta", beta=True),
        SourceCase(
            "a turn of the tool runner",
            "for stream in client.beta.messages.tool_runner(stream=True, ...)",
            first_turn,
            by="events",
            note="beta only",
            beta=True,
        ),
        *clients(
            "aiohttp",
            "AsyncAnthropic(http_client=DefaultAioHttpClient())",
            platform="aiohttp",
            modes=("asyncio",),
        ),
        *clients("Bedrock", "AnthropicBedrock(...)", platform="Bedrock", by="events", note="AWS framing"),
        *clients("Bedrock Mantle", "AnthropicBedrockMantle(...)", platform="BedrockMantle", since=NEW),
        *clients("AWS", "AnthropicAWS(...)", platform="AWS", since=NEW),
        *clients("Vertex", "AnthropicVertex(...)", platform="Vertex"),
        *clients("Google Cloud", "AnthropicGoogleCloud(...)", platform="GoogleCloud", since=NEW),
        *clients("Foundry", "AnthropicFoundry(...)", platform="Foundry"),
    ]
}


@contextlib.asynccontextmanager
async def client_of(case: SourceCase, mode: str, server: Server) -> AsyncIterator[Any]:
    if case.platform == "aiohttp":
        pytest.importorskip("httpx_aiohttp" if anthropic.__version__.startswith("0.") else "aiohttp")
        async with server.async_client(http_client=anthropic.DefaultAioHttpClient(), max_retries=0) as client:
            yield client
    else:
        async with (
            platform_client_for(mode, case.platform, server) if case.platform else client_for(mode, server) as client
        ):
            yield client


class Stop(BaseException):
    """An interrupt of our own: an event loop takes a `KeyboardInterrupt` for itself."""


@dataclass(frozen=True)
class Ending:
    """What the server sends, and what comes of it."""

    reply: Reply
    status: str
    text: str = "One "
    error: type[StreamError] | None = None
    stop: bool = False


ENDINGS = {
    "healthy": Ending(REPLY, "complete", "One two"),
    "truncated": Ending(REPLY.cut(after_events=4), "disconnected", error=StreamTruncatedError),
    "API error": Ending(REPLY.error("overloaded_error", after_events=4), "failed", error=StreamAPIError),
    "interrupted": Ending(REPLY.stall(after_events=4), "interrupted", stop=True),
}
CASES = [
    pytest.param(
        *(case, mode, function, ending),
        id=f"{case.name}-{mode}-{function}-{ending}",
        # `stream_text` and `collect` are the quick half.
        marks=[pytest.mark.slow] * (ending != "healthy" and function in ("stream_events", "streamed")),
    )
    for case in SOURCES.values()
    for mode in case.modes
    for function in FUNCTIONS
    for ending in ENDINGS
    if function != "streamed" or case.create
]


def text_of(item: Any) -> str:
    """The text of what a stream yields."""
    if isinstance(item, str):
        return item
    return item.delta.text if item.type == "content_block_delta" else ""


async def iterate(stream: Any, by: str, *, stop: bool) -> str:
    """The text that a loop gets, which with `stop` is left at the first piece."""
    said = ""
    if hasattr(stream, "__anext__"):
        async with stream:
            assert stream._state.attempt.response.by_bytes is (by == "bytes")
            async for item in stream:
                said += text_of(item)
                if stop and said:
                    break
    else:
        with stream:
            assert stream._state.attempt.response.by_bytes is (by == "bytes")
            for item in stream:
                said += text_of(item)
                if stop and said:
                    break
    return said


async def go_through(case: SourceCase, function: str, client: Any, sink: BufferSink, *, stop: bool) -> None:
    """Read a reply, and see that the function gives what the sink is told."""

    def interrupt(_: str) -> None:
        raise Stop

    async with case.hand(client) as (given, params):
        if function in ("stream_text", "stream_events"):
            stream = getattr(streamkit, function)(given, sinks=sink, **params)
            try:
                said = await iterate(stream, case.by, stop=stop)
                assert said == stream.text
            finally:
                assert stream.result == sink.result
            return
        sinks = [sink, streamkit.CallbackSink(on_text=interrupt)] if stop else sink
        if function == "collect":
            assert await awaited(streamkit.collect(given, sinks=sinks, **params)) == sink.result
        else:
            assert case.create is not None
            message = await awaited(streamkit.streamed(case.create(client), sinks=sinks)(**PARAMS))
            assert message == sink.result.message


@pytest.mark.parametrize(("case", "mode", "function", "ending"), CASES)
def test_a_source(case: SourceCase, mode: str, function: str, ending: str) -> None:
    expected, sink = ENDINGS[ending], BufferSink()
    raised: list[BaseException] = []

    async def main() -> None:
        with serve(expected.reply) as server:
            async with client_of(case, mode, server) as client:
                try:
                    await go_through(case, function, client, sink, stop=expected.stop)
                except (StreamError, Stop) as error:
                    raised.append(error)
                if case.platform != "aiohttp":
                    assert_no_connection_in_use(client)

    run(mode, main)
    result = sink.result
    in_sink = expected.stop and function in FUNCTIONS[2:]
    status = "failed" if in_sink else expected.status
    assert (result.status, result.text, sink.text) == (status, expected.text, expected.text)
    kinds = [expected.error] if expected.error else [Stop] if in_sink else []
    assert [type(error) for error in raised] == kinds
    if expected.error:
        assert result.error is raised[0]
        assert raised[0].result is result
    assert type(result.message) is (BetaMessage if case.beta else Message)
    assert result.request_id


def test_each_turn_of_the_tool_runner() -> None:
    @anthropic.beta_tool
    def get_tide(harbour: str) -> str:
        """The tide."""
        return f"high in {harbour}"

    with serve(Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me see."), REPLY) as server:
        runner = sdk_client(server).beta.messages.tool_runner(**PARAMS, tools=[get_tide], stream=True)
        results = [streamkit.collect(stream) for stream in runner]
        assert "high in Brest" in server.requests[1].body.decode()
    assert [(result.status, result.text) for result in results] == [
        ("complete", "Let me see."),
        ("complete", "One two"),
    ]


def test_the_sdk_has_what_the_table_says() -> None:
    version = tuple(int(part) for part in anthropic.__version__.split(".")[:2])
    for platform, since in {
        case.platform: case.since for case in SOURCES.values() if case.platform in PLATFORMS
    }.items():
        if since != NEW or version >= (0, 125):
            assert hasattr(anthropic, f"Anthropic{platform}")
            assert hasattr(anthropic, f"AsyncAnthropic{platform}")
        elif version == (0, 80):
            assert not hasattr(anthropic, f"Anthropic{platform}")


def table() -> str:
    """The sources, as the docs list them."""
    rows = [
        f"| {case.name} | `{case.code}` | {' and '.join(case.modes).replace('asyncio', 'async')} | {case.since} "
        f"| {case.by} | {case.note} |"
        for case in SOURCES.values()
    ]
    head = ["| source | pass | clients | SDK from | read by | note |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def test_the_table_of_sources_is_the_one_that_is_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")
    assert page.endswith(f"\n\n{table()}"), f"the table in docs/sources.md should be:\n{table()}"
