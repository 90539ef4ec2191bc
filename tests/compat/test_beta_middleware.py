"""The SDK's refusal fallback: streams of two models that its middleware splices."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import StreamAPIError, StreamConnectionError, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import OLD_SDK, PARAMS, assert_no_connection_in_use, client_for, sdk_client
from tests.support.events import MESSAGE_STOP, block_start, block_stop, message_delta, message_start, text_delta
from tests.support.harness import awaited, read_all, run
from tests.support.messages import plain

MODES = ["sync", "asyncio"]


# The SDK's middleware asks another model where one refuses, and splices what that one says onto the open stream.

ONE, TWO = "claude-one", "claude-two"

SAID = ["Tides ", "come ", "from ", "the moon."]
# The seam is a block of another kind between two texts, which the separator stands for.
AFTER_SEAM = ["\n\nfrom ", "the moon."]


def refusing(*pieces: str, prefill: bool = False) -> Reply:
    """A model that refuses, after these pieces of text."""
    details = {"type": "refusal", "category": "bio", "fallback_credit_token": "made-up-token"}
    event = message_delta("refusal", 2)
    event["delta"]["stop_details"] = {**details, "fallback_has_prefill_claim": prefill}
    block = [block_start(), *map(text_delta, pieces), block_stop()] if pieces else []
    return Reply.events(message_start(model=ONE), *block, event, MESSAGE_STOP)


def serving(*pieces: str) -> Reply:
    return Reply.events(
        message_start(model=TWO), block_start(), *map(text_delta, pieces), block_stop(), message_delta(), MESSAGE_STOP
    )


SPLICED = {
    "before any text": (refusing(), serving(*SAID), SAID, ["fallback", "text"]),
    "within the text": (
        refusing(*SAID[:2], prefill=True),
        serving(*SAID[2:]),
        [*SAID[:2], *AFTER_SEAM],
        ["text", "fallback", "text"],
    ),
    "and begins anew": (
        refusing(*SAID[:2]),
        serving(*SAID),
        [*SAID[:2], f"\n\n{SAID[0]}", *SAID[1:]],
        ["text", "fallback", "text"],
    ),
}


def with_fallbacks(mode: str, server: Any) -> Any:
    if OLD_SDK:
        pytest.skip("this SDK has no middleware")
    return client_for(mode, server, middleware=[anthropic.BetaRefusalFallbackMiddleware([{"model": TWO}])])


async def through(mode: str, function: str, resource: Any, **options: Any) -> Any:
    """What a function's stream ended as; a message for `streamed`."""
    if function == "streamed":
        return await awaited(streamkit.streamed(resource.create, **options)(**{**PARAMS, "model": ONE}))
    params = {**PARAMS, "model": ONE, **options}
    if function == "collect":
        return await awaited(streamkit.collect(resource, **params))
    stream = getattr(streamkit, function)(resource, **params)
    await read_all(stream)
    return stream.result


@pytest.mark.parametrize("name", SPLICED)
@pytest.mark.parametrize("mode", MODES)
def test_another_model_takes_over_within_one_stream(mode: str, name: str) -> None:
    first, second, pieces, types = SPLICED[name]

    async def main() -> None:
        with serve(*(first, second) * 6) as server:
            async with with_fallbacks(mode, server) as client:
                resource = client.beta.messages
                message, events = await by_sdk_spliced(mode, resource)
                sink = streamkit.BufferSink()
                stream = streamkit.stream_text(resource, sinks=sink, **{**PARAMS, "model": ONE})
                assert await read_all(stream) == list(sink.chunks) == pieces
                theirs = streamkit.stream_events(resource, **{**PARAMS, "model": ONE})
                assert await read_all(theirs) == events
                for result in (stream.result, theirs.result, await through(mode, "collect", resource)):
                    assert plain(result.message) == message
                    assert (result.ok, result.text, result.attempts) == (True, "".join(pieces), 1)
                    assert [block.type for block in result.message.content] == types
                    seam = result.message.content[types.index("fallback")]
                    assert (seam.from_.model, seam.to.model, result.message.model) == (ONE, TWO, TWO)
                    assert [(entry.type, entry.model) for entry in result.usage.iterations] == [
                        ("message", ONE),
                        ("fallback_message", TWO),
                    ]
                assert plain(await through(mode, "streamed", resource)) == message
                assert_no_connection_in_use(client)
            assert [request.json["model"] for request in server.requests] == [ONE, TWO] * 6

    run(mode, main)


