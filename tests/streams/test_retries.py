"""Retries: before content only, and no more than allowed."""

# ruff: noqa: PT012 - the whole life of a stream stands under one `raises`
from __future__ import annotations

import anthropic
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import streamkit
from streamkit import StreamAPIError, StreamError, StreamTimeoutError, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, sdk_client
from tests.support.harness import Harness, ignores_generators_left_behind, reading_elsewhere, wait_until
from tests.support.replies import REPLY, SOON, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


def early(name: str) -> Reply:
    """A reply that fails before its first content."""
    made = Reply.recorded(REPLY.body, headers=SOON)
    return {
        "error event": lambda: made.error("overloaded_error", after_events=2),
        "error at once": lambda: made.error("api_error", after_events=0),
        "cut": lambda: made.cut(after_events=2),
        "cut at once": lambda: made.cut(after_events=0),
        "reset": lambda: made.reset(after_events=1),
    }[name]()


EARLY = ["error event", "error at once", "cut", "cut at once", "reset"]


@pytest.mark.parametrize("name", EARLY)
async def test_a_fault_before_content_is_tried_again(harness: Harness, name: str) -> None:
    log = Log()
    with serve(early(name), early(name), REPLY) as server:
        client = harness.client(server)
        async with harness.events(client, retries=2, sinks=log) as stream:
            given = [event.type async for event in stream]
        assert len(server.requests) == 3
        assert server.requests[0].json == server.requests[2].json
        assert_no_connection_in_use(client)
    assert (stream.status, stream.text, stream.result.attempts, stream.result.error) == ("complete", TEXT, 3, None)
    assert given.count("message_start") == 1
    assert log.of("event") == given
    assert log.of("write") == ["One ", "two ", "three"]
    assert log.of("finish") == ["complete"]


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("retries", [0, 1])
async def test_no_more_retries_than_allowed(harness: Harness, name: str, retries: int) -> None:
    log = Log()
    with serve(*[early(name)] * 4) as server:
        stream = harness.text(server, retries=retries, sinks=log)
        with pytest.raises(StreamError) as caught:
            await stream.until_done()
        assert len(server.requests) == stream.result.attempts == retries + 1
    assert caught.value.retryable
    assert caught.value.result.message is None or caught.value.result.message.content == []
    assert log.of("finish") == [stream.status]


@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_the_retries_of_a_client_are_its_own(harness: Harness, max_retries: int) -> None:
    with serve(early("cut"), repeat=True) as server:
        with pytest.raises(StreamTruncatedError):
            await harness.collect(harness.client(server, max_retries=max_retries))
        assert len(server.requests) == max_retries + 1


@pytest.mark.parametrize("way", ["resource", "streamed"])
async def test_the_retries_of_other_sources_are_two(harness: Harness, way: str) -> None:
    with serve(early("cut"), repeat=True) as server:
        messages = harness.client(server, max_retries=5).messages
        with pytest.raises(StreamTruncatedError):
            if way == "resource":
                await harness.collect(messages)
            else:
                await harness.call(streamkit.streamed(messages.create), **PARAMS)
        assert len(server.requests) == 3


@pytest.mark.parametrize("fault", ["invalid_request_error", "garbage", "html"])
async def test_what_would_fail_again_is_not_tried_again(harness: Harness, fault: str) -> None:
    reply = {
        "invalid_request_error": REPLY.error("invalid_request_error", after_events=1),
        "garbage": REPLY.garbage(b"data: oops\n\n", after_events=1),
        "html": Reply.recorded(b"<html></html>", content_type="text/html"),
    }[fault]
    with serve(reply, REPLY) as server:
        with pytest.raises(StreamError) as caught:
            await harness.collect(server, retries=2)
        assert len(server.requests) == 1
    assert not caught.value.retryable


async def test_the_events_before_a_last_failure_are_given(harness: Harness) -> None:
    given, log = [], Log()
    with serve(early("error event")) as server:
        with pytest.raises(StreamAPIError):
            async with harness.events(server, retries=0, sinks=log) as stream:
                async for event in stream:
                    given.append(event.type)  # noqa: PERF401
    assert given == log.of("event") == ["message_start"]
    given.clear()
    with serve(early("error event"), early("error event")) as server:
        with pytest.raises(StreamAPIError):
            async with harness.events(server, retries=1) as stream:
                async for event in stream:
                    given.append(event.type)  # noqa: PERF401
    assert given == ["message_start"], "of the last one only"


async def test_a_request_that_is_refused_when_it_is_tried_again(harness: Harness) -> None:
    log = Log()
    with serve(early("cut"), Reply.http_error(400)) as server:
        stream = harness.text(server, retries=2, sinks=log)
        with pytest.raises(anthropic.BadRequestError):
            await stream.until_done()
        assert len(server.requests) == 2
    assert (stream.status, log.calls) == ("failed", [("finish", "failed")])


async def test_a_stream_that_somebody_else_opened_is_not_tried_again(harness: Harness) -> None:
    with serve(early("cut"), REPLY) as server:
        raw = await harness.call(harness.client(server).messages.create, **PARAMS, stream=True)
        with pytest.raises(StreamTruncatedError):
            await harness.collect(raw)
        assert len(server.requests) == 1


async def test_cancel_ends_the_wait_for_the_next_try(harness: Harness) -> None:
    reply = Reply.recorded(REPLY.body, headers={"retry-after": "50"}).error("overloaded_error", after_events=1)
    with serve(reply, REPLY) as server:
        stream = harness.text(server, retries=1)
        async with reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(
                wait_until, lambda: stream.message is not None and stream.result.attempts == 1
            )
            stream.cancel()
        assert given == []
        assert len(server.requests) == 1
    assert (stream.status, stream.result.error) == ("interrupted", None)


async def test_total_timeout_ends_the_wait_for_the_next_try(harness: Harness) -> None:
    reply = Reply.recorded(REPLY.body, headers={"retry-after": "50"}).error("overloaded_error", after_events=1)
    with serve(reply, REPLY) as server:
        with pytest.raises(StreamTimeoutError) as caught:
            await harness.collect(server, retries=1, total_timeout=1.5)
        assert len(server.requests) == 1
    assert caught.value.clock == "total"


def test_a_retry_after_that_is_a_date_or_too_long_is_replaced_by_the_own_pause(mode: str) -> None:
    if mode != "sync":
        pytest.skip("the core is the same")
    for asked in ("Wed, 21 Oct 2015 07:28:00 GMT", "86400", "-3", "nan"):
        reply = Reply.recorded(REPLY.body, headers={"retry-after": asked}).cut(after_events=1)
        with serve(reply, REPLY) as server:
            assert streamkit.collect(sdk_client(server), **PARAMS, retries=1, total_timeout=20).attempts == 2
