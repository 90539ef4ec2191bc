"""`streamkit._io.interrupt`: ending a stream from outside, without one."""

from __future__ import annotations

import copy
import socket
import sys
import threading
import time
from functools import partial
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest

from streamkit._io import clock as clocks
from streamkit._io.interrupt import LATE, NEVER, Waker, end_read, wait
from streamkit._io.request import Request
from streamkit._sdk.abandonable_timeout import AbandonableTimeout, RequestAbandoned


def response(sock: Any, version: bytes = b"HTTP/1.1", **extensions: Any) -> Any:
    """What an HTTP library says of its connection."""
    stream = SimpleNamespace(get_extra_info={"socket": sock}.get)
    return SimpleNamespace(
        is_closed=False, extensions={"http_version": version, "network_stream": stream, **extensions}
    )


@pytest.mark.parametrize(
    ("options", "shut"),
    [
        ({}, True),
        ({"version": b"HTTP/1.0"}, True),
        ({"version": b"HTTP/2"}, False),  # others share the connection
        ({"network_stream": None}, False),
        ({"network_stream": SimpleNamespace()}, False),
        ({"network_stream": SimpleNamespace(get_extra_info={}.get)}, False),
    ],
    ids=["1.1", "1.0", "2", "no stream", "no info", "no socket"],
)
def test_the_socket_is_shut_down_where_it_is_this_response_s_alone(options: dict[str, Any], shut: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0 if not shut else 20)
        waker = Waker()
        waker.attach(partial(end_read, response(ours, **options)))
        waker.wake("cancel")
        if shut:
            assert theirs.recv(1) == b""
        else:
            with pytest.raises(BlockingIOError):
                theirs.recv(1)


@pytest.mark.parametrize("wrap", [lambda sock: sock, lambda sock: SimpleNamespace(fileno=sock.fileno)])
def test_a_socket_that_is_closed_already_is_let_be(wrap: Any) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    waker = Waker()
    waker.attach(partial(end_read, response(wrap(ours))))
    waker.wake("cancel")
    assert waker.reason == "cancel"


def free(lock: Any) -> bool:
    """Whether another thread can have the lock."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(lock.acquire(blocking=False) and not lock.release()))
    thread.start()
    thread.join()
    return found[0]


def test_an_interrupt_leaves_no_lock_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupting(_: object) -> None:
        raise KeyboardInterrupt

    waker = Waker()
    waker.attach(interrupting)
    with pytest.raises(KeyboardInterrupt):
        waker.wake("cancel")
    assert free(waker.lock)
    waker.wake("total")
    assert waker.reason == "cancel"

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("can't start new thread")

    clock = clocks._Clock()
    monkeypatch.setattr(threading, "Thread", refused)
    with pytest.raises(RuntimeError, match="can't start"):
        clock.watch(waker)
    monkeypatch.undo()
    assert free(clock._starting)
    monkeypatch.setattr(clocks._Clock, "_keep_time", lambda _: None)
    clock.watch(waker)
    assert clock._thread is not None, "the next stream starts it"
    clock._thread.join(20)


def test_the_first_reason_stands() -> None:
    waker = Waker()
    assert (waker.reason, waker.idle_at, waker.total_at) == (None, NEVER, NEVER)
    waker.wake("idle")
    waker.wake("cancel")
    assert waker.reason == "idle"
    waker.forgive()
    assert waker.reason is None
    waker.wake("total")
    waker.forgive()
    assert waker.reason == "total", "only silence is forgiven"


def test_after_the_verdict_nothing_wakes() -> None:
    waker = Waker()
    waker.retire()
    waker.wake("cancel")
    assert waker.reason is None


@pytest.mark.parametrize(
    ("name", "arguments"), [("attach", (repr,)), ("detach", ()), ("retire", ()), ("forgive", ()), ("wake", ("idle",))]
)
def test_a_signal_handler_may_cancel_whatever_it_interrupts(name: str, arguments: tuple[Any, ...]) -> None:
    """A handler runs between two bytecodes, in the thread that it interrupts."""
    step, reached = 0, True
    while reached:
        step += 1
        count, waker, done = 0, Waker(), threading.Event()

        def trace(frame: Any, what: str, _: object, step: int = step, waker: Waker = waker) -> Any:
            nonlocal count
            if frame.f_code is not getattr(Waker, name).__code__:
                return None
            frame.f_trace_opcodes = True
            if what == "opcode":
                count += 1
                if count == step:
                    waker.wake("cancel")
            return trace

        def run(trace: Any = trace, waker: Waker = waker, done: threading.Event = done) -> None:
            sys.settrace(trace)
            getattr(waker, name)(*arguments)
            sys.settrace(None)
            done.set()

        threading.Thread(target=run, daemon=True).start()
        assert done.wait(5), f"stuck for ever, when it comes at bytecode {step} of {name}"
        reached = count >= step


# Deadlines that are noticed too late.


def test_a_deadline_that_is_noticed_in_time() -> None:
    waker = Waker()
    waker.idle_at, waker.total_at = 10.0, 12.0
    assert waker.look(9.9, late=False) == 10.0
    assert waker.look(9.9, late=True) == 10.0
    assert waker.reason is None
    waker.look(10.0, late=False)
    assert waker.reason == "idle"


def test_the_total_time_counts_where_both_are_over() -> None:
    waker = Waker()
    waker.idle_at = waker.total_at = 10.0
    waker.look(10.0, late=False)
    assert waker.reason == "total"


@pytest.mark.parametrize("moments", [(10.0, NEVER), (NEVER, 10.0), (10.0, 11.0)])
def test_who_looks_late_gives_the_reader_a_moment(moments: tuple[float, float]) -> None:
    waker = Waker()
    waker.idle_at, waker.total_at = moments
    assert waker.look(13.0, late=True) == 13.0 + LATE
    assert waker.look(13.0, late=False) == 13.0 + LATE
    assert waker.reason is None
    waker.look(13.0 + LATE, late=False)
    assert waker.reason is not None


def test_who_is_always_late_does_not_wait_for_ever() -> None:
    waker = Waker()
    waker.idle_at = 10.0
    waker.look(13.0, late=True)
    waker.look(16.0, late=True)
    assert waker.reason == "idle"


def test_late_once_and_late_again_are_two_things() -> None:
    waker = Waker()
    waker.idle_at = 10.0
    waker.look(13.0, late=True)
    waker.idle_at = 20.0  # content arrived
    waker.look(19.0, late=False)
    waker.look(25.0, late=True)
    assert waker.reason is None


def test_a_clock_thread_that_overslept_looks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is what a stopped process stops; here its sleep jumps ahead."""
    now, looks = 0.0, []
    waker = Waker()
    waker.idle_at = 1.0

    class EnoughError(Exception):
        pass

    def sleep(seconds: float) -> None:
        nonlocal now
        looks.append(waker.reason)
        now += 3.0 if len(looks) == 1 else seconds
        if len(looks) == 5:
            raise EnoughError

    monkeypatch.setattr(clocks.time, "monotonic", lambda: now)
    monkeypatch.setattr(clocks.time, "sleep", sleep)
    clock = clocks._Clock()
    clock._new.put(waker)
    with pytest.raises(EnoughError):
        clock._keep_time()
    assert looks[:2] == [None, None], "one more look"
    assert looks[4] == "idle"


