"""Ways to the API that a client may take: through aiohttp, and stand-ins for the SDK's streams."""

from __future__ import annotations

from typing import Any

import anthropic
import anyio
import pytest

import streamkit
from streamkit.testing import Reply, record, serve
from tests.support.clients import PARAMS, sdk_client

REPLY = Reply.text(["One ", "two ", "three"])


def test_through_aiohttp_which_offers_no_socket() -> None:
    async def main() -> None:
        with serve(REPLY, REPLY.stall(after_events=4), REPLY.stall(after_events=4, pings=0.05)) as server:
            async with server.async_client(http_client=anthropic.DefaultAioHttpClient(), max_retries=0) as client:
                assert (await streamkit.collect(client, **PARAMS)).text == "One two three"
                stream = streamkit.stream_text(client, idle_timeout=1.5, **PARAMS)
                with pytest.raises(streamkit.StreamTimeoutError):
                    await stream.until_done()
                assert stream.text == "One "
                async with streamkit.stream_text(client, **PARAMS) as stream:
                    async for _ in stream:
                        stream.cancel()  # noticed at the next event: a ping
                assert (stream.status, stream.text) == ("interrupted", "One ")

    pytest.importorskip("httpx_aiohttp" if anthropic.__version__.startswith("0.") else "aiohttp")
    anyio.run(main)


class Counted:
    """A stand-in for a stream of the SDK, as tracing tools make them: it has no response."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.count = 0
        self.closed = False

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> Any:
        event = next(self.stream)
        self.count += 1
        return event

    def close(self) -> None:
        self.closed = True
        self.stream.close()


def test_a_stand_in_is_read_by_its_own_iterator() -> None:
    with serve(REPLY) as server:
        stand_in = Counted(sdk_client(server).messages.create(stream=True, **PARAMS))
        result = streamkit.collect(stand_in)  # type: ignore[call-overload]
    assert (result.text, result.status, result.request_id) == ("One two three", "complete", None)
    assert stand_in.closed
    assert stand_in.count == len(REPLY.frames) - 1  # all but the ping


def test_recording_a_helper_stream_keeps_the_api_s_own_events(tmp_path: Any) -> None:
    with serve(REPLY) as server, sdk_client(server).messages.stream(**PARAMS) as helper:
        streamkit.collect(helper, sinks=record(tmp_path / "reply.sse"))
    body = (tmp_path / "reply.sse").read_bytes()
    assert body.count(b"event: ") == len(REPLY.frames) - 1
    assert b"snapshot" not in body
    with serve(Reply.recorded(body)) as server:
        assert streamkit.collect(sdk_client(server), **PARAMS).text == "One two three"
