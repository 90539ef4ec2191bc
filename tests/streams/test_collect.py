"""`collect`: what it returns and what it raises."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import CallbackSink, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, sdk_client
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import REPLY
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


async def test_collect_returns_or_raises(harness: Harness) -> None:
    with serve(REPLY.cut(after_events=5), repeat=True) as server:
        client = harness.client(server)
        with pytest.raises(StreamTruncatedError) as caught:
            await harness.collect(client, on_error="raise")
        result = await harness.collect(client, on_error="return")
        assert isinstance(result.error, StreamTruncatedError)
        assert result.text == caught.value.result.text == "One two "
        assert result.error.result is result
        assert_no_connection_in_use(client)


async def test_the_result_of_a_refused_request_has_the_headers(harness: Harness) -> None:
    refused = Reply.http_error(429, headers={"request-id": "req_1", "retry-after": "1"})
    with serve(refused) as server:
        result = await harness.collect(server, on_error="return")
    assert isinstance(result.error, anthropic.RateLimitError)
    assert (result.request_id, result.response_headers["retry-after"]) == ("req_1", "1")


async def test_the_result_of_a_request_that_got_no_answer_has_no_headers(harness: Harness) -> None:
    with serve(REPLY.reset(after_bytes=0)) as server:
        client = harness.client(server, base_url="http://127.0.0.1:1")
        result = await harness.collect(client, on_error="return", retries=0)
    assert isinstance(result.error, anthropic.APIConnectionError)
    assert (result.request_id, dict(result.response_headers)) == (None, {})


@pytest.mark.parametrize("error", [ZeroDivisionError(), anthropic.APIError("a sink's", request=None, body=None)])  # type: ignore[arg-type]
async def test_collect_raises_what_a_sink_raises(harness: Harness, error: Exception) -> None:
    def fail(_: str) -> None:
        raise error

    with serve(REPLY) as server:
        with pytest.raises(type(error)) as caught:
            await harness.collect(harness.client(server), on_error="return", sinks=CallbackSink(fail))
    assert caught.value is error


@pytest.mark.parametrize("on_interrupt", ["raise", "return"])
def test_collect_on_interrupt(mode: str, on_interrupt: Any) -> None:
    if mode != "sync":
        pytest.skip("async code is interrupted by cancelling its task")

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    log = Log()
    with serve(REPLY, repeat=True) as server:
        client = sdk_client(server)
        options: Any = {"sinks": [log, CallbackSink(interrupt)], "on_interrupt": on_interrupt, **PARAMS}
        if on_interrupt == "raise":
            with pytest.raises(KeyboardInterrupt):
                streamkit.collect(client, **options)
        else:
            result = streamkit.collect(client, **options)
            assert (result.status, result.text, type(result.error)) == ("interrupted", "One ", KeyboardInterrupt)
        assert_no_connection_in_use(client)
    assert log.of("finish") == ["interrupted"]
