"""Pauses of the consumer and before a retry, and what is left over from a failed attempt."""

from __future__ import annotations

import threading
from typing import Any

import anthropic
import anyio
import pytest

from streamkit import CallbackSink, StreamTimeoutError, stream_events, stream_text
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, async_sdk_client, sdk_client
from tests.support.events import block_start, message_start, sse, text_delta
from tests.support.harness import has_started, run, timed_out_once, wait_until
from tests.support.replies import LETTERS, ONE_CHUNK, SOON
from tests.support.sinks import TextLog

pytestmark = pytest.mark.filterwarnings(
    # The HTTP library leaves generators behind when a body is not read to its end, and trio says so.
    "ignore:Async generator 'http:ResourceWarning",
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)


def test_the_wait_after_an_idle_time_out_can_be_ended() -> None:
    slow = LETTERS.stall(after_events=1)
    slow = Reply.recorded(slow.body, headers={"retry-after": "20"}).stall(after_events=1)

    with serve(slow, LETTERS) as server:
        client = sdk_client(server)
        stream = stream_text(client, idle_timeout=60, retries=2, **PARAMS)
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        with timed_out_once(stream, lambda: has_started(stream)):
            wait_until(lambda: stream._state.failure is not None and not stream._open_streams)
        stream.cancel()
        thread.join(10)
        assert not thread.is_alive()
        assert (stream.status, len(server.requests)) == ("interrupted", 1)
    with serve(slow, LETTERS) as server:
        stream = stream_text(sdk_client(server), idle_timeout=60, total_timeout=3.0, retries=2, **PARAMS)
        with timed_out_once(stream, lambda: has_started(stream)), pytest.raises(StreamTimeoutError) as caught:
            stream.until_done()
        assert (stream.status, caught.value.clock, len(server.requests)) == ("timed_out", "total", 1)


def test_what_a_failed_try_had_left_is_forgotten() -> None:
    body = sse(message_start()) + sse({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})
    left = Reply.recorded(body + sse(block_start(), text_delta("ghost")), [ONE_CHUNK], headers={"retry-after": "0.001"})
    with serve(left, Reply.http_error(401)) as server:
        stream = stream_text(sdk_client(server), retries=1, **PARAMS)
        with pytest.raises(anthropic.AuthenticationError):
            stream.until_done()
    assert (stream.text, stream.status, stream.result.attempts) == ("", "failed", 2)


def test_a_server_that_is_gone_when_it_is_tried_again() -> None:
    log = TextLog()
    early = Reply.recorded(LETTERS.body, headers=SOON).cut(after_events=1)
    raised: list[BaseException] = []
    gone = threading.Event()

    def wait(number: int, delay: float, error: object) -> None:
        if number == 2:
            gone.wait(20)

    with serve(early) as server:
        client = anthropic.Anthropic(api_key="test", base_url=server.url, max_retries=0)
        stream = stream_text(client, retries=1, sinks=[log, CallbackSink(on_attempt=wait)], **PARAMS)

        def read() -> None:
            try:
                stream.until_done()
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        wait_until(lambda: stream._state.failure is not None and not stream._open_streams)
    gone.set()
    thread.join(20)
    client.close()
    assert [type(error) for error in raised] == [anthropic.APIConnectionError]
    assert log.calls == [("disconnected", "")]
    assert stream.result.attempts == 2


def work(seconds: float) -> None:
    threading.Event().wait(seconds)


@pytest.mark.parametrize("mode", ["sync", "asyncio", "trio"])
def test_a_consumer_that_takes_its_time_with_any_event_does_not_trip_the_idle_clock(mode: str) -> None:
    slow_at = ("message_start", "message_delta")

    async def main() -> Any:
        async with async_sdk_client(server) as client:
            stream = stream_events(client, idle_timeout=1.5, retries=0, **PARAMS)
            async for event in stream:
                if event.type in slow_at:
                    await anyio.sleep(1.7)
            return stream

    with serve(LETTERS) as server:
        if mode == "sync":
            stream: Any = stream_events(sdk_client(server), idle_timeout=1.5, retries=0, **PARAMS)
            for event in stream:
                if event.type in slow_at:
                    work(1.7)
        else:
            stream = run(mode, main)
    assert stream.status == "complete"
