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

from streamkit._core.timing import NO_DEADLINE
from streamkit._io import clock as clocks
from streamkit._io.interrupt import EXTENSION, Interrupter, interrupt_read, wait
from streamkit._io.request import Request
from streamkit._sdk.sources import AbandonableTimeout, RequestAbandoned


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
        interrupter = Interrupter()
        interrupter.attach(partial(interrupt_read, response(ours, **options)))
        interrupter.interrupt("cancel")
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
    interrupter = Interrupter()
    interrupter.attach(partial(interrupt_read, response(wrap(ours))))
    interrupter.interrupt("cancel")
    assert interrupter.reason == "cancel"


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

    interrupter = Interrupter()
    interrupter.attach(interrupting)
    with pytest.raises(KeyboardInterrupt):
        interrupter.interrupt("cancel")
    assert free(interrupter.lock)
    interrupter.interrupt("total")
    assert interrupter.reason == "cancel"

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("can't start new thread")

    clock = clocks._Clock()
    monkeypatch.setattr(threading, "Thread", refused)
    with pytest.raises(RuntimeError, match="can't start"):
        clock.watch(interrupter)
    monkeypatch.undo()
    assert free(clock._starting)
    monkeypatch.setattr(clocks._Clock, "_keep_time", lambda _: None)
    clock.watch(interrupter)
    assert clock._thread is not None, "the next stream starts it"
    clock._thread.join(20)


def test_the_first_reason_stands() -> None:
    interrupter = Interrupter()
    assert (interrupter.reason, interrupter.idle_deadline, interrupter.total_deadline) == (
        None,
        NO_DEADLINE,
        NO_DEADLINE,
    )
    interrupter.interrupt("idle")
    interrupter.interrupt("total")
    assert interrupter.reason == "idle"
    interrupter.reset_idle()
    assert interrupter.reason is None
    interrupter.interrupt("total")
    interrupter.interrupt("cancel")
    interrupter.reset_idle()
    assert interrupter.reason == "total", "only silence is forgiven"


def test_a_cancel_after_an_idle_timeout_that_is_taken_back() -> None:
    interrupter = Interrupter()
    interrupter.interrupt("idle")
    interrupter.interrupt("cancel")
    assert interrupter.reason == "idle", "a timeout that is not taken back stands"
    interrupter.reset_idle()
    assert interrupter.reason == "cancel"


def test_after_the_verdict_nothing_wakes() -> None:
    interrupter = Interrupter()
    interrupter.disarm()
    interrupter.interrupt("cancel")
    assert interrupter.reason is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("attach", (repr,)), ("detach", ()), ("disarm", ()), ("reset_idle", ()), ("interrupt", ("idle",))],
)
def test_a_signal_handler_may_cancel_whatever_it_interrupts(name: str, arguments: tuple[Any, ...]) -> None:
    """A handler runs between two bytecodes, in the thread that it interrupts."""
    step, reached = 0, True
    while reached:
        step += 1
        count, interrupter, done = 0, Interrupter(), threading.Event()

        def trace(frame: Any, what: str, _: object, step: int = step, interrupter: Interrupter = interrupter) -> Any:
            nonlocal count
            if frame.f_code is not getattr(Interrupter, name).__code__:
                return None
            frame.f_trace_opcodes = True
            if what == "opcode":
                count += 1
                if count == step:
                    interrupter.interrupt("cancel")
            return trace

        def run(trace: Any = trace, interrupter: Interrupter = interrupter, done: threading.Event = done) -> None:
            sys.settrace(trace)
            getattr(interrupter, name)(*arguments)
            sys.settrace(None)
            done.set()

        threading.Thread(target=run, daemon=True).start()
        assert done.wait(5), f"stuck for ever, when it comes at bytecode {step} of {name}"
        reached = count >= step


# Deadlines that are noticed too late.


def test_a_deadline_that_is_noticed_in_time() -> None:
    interrupter = Interrupter()
    interrupter.idle_deadline, interrupter.total_deadline = 10.0, 12.0
    assert interrupter.check_deadlines(9.9, late=False) == 10.0
    assert interrupter.check_deadlines(9.9, late=True) == 10.0
    assert interrupter.reason is None
    interrupter.check_deadlines(10.0, late=False)
    assert interrupter.reason == "idle"


