"""What sinks and formats may raise: the first error goes on, and what arrived counts."""

# ruff: noqa: PT012, S301 - whole blocks are what is tested, and pickles of this file's own making
from __future__ import annotations

import asyncio
import contextlib
import pickle
from typing import Any

import anthropic
import anyio
import pydantic
import pytest

from streamkit import (
    AsyncSink,
    CallbackSink,
    Sink,
    StreamError,
    StreamResult,
    StreamTruncatedError,
    collect,
    stream_text,
    streamed,
)
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, async_sdk_client, sdk_client
from tests.support.harness import run
from tests.support.replies import AT_ONCE, LETTERS
from tests.support.sinks import TextLog

pytestmark = pytest.mark.filterwarnings(
    # The HTTP library leaves generators behind when a body is not read to its end, and trio says so.
    "ignore:Async generator 'http:ResourceWarning",
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)


# What a sink or a format may raise.


@pytest.mark.parametrize("kind", [Sink, AsyncSink])
def test_a_sink_that_raises_stop_async_iteration_is_no_end(kind: Any) -> None:
    if kind is Sink:

        class Plain(Sink):
            def write(self, text: str) -> None:
                raise StopAsyncIteration

        sink: Any = Plain
    else:

        class Awaited(AsyncSink):
            async def write(self, text: str) -> None:
                raise StopAsyncIteration

        sink = Awaited

    async def main() -> None:
        async with async_sdk_client(server) as client:
            for call in (
                lambda: collect(client, sinks=sink, **PARAMS),
                lambda: streamed(client.messages.create, sinks=sink)(**PARAMS),
            ):
                with pytest.raises(RuntimeError, match="a sink raised StopAsyncIteration"):
                    await call()
            assert_no_connection_in_use(client)

    with serve(LETTERS, repeat=True) as server:
        run("asyncio", main)


class Odd(pydantic.BaseModel):
    """An output format whose validator raises what no validator should."""

    a: int

    @pydantic.field_validator("a")
    @classmethod
    def refuse(cls, value: int) -> int:
        raise KeyError("odd")


@pytest.mark.parametrize("leaves", [False, True])
def test_a_format_that_raises_anything_is_a_parse_error(leaves: bool) -> None:
    log = TextLog()
    with serve(Reply.text(['{"a":', " 1}"])) as server:
        client = sdk_client(server)
        with stream_text(client, sinks=log, output_format=Odd, **PARAMS) as stream:
            for _ in stream:
                if leaves:
                    break
        assert_no_connection_in_use(client)
    result = stream.result
    assert (result.status, result.parsed_output) == ("interrupted" if leaves else "complete", None)
    assert isinstance(result.parse_error, ValueError if leaves else KeyError)
    assert len(log.calls) == 3 - leaves


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), StreamError("x"), anthropic.APIConnectionError(request=None)],  # type: ignore[arg-type]
    ids=lambda error: type(error).__name__,
)
def test_the_error_of_a_sink_is_a_failure_whatever_its_class(error: Exception) -> None:
    class Raising(Sink):
        def write(self, text: str) -> None:
            raise error

    log = TextLog()
    with serve(LETTERS) as server:
        with pytest.raises(type(error)) as caught:
            collect(sdk_client(server), sinks=[Raising(), log], on_error="return", **PARAMS)
    assert caught.value is error
    assert log.calls == [("failed", "a")]


def test_the_error_of_an_inner_stream_keeps_its_own_result() -> None:
    with serve(Reply.text("outer outer"), Reply.text("inner").cut(after_events=4)) as server:
        client = sdk_client(server)
        outer = stream_text(client, **PARAMS)
        with pytest.raises(StreamTruncatedError) as caught, outer:
            for _ in outer:
                collect(client, retries=0, **PARAMS)
    assert caught.value.result.text == "inner"
    assert (outer.status, outer.result.error) == ("interrupted", caught.value)
    back = pickle.loads(pickle.dumps(outer.result))
    assert (back.text, back.status) == (outer.text, "interrupted")
    assert isinstance(back.error, StreamError)


def test_an_error_that_cannot_be_shown_is_pickled_all_the_same() -> None:
    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise ZeroDivisionError

    with serve(LETTERS) as server:
        stream = stream_text(sdk_client(server), **PARAMS)
        with pytest.raises(Mute), stream:
            next(stream)
            raise Mute
    assert "Mute" in str(pickle.loads(pickle.dumps(stream.result)).error)


# The first error goes on.


class BadEnd(Sink):
    def finish(self, result: StreamResult) -> None:
        raise OSError("disk full")


def test_an_error_in_the_block_is_not_replaced_by_that_of_a_sink() -> None:
    for error in (KeyboardInterrupt(), ValueError()):
        with serve(LETTERS) as server:
            stream = stream_text(sdk_client(server), sinks=BadEnd(), **PARAMS)
            with pytest.raises(type(error)) as caught, stream:
                next(stream)
                raise error
            assert caught.value is error
            assert isinstance(error.__context__, OSError)
    with serve(LETTERS) as server:
        with (
            pytest.raises(OSError, match="disk full"),
            stream_text(sdk_client(server), sinks=BadEnd(), **PARAMS) as stream,
        ):
            next(stream)


