"""`streamkit._wake`: ending a stream from outside, without one."""

from __future__ import annotations

import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest

from streamkit import _wake
from streamkit._wake import NEVER, TimeLeft, Waker


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
        waker.attach(response(ours, **options))
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
    waker.attach(response(wrap(ours)))
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
    class Interrupting:
        @property
        def extensions(self) -> Any:
            raise KeyboardInterrupt

    waker = Waker()
    waker.attach(Interrupting())
    with pytest.raises(KeyboardInterrupt):
        waker.wake("cancel")
    assert free(waker.lock)
    waker.wake("total")
    assert waker.reason == "cancel"

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("can't start new thread")

    waker.retire()
    monkeypatch.setattr(_wake, "_thread", None)
    monkeypatch.setattr(threading, "Thread", refused)
    with pytest.raises(RuntimeError, match="can't start"):
        _wake.watch(waker)
    monkeypatch.undo()
    assert free(_wake._starting)


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
    ("name", "arguments"), [("attach", (None,)), ("detach", ()), ("retire", ()), ("forgive", ()), ("wake", ("idle",))]
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


@pytest.mark.parametrize(
    ("timeout", "connect", "read"),
    [(None, 60.0, 60.0), (20, 20.0, 20.0), (600.0, 60.0, 60.0), (anthropic.Timeout(600, connect=5), 5.0, 60.0)],
)
def test_time_left(timeout: Any, connect: float, read: float) -> None:
    """The HTTP library makes a `Timeout` of it for each attempt."""
    left = anthropic.Timeout(TimeLeft(timeout, time.monotonic() + 60))
    for found, wanted in ((left.connect, connect), (left.read, read), (left.write, read), (left.pool, read)):
        assert found is not None
        assert wanted - 10 < found <= wanted


def test_no_time_left() -> None:
    over = TimeLeft(600, time.monotonic())
    with pytest.raises(TimeoutError, match="no time left"):
        anthropic.Timeout(over)
    assert repr(over).startswith("TimeLeft(until=")
