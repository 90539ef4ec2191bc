"""`streamkit._wake`: ending a stream from outside, without one."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from streamkit._wake import NEVER, Waker


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
