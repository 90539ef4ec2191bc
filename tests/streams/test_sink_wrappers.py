"""`coalesce` and `isolate`."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from streamkit import AsyncSink, BufferSink, CallbackSink, Sink, StreamResult, StreamTruncatedError, coalesce, isolate
from streamkit._sinks.coalesce import spawn
from streamkit.testing import Reply, record, serve
from tests.support.harness import Harness, ignores_generators_left_behind, reading_elsewhere, run, wait_until
from tests.support.replies import LETTERS
from tests.support.sinks import Log, TextLog

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]
LONG = 60.0  # seconds: longer than any test
THOUGHT = Reply.thinking("Hm, so", "One two three")


class Plain(Sink):
    """Keeps the calls; `fails` makes the first call of `write` raise."""

    def __init__(self, calls: list[tuple[str, str]] | None = None, *, fails: bool = False) -> None:
        self.calls: list[tuple[str, str]] = [] if calls is None else calls
        self.fails = fails

    def write(self, text: str) -> None:
        self.calls.append(("write", text))
        if self.fails:
            raise ZeroDivisionError("in a sink")

    def thinking(self, text: str) -> None:
        self.calls.append(("thinking", text))

    def finish(self, result: StreamResult) -> None:
        self.calls.append(("finish", result.status))


class Awaited(AsyncSink):
    """The same, async."""

    def __init__(self, calls: list[tuple[str, str]] | None = None, *, fails: bool = False) -> None:
        self.calls: list[tuple[str, str]] = [] if calls is None else calls
        self.fails = fails

    async def write(self, text: str) -> None:
        await anyio.lowlevel.checkpoint()
        self.calls.append(("write", text))
        if self.fails:
            raise ZeroDivisionError("in a sink")

    async def thinking(self, text: str) -> None:
        self.calls.append(("thinking", text))

    async def finish(self, result: StreamResult) -> None:
        self.calls.append(("finish", result.status))


@pytest.fixture(params=[Plain, Awaited])
def kind(request: pytest.FixtureRequest, mode: str) -> Any:
    if mode == "sync" and request.param is Awaited:
        pytest.skip("a sync stream refuses an AsyncSink")
    return request.param


async def collected(harness: Harness, sinks: Any, reply: Reply = LETTERS, **options: Any) -> StreamResult:
    with serve(reply) as server:
        return await harness.collect(server, sinks=sinks, **options)


# coalesce


async def test_pieces_are_merged_in_order(harness: Harness, kind: Any) -> None:
    calls: list[tuple[str, str]] = []
    merged = [("thinking", "Hm, so"), ("write", "One two three"), ("finish", "complete")]
    await collected(harness, coalesce(kind(calls), LONG), THOUGHT)
    assert calls == merged
    await collected(harness, coalesce(lambda: kind(calls), LONG), THOUGHT)
    assert calls == merged * 2


async def test_nothing_is_merged_of_a_reply_without_text(harness: Harness, kind: Any) -> None:
    sink = kind()
    await collected(harness, coalesce(sink, LONG), Reply.tool_use("x", {}))
    assert sink.calls == [("finish", "complete")]


async def test_functions_are_merged(harness: Harness) -> None:
    seen = list[str]()
    await collected(harness, [coalesce(seen.append, LONG)])
    assert seen == ["abcd"]
    if harness.is_async:

        async def keep(text: str) -> None:
            seen.append(text)

        await collected(harness, coalesce(keep, LONG))
        assert seen == ["abcd"] * 2


async def test_events_keep_their_place(harness: Harness) -> None:
    plain, merged = Log(), Log()
    await collected(harness, [plain, coalesce(merged, LONG)], THOUGHT)
    # An event comes before its own text, which is pending then until the next event.
    assert merged.calls == plain.calls
    if harness.is_async:
        calls = list[Any]()

        class Events(AsyncSink):
            async def write(self, text: str) -> None:
                calls.append(("write", text))

            async def event(self, event: Any) -> None:
                calls.append(("event", event.type))

        await collected(harness, coalesce(Events, LONG), THOUGHT)
        assert calls == [call for call in plain.calls if call[0] in ("write", "event")]


async def test_what_is_pending_comes_before_an_error(harness: Harness, kind: Any) -> None:
    sink = kind()
    with pytest.raises(StreamTruncatedError):
        await collected(harness, coalesce(sink, LONG), LETTERS.cut(after_events=5), retries=0)
    assert sink.calls == [("write", "ab"), ("finish", "disconnected")]


async def test_the_last_words_of_a_burst_appear_during_a_pause(harness: Harness, kind: Any) -> None:
    sink = kind()
    with serve(LETTERS.stall(after_events=5)) as server:
        stream = harness.text(server, sinks=coalesce(sink, 0.001))
        async with reading_elsewhere(stream):
            while "".join(text for _, text in sink.calls) != "ab":  # noqa: ASYNC110
                await anyio.sleep(0.001)
            stream.cancel()
    assert sink.calls[-1] == ("finish", "interrupted")
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "streamkit-coalesce"])


async def test_a_late_piece_finds_the_former_ones_gone(harness: Harness, kind: Any) -> None:
    """The timer cannot run here: another piece passes on what is due."""
    sink = kind()
    wrapped: Any = coalesce(sink, 0.001)
    if kind is Plain:
        with wrapped._changed:
            for piece in "ab":
                wrapped.write(piece)
                wait_until(lambda: wrapped._seconds_left() <= 0)
            assert sink.calls == [("write", "a")]
            wrapped.finish(await collected(harness, None))
    else:
        for piece in "ab":
            await wrapped.write(piece)
            wait_until(lambda: wrapped._seconds_left() <= 0)
        assert sink.calls == [("write", "a")]
        await wrapped.finish(await collected(harness, None))
    assert sink.calls == [("write", "a"), ("write", "b"), ("finish", "complete")]


async def test_a_write_that_fails_ends_the_stream(harness: Harness, kind: Any) -> None:
    sink, other = kind(fails=True), TextLog()
    wrapped = coalesce(sink, LONG)
    with pytest.raises(ZeroDivisionError):
        await collected(harness, [wrapped, other])
    assert sink.calls == [("write", "abcd"), ("finish", "complete")]
    sink.fails = False
    await collected(harness, wrapped)
    assert sink.calls[2:] == [("write", "abcd"), ("finish", "complete")], "it serves the next stream"


async def test_a_write_that_fails_in_the_background_is_raised_by_the_next_call(harness: Harness, kind: Any) -> None:
    sink = kind(fails=True)
    wrapped: Any = coalesce(sink, 0.001)
    with serve(LETTERS.stall(after_events=4)) as server:
        stream = harness.text(server, sinks=wrapped)
        raised = []
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                try:
                    await stream.until_done()
                except ZeroDivisionError as error:
                    raised.append(error)

            if harness.is_async:
                tasks.start_soon(read)
            else:
                tasks.start_soon(anyio.to_thread.run_sync, anyio.run, read)
            while wrapped._failure is None:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            stream.cancel()
    assert len(raised) == 1
    assert sink.calls == [("write", "a"), ("finish", "interrupted")]


async def test_nothing_is_written_after_a_failure(harness: Harness, kind: Any) -> None:
    """Not even by a stream that is being closed: `finish` alone is called."""

    class Base(kind):  # type: ignore[misc]
        pass

    sink = Base(fails=True)
    if kind is Plain:
        Base.event = lambda self, event: self.calls.append(("event", event))
    else:

        async def event(self: Any, event: Any) -> None:
            self.calls.append(("event", event))

        Base.event = event
    wrapped: Any = coalesce(sink, LONG)

    async def call(method: str, item: Any) -> None:
        answer = getattr(wrapped, method)(item)
        if answer is not None:
            await answer

    await call("write", "a")
    with pytest.raises(ZeroDivisionError):
        await call("event", "x")
    await call("write", "b")
    await call("event", "y")
    await call("finish", await collected(harness, None))
    assert sink.calls == [("write", "a"), ("finish", "complete")]


def test_a_call_in_the_background_that_hangs_does_not_hold_up_an_interrupted_stream(mode: str) -> None:
    if mode == "sync":
        pytest.skip("no AsyncSink")
    calls = list[str]()

    class Hanging(AsyncSink):
        async def write(self, text: str) -> None:
            calls.append(text)
            await anyio.sleep_forever()

        async def finish(self, result: StreamResult) -> None:
            calls.append(result.status)

    async def main() -> None:
        harness = Harness(mode)
        with serve(LETTERS.stall(after_events=4)) as server:
            stream = harness.text(server, sinks=coalesce(Hanging, 0.001))
            async with reading_elsewhere(stream):
                while not calls:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                stream.cancel()
        await harness.aclose()

    run(mode, main)
    assert calls == ["a", "interrupted"]


@pytest.mark.parametrize(("seconds", "error"), [("1", TypeError), (True, TypeError), (0, ValueError), (-1, ValueError)])
def test_what_is_no_time(seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected .*seconds.*, got "):  # noqa: RUF043
        coalesce(print, seconds)


@pytest.mark.parametrize("wrapper", [coalesce, isolate])
def test_what_cannot_be_wrapped(wrapper: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="expected a sink, got 5"):
        wrapper(5)


def test_there_is_no_background_without_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    import trio  # noqa: F401

    async def never() -> None:
        raise AssertionError

    assert not spawn(never)
    monkeypatch.delitem(sys.modules, "trio")
    assert not spawn(never)


@pytest.mark.parametrize("wrapper", [coalesce, isolate])
async def test_a_recorder_records_behind_a_wrapper(harness: Harness, wrapper: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.sse"
    await collected(harness, wrapper(record(path)))
    assert path.read_bytes() == LETTERS.body


# isolate


class Failing(Sink):
    def __init__(self, where: str, error: BaseException) -> None:
        self.calls: list[str] = []

        def fail(_: object) -> None:
            self.calls.append(where)
            raise error

        setattr(self, where, fail)
        if where != "finish":
            self.finish = lambda _: self.calls.append("finish")  # type: ignore[method-assign]


class AsyncFailing(AsyncSink):
    def __init__(self, where: str, error: BaseException) -> None:
        self.calls: list[str] = []

        async def fail(_: object) -> None:
            await anyio.lowlevel.checkpoint()
            self.calls.append(where)
            raise error

        async def finish(_: object) -> None:
            self.calls.append("finish")

        setattr(self, where, fail)
        if where != "finish":
            self.finish = finish  # type: ignore[method-assign]


@pytest.fixture(params=[Failing, AsyncFailing])
def failing(request: pytest.FixtureRequest, mode: str) -> Any:
    if mode == "sync" and request.param is AsyncFailing:
        pytest.skip("a sync stream refuses an AsyncSink")
    return request.param


@pytest.mark.parametrize("where", ["write", "thinking", "event", "finish"])
async def test_an_isolated_sink_fails_alone(harness: Harness, failing: Any, where: str) -> None:
    error = ZeroDivisionError("in a sink")
    errors, sink, other = list[Exception](), failing(where, error), Log()
    result = await collected(harness, [isolate(sink, errors.append), other], THOUGHT)
    assert (result.status, result.text) == ("complete", "One two three")
    assert errors == [error]
    assert sink.calls == [where], "called once, and not finished"
    assert "".join(other.of("write")) == result.text
    assert other.of("finish") == ["complete"]


async def test_a_healthy_isolated_sink_gets_everything(harness: Harness, kind: Any) -> None:
    plain, sink = kind(), kind()
    await collected(harness, [plain, isolate(sink)], THOUGHT)
    assert sink.calls == plain.calls


async def test_without_on_error_there_is_one_warning(harness: Harness, failing: Any) -> None:
    sink = failing("write", ZeroDivisionError("in a sink"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = await collected(harness, isolate(coalesce(sink, LONG) if failing is Failing else sink))
    assert result.ok
    said = [str(one.message) for one in caught if one.category is RuntimeWarning]
    name = type(sink).__name__
    assert said == [
        f"{name} raised ZeroDivisionError('in a sink'), and is not called again; pass on_error= to handle this"
    ]


async def test_a_class_is_isolated_for_each_stream(harness: Harness) -> None:
    made = list[BufferSink]()

    class Noted(BufferSink):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    for _ in range(2):
        await collected(harness, isolate(Noted))
    assert [sink.text for sink in made] == ["abcd", "abcd"]


async def test_what_on_error_raises_ends_the_stream(harness: Harness, failing: Any) -> None:
    def on_error(error: Exception) -> None:
        raise KeyError("in on_error") from error

    other = Log()
    with pytest.raises(KeyError, match="in on_error"):
        await collected(harness, [isolate(failing("write", ZeroDivisionError()), on_error), other])
    assert other.of("finish") == ["failed"]


async def test_an_interrupt_is_not_isolated(harness: Harness, failing: Any) -> None:
    errors, sink = list[Exception](), failing("write", SystemExit(3))
    with pytest.raises(SystemExit):
        await collected(harness, isolate(sink, errors.append))
    assert (errors, sink.calls) == ([], ["write", "finish"])


def test_a_shared_sink_that_fails_twice_at_once_is_reported_once() -> None:
    both, errors = threading.Barrier(2), list[Exception]()

    def fail(text: str) -> None:
        both.wait(20)
        raise ZeroDivisionError

    sink: Any = isolate(CallbackSink(fail), errors.append)
    assert sink.shareable
    threads = [threading.Thread(target=sink.write, args=["a"]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 1


async def _async_on_error(error: Exception) -> None:
    raise AssertionError


@pytest.mark.parametrize("on_error", [5, _async_on_error])
def test_what_is_no_on_error(on_error: Any) -> None:
    with pytest.raises(TypeError, match="expected a plain function for on_error=, got"):
        isolate(print, on_error)


async def test_an_isolated_sink_of_functions_of_both_kinds(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("a sync stream takes no async function")
    calls: list[str] = []

    async def on_text(text: str) -> None:
        calls.append(text)

    sink = isolate(CallbackSink(on_text=on_text, on_finish=lambda result: calls.append(result.status)))
    with serve(Reply.text("Hi")) as server:
        await harness.collect(server, sinks=sink)
    assert calls == ["Hi", "complete"]
