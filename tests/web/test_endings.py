"""Each way in which a reply ends, in both protocols, sync and async: told apart, and nothing secret in it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import anyio
import pytest

from streamkit import StreamAPIError, StreamProtocolError, stream_events
from streamkit.testing import Reply, serve
from streamkit.web import AISDK, Protocol, http_error, sse
from tests.support.clients import PARAMS, client_for, sdk_client
from tests.support.harness import awaited, ignores_generators_left_behind, items_of, run
from tests.support.web import RUN, encoded, of_type, payloads, types

pytestmark = ignores_generators_left_behind
SECRET = "sk-secret"  # noqa: S105 - made up
WORDS = Reply.text("They push water aside.", headers={"request-id": SECRET, "x-header": SECRET})
STALLED = WORDS.stall(after_events=5)
# The reply, the options, and what the AI SDK is told: status, error, stop reason, finish reason.
ENDINGS: dict[str, tuple[Reply, dict[str, Any], tuple[str, str | None, str | None, str | None]]] = {
    "complete": (WORDS, {}, ("complete", None, "end_turn", "stop")),
    "stop sequence": (
        Reply.text("Hi", stop_reason="stop_sequence", stop_sequence="."),
        {},
        ("complete", None, "stop_sequence", "stop"),
    ),
    "limit": (Reply.text("Hi", stop_reason="max_tokens"), {}, ("complete", None, "max_tokens", "length")),
    "window": (
        Reply.text("Hi", stop_reason="model_context_window_exceeded"),
        {},
        ("complete", None, "model_context_window_exceeded", "length"),
    ),
    "refusal": (Reply.text("Hi", stop_reason="refusal"), {}, ("complete", None, "refusal", "content-filter")),
    "pause": (Reply.text("Hi", stop_reason="pause_turn"), {}, ("complete", None, "pause_turn", "other")),
    "tool use": (Reply.tool_use("get_tide", {}), {}, ("complete", None, "tool_use", "tool-calls")),
    "cut": (WORDS.cut(after_events=5), {}, ("disconnected", "disconnected", None, None)),
    "reset": (WORDS.reset(after_events=5), {}, ("disconnected", "disconnected", None, None)),
    "overloaded": (
        WORDS.error("overloaded_error", after_events=5, message=SECRET),
        {},
        ("failed", "overloaded", None, None),
    ),
    "api error": (WORDS.error("api_error", after_events=5, message=SECRET), {}, ("failed", "api_error", None, None)),
    "unknown error": (WORDS.error(SECRET, after_events=5), {}, ("failed", "api_error", None, None)),
    "idle timeout": (STALLED, {"idle_timeout": 0.05}, ("timed_out", "timeout", None, None)),
    "total timeout": (STALLED, {"total_timeout": 0.1}, ("timed_out", "timeout", None, None)),
    "protocol": (
        WORDS.garbage(b"data: {sk-secret}\n\n", after_events=5),
        {},
        ("failed", "invalid_response", None, None),
    ),
    "refused request": (Reply.http_error(400, message=SECRET), {}, ("failed", "request_refused", None, None)),
    "too large": (Reply.http_error(413, message=SECRET), {}, ("failed", "request_too_large", None, None)),
    "rate limit": (Reply.http_error(429, message=SECRET), {}, ("failed", "rate_limited", None, None)),
    "wrong key": (Reply.http_error(401, message=SECRET), {}, ("failed", "internal_error", None, None)),
    "server failure": (Reply.http_error(500, message=SECRET), {}, ("failed", "api_error", None, None)),
}


def body_of(mode: str, reply: Reply, protocol: Protocol, *, cancel: bool = False, **options: Any) -> bytes:
    """All that the browser gets. With `cancel`, the server cancels the stream in the middle."""

    async def main() -> bytes:
        with serve(reply) as server:
            async with client_for(mode, server, api_key=SECRET) as client:
                stream: Any = stream_events(client, retries=0, **{**PARAMS, **options})
                body = b""
                frames = sse(stream, protocol)
                async for piece in items_of(frames):
                    body += piece
                    if cancel and b"push" in body:
                        stream.cancel()
                return body

    if mode != "sync":
        return bytes(run(mode, main))
    coroutine = main()  # awaits nothing, and so needs no event loop
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return bytes(end.value.value)


@pytest.mark.parametrize("mode", ["sync", "asyncio", "trio", "aiohttp"])
@pytest.mark.parametrize("name", ENDINGS)
class TestEachEnding:
    def test_in_the_ai_sdk(self, mode: str, name: str) -> None:
        reply, options, (status, error, stop_reason, finish_reason) = ENDINGS[name]
        body = body_of(mode, reply, AISDK(), **options)
        assert SECRET.encode() not in body
        assert body.endswith(b"data: [DONE]\n\n")
        last = payloads(body)[-1]
        if error is None:
            metadata = last["messageMetadata"]
            assert (last["type"], last["finishReason"]) == ("finish", finish_reason)
            assert metadata["usageFinal"] is True
        else:
            metadata = payloads(body)[-2]["messageMetadata"]
            assert last["type"] == "error"
            assert last["errorText"].endswith(".")
            assert metadata["usageFinal"] is False
        assert (metadata["status"], metadata.get("error"), metadata.get("stopReason")) == (status, error, stop_reason)
        # Everything that was opened is closed.
        for kind in ("text", "reasoning"):
            assert len(of_type(body, f"{kind}-start")) == len(of_type(body, f"{kind}-end"))
        assert len(of_type(body, "start-step")) == len(of_type(body, "finish-step"))

    def test_in_ag_ui(self, mode: str, name: str) -> None:
        reply, options, (status, error, stop_reason, _) = ENDINGS[name]
        body = body_of(mode, reply, RUN, **options)
        assert SECRET.encode() not in body
        assert payloads(body)[0] == {"type": "RUN_STARTED", "threadId": "thread-1", "runId": "run-1"}
        last = payloads(body)[-1]
        if error is None:
            assert (last["type"], last["outcome"]) == ("RUN_FINISHED", {"type": "success"})
            assert (last["result"]["status"], last["result"]["stopReason"]) == (status, stop_reason)
            assert last["result"]["usageFinal"] is True
        else:
            assert (last["type"], last["code"]) == ("RUN_ERROR", error)
            assert last["message"].endswith(".")
        assert len(of_type(body, "TEXT_MESSAGE_START")) == len(of_type(body, "TEXT_MESSAGE_END"))


@pytest.mark.parametrize("mode", ["sync", "asyncio", "trio", "aiohttp"])
def test_a_stream_that_the_server_cancels(mode: str) -> None:
    body = body_of(mode, STALLED, AISDK(), cancel=True)
    assert types(body)[-4:] == ["text-end", "finish-step", "abort", "finish"]
    last = payloads(body)[-1]
    assert (last["finishReason"], last["messageMetadata"]["status"]) == ("other", "interrupted")
    assert last["messageMetadata"]["usageFinal"] is False
    last = payloads(body_of(mode, STALLED, RUN, cancel=True))[-1]
    assert (last["type"], last["outcome"], last["result"]["status"]) == (
        "RUN_FINISHED",
        {"type": "cancelled"},
        "interrupted",
    )


@pytest.mark.parametrize("protocol", [AISDK(), RUN], ids=["AISDK", "AGUI"])
def test_a_server_that_cannot_be_reached(protocol: Protocol) -> None:
    with anthropic.Anthropic(api_key=SECRET, base_url="http://127.0.0.1:1", max_retries=0) as client:
        body = b"".join(sse(stream_events(client, retries=0, **PARAMS), protocol))
    assert b"The model could not be reached. Please try again." in body
    assert b"unreachable" in body
    assert b"127.0.0.1" not in body


def test_the_usage() -> None:
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 200}
    body = body_of("sync", Reply.text("Hi", usage=usage), AISDK())
    assert payloads(body)[-1]["messageMetadata"]["usage"] == {
        "inputTokens": 5,
        "outputTokens": 7,
        "cacheReadInputTokens": 30,
        "cacheCreationInputTokens": 200,
    }
    assert payloads(body_of("sync", Reply.text("Hi", usage=usage), RUN))[-1]["usage"] == [
        {
            "provider": "anthropic",
            "model": "claude-test",
            "inputTokens": 235,
            "outputTokens": 7,
            "totalTokens": 242,
            "cachedInputTokens": 30,
            "cacheWriteInputTokens": 200,
        }
    ]


def test_an_error_does_not_take_the_key_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    body_of("sync", Reply.http_error(401, message=SECRET), AISDK())
    body_of("sync", WORDS.error("api_error", after_events=5, message=SECRET), AISDK())
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the reply ended early: AuthenticationError",
        "the reply ended early: StreamAPIError",
    ]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("reply", "status", "text"),
    [
        (Reply.http_error(400), 400, "The model could not accept this request."),
        (Reply.http_error(401), 500, "Something went wrong on the server."),
        (Reply.http_error(404), 500, "Something went wrong on the server."),
        (Reply.http_error(409), 400, "The model could not accept this request."),
        (Reply.http_error(413), 413, "This request is too large for the model."),
        (Reply.http_error(429), 429, "Too many requests. Please try again later."),
        (Reply.http_error(500), 502, "The model failed to answer. Please try again."),
        (Reply.http_error(529), 503, "The model is overloaded. Please try again later."),
    ],
)
@pytest.mark.parametrize("mode", ["sync", "asyncio"])
def test_a_refused_request_as_an_http_status(mode: str, reply: Reply, status: int, text: str) -> None:
    async def main() -> None:
        with serve(reply) as server:
            async with client_for(mode, server) as client:
                with pytest.raises(anthropic.APIError) as caught:
                    await awaited(stream_events(client, retries=0, **PARAMS).open())
        assert http_error(caught.value) == (status, text)

    anyio.run(main)


def test_other_errors_as_an_http_status() -> None:
    request: Any = None
    assert http_error(anthropic.APITimeoutError(request)).status == 504
    assert http_error(anthropic.APIConnectionError(request=request)).status == 502
    assert http_error(anthropic.APIError("secret", request, body=None)) == (
        502,
        "The model failed to answer. Please try again.",
    )
    assert http_error(StreamProtocolError("secret")).text == "The model sent an invalid reply. Please try again."
    assert http_error(KeyError("secret")) == (500, "Something went wrong on the server.")
    with serve(WORDS.error("rate_limit_error", after_events=5)) as server, pytest.raises(StreamAPIError) as caught:
        stream_events(sdk_client(server), **PARAMS).until_done()
    assert http_error(caught.value).status == 429


def test_counts_that_are_no_counts_are_left_out() -> None:
    usage = {"input_tokens": "many", "output_tokens": 2**60, "cache_read_input_tokens": -1}
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    event = json.dumps({"type": "message_start", "message": start})
    body, _ = encoded(AISDK(), f"data: {event}\n\n".encode())
    assert "usage" not in payloads(body)[-2]["messageMetadata"]
