"""The SDK's clients for other clouds: what each sends, and Bedrock, whose replies come in the framing of AWS.

Nothing leaves this machine: the clients are given the address of a server here, and credentials that are made up.
"""

from __future__ import annotations

import base64
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pydantic
import pytest

import streamkit
import streamkit.testing
from streamkit import (
    BufferSink,
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamResult,
    StreamTimeoutError,
    StreamTruncatedError,
)
from streamkit.testing import Reply, serve
from streamkit.testing._frames import aws_message
from tests.support.bodies import BETA
from tests.support.clients import PARAMS, PLATFORMS, assert_no_connection_in_use, client_for, platform_client_for
from tests.support.harness import awaited, run

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

MODES = ["sync", "asyncio"]
REPLY = Reply.text(["One ", "two"], pings=False)
FRAMED = REPLY.aws()
# message_start, content_block_start, "One ", "two", content_block_stop, message_delta, message_stop
TEXTS = ["", "", "", "One ", "One two", "One two", "One two", "One two"]


class GoogleCredentials:
    """Those of google-auth as far as the SDK looks: without a token until they are refreshed."""

    expired = False
    project_id = "made-up-project"

    def __init__(self) -> None:
        self.token: str | None = None

    def refresh(self, _request: object) -> None:
        self.token = "made-up-refreshed-token"  # noqa: S105 - made up


AWS_KEYS = {"aws_access_key": "made-up", "aws_secret_key": "made-up", "aws_region": "nowhere-1"}
BEDROCK = "/model/claude-sonnet-5-5/invoke-with-response-stream"
VERTEX = "/projects/made-up-project/locations/nowhere-1/publishers/anthropic/models/claude-sonnet-5-5:streamRawPredict"
# The client, what it is given, and then where its request goes and what it carries for a key.
SENT: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "Bedrock": ("Bedrock", {}, BEDROCK, "AWS4-HMAC-SHA256 "),
    "Bedrock, by key": (
        "Bedrock",
        {"api_key": "made-up-key", "aws_access_key": None, "aws_secret_key": None},
        BEDROCK,
        "made-up-key",
    ),
    "Bedrock Mantle": ("BedrockMantle", {}, "/v1/messages", "made-up-key"),
    "AWS": ("AWS", {}, "/v1/messages", "made-up-key"),
    "AWS, signed": ("AWS", {"api_key": None, **AWS_KEYS}, "/v1/messages", "AWS4-HMAC-SHA256 "),
    "Vertex": ("Vertex", {}, VERTEX, "made-up-token"),
    "Vertex, by credentials": (
        "Vertex",
        {"access_token": None, "credentials": GoogleCredentials},
        VERTEX,
        "made-up-refreshed-token",
    ),
    "Google Cloud": ("GoogleCloud", {}, "/v1/messages", "made-up-token"),
    "Google Cloud, by credentials": (
        "GoogleCloud",
        {"token_provider": None, "credentials": GoogleCredentials},
        "/v1/messages",
        "made-up-refreshed-token",
    ),
    "Foundry": ("Foundry", {}, "/v1/messages", "made-up-key"),
    "Foundry, by token": (
        "Foundry",
        {"api_key": None, "azure_ad_token_provider": lambda: "made-up-token"},
        "/v1/messages",
        "made-up-token",
    ),
}


def collected(mode: str, platform: str, *replies: Reply, beta: bool = False, **options: Any) -> StreamResult[Any, Any]:
    """What is collected from a client for a platform, or from the SDK's plain client; the sink has to agree."""
    sink = BufferSink()

    async def main() -> Any:
        with serve(*replies) as server:
            async with platform_client_for(mode, platform, server) if platform else client_for(mode, server) as client:
                source = client.beta.messages if beta else client
                given = {"retries": 0, "on_error": "return", **options, **PARAMS}
                result = await awaited(streamkit.collect(source, sinks=sink, **given))
                assert_no_connection_in_use(client)
                return result

    result = run(mode, main)
    assert (sink.text, sink.result) == (result.text, result)
    return result  # type: ignore[no-any-return]


def seen(result: StreamResult[Any, Any]) -> tuple[str, type[StreamError] | None, str]:
    return result.status, type(result.error) if result.error else None, result.text  # type: ignore[return-value]


