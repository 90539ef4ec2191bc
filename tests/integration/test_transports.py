"""Ways to the API that a client may take: traced, through aiohttp, and stand-ins for the SDK's streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import anyio
import pytest

import streamkit
from streamkit.testing import Reply, record, serve
from tests.conftest import PARAMS, async_sdk, sdk

REPLY = Reply.text(["One ", "two ", "three"])


@pytest.fixture
def spans() -> Iterator[Any]:
    """The spans that are recorded, by a real provider that only this test's client is given."""
    if not hasattr(anthropic, "OpenTelemetryOptions"):
        pytest.skip("this SDK makes no spans")
    trace = pytest.importorskip("opentelemetry.sdk.trace", reason="the OpenTelemetry SDK is not installed")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def finished(exporter: Any) -> Any:
    (span,) = exporter.get_finished_spans()
    exporter.clear()
    return span


# What differs from one call to the next.
ITS_OWN = {"url.full", "server.port", "anthropic.request.id", "gen_ai.response.time_to_first_chunk"}


def test_a_traced_stream_gives_the_span_that_the_sdk_gives(spans: Any) -> None:
    provider, exporter = spans
    with serve(REPLY, repeat=True) as server:
        client = sdk(server, open_telemetry={"tracer_provider": provider})
        with client.messages.stream(**PARAMS) as stream:
            stream.until_done()
        theirs = finished(exporter)
        assert list(streamkit.stream_text(client, **PARAMS)) == ["One ", "two ", "three"]
        ours = finished(exporter)
    assert ours.status.status_code == theirs.status.status_code
    assert set(ours.attributes) == set(theirs.attributes)
    assert {k: v for k, v in ours.attributes.items() if k not in ITS_OWN} == {
        k: v for k, v in theirs.attributes.items() if k not in ITS_OWN
    }


def test_the_span_of_a_cut_stream_is_an_error(spans: Any) -> None:
    provider, exporter = spans
    with serve(REPLY.cut(after_events=4)) as server:
        client = sdk(server, open_telemetry={"tracer_provider": provider})
        result = streamkit.collect(client, on_error="return", **PARAMS)
    assert (result.status, result.text) == ("disconnected", "One ")
    assert finished(exporter).status.status_code.name == "ERROR"


def test_through_aiohttp_which_offers_no_socket() -> None:
    async def main() -> None:
        with serve(REPLY, REPLY.stall(after_events=4), REPLY.stall(after_events=4, pings=0.05)) as server:
            async with server.async_client(http_client=anthropic.DefaultAioHttpClient(), max_retries=0) as client:
                assert (await streamkit.collect(client, **PARAMS)).text == "One two three"
                stream = streamkit.stream_text(client, idle_timeout=0.2, **PARAMS)
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
        stand_in = Counted(sdk(server).messages.create(stream=True, **PARAMS))
        result = streamkit.collect(stand_in)  # type: ignore[call-overload]
    assert (result.text, result.status, result.request_id) == ("One two three", "complete", None)
    assert stand_in.closed
    assert stand_in.count == len(REPLY.frames) - 1  # all but the ping


def test_recording_a_helper_stream_keeps_the_api_s_own_events(tmp_path: Any) -> None:
    with serve(REPLY) as server, sdk(server).messages.stream(**PARAMS) as helper:
        streamkit.collect(helper, sinks=record(tmp_path / "reply.sse"))
    body = (tmp_path / "reply.sse").read_bytes()
    assert body.count(b"event: ") == len(REPLY.frames) - 1
    assert b"snapshot" not in body
    with serve(Reply.recorded(body)) as server:
        assert streamkit.collect(sdk(server), **PARAMS).text == "One two three"


def test_a_gzipped_body_is_decoded() -> None:
    import gzip

    packed = Reply.recorded(gzip.compress(REPLY.body), chunk_sizes=[7], headers={"content-encoding": "gzip"})
    with serve(packed, packed) as server:
        assert streamkit.collect(sdk(server), **PARAMS).text == "One two three"

        async def main() -> str:
            async with async_sdk(server) as client:
                return (await streamkit.collect(client, **PARAMS)).text

        assert anyio.run(main) == "One two three"