def test_the_total_time_counts_where_both_are_over() -> None:
    interrupter = Interrupter()
    interrupter.idle_deadline = interrupter.total_deadline = 10.0
    interrupter.check_deadlines(10.0, late=False)
    assert interrupter.reason == "total"


@pytest.mark.parametrize("moments", [(10.0, NO_DEADLINE), (NO_DEADLINE, 10.0), (10.0, 11.0)])
def test_who_looks_late_gives_the_reader_a_moment(moments: tuple[float, float]) -> None:
    interrupter = Interrupter()
    interrupter.idle_deadline, interrupter.total_deadline = moments
    assert interrupter.check_deadlines(13.0, late=True) == 13.0 + EXTENSION
    assert interrupter.check_deadlines(13.0, late=False) == 13.0 + EXTENSION
    assert interrupter.reason is None
    interrupter.check_deadlines(13.0 + EXTENSION, late=False)
    assert interrupter.reason is not None


def test_who_is_always_late_does_not_wait_for_ever() -> None:
    interrupter = Interrupter()
    interrupter.idle_deadline = 10.0
    interrupter.check_deadlines(13.0, late=True)
    interrupter.check_deadlines(16.0, late=True)
    assert interrupter.reason == "idle"


def test_late_once_and_late_again_are_two_things() -> None:
    interrupter = Interrupter()
    interrupter.idle_deadline = 10.0
    interrupter.check_deadlines(13.0, late=True)
    interrupter.idle_deadline = 20.0  # content arrived
    interrupter.check_deadlines(19.0, late=False)
    interrupter.check_deadlines(25.0, late=True)
    assert interrupter.reason is None


def test_a_clock_thread_that_overslept_looks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is what a stopped process stops; here its sleep jumps ahead."""
    now, looks = 0.0, []
    interrupter = Interrupter()
    interrupter.idle_deadline = 1.0

    class EnoughError(Exception):
        pass

    def sleep(seconds: float) -> None:
        nonlocal now
        looks.append(interrupter.reason)
        now += 3.0 if len(looks) == 1 else seconds
        if now > 3.0 + EXTENSION + 0.2:
            raise EnoughError

    monkeypatch.setattr(clocks.time, "monotonic", lambda: now)
    monkeypatch.setattr(clocks.time, "sleep", sleep)
    clock = clocks._Clock()
    clock._new.put(interrupter)
    with pytest.raises(EnoughError):
        clock._keep_time()
    assert looks[:2] == [None, None], "one more look"
    assert looks[-1] == "idle"


def test_the_child_of_a_fork_watches_nothing_of_its_parent_s() -> None:
    before, interrupter = clocks._clock, Interrupter()
    try:
        before._new.put(interrupter)
        clocks._restart_clock()
        assert clocks._clock is not before
        assert clocks._clock._new.empty()
    finally:
        clocks._clock = before
        interrupter.disarm()
    with interrupter.lock:
        held = interrupter.lock
        interrupter.leave_to_parent()
        assert free(interrupter.lock)
        assert interrupter.lock is not held


# Waits.


def test_a_wait_ends_at_a_signal_a_moment_or_a_reason() -> None:
    signals: SimpleQueue[None] = SimpleQueue()
    interrupter = Interrupter()
    signals.put(None)
    wait(signals, interrupter)
    assert signals.empty()
    wait(signals, interrupter, until=time.monotonic() - 1)
    wait(signals, interrupter, until=time.monotonic() + 0.01)
    interrupter.total_deadline = time.monotonic() + 0.01
    wait(signals, interrupter)
    assert interrupter.reason == "total"
    wait(signals, interrupter)


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
            interrupter.interrupt("total")
            assert answered.wait(20)
            asked.append(is_abandoned())
            return stream

        return send

    interrupter = Interrupter()
    request = Request(prepare)
    request.run_in_thread(interrupter)
    assert (interrupter.reason, request.done) == ("total", False)
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
    request.run_in_thread(Interrupter())
    assert request.streams == [stream]


def test_a_request_that_is_abandoned_before_its_thread_runs_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes in `Thread.start` leaves a thread that begins after the stream is over."""
    sent: list[str] = []
    request = Request(lambda _: lambda: sent.append("request"))
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        request.abandon()
        start(self)
        self.join(20)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        request.run_in_thread(Interrupter())
    assert (sent, request.streams, request.error, request.done) == ([], [], None, True)
