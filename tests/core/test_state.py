"""`streamkit._core.state`: phases, and what no server brings about at will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamkit import StreamTimeoutError
from streamkit._core.dispatch import SinkDispatcher
from streamkit._core.message import MessageBuilder
from streamkit._core.phase import Phase
from streamkit._core.state import StreamState
from streamkit._options import Options
from streamkit._sdk.response import NoResponse
from tests.support.events import (
    MESSAGE_STOP,
    block_start,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    sse,
    text_delta,
    tool_use_start,
)


def state_of(*, max_retries: int = 0, **options: Any) -> StreamState:
    given = Options(**options)
    sinks = SinkDispatcher(given.sinks, is_async=False)
    return StreamState(given, sinks, NoResponse(), max_retries=max_retries)


def streaming(at: float = 0.0, **options: Any) -> StreamState:
    state = state_of(**options)
    state.attempt_scheduled(at)
    state.attempt_started()
    state.response_opened(NoResponse(), at)
    return state


# Phase x input -> phase. An input is a function of the state, which has `max_retries=1`.

Input = Callable[[StreamState], object]
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
REFUSAL = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}


def receive(*events: Any) -> Input:
    return lambda state: state.receive(sse(*events), 1.0)


def attempt(state: StreamState) -> None:
    state.attempt_scheduled(0.0)
    if state.phase is Phase.WAITING:
        state.wait_ended()
    state.attempt_started()


def timeout(state: StreamState) -> None:
    state.deadline_passed("total")


SCHEDULED: Input = lambda state: state.attempt_scheduled(0.0)  # noqa: E731
RESPONSE: Input = lambda state: state.response_opened(NoResponse(), 0.5)  # noqa: E731
BROKEN: Input = lambda state: state.read_failed(ConnectionResetError(), 1.0)  # noqa: E731
ENDED: Input = lambda state: state.body_ended()  # noqa: E731
JUDGED: Input = lambda state: state.judge()  # noqa: E731
FINISHED: Input = lambda state: state.finish("complete", None, 2.0)  # noqa: E731
IDLE: Input = lambda state: state.deadline_passed("idle")  # noqa: E731
OPEN = (attempt, RESPONSE)
CONTENT = receive(message_start(), block_start(), text_delta("Hi"))
TABLE: dict[str, tuple[tuple[Input, ...], str]] = {
    "nothing": ((), "NEW"),
    "the first attempt is scheduled": ((SCHEDULED,), "READY"),
    "an attempt": ((attempt,), "OPENING"),
    "no response in time": ((attempt, timeout), "FAILED"),
    "no response for the idle time": ((attempt, IDLE), "RETRYING"),
    "no response for the idle time, twice": ((attempt, IDLE, attempt, IDLE), "FAILED"),
    "a response": (OPEN, "STREAMING"),
    "a response too late": ((attempt, lambda state: state.response_opened(NoResponse(), 0.5, "total")), "FAILED"),
    "content": ((*OPEN, CONTENT), "STREAMING"),
    "the end of the message": ((*OPEN, CONTENT, receive(block_stop(), message_delta(), MESSAGE_STOP)), "MESSAGE_ENDED"),
    "a stray after the end": (
        (*OPEN, CONTENT, receive(block_stop(), message_delta(), MESSAGE_STOP), receive(message_start())),
        "MESSAGE_ENDED",
    ),
    "the end of the body": ((*OPEN, CONTENT, ENDED), "BODY_ENDED"),
    "a cut": ((*OPEN, CONTENT, ENDED, JUDGED), "FAILED"),
    "a cut before content": ((*OPEN, receive(message_start()), ENDED, JUDGED), "RETRYING"),
    "no message_stop": ((*OPEN, CONTENT, receive(block_stop(), message_delta()), ENDED, JUDGED), "COMPLETE"),
    "a break": ((*OPEN, CONTENT, BROKEN), "FAILED"),
    "a break before content": ((*OPEN, receive(message_start()), BROKEN), "RETRYING"),
    "a second break before content": ((*OPEN, BROKEN, *OPEN, receive(message_start()), BROKEN), "FAILED"),
    "a break after a retry that gave content": ((*OPEN, BROKEN, *OPEN, CONTENT, BROKEN), "FAILED"),
    "another attempt is scheduled": ((*OPEN, BROKEN, SCHEDULED), "WAITING"),
    "another attempt is due": ((*OPEN, BROKEN, SCHEDULED, lambda state: state.wait_ended()), "READY"),
    "another attempt": ((*OPEN, BROKEN, attempt), "OPENING"),
    "another response": ((*OPEN, BROKEN, *OPEN), "STREAMING"),
    "an error event": ((*OPEN, receive(message_start(), ERROR)), "RETRYING"),
    "an error event that a retry does not help": ((*OPEN, receive(message_start(), REFUSAL)), "FAILED"),
    "an error event after content": ((*OPEN, CONTENT, receive(ERROR)), "FAILED"),
    "garbage": ((*OPEN, receive(b"data: {oops\n\n")), "FAILED"),
    "out of order": ((*OPEN, receive(text_delta("Hi"))), "FAILED"),
    "silence": ((*OPEN, IDLE), "RETRYING"),
    "silence after content": ((*OPEN, CONTENT, IDLE), "FAILED"),
    "too long": ((*OPEN, timeout), "FAILED"),
    "an end while a retry is waited for": (
        (*OPEN, BROKEN, SCHEDULED, lambda state: state.wait_ended("total")),
        "FAILED",
    ),
    "the result": ((*OPEN, CONTENT, ENDED, JUDGED, FINISHED), "OVER"),
    "the result of a stream that was never opened": ((FINISHED,), "OVER"),
}


@pytest.mark.parametrize("name", TABLE)
def test_phases(name: str) -> None:
    inputs, expected = TABLE[name]
    state = state_of(max_retries=1)
    for put in inputs:
        put(state)
    assert state.phase is Phase[expected]


def test_every_phase_stands_in_the_table() -> None:
    assert {expected for _, expected in TABLE.values()} == {phase.name for phase in Phase}


@pytest.mark.parametrize("reason", ["idle", "total"])
def test_a_reason_ends_what_is_read(reason: Any) -> None:
    for put in (
        lambda state: state.body_ended(reason),
        lambda state: state.read_failed(OSError(), 1.0, reason),
        lambda state: state.interrupted(reason),
    ):
        state = streaming(idle_timeout=1, total_timeout=2)
        put(state)
        assert isinstance(state.failure, StreamTimeoutError)
        assert (state.phase, state.failure.clock) == (Phase.FAILED, reason)


def test_a_cancelled_stream_gives_no_more_items() -> None:
    state = streaming()
    state.receive(sse(message_start(), block_start(), text_delta("one "), text_delta("two ")), 1.0)
    assert state.frames
    state.interrupted("cancel")
    assert (state.next_item(), state.receive(sse(text_delta("three")), 2.0)) == (None, None)
    state.flush()
    assert state.finish("interrupted", None, 3.0).text == "one two three"


def test_a_cancelled_stream_is_not_retried() -> None:
    state = streaming(max_retries=1)
    state.cancelled = True
    state.read_failed(OSError(), 1.0)
    assert state.phase is Phase.FAILED


# Results and deadlines.


class Overtaken(MessageBuilder):
    """A builder whose block ends while another thread takes a result: right after its message was looked at."""

    def message(self) -> dict[str, Any] | None:
        seen = super().message()
        for event in (block_stop(0), tool_use_start(1), block_stop(1)):
            self.apply(event)
        return seen


@pytest.mark.parametrize("raw", ['{"path": "log.txt", "force": true}', '{"path": "log.txt", oops'])
def test_a_block_that_ends_while_a_result_is_made(raw: str) -> None:
    """It is not whole in this result, as the message may hold half of its input; it is in the next one."""
    state = streaming()
    builder = state.attempt.builder = Overtaken()
    for event in (message_start(), tool_use_start(0), input_delta(raw[:12]), input_delta(raw[12:])):
        builder.apply(event)
    result = state.result(1.0)
    assert (result.tool_uses, result.invalid_tool_input) == ((), ())
    assert result._unclosed_blocks == {0, 1}
    after = state.result(1.0)
    whole, invalid = [item.id for item in after.tool_uses], [item.raw for item in after.invalid_tool_input]
    assert (whole, invalid) == ((["toolu_1"], [raw]) if "oops" in raw else (["toolu_0", "toolu_1"], []))


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_headers_that_come_after_the_total_time(late: float) -> None:
    """Also where the clock has not woken anybody yet."""
    state = state_of(max_retries=2, total_timeout=3.0)
    state.attempt_scheduled(10.0)
    state.attempt_started()
    state.response_opened(NoResponse(), 13.0 + late)
    assert isinstance(state.failure, StreamTimeoutError)
    assert (state.phase, state.failure.clock) == (Phase.FAILED, "total")


@pytest.mark.parametrize(("at", "clock"), [(12.9, "read"), (13.0, "total")])
def test_a_read_that_times_out_when_the_total_time_is_over(at: float, clock: str) -> None:
    """The total time counts, also where its thread has not looked at it yet."""
    state = streaming(10.0, total_timeout=3.0)
    state.read_failed(TimeoutError(), at)
    assert isinstance(state.failure, StreamTimeoutError)
    assert state.failure.clock == clock
