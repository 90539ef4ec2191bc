"""`idle_timeout`, `total_timeout` and the read timeout of the SDK."""

from __future__ import annotations

import contextlib
from typing import Any

import anthropic
import pytest

from streamkit import StreamTimeoutError
from streamkit.testing import Reply, serve
from tests.support.clients import assert_no_connection_in_use
from tests.support.events import MESSAGE_STOP, block_delta, block_start, block_stop, message_delta, message_start
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import REPLY, SOON, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


@pytest.mark.parametrize("pings", [None, 0.02])
async def test_idle_timeout_in_silence_and_under_pings(harness: Harness, pings: float | None) -> None:
    log = Log()
    with serve(REPLY.stall(after_events=4, pings=pings)) as server:
        client = harness.client(server)
        stream = harness.text(client, idle_timeout=1.5, sinks=log)
        with pytest.raises(anthropic.APITimeoutError) as caught:
            await stream.until_done()
        assert_no_connection_in_use(client)
    error: Any = caught.value
    assert (type(error), error.clock, error.retryable) == (StreamTimeoutError, "idle", True)
    assert "1.5" in str(error)
    assert (stream.status, error.result.text, log.of("finish")) == ("timed_out", "One ", ["timed_out"])


async def test_idle_timeout_does_not_run_while_content_arrives(harness: Harness) -> None:
    thinking = [block_delta(0, "thinking_delta", thinking=f"{n} ") for n in range(8)]
    begin = (message_start(), block_start(0, "thinking", thinking="", signature=""))
    reply = Reply.events(*begin, *thinking, block_stop(), message_delta(), MESSAGE_STOP, delay=0.3)
    with serve(reply) as server:
        result = await harness.collect(server, idle_timeout=2.0)
    assert result.status == "complete"
    assert result.thinking == "0 1 2 3 4 5 6 7 "


async def test_idle_timeout_before_content_is_tried_again(harness: Harness) -> None:
    with serve(Reply.recorded(REPLY.body, headers=SOON).stall(after_events=1, pings=0.02), REPLY) as server:
        result = await harness.collect(server, idle_timeout=1.5, retries=1)
        assert len(server.requests) == 2
    assert (result.text, result.attempts) == (TEXT, 2)


async def test_total_timeout(harness: Harness) -> None:
    with serve(REPLY.stall(after_events=4, pings=0.02), REPLY) as server:
        client = harness.client(server)
        stream = harness.text(client, total_timeout=1.5, retries=2)
        with pytest.raises(StreamTimeoutError) as caught:
            await stream.until_done()
        assert len(server.requests) == 1
        assert_no_connection_in_use(client)
    assert (caught.value.clock, stream.status, stream.text) == ("total", "timed_out", "One ")


async def test_total_timeout_before_content_is_not_tried_again(harness: Harness) -> None:
    with serve(REPLY.stall(after_events=1), REPLY) as server:
        with pytest.raises(StreamTimeoutError) as caught:
            await harness.collect(server, total_timeout=1.5, retries=2)
        assert len(server.requests) == 1
    assert caught.value.clock == "total"


async def test_total_timeout_that_ran_out_while_the_request_was_sent(harness: Harness) -> None:
    """The same for sync and async: `open` fails, or the first read does."""
    reply = Reply.recorded(REPLY.body, headers={"retry-after": "0.3"})
    failing = Reply.http_error(500, headers={"retry-after": "0.3"})
    with serve(failing, reply) as server:
        stream = harness.text(harness.client(server, max_retries=1), total_timeout=0.1)
        async with contextlib.aclosing(stream):
            with pytest.raises(StreamTimeoutError) as caught:
                await stream.open()
    assert caught.value.clock == "total"
    assert stream.status == "timed_out"


async def test_the_read_timeout_of_the_sdk(harness: Harness) -> None:
    with serve(REPLY.stall(after_events=4)) as server:
        client = harness.client(server, timeout=1.5)
        with pytest.raises(StreamTimeoutError) as caught:
            await harness.collect(client)
        assert_no_connection_in_use(client)
    assert (caught.value.clock, caught.value.result.status, caught.value.result.text) == ("read", "timed_out", "One ")
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.usefixtures("without_drain_limit")
async def test_clocks_that_do_not_run_out_change_nothing(harness: Harness) -> None:
    with serve(REPLY, repeat=True) as server:
        client = harness.client(server)
        for _ in range(3):
            assert (await harness.collect(client, idle_timeout=30, total_timeout=60.5)).text == TEXT
        assert server.connection_count == 1
