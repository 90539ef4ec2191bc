"""Odd endings: sinks and formats that raise odd things, streams within streams, and who closes what when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import threading
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
    stream_events,
    stream_text,
    streamed,
)
from streamkit.testing import Reply, serve
from tests.conftest import (
    PARAMS,
    STOP,
    async_sdk,
    closed,
    ending,
    free,
    opened,
    run,
    sdk,
    sse,
    start,
    text,
    tool,
    tool_input,
)

# ruff: noqa: PT012, S301 - whole blocks are what is tested, and pickles of this file's own making

pytestmark = pytest.mark.filterwarnings(
    # The HTTP library leaves generators behind when a body is not read to its end, and trio says so.
    "ignore:Async generator 'http:ResourceWarning",
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

ONE_CHUNK = 10**6
LETTERS = Reply.text(["a", "b", "c", "d"])
AT_ONCE = Reply.recorded(LETTERS.body, [ONE_CHUNK])


class Log(Sink):
    """Keeps every call."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def write(self, text: str) -> None:
        self.calls.append(text)

    def finish(self, result: StreamResult) -> None:
        self.calls.append((result.status, result.text))


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
        async with async_sdk(server) as client:
            for call in (
                lambda: collect(client, sinks=sink, **PARAMS),
                lambda: streamed(client.messages.create, sinks=sink)(**PARAMS),
            ):
                with pytest.raises(RuntimeError, match="a sink raised StopAsyncIteration"):
                    await call()
            free(client)

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
    log = Log()
    with serve(Reply.text(['{"a":', " 1}"])) as server:
        client = sdk(server)
        with stream_text(client, sinks=log, output_format=Odd, **PARAMS) as stream:
            for _ in stream:
                if leaves:
                    break
        free(client)
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

    log = Log()
    with serve(LETTERS) as server:
        with pytest.raises(type(error)) as caught:
            collect(sdk(server), sinks=[Raising(), log], on_error="return", **PARAMS)
    assert caught.value is error
    assert log.calls == [("failed", "a")]


def test_the_error_of_an_inner_stream_keeps_its_own_result() -> None:
    with serve(Reply.text("outer outer"), Reply.text("inner").cut(after_events=4)) as server:
        client = sdk(server)
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
        stream = stream_text(sdk(server), **PARAMS)
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
            stream = stream_text(sdk(server), sinks=BadEnd(), **PARAMS)
            with pytest.raises(type(error)) as caught, stream:
                next(stream)
                raise error
            assert caught.value is error
            assert isinstance(error.__context__, OSError)
    with serve(LETTERS) as server:
        with pytest.raises(OSError, match="disk full"), stream_text(sdk(server), sinks=BadEnd(), **PARAMS) as stream:
            next(stream)


def test_a_cancelled_task_stays_cancelled_whatever_a_sink_raises() -> None:
    async def main() -> None:
        async with async_sdk(server) as client:
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
            collect(sdk(server), sinks=Interrupting(), on_interrupt="return", **PARAMS)


def test_an_interrupt_of_a_sink_gives_the_result_too() -> None:
    class Interrupting(Sink):
        def write(self, text: str) -> None:
            raise KeyboardInterrupt

    with serve(LETTERS) as server:
        result = collect(sdk(server), sinks=Interrupting(), on_interrupt="return", **PARAMS)
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

    log = Log()
    name = where.removeprefix("awaited ")
    if where == "awaited write" and not is_async:
        pytest.skip("a sync stream awaits nothing")
    failing = CallbackSink(**{f"on_{'text' if name == 'write' else name}": fail if name == where else fail_later})
    reply = Reply.thinking("Hm.", "So.") if where == "thinking" else LETTERS

    async def main() -> None:
        async with async_sdk(server) as client:
            await collect(client, sinks=[failing, log], **PARAMS)

    with serve(reply) as server, pytest.raises(type(error)) as caught:
        if is_async:
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loop.run_until_complete(main())
        else:
            collect(sdk(server), sinks=[failing, log], **PARAMS)
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

    log = Log()

    async def main() -> Any:
        async with async_sdk(server) as client:
            stream = stream_text(client, sinks=[AsyncRaising(), log], **PARAMS)
            with pytest.raises(ValueError, match=r"^$"):
                await stream.until_done()
            return stream.result

    with serve(AT_ONCE) as server:
        if is_async:
            result = run("asyncio", main)
        else:
            stream = stream_text(sdk(server), sinks=[Raising(), log], **PARAMS)
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
        async with async_sdk(server) as client:
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

    log = Log()

    async def main() -> None:
        async with async_sdk(server) as client:
            await collect(client, sinks=[log, Interrupting()], **PARAMS)

    with serve(AT_ONCE) as server, pytest.raises(KeyboardInterrupt):
        anyio.run(main)
    assert log.calls == ["a", ("interrupted", "a")]


