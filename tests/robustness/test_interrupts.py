"""An interrupt wherever Python delivers one in the library's own code: a `KeyboardInterrupt` at each such place."""

from __future__ import annotations

import contextlib
import dis
import gc
import pickle
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import anthropic
import pytest

import streamkit
from streamkit import Sink, StreamError, StreamResult
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, open_connections_in_use, sdk_client
from tests.support.harness import wait_for_abandoned_requests

PIECES = ["One ", "two ", "three"]
TEXT = "".join(PIECES)
REPLY = Reply.text(PIECES)
SOON = {"retry-after": "0.001"}
EARLY = Reply.recorded(REPLY.body, headers=SOON).cut(after_events=1)
# Text, then a tool use, then text again: with thinking before.
MIXED = Reply.blocks(
    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    {"type": "text", "text": TEXT},
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
)
HOME = Path(streamkit.__file__).parent
OURS = {str(path) for path in HOME.rglob("*.py") if path.parent.name != "testing"}


class Log(Sink):
    """Keeps every call, and raises at one of them if it is told to."""

    def __init__(self) -> None:
        self.clear()

    def clear(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.text = ""
        self.calls = 0
        self.results: list[StreamResult] = []
        self.fail_at, self.error = fail_at, error

    def write(self, text: str) -> None:
        self.text += text
        self._called()

    def thinking(self, text: str) -> None:
        self._called()

    def event(self, event: Any) -> None:
        self._called()

    def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        self._called()

    def finish(self, result: StreamResult) -> None:
        self.results.append(result)
        self._called()

    def _called(self) -> None:
        self.calls += 1
        if self.calls - 1 == self.fail_at and self.error is not None:
            raise self.error


class Use:
    """One use of the library: what it makes is kept, so that nothing is finalised before it is looked at."""

    def __init__(self, client: anthropic.Anthropic, sinks: list[Log], way: Way) -> None:
        self._client, self._events = client, way.events
        self._options = {**PARAMS, "sinks": sinks, "retries": len(way.replies) - 1}
        self.stream: Any = None
        self.outer: Any = None
        self.got: list[Any] = []
        self.raised = False
        self.drained = False  # only the sinks get the rest
        self.result: Any = None
        self.fail_at: int | None = None
        self.error: BaseException | None = None

    def make(self, **options: Any) -> Any:
        function = streamkit.stream_events if self._events else streamkit.stream_text
        self.stream = function(self._client, **self._options, **options)
        return self.stream

    def collect(self, **options: Any) -> None:
        self.drained = True
        self.result = streamkit.collect(self._client, **self._options, **options)

    def take(self, item: Any) -> None:
        """The loop's body."""
        if len(self.got) == self.fail_at and self.error is not None:
            raise self.error
        self.got.append(item)

    @property
    def text(self) -> str:
        if not self._events:
            return "".join(self.got)
        deltas = [event.delta for event in self.got if event.type == "content_block_delta"]
        return "".join(delta.text for delta in deltas if delta.type == "text_delta")


def in_with(use: Use) -> None:
    with use.make() as stream:
        for item in stream:
            use.take(item)
    use.result = stream.result


def with_clocks(use: Use) -> None:
    with use.make(idle_timeout=60, total_timeout=60) as stream:
        for item in stream:
            use.take(item)
    use.result = stream.result


def with_break(use: Use) -> None:
    with use.make() as stream:
        for item in stream:
            use.take(item)
            if len(use.got) == 2:
                break
    use.result = stream.result


def with_cancel(use: Use) -> None:
    with use.make() as stream:
        for item in stream:
            use.take(item)
            if len(use.got) == 2:
                stream.cancel()
    use.result = stream.result


def opened_and_closed(use: Use) -> None:
    stream = use.make()
    try:
        stream.open()
        use.drained = True
        use.take(next(stream))
        use.result = stream.until_done()
    finally:
        stream.close()


def bare(use: Use) -> None:
    for item in use.make():
        use.take(item)
    use.result = use.stream.result


def bare_break(use: Use) -> None:
    for item in use.make():
        use.take(item)
        break


def _delegate(stream: Any) -> Generator[Any, None, StreamResult]:
    return (yield from stream)


def delegated(use: Use) -> None:
    use.outer = _delegate(use.make())
    for item in use.outer:
        use.take(item)
    use.result = use.stream.result


def delegated_and_closed(use: Use) -> None:
    use.outer = _delegate(use.make())
    try:
        use.take(next(use.outer))
    finally:
        use.outer.close()
    use.result = use.stream.result


def delegated_in_with(use: Use) -> None:
    with use.make() as stream:
        use.outer = _delegate(stream)
        for item in use.outer:
            use.take(item)
    use.result = stream.result


def collected(use: Use) -> None:
    use.collect()


def collected_or_returned(use: Use) -> None:
    use.collect(on_interrupt="return", on_error="return")


class Way(NamedTuple):
    use: Callable[[Use], None]
    released: bool  # promised by the time the block is left
    replies: tuple[Reply, ...] = (REPLY,)
    events: bool = False

    def __str__(self) -> str:
        kind = "" if "collected" in self.use.__name__ else "events_" if self.events else "text_"
        more = {EARLY: "_retried", MIXED: "_mixed"}.get(self.replies[0], "")
        return f"{kind}{self.use.__name__}{more}"


WAYS = [
    Way(in_with, released=True),
    Way(in_with, released=True, events=True),
    Way(in_with, released=True, replies=(MIXED,)),
    Way(in_with, released=True, replies=(EARLY, REPLY)),
    Way(in_with, released=True, replies=(EARLY, REPLY), events=True),
    Way(with_clocks, released=True),
    Way(with_clocks, released=True, replies=(EARLY, REPLY)),
    Way(with_break, released=True),
    Way(with_cancel, released=True),
    Way(opened_and_closed, released=True),
    Way(bare, released=False),
    Way(bare, released=False, events=True),
    Way(bare_break, released=False),
    Way(delegated, released=False),
    Way(delegated, released=False, events=True),
    Way(delegated_and_closed, released=False),
    Way(delegated_in_with, released=True),
    Way(collected, released=True),
    Way(collected_or_returned, released=True),
    Way(collected_or_returned, released=True, replies=(EARLY, REPLY)),
]


class Point(NamedTuple):
    """Where CPython runs signal handlers: at the entry of a function, after a call into C, after a jump back."""

    code: CodeType
    line: int
    offset: int
    kind: str

    def __str__(self) -> str:
        name = getattr(self.code, "co_qualname", self.code.co_name)
        return f"{Path(self.code.co_filename).name}:{self.line} {name} {self.kind} {self.offset}"


class Tracer:
    """Counts the points at which the library's code runs, and raises at one of them."""

    def __init__(self, raise_at: int | None = None, error: BaseException | None = None) -> None:
        self.count = 0
        self.points: list[Point] = []
        self.hit: Point | None = None
        self.finalising = False  # it was hit below a finaliser
        self._raise_at, self._error = raise_at, error
        self._before: dict[int, int] = {}  # by the identity of a frame, as frames hold the stream

    def __call__(self, frame: FrameType, kind: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in OURS:
            return None
        if kind == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self._before.pop(id(frame), None)
            self._point(frame, kind)
        elif kind == "opcode":
            before = self._before.get(id(frame), -1)
            self._before[id(frame)] = frame.f_lasti
            if frame.f_lasti < before and "JUMP" in dis.opname[frame.f_code.co_code[before]]:
                self._point(frame, "jump back")
        elif kind == "return":
            self._before.pop(id(frame), None)
        return self

    def _profile(self, frame: FrameType, kind: str, arg: Any) -> None:
        # As a handler does, this raises within the instruction of the call: what the call returned is lost.
        if kind == "c_return" and frame.f_code.co_filename in OURS:
            self._point(frame, f"after {arg.__name__}()")

    def _point(self, frame: FrameType, kind: str) -> None:
        self.count += 1
        if self._raise_at is None:
            self.points.append(Point(frame.f_code, frame.f_lineno or 0, frame.f_lasti, kind))
        elif self.count - 1 == self._raise_at:
            self.hit = Point(frame.f_code, frame.f_lineno or 0, frame.f_lasti, kind)
            self.finalising = "__del__" in [one.f_code.co_name for one, _ in traceback.walk_stack(frame)]
            raise self._error  # type: ignore[misc]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            sys.settrace(before)


def check_result(result: StreamResult, use: Use, sinks: list[Log], text: str) -> None:
    assert result.status in ("pending", "streaming", "complete", "interrupted", "failed")
    assert text.startswith(result.text)
    if result.status == "complete":
        assert result.text == text
    for seen in (*(() if use.drained else (use.text,)), *(sink.text for sink in sinks)):
        assert result.text.startswith(seen), (result.text, seen)
        assert result.text[len(seen) :] in ("", *PIECES), "more than one chunk ahead"
    assert repr(result)
    assert result.message is None or result.message.to_dict()["role"] == "assistant"
    assert isinstance(result.new_messages(), list)
    assert result.usage.output_tokens >= 0
    assert pickle.loads(pickle.dumps(result)).text == result.text  # noqa: S301


class Outcome(NamedTuple):
    """What one run came to."""

    hit: Point | None
    held: bool  # the connection was in use until nothing referred to the stream
    collected: bool  # and until the garbage collector had run


# Where Python gives no hook to release anything: at the return of `__enter__`, and at the entry of `__exit__`.
UNHOOKED = {"__enter__", "__exit__"}


def run_once(  # noqa: PLR0917
    way: Way,
    client: anthropic.Anthropic,
    sinks: list[Log],
    tracer: Tracer | None,
    error: BaseException | None,
    prepare: Callable[[Use], None] | None = None,
) -> Outcome:
    """One use, with `error` raised somewhere in it. Checks all that is promised."""
    use = Use(client, sinks, way)
    if prepare is not None:
        prepare(use)
    raised: BaseException | None = None
    ignored: list[Any] = []
    with warnings.catch_warnings(record=True) as warned, contextlib.ExitStack() as hooks:
        warnings.simplefilter("always")
        hooks.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda unraisable: ignored.append(unraisable.exc_value)
        try:
            with tracer.running() if tracer is not None else contextlib.nullcontext():
                way.use(use)
        except BaseException as caught:
            raised = caught
            use.raised = True
        wait_for_abandoned_requests()
        hit = tracer.hit if tracer is not None else None
        finalising = hit is not None and tracer is not None and tracer.finalising
        if raised is not None:
            # Python lets no `StopIteration` out of a generator, and nor does the library.
            stopped = type(error) is StopIteration and type(raised) is RuntimeError and raised.__cause__ is error
            assert raised is error or stopped, f"{raised!r} was raised"
        elif hit is not None:
            assert way.use is collected_or_returned or (finalising and ignored == [error]), "the exception was lost"
        results = [use.result, *(result for sink in sinks for result in sink.results)]
        if use.stream is not None:
            results.append(use.stream.result)
        for result in results:
            if result is not None:
                check_result(result, use, sinks, TEXT)
        held = bool(open_connections_in_use(client))
        began = use.stream is not None and use.stream.result.attempts > 0
        # Nothing refers to the stream from here on.
        if error is not None:
            error.__traceback__ = error.__context__ = None
        results.clear()
        ignored.clear()
        result = raised = use.outer = use.result = use.stream = None
        collected = bool(open_connections_in_use(client)) or (began and not sinks[0].results)
        if collected:
            gc.collect()
            collected = held
    assert open_connections_in_use(client) == [], "the connection is in use when nothing refers to the stream"
    assert all("was dropped without being closed" in str(warning.message) for warning in warned)
    times = {len(sink.results) for sink in sinks}
    assert times in ({1}, {0}), f"sinks were finished {times} times"
    assert times == {1} or not began, "sinks were not finished"
    assert not streamkit._core.dispatch._owners, "a sink is in use for ever"
    if way.released and held:
        assert hit is not None, "the connection is in use after the block"
        assert hit.code.co_name in UNHOOKED, "the connection is in use after the block"
    return Outcome(hit, held, collected)


def every_point(way: Way, step: int) -> tuple[int, int, list[Outcome], list[str]]:
    """Interrupt at every `step`-th point: each place, the first and the last time that it is reached.

    Returns how often the library could be interrupted, how many points are tried, what each came to, and what failed.
    """
    sinks = [Log(), Log()]
    outcomes: list[Outcome] = []
    failures: list[str] = []
    with serve(*way.replies, repeat=True) as server:
        runs = 0

        def run(tracer: Tracer, error: BaseException | None) -> Outcome:
            nonlocal runs
            runs += 1
            server._used_count = 0  # each run starts with the first reply
            for sink in sinks:
                sink.clear()
            return run_once(way, client, sinks, tracer, error)

        client = sdk_client(server)
        run(Tracer(), None)  # what is made once and kept
        counting = Tracer()
        run(counting, None)
        first = {point: at for at, point in reversed(list(enumerate(counting.points)))}
        last = {point: at for at, point in enumerate(counting.points)}
        chosen = sorted({*first.values(), *last.values()})[::step]
        for at in chosen:
            error = KeyboardInterrupt(at)
            if sys.version_info >= (3, 13):
                # After an exception out of a trace function, these Pythons report only a part of the opcodes in the
                # next run, and the point would not be reached. A run to the end in between brings them all back.
                run(Tracer(), None)
            try:
                outcomes.append(run(Tracer(at, error), error))
            except AssertionError as failed:
                failures.append(f"{counting.points[at]}: {failed}".split("\n")[0])
                client = sdk_client(server)
                streamkit._core.dispatch._owners.clear()
        assert server.connection_count <= runs * len(way.replies)
    # What depends on the time runs or does not: the last points may not be reached.
    reached = [outcome for outcome in outcomes if outcome.hit is not None]
    assert len(chosen) - len(reached) - len(failures) <= max(3, len(chosen) // 50)
    return counting.count, len(chosen), reached, failures


def _listed(outcomes: list[Outcome]) -> str:
    places = Counter(f"{outcome.hit}" for outcome in outcomes)
    return "".join(f"\n    {place}" + (f" ({times} times)" if times > 1 else "") for place, times in places.items())


def _interrupt(way: Way, step: int, capsys: pytest.CaptureFixture[str]) -> None:
    total, chosen, outcomes, failures = every_point(way, step)
    held = [outcome for outcome in outcomes if outcome.held]
    with capsys.disabled():
        print(f"\n{way}: {chosen} points, of {total} reached; {len(held)} left to the finaliser")
        if way.released and held:
            print("  where Python has no hook:" + _listed(held))
    assert failures == [], f"{len(failures)} of {chosen} points failed:\n" + "\n".join(failures)
    assert total > 100


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_interrupt_at_some_places(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    _interrupt(way, 29, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_interrupt_at_every_place(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    _interrupt(way, 1, capsys)


# A finaliser that is interrupted: Python ignores the exception there, the connection must not be lost.


@pytest.mark.parametrize("kind", [pytest.param("interrupt", marks=pytest.mark.slow), "warning"])
def test_a_finaliser_that_is_interrupted(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    sink = Log()
    ignored: list[Any] = []
    at, reached = 0, True
    lost = 0
    with serve(REPLY, repeat=True) as server, contextlib.ExitStack() as hooks:
        client = sdk_client(server)
        hooks.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda unraisable: ignored.append(unraisable.exc_value)
        while reached:
            stream = streamkit.stream_text(client, sinks=sink, **PARAMS)
            next(stream)
            sink.clear()
            ignored.clear()
            tracer = Tracer(at if kind == "interrupt" else None, KeyboardInterrupt())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore" if kind == "interrupt" else "error")
                with tracer.running():
                    del stream
            reached = tracer.hit is not None
            at += 1
            if reached and tracer.hit.code.co_name == "__del__" and open_connections_in_use(client):
                lost += 1  # interrupted before it could do anything
                client = sdk_client(server)
                streamkit._core.dispatch._owners.clear()
                continue
            assert open_connections_in_use(client) == [], tracer.hit
            assert [result.status for result in sink.results] == ["interrupted"], tracer.hit
            assert len(ignored) == (reached or kind == "warning")
    with capsys.disabled():
        print(f"\nin the finaliser, {kind}: {at} points, {lost} at its entry")
    assert lost < 20


# What others raise: a sink at each of its calls, the loop's body at each item.

ERRORS = [
    *(KeyboardInterrupt, ValueError, StopIteration),
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in (SystemExit, GeneratorExit, MemoryError)),
]


def at_every_call(way: Way, kind: type[BaseException], where: str) -> int:
    """Raise at each call of the second of three sinks, or of the loop's body. Returns how many there are."""
    sinks = [Log(), Log(), Log()]
    at, reached = -1, True
    uses: list[Use] = []
    with serve(*way.replies, repeat=True) as server, sdk_client(server) as client:
        while reached:
            at += 1
            server._used_count = 0
            error = kind(at)
            for sink in sinks:
                sink.clear()

            def prepare(use: Use, error: BaseException = error, at: int = at) -> None:
                if where == "body":
                    use.fail_at, use.error = at, error
                else:
                    sinks[1].clear(at, error)
                uses.append(use)

            outcome = run_once(way, client, sinks, None, error, prepare)
            assert not (way.released and outcome.held)
            use = uses.pop()
            reached = use.raised if where == "body" else sinks[1].calls > at
    return at


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("way", [way for way in WAYS if "cancel" not in str(way) and "clocks" not in str(way)], ids=str)
def test_a_sink_that_raises_at_each_of_its_calls(
    way: Way, kind: type[BaseException], record_property: Callable[[str, object], None]
) -> None:
    count = at_every_call(way, kind, "sink")
    record_property("calls", count)
    assert count >= 4


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    "way", [way for way in WAYS if "collected" not in str(way) and "opened" not in str(way)], ids=str
)
def test_a_loop_body_that_raises_at_each_item(
    way: Way, kind: type[BaseException], record_property: Callable[[str, object], None]
) -> None:
    count = at_every_call(way, kind, "body")
    record_property("items", count)
    assert count >= 1
