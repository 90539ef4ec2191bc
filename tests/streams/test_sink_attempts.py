"""`attempt` of a sink: what is told before each request, and what a sink that raises there brings about."""

from __future__ import annotations

from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import pytest

import streamkit
from streamkit import AsyncSink, Broadcast, CallbackSink, Sink, StreamError, StreamResult, coalesce, isolate
from streamkit._sinks.stdout import OutputClosedError
from streamkit.testing import Reply, Server, check_sink, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use
from tests.support.harness import FUNCTIONS, Harness, ignores_generators_left_behind, read_through
from tests.support.replies import REPLY, SOON, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]

EARLY = Reply.recorded(REPLY.body, headers=SOON).cut(after_events=1)
DELAY = float(SOON["retry-after"])


class Notes(Log):
    """Also keeps each call of `attempt`, with how many requests the server had got by then."""

    def __init__(self, server: Server, error: BaseException | None = None, at: int = 1) -> None:
        super().__init__()
        self._server, self._error, self._raise_at = server, error, at
        self.errors: list[StreamError | None] = []

    def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        self.calls.append(("attempt", (number, delay, len(self._server.requests))))
        self.errors.append(error)
        if number == self._raise_at and self._error is not None:
            raise self._error


class AwaitedNotes(AsyncSink):
    """The same for an `AsyncSink`, which lets other tasks run before it takes note."""

    def __init__(self, server: Server, error: BaseException | None = None, at: int = 1) -> None:
        self._notes = Notes(server, error, at)
        self.calls, self.errors, self.of = self._notes.calls, self._notes.errors, self._notes.of

    async def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self._notes.attempt(number, delay, error)

    async def write(self, text: str) -> None:
        await anyio.lowlevel.checkpoint()
        self._notes.write(text)

    async def event(self, event: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self._notes.event(event)

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        self._notes.finish(result)


@pytest.fixture(params=["Sink", "AsyncSink"])
def kind(request: pytest.FixtureRequest, mode: str) -> Any:
    """Both kinds of sinks."""
    if request.param == "AsyncSink" and mode == "sync":
        pytest.skip("a sync stream refuses an AsyncSink")
    return Notes if request.param == "Sink" else AwaitedNotes


# Calls.


async def test_an_attempt_comes_before_its_request_and_all_else(harness: Harness, kind: Any) -> None:
    with serve(REPLY) as server:
        sink = kind(server)
        stream = harness.text(server, sinks=sink)
        assert sink.calls == []
        await stream.open()
        assert sink.calls == [("attempt", (1, 0.0, 0))]
        await stream.until_done()
    assert sink.errors == [None]
    assert [name for name, _ in sink.calls][:2] == ["attempt", "event"]
    assert sink.of("attempt") == [(1, 0.0, 0)]
    assert sink.of("finish") == ["complete"]


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_every_function_tells_of_an_attempt(harness: Harness, function: str) -> None:
    with serve(REPLY) as server:
        sink = Notes(server)
        assert await read_through(function, harness.client(server).messages, {"sinks": sink}) == TEXT
    assert sink.calls[0] == ("attempt", (1, 0.0, 0))
    assert len(sink.of("attempt")) == 1


async def test_a_stream_that_the_user_opened_has_one_attempt(harness: Harness, kind: Any) -> None:
    with serve(EARLY) as server:
        raw = await harness.call(harness.client(server).messages.create, **PARAMS, stream=True)
        sink = kind(server)
        with pytest.raises(StreamError):
            await harness.collect(raw, sinks=sink)
    assert sink.of("attempt") == [(1, 0.0, 1)]


async def test_each_retry_is_told_before_its_wait(harness: Harness, kind: Any) -> None:
    results: list[StreamResult[Any, Any]] = []

    def keep(number: int, delay: float, error: StreamError | None) -> None:
        if error is not None:
            results.append(error.result)

    with serve(EARLY, EARLY, REPLY) as server:
        sink = kind(server)
        result = await harness.collect(server, retries=2, sinks=[sink, CallbackSink(on_attempt=keep)])
    assert sink.of("attempt") == [(1, 0.0, 0), (2, DELAY, 1), (3, DELAY, 2)]
    assert [name for name, _ in sink.calls][:4] == ["attempt", "attempt", "attempt", "event"]
    assert tuple(sink.errors) == (None, *result.failed_attempts)
    assert [(one.status, one.attempts, len(one.failed_attempts)) for one in results] == [
        ("disconnected", 1, 0),
        ("disconnected", 2, 1),
    ]
    assert [error.result for error in result.failed_attempts] == results
    assert (result.attempts, result.text) == (3, TEXT)


async def test_no_wait_is_told_when_no_retry_is_left(harness: Harness) -> None:
    with serve(EARLY, EARLY) as server:
        sink = Notes(server)
        with pytest.raises(StreamError):
            await harness.collect(server, retries=1, sinks=sink)
    assert [number for number, *_ in sink.of("attempt")] == [1, 2]
    assert sink.calls[-1] == ("finish", "disconnected")


async def test_a_retry_is_told_while_it_is_waited_for(harness: Harness, kind: Any) -> None:
    reply = Reply.recorded(REPLY.body, headers={"retry-after": "50"}).cut(after_events=1)
    with serve(reply, REPLY) as server:
        client, sink = harness.client(server), kind(server)
        canceller = CallbackSink(on_attempt=lambda number, *_: stream.cancel() if number == 2 else None)
        stream = harness.text(client, retries=1, sinks=[canceller, sink])
        result = await stream.until_done()
        assert_no_connection_in_use(client)
        assert len(server.requests) == 1
    assert sink.of("attempt") == [(1, 0.0, 0), (2, 50.0, 1)]
    assert (result.status, result.error, result.attempts, result.failed_attempts) == ("interrupted", None, 1, ())


async def test_a_refused_request_was_told(harness: Harness, kind: Any) -> None:
    with serve(Reply.http_error(400)) as server:
        sink = kind(server)
        with pytest.raises(anthropic.BadRequestError):
            await harness.collect(server, sinks=sink)
    assert sink.calls == [("attempt", (1, 0.0, 0)), ("finish", "failed")]


async def test_the_retries_of_the_sdk_are_not_told(harness: Harness) -> None:
    with serve(Reply.http_error(500, headers=SOON), REPLY) as server:
        sink = Notes(server)
        await harness.collect(harness.client(server, max_retries=1), sinks=sink)
        assert len(server.requests) == 2
    assert sink.of("attempt") == [(1, 0.0, 0)]


async def test_an_attempt_is_not_told_where_none_is_made(harness: Harness) -> None:
    with serve(REPLY) as server:
        sink = Notes(server)
        cancelled = harness.text(server, sinks=sink)
        cancelled.cancel()
        await cancelled.open()
        async with harness.text(server, sinks=sink) as stream:
            with pytest.raises(RuntimeError, match="in use by another stream"):
                await harness.collect(server, sinks=sink)
            await stream.until_done()
    assert sink.of("attempt") == [(1, 0.0, 0)]


async def test_what_a_sink_sees_of_its_stream(harness: Harness) -> None:
    seen: list[Any] = []

    def look(number: int, delay: float, error: StreamError | None) -> None:
        seen.append((stream.status, stream.result.attempts, stream.result.failed_attempts))

    with serve(EARLY, REPLY) as server:
        stream = harness.text(server, retries=1, sinks=CallbackSink(on_attempt=look))
        await stream.until_done()
    assert seen == [("pending", 0, ()), ("streaming", 1, ())]


async def test_awaited_functions_and_plain_ones_are_called_in_order(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("a sync stream refuses async functions")
    calls: list[Any] = []

    async def slow(number: int, delay: float, error: StreamError | None) -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        calls.append(("slow", number, len(server.requests)))

    def plain(number: int, delay: float, error: StreamError | None) -> None:
        calls.append(("plain", number, len(server.requests)))

    with serve(EARLY, REPLY) as server:
        sinks = [CallbackSink(on_attempt=slow), CallbackSink(calls.append, on_attempt=plain)]
        await harness.collect(server, retries=1, sinks=sinks)
    assert calls == [("slow", 1, 0), ("plain", 1, 0), ("slow", 2, 1), ("plain", 2, 1), "One ", "two ", "three"]


async def test_a_sync_stream_refuses_an_async_function(harness: Harness) -> None:
    if harness.is_async:
        pytest.skip("an async stream awaits it")

    async def awaited(number: int, delay: float, error: StreamError | None) -> None: ...

    with serve(REPLY) as server:
        with pytest.raises(TypeError, match="CallbackSink is given async functions and this stream is sync"):
            await harness.collect(server, sinks=CallbackSink(on_attempt=awaited))
        assert server.requests == []


# A sink that raises.

ERRORS = [ValueError("boom"), StreamError("boom"), OutputClosedError(), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", [1, 2])
async def test_nothing_is_sent_after_a_sink_has_raised(
    harness: Harness, kind: Any, error: BaseException, at: int
) -> None:
    with serve(EARLY, REPLY) as server:
        client, sink, others = harness.client(server), kind(server, error, at), [Notes(server), Notes(server)]
        stream = harness.text(client, retries=1, sinks=[others[0], sink, others[1]])
        if isinstance(error, OutputClosedError):
            await stream.until_done()
        else:
            with pytest.raises(type(error)) as caught:
                await stream.until_done()
            assert caught.value is error
        assert len(server.requests) == at - 1
        assert_no_connection_in_use(client)
    status = "failed" if isinstance(error, Exception) and not isinstance(error, OutputClosedError) else "interrupted"
    assert (stream.status, stream.result.attempts, stream.result.failed_attempts) == (status, at - 1, ())
    assert stream.result.error is (None if isinstance(error, OutputClosedError) else error)
    assert [one.calls[-1] for one in (others[0], sink, others[1])] == [("finish", status)] * 3
    assert [len(one.of("finish")) for one in (others[0], sink, others[1])] == [1, 1, 1]
    # A closed output counts as `cancel()`, after the call of the other sinks; any other error ends the round of calls.
    told = at if isinstance(error, OutputClosedError) else at - 1
    assert [len(one.of("attempt")) for one in others] == [at, told]


@pytest.mark.parametrize("error", ERRORS[:2], ids=lambda error: type(error).__name__)
async def test_the_error_of_a_sink_is_never_returned(harness: Harness, kind: Any, error: Exception) -> None:
    with serve(REPLY) as server:
        with pytest.raises(type(error)) as caught:
            await harness.collect(server, sinks=kind(server, error), on_error="return")
        assert server.requests == []
    assert caught.value is error


async def test_a_sink_may_refuse_a_retry_with_its_cause(harness: Harness) -> None:
    def refuse(number: int, delay: float, error: StreamError | None) -> None:
        if error is not None:
            raise error

    with serve(EARLY, REPLY) as server:
        stream = harness.text(server, retries=1, sinks=CallbackSink(on_attempt=refuse))
        with pytest.raises(streamkit.StreamTruncatedError) as caught:
            await stream.until_done()
        assert len(server.requests) == 1
    assert caught.value.result is stream.result
    assert (stream.status, stream.result.error) == ("failed", caught.value)


async def test_a_task_that_is_cancelled_while_an_attempt_is_awaited_sends_nothing(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("a sync stream awaits nothing")

    async def hang(number: int, delay: float, error: StreamError | None) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    with serve(REPLY) as server:
        log = Notes(server)
        with anyio.CancelScope() as scope:
            await harness.collect(server, sinks=[log, CallbackSink(on_attempt=hang)])
        assert scope.cancelled_caught
        assert server.requests == []
    assert log.calls == [("attempt", (1, 0.0, 0)), ("finish", "interrupted")]


async def test_a_stream_that_another_task_closes_while_an_attempt_is_awaited(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("a sync stream awaits nothing")
    reached, closed = anyio.Event(), anyio.Event()

    async def hang(number: int, delay: float, error: StreamError | None) -> None:
        reached.set()
        await closed.wait()

    with serve(REPLY) as server:
        log = Notes(server)
        stream = harness.text(server, sinks=[log, CallbackSink(on_attempt=hang)])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.open)
            await reached.wait()
            await stream.aclose()
            closed.set()
        assert server.requests == []
    assert log.calls == [("attempt", (1, 0.0, 0)), ("finish", "interrupted")]


# Wrappers, and sinks of the library.


@pytest.mark.parametrize("wrapper", [coalesce, isolate])
async def test_what_wraps_a_sink_passes_attempts_on(harness: Harness, kind: Any, wrapper: Any) -> None:
    with serve(EARLY, REPLY) as server:
        sink = kind(server)
        await harness.collect(server, retries=1, sinks=wrapper(sink))
    assert sink.of("attempt") == [(1, 0.0, 0), (2, DELAY, 1)]
    assert [name for name, _ in sink.calls][:3] == ["attempt", "attempt", "event"]
    assert sink.errors[1] is not None


async def test_coalesce_passes_pending_pieces_on_before_an_attempt() -> None:
    """The calls come out in their order, also where a program calls the sink itself."""
    calls: list[Any] = []
    sink: Any = coalesce(CallbackSink(calls.append, on_attempt=lambda *call: calls.append(call)), seconds=1000)
    sink.write("Hello ")
    sink.write("there")
    sink.attempt(1, 0.0, None)
    sink.finish(None)
    assert calls == ["Hello there", (1, 0.0, None)]


async def test_coalesce_passes_the_error_of_an_attempt_on(harness: Harness, kind: Any) -> None:
    error = ValueError("boom")
    with serve(REPLY) as server:
        with pytest.raises(ValueError, match="boom") as caught:
            await harness.collect(server, sinks=coalesce(kind(server, error)))
        assert server.requests == []
    assert caught.value is error


async def test_an_isolated_sink_that_raises_does_not_end_the_stream(harness: Harness, kind: Any) -> None:
    error, reported = ValueError("boom"), list[Exception]()
    with serve(REPLY) as server:
        sink = kind(server, error)
        result = await harness.collect(server, sinks=isolate(sink, reported.append))
    assert (result.status, reported) == ("complete", [error])
    assert sink.calls == [("attempt", (1, 0.0, 0))]


async def test_a_broadcast_refuses_a_second_stream_before_its_request(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("a sync stream refuses a Broadcast")
    sink = Broadcast()
    with serve(EARLY, REPLY, REPLY) as server:
        assert (await harness.collect(server, sinks=sink, retries=1)).ok
        with pytest.raises(RuntimeError, match="expected a Broadcast for one stream"):
            await harness.collect(server, sinks=sink)
        assert len(server.requests) == 2


@pytest.mark.parametrize("broken", [{"attempt": lambda self, number: None}, {"attempt": None}])
def test_check_sink_checks_attempt(broken: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"Mine.attempt must (take three positional arguments|be a method)"):
        check_sink(type("Mine", (Sink,), broken))


@pytest.mark.parametrize("base", [Sink, AsyncSink])
def test_check_sink_runs_a_retry(base: Any) -> None:
    numbers: list[int] = []

    def attempt(self: object, number: int, delay: float, error: StreamError | None) -> None:
        numbers.append(number)
        if error is not None:
            raise ValueError("boom")

    async def awaited(self: object, number: int, delay: float, error: StreamError | None) -> None:
        attempt(self, number, delay, error)

    with pytest.raises(AssertionError, match=r"raised ValueError\('boom'\) during a retry"):
        check_sink(type("Mine", (base,), {"attempt": attempt if base is Sink else awaited}))
    assert numbers[-2:] == [1, 2]


async def test_a_cancel_from_the_attempt_after_an_idle_timeout(harness: Harness) -> None:
    """The timeout, which is taken back for the retry, does not hide the cancel."""
    silent = Reply.recorded(REPLY.body, headers={"retry-after": "20"}).stall(after_events=1)
    with serve(silent, REPLY) as server:

        def note(number: int, delay: float, error: StreamError | None) -> None:
            if number == 2:
                stream.cancel()

        stream = harness.text(server, sinks=CallbackSink(on_attempt=note), idle_timeout=2.0, retries=1)
        result = await stream.until_done()
        assert (result.status, result.attempts, len(server.requests)) == ("interrupted", 1, 1)
