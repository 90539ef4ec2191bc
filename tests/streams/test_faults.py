"""Faults of the response: which error each one is, what of the reply is kept, and what follows the end."""

# ruff: noqa: PT012 - the whole life of a stream stands under one `raises`
from __future__ import annotations

from typing import Any

import pytest

import streamkit
from streamkit import StreamAPIError, StreamProtocolError, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, sdk_client
from tests.support.events import PING, message_start, sse
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import FAULTS, REPLY, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_after_content(harness: Harness, fault: str) -> None:
    """Everything that came before is there, in one error that the SDK's handlers catch; and nothing is sent again."""
    reply, kind, sdk_kind, status = FAULTS[fault]
    log, pieces = Log(), []
    with serve(reply, REPLY) as server:
        client = harness.client(server)
        stream = harness.text(client, sinks=log, retries=2)
        with pytest.raises(sdk_kind) as caught:
            async with stream:
                async for piece in stream:
                    pieces.append(piece)  # noqa: PERF401
        assert len(server.requests) == 1, "never again after content"
        assert_no_connection_in_use(client)
    error: Any = caught.value
    assert type(error) is kind
    assert pieces == ["One ", "two "]
    assert error.result is stream.result
    assert (stream.status, stream.result.error) == (status, error)
    assert stream.text == error.result.text == "".join(log.of("write")) == "One two "
    assert error.result.message.content[0].text == "One two "
    assert log.of("finish") == [status]
    assert error.request.url.path == "/v1/messages"


async def test_an_error_event_says_what_the_api_said(harness: Harness) -> None:
    with serve(REPLY.error("rate_limit_error", after_events=4, message="Busy")) as server:
        with pytest.raises(StreamAPIError, match="rate_limit_error: Busy") as caught:
            await harness.collect(server)
    error = caught.value
    assert (error.type, error.status_code, error.retryable) == ("rate_limit_error", 429, True)
    assert error.body == {"type": "error", "error": {"type": "rate_limit_error", "message": "Busy"}}
    assert error.request_id == error.result.request_id


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (b"<html>Bad gateway</html>", "text/html", StreamProtocolError),
        (b'{"oops": 1}', "application/json", StreamProtocolError),
        (b"", "text/event-stream", StreamTruncatedError),
        (b": only a comment\n\n", "text/event-stream", StreamTruncatedError),
        (b"event: message_st", "text/event-stream", StreamTruncatedError),
    ],
)
async def test_a_body_that_is_no_stream_of_events(harness: Harness, body: bytes, content_type: str, kind: Any) -> None:
    with serve(Reply.recorded(body, content_type=content_type)) as server:
        with pytest.raises(kind) as caught:
            await harness.collect(server, retries=0)
    assert type(caught.value) is kind
    if kind is StreamProtocolError:
        assert content_type in str(caught.value)
        assert body.decode()[:10] in str(caught.value)
    assert caught.value.result.text == ""


@pytest.mark.parametrize("rest", [b"data: [DONE]\n\n", sse(PING), b"garbage", sse(message_start()), b"data: {oops\n\n"])
async def test_what_follows_the_end_is_ignored(harness: Harness, rest: bytes) -> None:
    for reply in (REPLY.garbage(rest, after_events=len(REPLY.frames)), Reply.recorded(REPLY.body + rest, [10**6])):
        with serve(reply) as server:
            client = harness.client(server)
            result = await harness.collect(client)
            assert_no_connection_in_use(client)
        assert (result.status, result.text, result.error) == ("complete", TEXT, None)


async def test_a_reset_after_the_end_is_ignored(harness: Harness) -> None:
    with serve(REPLY.reset(after_events=len(REPLY.frames))) as server:
        assert (await harness.collect(server)).ok


async def test_a_server_that_never_ends_the_body_does_not_hold_up_what_was_read(harness: Harness) -> None:
    """After `message_stop` the stream is over, also if the line stays open; with a read timeout for the rest."""
    with serve(REPLY.stall(after_events=len(REPLY.frames))) as server:
        client = harness.client(server, timeout=5.0)
        assert (await harness.collect(client)).ok
        assert_no_connection_in_use(client)


async def test_a_body_that_ends_after_its_stop_reason_is_complete(harness: Harness) -> None:
    with serve(REPLY.cut(after_events=len(REPLY.frames) - 1)) as server:
        result = await harness.collect(server)
    assert (result.status, result.stop_reason, result.ok) == ("complete", "end_turn", True)


async def test_breaking_at_the_last_event_is_complete(harness: Harness) -> None:
    """After `message_stop` the verdict stands, whatever the consumer does then."""
    log = Log()
    with serve(REPLY) as server:
        async with harness.events(server, sinks=log) as stream:
            async for event in stream:
                if event.type == "message_stop":
                    break
    assert (stream.status, stream.result.error) == ("complete", None)
    assert log.of("finish") == ["complete"]


def test_a_reply_cut_at_each_byte_gets_its_verdict(mode: str) -> None:
    """None is silent, and none loses text whose event arrived whole."""
    if mode != "sync":
        pytest.skip("the core is the same")
    body = REPLY.body
    said = body.index(b"message_delta") + body[body.index(b"message_delta") :].index(b"}}\n") + 2
    with serve(*(REPLY.cut(after_bytes=at) for at in range(len(body) + 1))) as server:
        client = sdk_client(server)
        for at in range(len(body) + 1):
            result = streamkit.collect(client, **PARAMS, retries=0, on_error="return")
            expected = "".join(
                piece for piece in ("One ", "two ", "three") if body[:at].find(f'"{piece}"}}}}'.encode()) >= 0
            )
            assert result.text == expected, at
            assert result.status == ("complete" if at >= said else "disconnected"), at
            assert (result.error is None) == result.ok == (at >= said), at
        assert server.connection_count == 1
