"""What a stream tells about itself: log records and response headers."""

from __future__ import annotations

import importlib.metadata
import logging
import pickle
from typing import Any

import anyio
import pytest

import streamkit
from streamkit.testing import Reply, serve
from tests.support.harness import Harness
from tests.support.replies import REPLY

pytestmark = pytest.mark.anyio


async def test_log_records(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    early = Reply.recorded(REPLY.body, headers={"retry-after": "0.01"}).cut(after_events=1)
    with caplog.at_level(logging.DEBUG, logger="streamkit"), serve(early, REPLY) as server:
        async with harness.text(server, retries=1) as stream:
            await stream.until_done()
        await stream.close()
    records = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "streamkit"]
    assert records == [
        ("DEBUG", "open: attempt 1"),
        ("INFO", "retry after attempt 1: StreamTruncatedError, in 0.01 s"),
        ("DEBUG", "open: attempt 2"),
        ("DEBUG", "end: complete"),
    ]


class Waiting:
    """A stand-in for a stream of the SDK that never gives an event."""

    def __aiter__(self) -> Waiting:
        return self

    async def __anext__(self) -> Any:
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        pass


async def test_the_end_is_logged_when_the_coroutine_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="streamkit"):
        stream = streamkit.stream_text(Waiting())  # type: ignore[call-overload]
        reading = stream.__anext__()
        reading.send(None)  # to its wait for an event
        reading.close()
    ends = [record.getMessage() for record in caplog.records if record.getMessage().startswith("end")]
    assert ends == ["end: interrupted"]
    assert stream.status == "interrupted"


async def test_response_headers(harness: Harness) -> None:
    reply = Reply.recorded(REPLY.body, headers={"Anthropic-Ratelimit-Requests-Remaining": "7"})
    with serve(reply) as server:
        stream = harness.text(server)
        assert dict(stream.response_headers) == {}
        async with stream:
            result = await stream.until_done()
        assert stream.response_headers["anthropic-RATELIMIT-requests-remaining"] == "7"
    headers = pickle.loads(pickle.dumps(result)).response_headers  # noqa: S301 - our own
    assert headers == result.response_headers == dict(headers)
    assert headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert len(headers) == len(list(headers))
    assert "'anthropic-ratelimit-requests-remaining': '7'" in repr(headers)
    assert "nothing" not in headers


async def test_a_stream_that_was_read_says_so(harness: Harness) -> None:
    with serve(REPLY) as server:
        async with harness.text(server) as stream:
            await stream.until_done()
        with pytest.raises(RuntimeError, match="was already read to its end"):
            await stream.next()


def test_the_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("anthropic-streamkit") == streamkit.__version__
