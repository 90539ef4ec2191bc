"""A loopback server that streams as the Messages API does, for tests without a key and a network.

    from streamkit import collect
    from streamkit.testing import Reply, serve

    with serve(Reply.text("Hello there!")) as server:
        result = collect(
            server.client(),
            model="claude-test",
            max_tokens=10,
            messages=[{"role": "user", "content": "Hello?"}],
        )
    print(result.text)

The SDK's real client talks to the server over a real socket. Times are in seconds, sizes in bytes; an "event" is one
frame of the body, a ping or inserted garbage included.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from streamkit.sinks import AsyncSink, Sink

from ._reply import Reply
from ._request import Request
from ._server import Server, serve

__all__ = ["Reply", "Request", "Server", "check_sink", "record", "serve"]


class _RecordingSink(Sink):
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._file: BinaryIO | None = None

    def _streamkit_body(self, chunk: bytes | None) -> None:
        """Write a chunk of the body, or start anew (`None`) when a new body begins."""
        if self._file is None:
            self._file = self._path.open("wb")
        if chunk is None:
            self._file.seek(0)
            self._file.truncate()
        else:
            self._file.write(chunk)
            self._file.flush()

    def finish(self, result: object) -> None:  # noqa: ARG002 - the body is in the file already
        if self._file is not None:
            self._file.close()
            self._file = None


def record(path: str | os.PathLike[str]) -> Sink:
    """Make a sink that writes the body of a reply, as it arrives, to the file `path`, for `Reply.recorded`.

    The file holds the text of the model, but never a header or a key. A second stream overwrites the file. If the file
    cannot be written, the stream raises `OSError`.
    """
    return _RecordingSink(path)


_INTERRUPTED = "an interrupted reply"
_METHODS = {"write": 1, "thinking": 1, "tool_input": 2, "event": 1, "attempt": 3, "finish": 1}
_COUNTS = {1: "one positional argument", 2: "two positional arguments", 3: "three positional arguments"}


def _check_interface(sink: object) -> None:
    """Raise `AssertionError` for an object that is not a sink, or has a method of the wrong kind."""
    name = type(sink).__name__
    is_async = isinstance(sink, AsyncSink)
    if is_async is isinstance(sink, Sink):  # neither, or both
        raise AssertionError(f"{name} must be a subclass of either Sink or AsyncSink")
    for method_name, count in _METHODS.items():
        method = getattr(sink, method_name)
        if not callable(method):
            raise AssertionError(f"{name}.{method_name} must be a method, got {method!r}")
        try:
            inspect.signature(method).bind(*[None] * count)
        except TypeError:
            raise AssertionError(f"{name}.{method_name} must take {_COUNTS[count]} besides self") from None
        except ValueError:  # a function in C without a signature
            pass
        if is_async and not inspect.iscoroutinefunction(method):
            raise AssertionError(f"{name}.{method_name} must be `async def`, as {name} is an AsyncSink")
        if not is_async and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)):
            raise AssertionError(f"{name}.{method_name} must not be `async def`: subclass AsyncSink for that")


def _stream_sync(server: Server, sink: Sink, name: str, retries: int) -> None:
    from streamkit import collect, stream_text  # noqa: PLC0415 - the server works without it

    client = server.client(max_retries=retries)
    if name == _INTERRUPTED:
        with stream_text(client, sinks=sink, model="claude-test", max_tokens=100, messages=[]) as stream:
            next(stream)
    else:
        collect(client, sinks=sink, on_error="return", model="claude-test", max_tokens=100, messages=[])


async def _stream_async(server: Server, sink: AsyncSink, name: str, retries: int) -> None:
    from streamkit import collect, stream_text  # noqa: PLC0415 - the server works without it

    async with server.async_client(max_retries=retries) as client:
        if name == _INTERRUPTED:
            async with stream_text(client, sinks=sink, model="claude-test", max_tokens=100, messages=[]) as stream:
                await anext(stream)
        else:
            await collect(client, sinks=sink, on_error="return", model="claude-test", max_tokens=100, messages=[])


def _noting_finish_errors(sink: Sink | AsyncSink, raised: list[Exception]) -> Sink | AsyncSink:
    """Wrap a sink to note the exceptions of `finish`, which a stream with an earlier error does not raise."""

    def finish(result: Any) -> None:
        try:
            sink.finish(result)
        except Exception as error:
            raised.append(error)
            raise

    async def finish_async(result: Any) -> None:
        try:
            await cast("AsyncSink", sink).finish(result)
        except Exception as error:
            raised.append(error)
            raise

    is_async = isinstance(sink, AsyncSink)
    wrapper = AsyncSink() if is_async else Sink()
    # Use the sink's own methods: the stream sees which of them are overridden. `finish` is replaced below.
    for name in (*_METHODS, "_streamkit_body"):
        if hasattr(sink, name):
            setattr(wrapper, name, getattr(sink, name))
    setattr(wrapper, "finish", finish_async if is_async else finish)  # noqa: B010 - checkers refuse an assignment
    return wrapper


def _stream_through(sink: Sink | AsyncSink, replies: Sequence[Reply], name: str) -> Exception | None:
    """Run a stream through the sink, retried for each further reply, and return the exception of the sink, if any."""
    raised: list[Exception] = []
    wrapper = _noting_finish_errors(sink, raised)
    with serve(*replies) as server:
        try:
            if isinstance(wrapper, AsyncSink):
                asyncio.run(_stream_async(server, wrapper, name, len(replies) - 1))
            else:
                _stream_sync(server, wrapper, name, len(replies) - 1)
        except Exception as error:  # noqa: BLE001 - a sink may raise anything
            raised.append(error)
    return raised[0] if raised else None


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _sample_replies() -> Iterator[tuple[str, list[Reply]]]:
    awkward = ("Hello", " ", "\n", "wörld 日本語 👩\u200d🚀", "\r\n\t", "e\u0301\u2028", "x" * 5000, "")
    yield "a complete reply", [Reply.text(awkward)]
    yield "a reply with thinking", [Reply.thinking("Hm,\n\n🤔", "so")]
    yield "a reply with text and a tool use", [Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me see.")]
    yield "a reply without text", [Reply.tool_use("get_tide", {})]
    yield _INTERRUPTED, [Reply.text(awkward)]
    yield "a reply that breaks off", [Reply.text(awkward).cut(after_events=5)]
    yield "a retry", [Reply.text("", headers={"retry-after": "0.01"}).cut(after_events=1), Reply.text(awkward)]
    yield "a refused request", [Reply.http_error(400)]


def check_sink(sink: Sink | AsyncSink | Callable[[], Sink | AsyncSink]) -> None:
    """Check that your own sink works with streams, by running real streams through it.

    Pass a sink, which then serves one stream after the other, or, for a sink that serves only one stream, a function
    without arguments that makes one, such as its class. A loopback server sends the replies: complete ones with
    thinking, tool use and awkward text, an interrupted one, one that breaks off, one after a retry, a refused request.
    An `AsyncSink` runs in an event loop of its own. Raises `AssertionError` with the reason, and `RuntimeError` if an
    `AsyncSink` is checked from async code.
    """
    checked: object = sink
    for name, replies in _sample_replies():
        if not isinstance(sink, Sink | AsyncSink) and callable(sink):
            checked = sink()
        _check_interface(checked)
        if isinstance(checked, AsyncSink) and _in_event_loop():
            raise RuntimeError("check_sink runs an AsyncSink in its own event loop: call it outside of async code")
        raised = _stream_through(cast("Sink | AsyncSink", checked), replies, name)
        if raised is not None:
            raise AssertionError(f"{type(checked).__name__} raised {raised!r} during {name}") from raised
