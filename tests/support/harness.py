"""One test body for every mode: sync, asyncio, trio, and asyncio over aiohttp.

A test is written once, as a coroutine. In the mode "sync" that coroutine uses the sync client and awaits nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anthropic
import anyio
import anyio.to_thread
import pytest

import streamkit
from streamkit import StreamResult
from streamkit._core.phase import STREAMING
from streamkit.testing import Server
from tests.support.clients import PARAMS, async_client_for, sdk_client

MODES = ("sync", "asyncio", "trio")
ALL_MODES = (*MODES, "aiohttp")
FUNCTIONS = ("stream_text", "stream_events", "collect", "streamed")
# The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
ignores_generators_left_behind = pytest.mark.filterwarnings(
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning"
)


def run(mode: str, function: Callable[[], Awaitable[Any]]) -> Any:
    """Run in the event loop of a mode, for 20 seconds at most: nothing may hang."""

    async def guarded() -> Any:
        with anyio.fail_after(20):
            return await function()

    return anyio.run(guarded, backend=backend_of(mode))


def backend_of(mode: str) -> str:
    """The event loop of a mode."""
    return "trio" if mode == "trio" else "asyncio"


async def awaited(value: Any) -> Any:
    """The return value of a sync call, or of an async one."""
    return await value if inspect.isawaitable(value) else value


async def items_of(stream: Any) -> AsyncIterator[Any]:
    """Iterate over a stream of either kind."""
    if hasattr(stream, "__anext__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


async def read_all(stream: Any) -> list[Any]:
    """Read a stream of either kind to its end, in a `with` block."""
    if hasattr(stream, "__anext__"):
        async with stream:
            return [item async for item in stream]
    with stream:
        return list(stream)


@contextlib.asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    """Enter a context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def read_through(function: str, resource: Any, options: dict[str, Any] | None = None, **params: Any) -> str:
    """Read a reply to its end with one of the four functions, by name, and return the text that it gives."""
    options, params = options or {}, {**PARAMS, **params}
    if function == "collect":
        result = await awaited(streamkit.collect(resource, **options, **params))
        return "".join(block.text for block in result.message.content if block.type == "text")
    if function == "streamed":
        message = await awaited(streamkit.streamed(resource.create, **options)(**params))
        return "".join(block.text for block in message.content if block.type == "text")
    items = await read_all(getattr(streamkit, function)(resource, **options, **params))
    if function == "stream_events":
        deltas = [item.delta for item in items if item.type == "content_block_delta"]
        items = [piece.text for piece in deltas if piece.type == "text_delta"]
    return "".join(items)


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again until the condition holds."""
    while not condition():
        threading.Event().wait(0.001)


def wait_for_abandoned_requests() -> None:
    """Wait for requests that were abandoned before their headers: they are closed as soon as these arrive."""
    for thread in threading.enumerate():
        if thread.name == "streamkit-request":
            thread.join(20)
            assert not thread.is_alive()


@contextlib.contextmanager
def cancelled_once(stream: Any, ready: Callable[[Any], bool]) -> Iterator[None]:
    """Another thread cancels the stream as soon as the stream is `ready`."""

    def cancel() -> None:
        wait_until(lambda: ready(stream))
        stream.cancel()

    thread = threading.Thread(target=cancel, daemon=True)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


@contextlib.contextmanager
def timed_out_once(stream: Any, *conditions: Callable[[], bool]) -> Iterator[None]:
    """Another thread lets the idle timeout of the stream expire each time that the next condition holds.

    The stream needs an `idle_timeout`, too long to expire by itself: what a test waits for may take long on a busy
    machine.
    """

    def expire() -> None:
        for condition in conditions:
            # A stream that ended otherwise fails its test, and the thread must not outlive the test.
            wait_until(lambda: condition() or stream.status not in ("pending", "streaming"))  # noqa: B023
            stream._interrupter.interrupt("idle")

    thread = threading.Thread(target=expire, daemon=True)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


def has_started(stream: Any, attempt: int = 1) -> bool:
    """Return whether `message_start` of this attempt has arrived."""
    state = stream._state
    return state.attempts == attempt and state.phase is STREAMING and state.attempt.builder.envelope is not None


class EitherStream:
    """A stream of either kind with the methods of the async kind, and the members of both."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.is_async = hasattr(stream, "__anext__")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    async def call(self, sync_name: str, async_name: str, *args: Any) -> Any:
        if self.is_async:
            return await getattr(self.stream, async_name)(*args)
        return getattr(self.stream, sync_name)(*args)

    async def open(self) -> EitherStream:
        assert await self.call("open", "open") is self.stream
        return self

    async def next(self) -> Any:
        if self.is_async:
            return await self.stream.__anext__()
        for item in self.stream:
            return item
        raise StopAsyncIteration

    async def until_done(self) -> StreamResult[Any, Any]:
        return await self.call("until_done", "until_done")

    async def close(self) -> None:
        await self.call("close", "aclose")

    aclose = close

    async def __aenter__(self) -> EitherStream:  # noqa: PYI034
        assert await self.call("__enter__", "__aenter__") is self.stream
        return self

    async def __aexit__(self, *error: object) -> None:
        assert await self.call("__exit__", "__aexit__", *error) is None

    def __aiter__(self) -> EitherStream:
        return self

    async def __anext__(self) -> Any:
        return await self.next()


class Harness:
    """Clients and the four functions, of the kind that a mode needs."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.is_async = mode != "sync"
        self._clients: list[anthropic.AsyncAnthropic] = []

    def client(self, server: Server, **options: Any) -> Any:
        if not self.is_async:
            return sdk_client(server, **options)
        self._clients.append(async_client_for(self.mode, server, **options))
        return self._clients[-1]

    async def aclose(self) -> None:
        for client in self._clients:
            await client.close()

    def _source(self, source: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if isinstance(source, Server):
            source = self.client(source)
        return source, ({**PARAMS, **options} if hasattr(source, "messages") or hasattr(source, "create") else options)

    def text(self, source: Any, **options: Any) -> EitherStream:
        source, options = self._source(source, options)
        return EitherStream(streamkit.stream_text(source, **options))

    def events(self, source: Any, **options: Any) -> EitherStream:
        source, options = self._source(source, options)
        return EitherStream(streamkit.stream_events(source, **options))

    async def collect(self, source: Any, **options: Any) -> StreamResult[Any, Any]:
        source, options = self._source(source, options)
        return await self.call(streamkit.collect, source, **options)

    async def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await awaited(function(*args, **options))


@contextlib.asynccontextmanager
async def reading_elsewhere(stream: EitherStream) -> AsyncIterator[list[Any]]:
    """Read a stream to its end: in a thread of its own where the stream is sync, in a task where it is async."""
    items: list[Any] = []

    async def read() -> None:
        if stream.is_async:
            async for item in stream.stream:
                items.append(item)  # noqa: PERF401
        else:
            await anyio.to_thread.run_sync(items.extend, stream.stream)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            yield items


def is_reading(stream: Any) -> bool:
    """Return whether somebody is reading from the stream right now."""
    return bool(stream._reading)
