"""`streamkit._core.state`: what no server brings about at will."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import StreamTimeoutError
from streamkit._core.message import MessageBuilder
from streamkit._core.state import StreamState
from streamkit._options import Options
from streamkit._sdk.response import Reading
from streamkit._sdk.sources import Source
from tests.support.events import block_stop, input_delta, message_start, tool_use_start


def events() -> Iterator[Any]:
    yield from ()


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
    source = Source(lambda _: events, is_async=False, retries=0, lives_on=True)
    state = StreamState(source, Options(), yields_events=False)
    state.begin(0.0)
    state.connected(Reading(events(), source), 0.0)
    builder = state.builder = Overtaken()
    for event in (message_start(), tool_use_start(0), input_delta(raw[:12]), input_delta(raw[12:])):
        builder.apply(event)
    result = state.result(1.0)
    assert (result.tool_uses, result.invalid_tool_input) == ((), ())
    assert result._open == {0, 1}
    after = state.result(1.0)
    whole, invalid = [item.id for item in after.tool_uses], [item.raw for item in after.invalid_tool_input]
    assert (whole, invalid) == ((["toolu_1"], [raw]) if "oops" in raw else (["toolu_0", "toolu_1"], []))


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_headers_that_come_after_the_total_time(late: float) -> None:
    """Also where the clock has not woken anybody yet."""
    source = Source(lambda _: events, is_async=False, retries=2, lives_on=True)
    state = StreamState(source, Options(total_timeout=3.0), yields_events=False)
    state.begin(10.0)
    state.connected(Reading(events(), source), 13.0 + late)
    assert isinstance(state.failure, StreamTimeoutError)
    assert state.failure.clock == "total"
    assert (state.halted, state.retrying, state.waker.reason) == (True, False, None)


@pytest.mark.parametrize(("at", "clock"), [(12.9, "read"), (13.0, "total")])
def test_a_read_that_times_out_when_the_total_time_is_over(at: float, clock: str) -> None:
    """The total clock counts, also where its thread has not looked at it yet."""
    source = Source(lambda _: events, is_async=False, retries=0, lives_on=True)
    state = StreamState(source, Options(total_timeout=3.0), yields_events=False)
    state.begin(10.0)
    state.connected(Reading(events(), source), 10.5)
    state.broke(TimeoutError(), at)
    assert isinstance(state.failure, StreamTimeoutError)
    assert (state.failure.clock, state.waker.reason) == (clock, None)
