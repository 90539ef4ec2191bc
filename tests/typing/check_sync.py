"""What type checkers make of the four functions with sync sources. Checked, never run."""

# Each `type: ignore` below is a line that both type checkers refuse.
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Generator

import anthropic
from anthropic.types import Message, MessageParam, RawMessageStreamEvent, Usage
from anthropic.types.beta import BetaMessage, BetaMessageParam, BetaRawMessageStreamEvent
from pydantic import BaseModel
from typing_extensions import assert_type

from streamkit import (
    BufferSink,
    EventStream,
    StreamError,
    StreamResult,
    TextStream,
    UsageMeter,
    collect,
    stream_events,
    stream_text,
    streamed,
)

client = anthropic.Anthropic()
question: list[MessageParam] = [{"role": "user", "content": "Hello"}]
beta_question: list[BetaMessageParam] = [{"role": "user", "content": "Hello"}]


class Answer(BaseModel):
    value: int


def text() -> None:
    stream = stream_text(client, model="claude-sonnet-5-5", max_tokens=10, messages=question)
    assert_type(stream, TextStream[Message, None])
    with stream as opened:
        assert_type(opened, TextStream[Message, None])
        for piece in opened:
            assert_type(piece, str)
    assert_type(stream.result, StreamResult[Message, None])
    assert_type(stream.message, Message | None)
    assert_type(stream.usage, Usage)
    assert_type(stream.until_done(), StreamResult[Message, None])
    assert_type(stream.open(), TextStream[Message, None])
    assert_type(stream_text(client.messages, model="m", max_tokens=1, messages=question), TextStream[Message, None])
    assert_type(
        stream_text(client.beta.messages, model="m", max_tokens=1, messages=beta_question, betas=["x"]),
        TextStream[BetaMessage, None],
    )
    assert_type(
        stream_text(client, model="m", max_tokens=1, messages=question, output_format=Answer),
        TextStream[Message, Answer],
    )


def yield_from() -> None:
    def relay() -> Generator[str, None, None]:
        result = yield from stream_text(client, model="m", max_tokens=1, messages=question)
        assert_type(result, StreamResult[Message, None])

    list(relay())


def opened() -> None:
    raw = client.messages.create(model="m", max_tokens=1, messages=question, stream=True)
    assert_type(stream_text(raw), TextStream[Message, None])
    assert_type(stream_events(raw), EventStream[RawMessageStreamEvent, Message, None])
    beta = client.beta.messages.create(model="m", max_tokens=1, messages=beta_question, stream=True)
    assert_type(collect(beta), StreamResult[BetaMessage, None])
    with client.messages.stream(model="m", max_tokens=1, messages=question) as helper:
        assert_type(stream_text(helper), TextStream[Message, None])
    assert_type(
        collect(client.messages.stream(model="m", max_tokens=1, messages=question)), StreamResult[Message, None]
    )


def events() -> None:
    stream = stream_events(client, model="m", max_tokens=1, messages=question, idle_timeout=5)
    assert_type(stream, EventStream[RawMessageStreamEvent, Message, None])
    for event in stream:
        assert_type(event, RawMessageStreamEvent)
    beta = stream_events(client.beta.messages, model="m", max_tokens=1, messages=beta_question)
    assert_type(beta, EventStream[BetaRawMessageStreamEvent, BetaMessage, None])


def collected() -> None:
    result = collect(
        client,
        model="m",
        max_tokens=1,
        messages=question,
        output_format=Answer,
        sinks=[BufferSink, UsageMeter()],
        on_error="return",
        on_interrupt="return",
        retries=0,
    )
    assert_type(result, StreamResult[Message, Answer])
    assert_type(result.parsed_output, Answer | None)
    assert_type(result.message, Message | None)
    assert_type(result.new_messages(), list[MessageParam])
    assert_type(result.ok, bool)
    assert_type(result.min_output_tokens, int)
    assert_type(result.failed_attempts, tuple[StreamError, ...])


def history(either: StreamResult[Message | BetaMessage, None]) -> None:
    result = collect(client, model="m", max_tokens=1, messages=question)
    collect(client, model="m", max_tokens=1, messages=[*question, *result.new_messages()])
    beta = collect(client.beta.messages, model="m", max_tokens=1, messages=beta_question)
    assert_type(beta.new_messages(), list[BetaMessageParam])
    collect(client.beta.messages, model="m", max_tokens=1, messages=[*beta_question, *beta.new_messages()])
    parsed = collect(client.beta.messages, model="m", max_tokens=1, messages=beta_question, output_format=Answer)
    assert_type(parsed.new_messages(), list[BetaMessageParam])
    assert_type(either.new_messages(), list[MessageParam] | list[BetaMessageParam])
    assert_type(result.continuation(), list[MessageParam])
    assert_type(parsed.continuation("Go on.", prefill=True), list[BetaMessageParam])
    assert_type(either.continuation(instruction="Go on."), list[MessageParam] | list[BetaMessageParam])
    collect(client, model="m", max_tokens=1, messages=[*question, *result.continuation()])
    collect(client.beta.messages, model="m", max_tokens=1, messages=[*beta_question, *beta.continuation()])
    result.continuation(prefil=True)  # type: ignore[call-overload]


def wrapped() -> None:
    create = streamed(client.messages.create, sinks=BufferSink, total_timeout=60)
    assert_type(create(model="m", max_tokens=64_000, messages=question), Message)
    create(model="m", max_tokens=1, messages=question, temperatur=1)  # type: ignore[call-overload]
    assert_type(streamed(client, total_timeout=60), anthropic.Anthropic)
    assert_type(streamed(anthropic.AsyncAnthropic()), anthropic.AsyncAnthropic)


def wrong() -> None:
    stream_text(client, model="m", messages=question)  # type: ignore[call-overload]
    stream_text(client, model="m", max_tokens="1", messages=question)  # type: ignore[call-overload]
    stream_text(client, model="m", max_tokens=1, messages=question, tool=[])  # type: ignore[call-overload]
    collect("no source", model="m", max_tokens=1, messages=question)  # type: ignore[call-overload]