def test_a_cancelled_task_stays_cancelled_whatever_a_sink_raises() -> None:
    async def main() -> None:
        async with async_sdk_client(server) as client:
            with anyio.CancelScope() as scope:
                async with stream_text(client, sinks=BadEnd(), **PARAMS) as stream:
                    async for _ in stream:
                        scope.cancel()
                        await anyio.sleep(10)
            assert scope.cancelled_caught
            with pytest.raises(OSError, match="disk full"):
                async with stream_text(client, sinks=BadEnd(), **PARAMS) as stream:
                    await stream.__anext__()

    for backend in ("asyncio", "trio"):
        with serve(LETTERS, repeat=True) as server:
            run(backend, main)


def test_an_interrupt_that_gives_the_result_does_not_hide_what_a_sink_raised() -> None:
    class Interrupting(BadEnd):
        def write(self, text: str) -> None:
            raise KeyboardInterrupt

    with serve(LETTERS) as server:
        with pytest.raises(OSError, match="disk full"):
            collect(sdk_client(server), sinks=Interrupting(), on_interrupt="return", **PARAMS)


def test_an_interrupt_of_a_sink_gives_the_result_too() -> None:
    class Interrupting(Sink):
        def write(self, text: str) -> None:
            raise KeyboardInterrupt

    with serve(LETTERS) as server:
        result = collect(sdk_client(server), sinks=Interrupting(), on_interrupt="return", **PARAMS)
    assert (result.status, type(result.error)) == ("interrupted", KeyboardInterrupt)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError(), "failed"),
        (SystemExit(3), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (asyncio.CancelledError(), "interrupted"),
        (GeneratorExit(), "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
@pytest.mark.parametrize("where", ["write", "awaited write", "event", "thinking"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_status_by_what_a_sink_raises(error: BaseException, status: str, where: str, is_async: bool) -> None:
    """An interrupt or a cancellation that comes inside a sink is one; anything else is the sink's own failure."""

    def fail(_: object) -> None:
        raise error

    async def fail_later(_: object) -> None:
        raise error

    log = TextLog()
    name = where.removeprefix("awaited ")
    if where == "awaited write" and not is_async:
        pytest.skip("a sync stream awaits nothing")
    failing = CallbackSink(**{f"on_{'text' if name == 'write' else name}": fail if name == where else fail_later})
    reply = Reply.thinking("Hm.", "So.") if where == "thinking" else LETTERS

    async def main() -> None:
        async with async_sdk_client(server) as client:
            await collect(client, sinks=[failing, log], **PARAMS)

    with serve(reply) as server, pytest.raises(type(error)) as caught:
        if is_async:
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loop.run_until_complete(main())
        else:
            collect(sdk_client(server), sinks=[failing, log], **PARAMS)
    assert caught.value is error or is_async
    assert log.calls[-1][0] == status


# What arrived counts, also where a sink ends it.


@pytest.mark.parametrize("is_async", [False, True])
def test_what_arrived_with_the_event_that_a_sink_refused_counts(is_async: bool) -> None:
    class Raising(Sink):
        def write(self, text: str) -> None:
            raise ValueError

    class AsyncRaising(AsyncSink):
        async def write(self, text: str) -> None:
            raise ValueError

    log = TextLog()

    async def main() -> Any:
        async with async_sdk_client(server) as client:
            stream = stream_text(client, sinks=[AsyncRaising(), log], **PARAMS)
            with pytest.raises(ValueError, match=r"^$"):
                await stream.until_done()
            return stream.result

    with serve(AT_ONCE) as server:
        if is_async:
            result = run("asyncio", main)
        else:
            stream = stream_text(sdk_client(server), sinks=[Raising(), log], **PARAMS)
            with pytest.raises(ValueError, match=r"^$"):
                stream.until_done()
            result = stream.result
    assert (result.text, result.status, result.stop_reason, result.usage_final) == ("abcd", "failed", "end_turn", True)
    assert log.calls == [("failed", "abcd")]


def test_what_arrived_counts_when_a_sink_is_cancelled() -> None:
    class Cancelled(AsyncSink):
        def __init__(self, scope: anyio.CancelScope) -> None:
            self.scope = scope

        async def write(self, text: str) -> None:
            self.scope.cancel()
            await anyio.sleep_forever()

    async def main() -> Any:
        async with async_sdk_client(server) as client:
            with anyio.CancelScope() as scope:
                stream = stream_text(client, sinks=Cancelled(scope), **PARAMS)
                await stream.until_done()
            assert scope.cancelled_caught
            return stream.result

    for backend in ("asyncio", "trio"):
        with serve(AT_ONCE) as server:
            result = run(backend, main)
        assert (result.text, result.status) == ("abcd", "interrupted")


def test_an_interrupt_in_the_loop_may_have_come_in_the_middle_of_an_event() -> None:
    """So that what follows it is not counted: it could leave a gap in the text."""

    class Interrupting(AsyncSink):
        async def write(self, text: str) -> None:
            raise KeyboardInterrupt

    log = TextLog()

    async def main() -> None:
        async with async_sdk_client(server) as client:
            await collect(client, sinks=[log, Interrupting()], **PARAMS)

    with serve(AT_ONCE) as server, pytest.raises(KeyboardInterrupt):
        anyio.run(main)
    assert log.calls == ["a", ("interrupted", "a")]
