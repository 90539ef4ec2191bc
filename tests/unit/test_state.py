"""`streamkit._state`: what no peer brings about at will."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import StreamTimeoutError
from streamkit._source import Reading, Source
from streamkit._state import Options, StreamState


def events() -> Iterator[Any]:
    yield from ()


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