# Who closes.


def test_a_sink_that_closes_the_stream() -> None:
    """That is a cancel: nothing comes after the end, and the loop ends quietly."""
    stream: Any = None

    class Closing(Log):
        def write(self, text: str) -> None:
            super().write(text)
            stream.close()

    for reply in (LETTERS, AT_ONCE):
        closing, log = Closing(), Log()
        with serve(reply) as server:
            client = sdk(server)
            stream = stream_text(client, sinks=[closing, log], **PARAMS)
            got = list(stream)
            free(client)
        assert closing.calls[-1] == ("interrupted", stream.text)
        assert len([call for call in closing.calls if isinstance(call, tuple)]) == 1
        assert log.calls == closing.calls, "each gets what the other got"
        assert stream.text == stream.result.text
        assert stream.text.startswith("".join(got))
        assert list(stream) == []


def test_close_while_the_reader_is_in_a_sink_and_then_stops() -> None:
    inside, closed_by_other = threading.Event(), threading.Event()

    class Slow(Log):
        def write(self, text: str) -> None:
            super().write(text)
            inside.set()
            assert closed_by_other.wait(20)

    log = Slow()
    with serve(LETTERS) as server:
        client = sdk(server)
        stream = stream_text(client, sinks=log, **PARAMS)

        def read() -> None:
            for _ in stream:
                break  # without asking again

        with stream:
            thread = threading.Thread(target=read)
            thread.start()
            assert inside.wait(20)
        closed_by_other.set()
        thread.join(20)
        free(client)
    assert stream.status == "interrupted"
    assert log.calls[-1] == ("interrupted", stream.text)


def test_close_by_a_thread_that_read_before_another_did() -> None:
    inside, goes_on = threading.Event(), threading.Event()

    class Slow(Log):
        def write(self, text: str) -> None:
            super().write(text)
            if text == "b":
                inside.set()
                assert goes_on.wait(20)
                self.calls.append("after b")

    log = Slow()
    with serve(AT_ONCE) as server:
        stream = stream_text(sdk(server), sinks=log, **PARAMS)
        assert next(stream) == "a"
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        assert inside.wait(20)
        stream.close()
        goes_on.set()
        thread.join(20)
    assert log.calls == ["a", "b", "after b", "c", "d", ("interrupted", "abcd")]


def test_a_sink_that_closes_the_stream_that_is_being_left() -> None:
    stream: Any = None

    class Closing(Log):
        def write(self, text: str) -> None:
            super().write(text)
            if text == "c":
                stream.close()

    log = Closing()
    with serve(AT_ONCE) as server:
        stream = stream_text(sdk(server), sinks=log, **PARAMS)
        with stream:
            next(stream)
    assert log.calls == ["a", "b", "c", "d", ("interrupted", "abcd")]
    assert stream.text == stream.result.text == "abcd"


def test_aclose_while_the_reader_awaits_a_sink_and_then_stops() -> None:
    async def main(log: Log) -> None:
        inside, goes_on = anyio.Event(), anyio.Event()

        class Slow(AsyncSink):
            async def write(self, text: str) -> None:
                inside.set()
                await goes_on.wait()

        async with async_sdk(server) as client, anyio.create_task_group() as tasks:
            stream = stream_text(client, sinks=[Slow(), log], **PARAMS)
            tasks.start_soon(stream.__anext__)
            await inside.wait()
            await stream.aclose()
            goes_on.set()
            while tasks.cancel_scope and stream.status == "streaming":
                await anyio.lowlevel.checkpoint()
            assert stream.status == "interrupted"
            await anyio.wait_all_tasks_blocked()
            free(client)

    for backend in ("asyncio", "trio"):
        log = Log()
        with serve(LETTERS) as server:
            run(backend, lambda log=log: main(log))
        assert log.calls[-1][0] == "interrupted"


def test_a_stream_that_is_cancelled_before_it_is_opened() -> None:
    log = Log()
    with serve(LETTERS) as server:
        stream = stream_text(sdk(server), sinks=log, **PARAMS)
        stream.cancel()
        assert stream.open() is stream
        assert (stream.status, log.calls) == ("interrupted", [("interrupted", "")])
        assert list(stream) == []

        async def main() -> None:
            async with async_sdk(server) as client:
                stream = stream_text(client, **PARAMS)
                stream.cancel()
                async with stream:
                    assert stream.status == "interrupted"

        run("asyncio", main)
        assert server.requests == []


# Clocks and pauses.