@pytest.mark.parametrize("beta", [False, True], ids=["stable", "beta"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SENT)
def test_what_a_platform_is_sent(name: str, mode: str, beta: bool) -> None:
    platform, options, path, key = SENT[name]
    if (
        "api_key" in options
        and platform == "Bedrock"
        and "api_key" not in inspect.signature(anthropic.AnthropicBedrock).parameters
    ):
        pytest.skip("this SDK takes no key for Bedrock")
    if "credentials" in options:
        pytest.importorskip("google.auth", reason="google-auth is not installed")
        options = {**options, "credentials": options["credentials"]()}

    async def main() -> None:
        id_header = "x-amzn-requestid" if platform == "Bedrock" else "request-id"
        with serve(replace(REPLY, headers=((id_header, "made-up-id"),))) as server:
            async with platform_client_for(mode, platform, server, **options) as client:
                source = client.beta.messages if beta else client
                result = await awaited(streamkit.collect(source, **PARAMS))
            (request,) = server.requests
        assert (result.status, result.text, result.request_id) == ("complete", "One two", "made-up-id")
        assert request.path.partition("?")[0] == path
        assert key in request.headers.get("authorization", "") + request.headers.get("x-api-key", "")

    run(mode, main)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_refused_request_fails_with_what_the_sdk_raises(platform: str, mode: str) -> None:
    sink = BufferSink()

    async def main() -> None:
        codes = (429, 500, 400)
        with serve(*(Reply.http_error(code) for code in codes for _ in range(2))) as server:
            async with platform_client_for(mode, platform, server) as client:
                for kind, status in [
                    (anthropic.RateLimitError, 429),
                    (anthropic.InternalServerError, 500),
                    (anthropic.BadRequestError, 400),
                ]:
                    result = await awaited(streamkit.collect(client, sinks=sink, on_error="return", **PARAMS))
                    assert (type(result.error), result.error.status_code) == (kind, status)
                    assert (result.status, sink.result) == ("failed", result)
                    with pytest.raises(kind) as caught:
                        await awaited(streamkit.collect(client, sinks=sink, **PARAMS))
                    assert (sink.result.status, sink.result.error) == ("failed", caught.value)
                assert_no_connection_in_use(client)

    run(mode, main)


class Boat(pydantic.BaseModel):
    name: str
    masts: int


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_structured_output(platform: str, mode: str) -> None:
    result = collected(mode, platform, Reply.text('{"name": "Thekla", "masts": 3}'), output_format=Boat)
    assert result.parsed_output == Boat(name="Thekla", masts=3)


# --- Bedrock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_bedrock_gives_what_the_api_gives(recorded: Path, mode: str) -> None:
    beta = recorded.stem in BETA
    reply = Reply.recorded(recorded)
    bedrock, plain = (collected(mode, platform, reply, beta=beta) for platform in ("Bedrock", ""))
    assert seen(bedrock) == seen(plain)
    assert bedrock.message == plain.message
    assert bedrock.usage == plain.usage


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_bedrock_in_chunks_of_any_size(size: int, mode: str) -> None:
    assert seen(collected(mode, "Bedrock", replace(REPLY, chunk_sizes=(size,)))) == ("complete", None, "One two")


EXCEPTIONS = {
    "internalServerException": (500, True),
    "modelStreamErrorException": (424, True),
    "modelTimeoutException": (408, True),
    "serviceUnavailableException": (503, True),
    "throttlingException": (429, True),
    "validationException": (400, False),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("beta", [False, True], ids=["stable", "beta"])
@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_of_bedrock(name: str, beta: bool, mode: str) -> None:
    result = collected(mode, "Bedrock", REPLY.error(name, after_events=3, message="Not today."), beta=beta)
    assert seen(result) == ("failed", StreamAPIError, "One ")
    assert isinstance(result.error, StreamAPIError)
    assert (result.error.type, str(result.error)) == (name, f"{name}: Not today.")
    assert (result.error.status_code, result.error.retryable) == EXCEPTIONS[name]


@pytest.mark.parametrize("mode", MODES)
def test_an_exception_of_bedrock_before_the_content_is_retried(mode: str) -> None:
    throttled = replace(REPLY, headers=(("retry-after", "0.001"),)).error("throttlingException", after_events=1)
    result = collected(mode, "Bedrock", throttled, REPLY, retries=1)
    assert (*seen(result), result.attempts) == ("complete", None, "One two", 2)
    refused = REPLY.error("validationException", after_events=1)
    result = collected(mode, "Bedrock", refused, REPLY, retries=1)
    assert (*seen(result), result.attempts) == ("failed", StreamAPIError, "", 1)


def message(payload: bytes = b"{}", **names: str) -> bytes:
    """A message of the framing, with these headers."""
    return aws_message({f":{name.replace('_', '-')}": value for name, value in names.items()}, payload)


def flipped(data: bytes, at: int) -> bytes:
    """With one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


OVERLOADED = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}'
CHUNKED = b'{"bytes": "%s"}'
CHUNK = {"event_type": "chunk", "message_type": "event", "content_type": "application/json"}
API_ERROR, NO_STREAM, DONE = (
    ("failed", StreamAPIError, "One "),
    ("failed", StreamProtocolError, "One "),
    ("complete", None, "One two"),
)
# What comes after the first piece of text, before the rest.
BETWEEN: dict[str, tuple[bytes, Any]] = {
    "an error message": (message(message_type="error", error_code="teapot", error_message="No."), API_ERROR),
    "an error event of the API": (message(CHUNKED % base64.b64encode(OVERLOADED), **CHUNK), API_ERROR),
    "a sum of the head that is wrong": (flipped(FRAMED.frames[3], 9), NO_STREAM),
    "a sum of the message that is wrong": (flipped(FRAMED.frames[3], -1 + len(FRAMED.frames[3])), NO_STREAM),
    "a payload that is not what was sent": (flipped(FRAMED.frames[3], 100), NO_STREAM),
    "junk": (b"junk " * 5, NO_STREAM),
    "a length without end": (b"\xff\xff\xff\xff" + FRAMED.frames[3][4:], NO_STREAM),
    "bytes that are no JSON": (message(b'{"bytes": "ew=="}', **CHUNK), NO_STREAM),
    # What botocore passes over in silence.
    "a payload that is no JSON": (message(b"{", **CHUNK), DONE),
    "bytes that are no base64": (message(b'{"bytes": "!"}', **CHUNK), DONE),
    "an unknown kind of event": (message(b"{}", **{**CHUNK, "event_type": "novelty"}), DONE),
    "a chunk without bytes": (message(b"{}", **CHUNK), DONE),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BETWEEN)
def test_what_comes_between_in_a_stream_of_bedrock(name: str, mode: str) -> None:
    data, expected = BETWEEN[name]
    assert seen(collected(mode, "Bedrock", FRAMED.garbage(data, after_events=3))) == expected


async def verdicts_of_cuts(mode: str, frame: int, way: str, *, each: bool) -> int:
    """Cut the body at the beginning of a message of the framing and in it: at a few places, or at each byte."""
    before, size = len(b"".join(FRAMED.frames[:frame])), len(b"".join(FRAMED.frames[frame : frame + 1]))
    few = (0, 1, 8, 12, size // 2, size - 1) if size else (0,)
    cases = [before + at for at in (range(size) if each else few)]
    with serve(*(getattr(FRAMED, way)(after_bytes=at) for at in cases)) as server:
        async with platform_client_for(mode, "Bedrock", server) as client:
            for at in cases:
                result = await awaited(streamkit.collect(client, retries=0, on_error="return", **PARAMS))
                ended = frame >= 7 or (frame == 6 and way == "cut")  # the stop reason is there, and a clean end
                broken = StreamTruncatedError if way == "cut" else StreamConnectionError
                expected = ("complete", None) if ended else ("disconnected", broken)
                assert seen(result) == (*expected, TEXTS[frame]), at
            assert_no_connection_in_use(client)
    return len(cases)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frame", range(len(FRAMED.frames) + 1))
@pytest.mark.parametrize("way", ["cut", "reset"])
def test_a_stream_of_bedrock_that_is_cut(way: str, frame: int, mode: str) -> None:
    print(run(mode, lambda: verdicts_of_cuts(mode, frame, way, each=False)), "cases")


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frame", range(len(FRAMED.frames)))
@pytest.mark.parametrize("way", ["cut", "reset"])
def test_a_stream_of_bedrock_that_is_cut_at_each_byte(way: str, frame: int, mode: str) -> None:
    print(run(mode, lambda: verdicts_of_cuts(mode, frame, way, each=True)), "cases")


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_of_bedrock_that_stalls(mode: str) -> None:
    result = collected(mode, "Bedrock", REPLY.stall(after_events=3), idle_timeout=1.5)
    assert seen(result) == ("timed_out", StreamTimeoutError, "One ")


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_of_bedrock_is_recorded_as_events(mode: str, tmp_path: Path) -> None:
    kept = tmp_path / "reply.sse"

    async def main() -> None:
        with serve(REPLY) as server:
            async with platform_client_for(mode, "Bedrock", server) as client:
                await awaited(streamkit.collect(client, sinks=streamkit.testing.record(kept), **PARAMS))

    run(mode, main)
    assert seen(collected(mode, "", Reply.recorded(kept))) == DONE