async def by_sdk_spliced(mode: str, resource: Any) -> tuple[Any, list[Any]]:
    """One after the other: each needs two replies of the server's."""
    params = {**PARAMS, "model": ONE}
    if mode == "sync":
        with resource.stream(**params) as helper:
            message = plain(helper.get_final_message())
        return message, list(resource.create(**params, stream=True))
    async with resource.stream(**params) as helper:
        message = plain(await helper.get_final_message())
    return message, [event async for event in await resource.create(**params, stream=True)]


MIDWAY = refusing(*SAID[:2], prefill=True)

BROKEN = {
    # the replies, the text, the status, the blocks
    "the first is cut": ([MIDWAY.cut(after_events=4)], SAID[:2], StreamTruncatedError, ["text"]),
    "the first is reset": ([MIDWAY.reset(after_events=4)], SAID[:2], StreamConnectionError, ["text"]),
    "the second is cut": (
        [MIDWAY, serving(*SAID[2:]).cut(after_events=3)],
        [*SAID[:2], AFTER_SEAM[0]],
        StreamTruncatedError,
        ["text", "fallback", "text"],
    ),
    "the second fails": (
        [MIDWAY, serving(*SAID[2:]).error("overloaded_error", after_events=3)],
        [*SAID[:2], AFTER_SEAM[0]],
        StreamAPIError,
        ["text", "fallback", "text"],
    ),
    "the second is refused": ([MIDWAY, Reply.http_error(429)], SAID[:2], type(None), ["text"]),
    "both refuse": ([MIDWAY, refusing("No.")], [*SAID[:2], "\n\nNo."], type(None), ["text", "fallback", "text"]),
}


@pytest.mark.parametrize("function", ["stream_text", "stream_events", "collect", "streamed"])
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("mode", MODES)
def test_a_spliced_stream_that_ends_early(mode: str, name: str, function: str) -> None:
    replies, pieces, kind, types = BROKEN[name]

    async def main() -> None:
        sink = streamkit.BufferSink()
        with serve(*replies) as server:
            async with with_fallbacks(mode, server) as client:
                if kind is type(None):
                    message = await through(mode, function, client.beta.messages, sinks=sink)
                else:
                    with pytest.raises(kind):
                        await through(mode, function, client.beta.messages, sinks=sink)
                assert_no_connection_in_use(client)
            assert len(server.requests) == len(replies), "after its content a stream is never repeated"
        result = sink.result
        assert result is not None
        assert (result.text, type(result.error)) == ("".join(pieces), kind)
        assert [block.type for block in result.message.content] == types
        if kind is type(None):
            assert (result.status, result.ok, result.stop_reason) == ("complete", False, "refusal")
            assert message.stop_reason == "refusal"

    run(mode, main)


@pytest.mark.parametrize("mode", MODES)
def test_a_spliced_stream_is_left(mode: str) -> None:
    async def main() -> None:
        with serve(MIDWAY, serving(*SAID[2:]).stall(after_events=3, pings=0.02), MIDWAY, serving(*SAID[2:])) as server:
            async with with_fallbacks(mode, server) as client:
                stream = streamkit.stream_text(client.beta.messages, total_timeout=10, **{**PARAMS, "model": ONE})
                pieces = []
                if mode == "sync":
                    with stream:
                        for piece in stream:
                            pieces.append(piece)
                            if piece == AFTER_SEAM[0]:
                                stream.cancel()
                else:
                    async with stream:
                        async for piece in stream:
                            pieces.append(piece)
                            if piece == AFTER_SEAM[0]:
                                stream.cancel()
                assert (pieces, stream.status, stream.result.error) == ([*SAID[:2], AFTER_SEAM[0]], "interrupted", None)
                assert_no_connection_in_use(client)
                left = streamkit.stream_text(client.beta.messages, **{**PARAMS, "model": ONE})
                if mode == "sync":
                    with left:
                        assert next(left) == SAID[0]
                else:
                    async with left:
                        assert await left.__anext__() == SAID[0]
                assert left.status == "interrupted"
                assert_no_connection_in_use(client)

    run(mode, main)


def test_a_first_model_that_fails_before_its_content_is_asked_again() -> None:
    with serve(MIDWAY.cut(after_events=1), MIDWAY, serving(*SAID[2:])) as server:
        if OLD_SDK:
            pytest.skip("this SDK has no middleware")
        client = sdk_client(server, middleware=[anthropic.BetaRefusalFallbackMiddleware([{"model": TWO}])])
        result = streamkit.collect(client.beta.messages, retries=1, **{**PARAMS, "model": ONE})
    assert (result.text, result.attempts, result.ok) == ("".join([*SAID[:2], *AFTER_SEAM]), 2, True)