def test_the_child_of_a_fork_watches_nothing_of_its_parent_s() -> None:
    before, waker = clocks._clock, Waker()
    try:
        before._new.put(waker)
        clocks._restart_clock()
        assert clocks._clock is not before
        assert clocks._clock._new.empty()
    finally:
        clocks._clock = before
        waker.retire()
    with waker.lock:
        held = waker.lock
        waker.inherit()
        assert free(waker.lock)
        assert waker.lock is not held


# Waits.


def test_a_wait_ends_at_a_signal_a_moment_or_a_reason() -> None:
    signals: SimpleQueue[None] = SimpleQueue()
    waker = Waker()
    signals.put(None)
    wait(signals, waker)
    assert signals.empty()
    wait(signals, waker, until=time.monotonic() - 1)
    wait(signals, waker, until=time.monotonic() + 0.01)
    waker.total_at = time.monotonic() + 0.01
    wait(signals, waker)
    assert waker.reason == "total"
    wait(signals, waker)


# Requests that nobody waits for any more.


@pytest.mark.parametrize("timeout", [None, 20, 600.0, anthropic.Timeout(600, connect=5)])
def test_a_timeout_that_may_be_abandoned_is_the_same_timeout(timeout: Any) -> None:
    """The HTTP library makes a `Timeout` of it for each attempt."""
    made = AbandonableTimeout(timeout, lambda: abandoned)
    abandoned = False
    assert anthropic.Timeout(made) == anthropic.Timeout(timeout)
    assert copy.deepcopy(made) is made
    abandoned = True
    with pytest.raises(RequestAbandoned):
        anthropic.Timeout(made)
    assert repr(made).startswith("AbandonableTimeout(")


class Opened:
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_request_that_is_abandoned_is_closed_when_it_is_answered() -> None:
    stream, answered, asked = Opened(), threading.Event(), []

    def prepare(is_abandoned: Any) -> Any:
        def send() -> Opened:
            asked.append(is_abandoned())
            assert answered.wait(20)
            asked.append(is_abandoned())
            return stream

        return send

    request = Request(prepare)
    waker = Waker()
    waker.total_at = time.monotonic() + 0.05
    request.run_in_thread(waker)
    assert (waker.reason, request.done) == ("total", False)
    request.abandon()
    answered.set()
    for thread in threading.enumerate():
        if thread.name == "streamkit-request":
            thread.join(20)
    assert (asked, request.done, stream.closed, request.streams) == ([False, True], True, 1, [])
    request.abandon()
    assert stream.closed == 1


def test_a_request_that_fails_after_it_was_abandoned_keeps_nothing() -> None:
    def prepare(is_abandoned: Any) -> Any:
        def send() -> Opened:
            request.abandon()
            raise ValueError

        return send

    request = Request(prepare)
    request.run()
    assert (request.error, request.done) == (None, True)


def test_where_no_thread_can_be_had_the_request_is_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object) -> None:
        raise RuntimeError("can't start new thread")

    stream = Opened()
    request = Request(lambda _: lambda: stream)
    monkeypatch.setattr(threading.Thread, "start", refused)
    request.run_in_thread(Waker())
    assert request.streams == [stream]
