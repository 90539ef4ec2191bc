"""`streamed`: a `create` call that streams."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import BufferSink, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.bodies import BETA
from tests.support.clients import PARAMS
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import REPLY, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


async def test_streamed_gives_the_same_message(harness: Harness, recorded: Path) -> None:
    with serve(Reply.recorded(recorded), repeat=True) as server:
        client = harness.client(server)
        resource = client.beta.messages if recorded.stem in BETA else client.messages
        sink = BufferSink()
        message = await harness.call(streamkit.streamed(resource.create, sinks=sink), **PARAMS)
        result = await harness.collect(resource)
        assert message == result.message
        assert type(message) is type(result.message)
        assert sink.text == result.text
        assert server.requests[0].json == server.requests[1].json


async def test_streamed_goes_beyond_the_limit_of_the_sdk(harness: Harness) -> None:
    params = {**PARAMS, "max_tokens": 64000}
    with serve(REPLY) as server:
        create = harness.client(server).messages.create
        with pytest.raises(ValueError, match="Streaming is required"):
            await harness.call(create, **params)
        message = await harness.call(streamkit.streamed(create), **params)
        assert message.content[0].text == TEXT
        assert server.requests[0].json["max_tokens"] == 64000


async def test_streamed_hands_on_a_call_that_streams_itself(harness: Harness) -> None:
    log = Log()
    with serve(REPLY, REPLY) as server:
        create = streamkit.streamed(harness.client(server).messages.create, sinks=log)
        raw = await harness.call(create, **PARAMS, stream=True)
        assert isinstance(raw, (anthropic.Stream, anthropic.AsyncStream))
        assert await harness.collect(raw)
        assert log.calls == []
        assert (await harness.call(create, **PARAMS, stream=False)).content[0].text == TEXT
        assert log.of("finish") == ["complete"]


async def test_streamed_raises_on_anything_but_a_whole_reply(harness: Harness) -> None:
    with serve(REPLY.cut(after_events=5)) as server:
        with pytest.raises(StreamTruncatedError) as caught:
            await harness.call(streamkit.streamed(harness.client(server).messages.create), **PARAMS)
        assert caught.value.result.text == "One two "


async def test_streamed_around_what_gives_no_stream(harness: Harness) -> None:
    def create(**kwargs: Any) -> str:
        return "no stream"

    async def create_async(**kwargs: Any) -> str:
        return "no stream"

    sink = BufferSink()
    with pytest.raises(TypeError, match="expected a stream from the call, got str"):
        await harness.call(streamkit.streamed(create_async if harness.is_async else create, sinks=sink), **PARAMS)
    assert sink.result is not None
    assert sink.result.status == "failed"


async def test_streamed_around_what_gives_events_of_its_own(harness: Harness) -> None:
    """Without a response there are no bytes, and no headers."""
    with serve(REPLY) as server:
        client = harness.client(server)

        def create(**kwargs: Any) -> Any:
            return (event for event in client.messages.create(**kwargs))

        async def create_async(**kwargs: Any) -> Any:
            stream = await client.messages.create(**kwargs)
            return (event async for event in stream)

        sink = BufferSink()
        wrapped = streamkit.streamed(create_async if harness.is_async else create, sinks=sink)
        message = await harness.call(wrapped, **PARAMS)
    assert (message.content[0].text, sink.text) == ("One two three", "One two three")


def test_an_interrupt_while_the_request_is_sent() -> None:
    def create(**kwargs: Any) -> Any:
        raise KeyboardInterrupt

    sink = BufferSink()
    with pytest.raises(KeyboardInterrupt):
        streamkit.streamed(create, sinks=sink)(**PARAMS)
    assert sink.result is not None
    assert (sink.result.status, sink.result.attempts) == ("interrupted", 1)


async def test_streamed_looks_like_what_it_wraps(harness: Harness) -> None:
    with serve(REPLY) as server:
        create = harness.client(server).messages.create
        wrapped = streamkit.streamed(create)
        assert wrapped.__name__ == "create"
        assert inspect.signature(wrapped) == inspect.signature(create)
        assert inspect.iscoroutinefunction(wrapped) == harness.is_async
        with pytest.raises(TypeError, match="expected a client or a function such as"):
            streamkit.streamed("create")  # type: ignore[type-var]
        with pytest.raises(TypeError, match="unexpected keyword argument 'model'"):
            streamkit.streamed(create, model="x")
        with pytest.raises(TypeError):
            await harness.call(wrapped, **PARAMS, nonsense=1)
        assert server.requests == []


async def test_the_message_has_the_ids_that_create_gives(harness: Harness) -> None:
    """The SDK's tool runner, for one, reads them."""
    reply = Reply.recorded(REPLY.body, headers={"request-id": "req_1", "anthropic-workspace-id": "wrkspc_1"})
    with serve(reply) as server:
        create = streamkit.streamed(harness.client(server).messages.create)
        message = await harness.call(create, **PARAMS)
    assert (message._request_id, message._workspace_id) == ("req_1", "wrkspc_1")
    assert not any("id" in name and name.startswith("_") for name in message.to_dict())


async def test_a_whole_client_is_wrapped(harness: Harness) -> None:
    pieces: list[str] = []
    with serve(REPLY, repeat=True) as server:
        client = harness.client(server)
        wrapped = streamkit.streamed(client, sinks=lambda: streamkit.CallbackSink(on_text=pieces.append))
        assert type(wrapped) is type(client)
        for resource in (wrapped.messages, wrapped.beta.messages):
            message = await harness.call(resource.create, **PARAMS)
            assert message.content[0].text == TEXT
        assert [request.json.get("stream") for request in server.requests] == [True, True]
        await harness.call(client.messages.create, **PARAMS)
        assert server.requests[-1].json.get("stream") is None, "the client itself is as it was"
    assert "".join(pieces) == TEXT * 2


async def test_functions_without_stream_are_refused_when_they_are_wrapped(harness: Harness) -> None:
    with serve(REPLY) as server:
        messages = harness.client(server).messages
        for function in (messages.parse, messages.stream, messages.count_tokens, lambda *, model: None, len):
            with pytest.raises(TypeError, match="expected a function that takes stream="):
                streamkit.streamed(function)
        with pytest.raises(TypeError, match="got with_raw_response or with_streaming_response"):
            streamkit.streamed(messages.with_raw_response.create)
