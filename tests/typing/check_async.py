"""What type checkers make of the four functions with async sources. Checked, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import anthropic
from anthropic.types import Message, MessageParam, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaMessageParam, BetaRawMessageStreamEvent
from pydantic import BaseModel
from typing_extensions import assert_type

from streamkit import (
    AsyncEventStream,
    AsyncTextStream,
    BufferSink,
    StreamResult,
    collect,
    stream_events,
    stream_text,
    streamed,
)

client = anthropic.AsyncAnthropic()
question: list[MessageParam] = [{"role": "user", "content": "Hello"}]
beta_question: list[BetaMessageParam] = [{"role": "user", "content": "Hello"}]


class Answer(BaseModel):
    value: int


async def text() -> None:
    stream = stream_text(client, model="claude-sonnet-5-5", max_tokens=10, messages=question)
    assert_type(stream, AsyncTextStream[Message, None])
    async with stream as opened:
        assert_type(opened, AsyncTextStream[Message, None])
        async for piece in opened:
            assert_type(piece, str)
    assert_type(await stream.until_done(), StreamResult[Message, None])
    assert_type(await stream.open(), AsyncTextStream[Message, None])
    assert_type(stream.result, StreamResult[Message, None])
    assert_type(
        stream_text(client.messages, model="m", max_tokens=1, messages=question), AsyncTextStream[Message, None]
    )
    assert_type(
        stream_text(client.beta.messages, model="m", max_tokens=1, messages=beta_question, output_format=Answer),
        AsyncTextStream[BetaMessage, Answer],
    )


async def opened() -> None:
    raw = await client.messages.create(model="m", max_tokens=1, messages=question, stream=True)
    assert_type(stream_text(raw), AsyncTextStream[Message, None])
    async with client.messages.stream(model="m", max_tokens=1, messages=question) as helper:
        assert_type(stream_events(helper), AsyncEventStream[RawMessageStreamEvent, Message, None])
    manager = client.beta.messages.stream(model="m", max_tokens=1, messages=beta_question)
    assert_type(await collect(manager), StreamResult[BetaMessage, None])


async def events() -> None:
    stream = stream_events(client, model="m", max_tokens=1, messages=question)
    assert_type(stream, AsyncEventStream[RawMessageStreamEvent, Message, None])
    async for event in stream:
        assert_type(event, RawMessageStreamEvent)
    beta = stream_events(client.beta.messages, model="m", max_tokens=1, messages=beta_question)
    assert_type(beta, AsyncEventStream[BetaRawMessageStreamEvent, BetaMessage, None])


async def collected() -> None:
    coroutine = collect(client, model="m", max_tokens=1, messages=question, output_format=Answer, on_error="return")
    _ = assert_type(coroutine, Coroutine[Any, Any, StreamResult[Message, Answer]])
    assert_type((await coroutine).parsed_output, Answer | None)


async def wrapped() -> None:
    create = streamed(client.messages.create, sinks=BufferSink)
    assert_type(await create(model="m", max_tokens=64_000, messages=question), Message)
