"""`sse`: what it refuses, and protocols that are not its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anthropic
import anyio
import anyio.to_thread
import pytest

import streamkit
from streamkit import stream_events, stream_text
from streamkit.testing import Reply, serve
from streamkit.web import AGUI, AISDK, Encoder, Protocol, sse
from tests.support.clients import PARAMS, client_for, sdk_client
from tests.support.harness import ignores_generators_left_behind, run
from tests.support.web import PROTOCOLS

BOTH = [pytest.param("sync"), pytest.param("asyncio"), pytest.param("trio")]


@pytest.fixture
def client() -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="test")


@pytest.mark.parametrize("ping", [True, "15", None])
def test_a_ping_that_is_not_a_number(client: Any, ping: Any) -> None:
    with pytest.raises(TypeError, match="number of seconds for ping="):
        sse(stream_events(client, **PARAMS), AISDK(), ping=ping)


@pytest.mark.parametrize("ping", [0, -1.0, float("inf"), float("nan")])
def test_a_ping_out_of_range(client: Any, ping: float) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds for ping="):
        sse(stream_events(client, **PARAMS), AISDK(), ping=ping)


@pytest.mark.parametrize("kind", [anthropic.Anthropic, anthropic.AsyncAnthropic])
def test_a_stream_of_text_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"got .*TextStream, which lacks tools .* call stream_events"):
        sse(stream_text(kind(api_key="test"), **PARAMS), AISDK())


def test_other_objects_are_refused(client: Any) -> None:
    with pytest.raises(TypeError, match="expected a stream of stream_events, got list"):
        sse([], AISDK())  # type: ignore[call-overload]
    for protocol in (AISDK, "ai-sdk"):
        with pytest.raises(TypeError, match=r"expected a protocol such as AISDK\(\), got"):
            sse(stream_events(client, **PARAMS), protocol)  # type: ignore[call-overload]


def test_a_stream_that_has_ended_is_refused() -> None:
    with serve(Reply.text("Hi")) as server, stream_events(sdk_client(server), **PARAMS) as stream:
        stream.until_done()
    with pytest.raises(ValueError, match=r"got one with status 'complete'"):
        sse(stream, AISDK())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sync_stream_is_refused_in_an_async_application(client: Any, backend: str) -> None:
    def make() -> None:
        with pytest.raises(TypeError, match="use AsyncAnthropic"):
            sse(stream_events(client, **PARAMS), AISDK())

    async def main() -> None:
        make()  # in the loop, as an `async def` function of FastAPI
        await anyio.to_thread.run_sync(make)  # in a thread, as a `def` function

    anyio.run(main, backend=backend)


def test_ids_have_to_be_strings() -> None:
    with pytest.raises(TypeError, match="expected a str for run_id=, got None"):
        AGUI(thread_id="one", run_id=None)  # type: ignore[arg-type]


def test_the_headers_of_the_protocols() -> None:
    for protocol in PROTOCOLS:
        assert protocol.headers["content-type"] == "text/event-stream"
        assert protocol.headers["cache-control"] == "no-cache"
        assert protocol.headers["x-accel-buffering"] == "no"
    assert AISDK.headers["x-vercel-ai-ui-message-stream"] == "v1"


class Plain(Protocol):
    """A protocol that a user wrote: the types of the events, then the status. It may fail in one of its methods."""

    def __init__(self, fails_in: str = "") -> None:
        self.fails_in = fails_in

    def encoder(self) -> Encoder:
        return PlainEncoder(self.fails_in)

    def lost(self, frames: Iterable[bytes]) -> list[bytes]:
        return [f"data: lost after {len(list(frames))}\n\n".encode()]


class PlainEncoder(Encoder):
    def __init__(self, fails_in: str) -> None:
        self.fails_in = fails_in

    def _frame(self, method: str, text: str) -> list[bytes]:
        if method == self.fails_in:
            raise LookupError("an encoder that fails")
        return [f"data: {text}\n\n".encode()]

    def start(self) -> list[bytes]:
        return self._frame("start", "start")

    def event(self, event: Any) -> list[bytes]:
        return self._frame("event", event.type)

    def finish(self, result: streamkit.StreamResult[Any, Any], error: BaseException | None = None) -> list[bytes]:
        return self._frame("finish", f"{result.status} {type(error).__name__}")


def body_of(mode: str, protocol: Protocol) -> tuple[str, str]:
    """The body of a short reply, and the status of its stream."""

    async def main() -> tuple[str, str]:
        with serve(Reply.text("Hi")) as server:
            async with client_for(mode, server) as client:
                stream: Any = stream_events(client, **PARAMS)
                return b"".join([piece async for piece in sse(stream, protocol)]).decode(), stream.status

    if mode == "sync":
        with serve(Reply.text("Hi")) as server:
            stream = stream_events(sdk_client(server), **PARAMS)
            return b"".join(sse(stream, protocol)).decode(), stream.status
    return run(mode, main)


@ignores_generators_left_behind
@pytest.mark.parametrize("mode", BOTH)
class TestAProtocolThatAUserWrote:
    def test_it_works(self, mode: str) -> None:
        kinds = ["message_start", "content_block_start", "content_block_delta", "content_block_stop"]
        lines = ["start", *kinds, "message_delta", "message_stop", "complete NoneType"]
        assert body_of(mode, Plain()) == ("".join(f"data: {line}\n\n" for line in lines), "complete")

    @pytest.mark.parametrize("method", ["start", "event"])
    def test_an_exception_of_the_encoder_closes_the_stream(
        self, mode: str, method: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        body, status = body_of(mode, Plain(method))
        assert body.endswith("data: interrupted LookupError\n\n")
        assert status == "interrupted"
        assert "an encoder that fails" in caplog.text

    def test_an_exception_at_the_end_ends_the_body(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        body, status = body_of(mode, Plain("finish"))
        assert body.endswith("data: message_stop\n\n")
        assert status == "complete"
        assert "an encoder that fails" in caplog.text