def test_the_wait_after_an_idle_time_out_can_be_ended() -> None:
    slow = LETTERS.stall(after_events=1)
    slow = Reply.recorded(slow.body, headers={"retry-after": "20"}).stall(after_events=1)

    with serve(slow, LETTERS) as server:
        client = sdk(server)
        stream = stream_text(client, idle_timeout=0.1, retries=2, **PARAMS)
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        while stream._state.failure is None or stream._slot:
            threading.Event().wait(0.005)
        stream.cancel()
        thread.join(10)
        assert not thread.is_alive()
        assert (stream.status, len(server.requests)) == ("interrupted", 1)
    with serve(slow, LETTERS) as server:
        result = collect(sdk(server), idle_timeout=0.1, total_timeout=0.5, retries=2, on_error="return", **PARAMS)
        assert (result.status, result.error.clock, len(server.requests)) == ("timed_out", "total", 1)  # type: ignore[union-attr]


def test_what_a_failed_try_had_left_is_forgotten() -> None:
    body = sse(start()) + sse({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})
    left = Reply.recorded(body + sse(opened(), text("ghost")), [ONE_CHUNK], headers={"retry-after": "0.001"})
    with serve(left, Reply.http_error(401)) as server:
        stream = stream_text(sdk(server), retries=1, **PARAMS)
        with pytest.raises(anthropic.AuthenticationError):
            stream.until_done()
    assert (stream.text, stream.status, stream.result.attempts) == ("", "failed", 2)


def test_a_server_that_is_gone_when_it_is_tried_again() -> None:
    log = Log()
    early = Reply.recorded(LETTERS.body, headers={"retry-after": "0.3"}).cut(after_events=1)
    raised: list[BaseException] = []
    with serve(early) as server:
        client = anthropic.Anthropic(api_key="test", base_url=server.url, max_retries=0)
        stream = stream_text(client, retries=1, sinks=log, **PARAMS)

        def read() -> None:
            try:
                stream.until_done()
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        while stream._state.failure is None or stream._slot:
            threading.Event().wait(0.005)
    thread.join(20)
    client.close()
    assert [type(error) for error in raised] == [anthropic.APIConnectionError]
    assert log.calls == [("disconnected", "")]
    assert stream.result.attempts == 2


@pytest.mark.parametrize("ends", ["idle_timeout", "total_timeout", "cancel"])
def test_a_body_that_goes_on_after_its_message_can_be_left(ends: str) -> None:
    """The message is complete, whatever ends the wait for the end of the body."""
    with serve(LETTERS.stall(after_events=len(LETTERS.frames))) as server:
        client = sdk(server, timeout=60)
        stream = stream_text(client, **({} if ends == "cancel" else {ends: 1.0}), **PARAMS)
        thread = threading.Thread(target=stream.until_done)
        thread.start()
        if ends == "cancel":
            while not stream._state.builder.stopped:
                threading.Event().wait(0.005)
            stream.cancel()
        thread.join(20)
        assert not thread.is_alive()
        free(client)
    assert (stream.status, stream.text) == ("complete", "abcd")


def work(seconds: float) -> None:
    threading.Event().wait(seconds)


@pytest.mark.parametrize("mode", ["sync", "asyncio", "trio"])
def test_a_consumer_that_takes_its_time_with_any_event_does_not_trip_the_idle_clock(mode: str) -> None:
    slow_at = ("message_start", "message_delta")

    async def main() -> Any:
        async with async_sdk(server) as client:
            stream = stream_events(client, idle_timeout=0.6, retries=0, **PARAMS)
            async for event in stream:
                if event.type in slow_at:
                    await anyio.sleep(0.7)
            return stream

    with serve(LETTERS) as server:
        if mode == "sync":
            stream: Any = stream_events(sdk(server), idle_timeout=0.6, retries=0, **PARAMS)
            for event in stream:
                if event.type in slow_at:
                    work(0.7)
        else:
            stream = run(mode, main)
    assert stream.status == "complete"


# Small things.


def test_an_exception_class_that_is_thrown() -> None:
    with serve(LETTERS, repeat=True) as server:
        stream = stream_text(sdk(server), **PARAMS)
        with pytest.raises(ValueError, match=r"^$") as caught:
            stream.throw(ValueError)
        assert caught.value.args == ()

        async def main() -> None:
            async with async_sdk(server) as client:
                with pytest.raises(ValueError, match=r"^$") as caught:
                    await stream_text(client, **PARAMS).athrow(ValueError)
                assert caught.value.args == ()

        run("asyncio", main)


def test_deep_tool_input_goes_back_into_the_history() -> None:
    value: Any = 1
    for _ in range(300):
        value = {"a": value}
    body = sse(start(), tool(), tool_input(json.dumps(value)), closed(), ending("tool_use"), STOP)
    with serve(Reply.recorded(body)) as server:
        result = collect(sdk(server), **PARAMS)
    ((block,),) = [message["content"] for message in result.new_messages()]
    assert block["input"] == value  # type: ignore[index,typeddict-item]
