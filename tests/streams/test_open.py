"""Opening: by `open()`, `with` and the first read; refused requests."""

# ruff: noqa: PT012 - the whole life of a stream stands under one `raises`
from __future__ import annotations

import anthropic
import pytest

from streamkit import StreamError
from streamkit.testing import Reply, serve
from tests.support.clients import OLD_SDK
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import REPLY, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


async def test_a_refused_request_fails_in_open(harness: Harness) -> None:
    log = Log()
    with serve(Reply.http_error(429, message="Slow down")) as server:
        stream = harness.text(server, sinks=log)
        with pytest.raises(anthropic.RateLimitError, match="Slow down") as caught:
            await stream.open()
        assert not isinstance(caught.value, StreamError)
        assert (stream.status, stream.result.error, stream.result.attempts) == ("failed", caught.value, 1)
        assert log.calls == [("finish", "failed")]
        await stream.close()
        assert log.calls == [("finish", "failed")]
        with pytest.raises(RuntimeError, match=r"ended \(failed\): make a new one|closed"):
            await stream.open()
        assert len(server.requests) == 1


@pytest.mark.parametrize("way", ["with", "next", "until_done", "collect"])
async def test_a_refused_request_fails_whatever_opens_the_stream(harness: Harness, way: str) -> None:
    log = Log()
    with serve(Reply.http_error(401)) as server:
        stream = harness.text(server, sinks=log)
        with pytest.raises(anthropic.AuthenticationError):
            if way == "with":
                async with stream:
                    pass
            elif way == "next":
                await stream.next()
            elif way == "until_done":
                await stream.until_done()
            else:
                await harness.collect(server, sinks=log)
    assert log.calls == [("finish", "failed")]


async def test_a_server_that_is_not_there(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = harness.client(server)
    stream = harness.text(client)
    with pytest.raises(anthropic.APIConnectionError) as caught:
        await stream.open()
    assert not isinstance(caught.value, StreamError)
    # Before 1.0, the SDK's aiohttp client takes a connection that is refused for a timeout.
    status = "timed_out" if isinstance(caught.value, anthropic.APITimeoutError) else "disconnected"
    assert status == "disconnected" or (OLD_SDK and harness.mode == "aiohttp")
    assert (stream.status, stream.request_id) == (status, None)


async def test_open_once_open_does_nothing(harness: Harness) -> None:
    with serve(REPLY) as server:
        stream = await harness.text(server).open()
        await stream.open()
        async with stream:
            assert await stream.next() == "One "
            await stream.open()
            assert (await stream.until_done()).text == TEXT
        assert len(server.requests) == 1
