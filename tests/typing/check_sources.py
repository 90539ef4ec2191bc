"""What type checkers make of each way to the API: the platforms' clients, and streams of the SDK. Never run.

The messages are empty lists: to compare the types of full ones takes pyright a second for each call.
"""

# Each `type: ignore` below is a line that both type checkers refuse.
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import anthropic
from anthropic.lib.bedrock import AnthropicBedrock, AsyncAnthropicBedrock
from anthropic.lib.vertex import AnthropicVertex, AsyncAnthropicVertex
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from pydantic import BaseModel
from typing_extensions import TypedDict, assert_type

from streamkit import (
    AsyncEventStream,
    AsyncTextStream,
    EventStream,
    StdoutSink,
    StreamResult,
    TextStream,
    collect,
    stream_events,
    stream_text,
    streamed,
)


class Model(BaseModel):
    value: int


@dataclass
class Record:
    value: int


class Mapping(TypedDict):
    value: int


@anthropic.beta_tool
def tide(harbour: str) -> str:
    """The height of the tide."""
    return harbour


@anthropic.beta_async_tool
async def async_tide(harbour: str) -> str:
    """The height of the tide."""
    return harbour


# One line for each: a loop over several, or a tuple of them, takes type checkers minutes.
StableText: TypeAlias = TextStream[Message, None]
StableEvents: TypeAlias = EventStream[RawMessageStreamEvent, Message, None]
StableResult: TypeAlias = StreamResult[Message, None]
BetaText: TypeAlias = TextStream[BetaMessage, None]
BetaEvents: TypeAlias = EventStream[BetaRawMessageStreamEvent, BetaMessage, None]
BetaResult: TypeAlias = StreamResult[BetaMessage, None]
AsyncStableText: TypeAlias = AsyncTextStream[Message, None]
AsyncStableEvents: TypeAlias = AsyncEventStream[RawMessageStreamEvent, Message, None]
AsyncStableResult: TypeAlias = StableResult
AsyncBetaText: TypeAlias = AsyncTextStream[BetaMessage, None]
AsyncBetaEvents: TypeAlias = AsyncEventStream[BetaRawMessageStreamEvent, BetaMessage, None]
AsyncBetaResult: TypeAlias = BetaResult


def every_function(client: anthropic.Anthropic) -> None:
    assert_type(stream_text(client, model="m", max_tokens=1, messages=[]), StableText)
    assert_type(stream_events(client, model="m", max_tokens=1, messages=[]), StableEvents)
    assert_type(collect(client, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(stream_text(client.messages, model="m", max_tokens=1, messages=[]), StableText)
    assert_type(stream_events(client.messages, model="m", max_tokens=1, messages=[]), StableEvents)
    assert_type(collect(client.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(stream_text(client.with_options(timeout=1), model="m", max_tokens=1, messages=[]), StableText)
    assert_type(stream_events(client.with_options(timeout=1), model="m", max_tokens=1, messages=[]), StableEvents)
    assert_type(collect(client.with_options(timeout=1), model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(stream_text(client.beta.messages, model="m", max_tokens=1, messages=[]), BetaText)
    assert_type(stream_events(client.beta.messages, model="m", max_tokens=1, messages=[]), BetaEvents)
    assert_type(collect(client.beta.messages, model="m", max_tokens=1, messages=[]), BetaResult)


async def every_function_async(client: anthropic.AsyncAnthropic) -> None:
    assert_type(stream_text(client, model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(stream_events(client, model="m", max_tokens=1, messages=[]), AsyncStableEvents)
    assert_type(await collect(client, model="m", max_tokens=1, messages=[]), AsyncStableResult)
    assert_type(stream_text(client.messages, model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(stream_events(client.messages, model="m", max_tokens=1, messages=[]), AsyncStableEvents)
    assert_type(await collect(client.messages, model="m", max_tokens=1, messages=[]), AsyncStableResult)
    assert_type(stream_text(client.with_options(timeout=1), model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(stream_events(client.with_options(timeout=1), model="m", max_tokens=1, messages=[]), AsyncStableEvents)
    assert_type(await collect(client.with_options(timeout=1), model="m", max_tokens=1, messages=[]), AsyncStableResult)
    assert_type(stream_text(client.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaText)
    assert_type(stream_events(client.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaEvents)
    assert_type(await collect(client.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaResult)


def formats(client: anthropic.Anthropic) -> None:
    model = collect(client, model="m", max_tokens=1, messages=[], output_format=Model)
    assert_type(model.parsed_output, Model | None)
    record = collect(client.messages, model="m", max_tokens=1, messages=[], output_format=Record)
    assert_type(record.parsed_output, Record | None)
    mapping = stream_text(client, model="m", max_tokens=1, messages=[], output_format=Mapping)
    assert_type(mapping.result.parsed_output, Mapping | None)
    numbers = stream_events(client.beta.messages, model="m", max_tokens=1, messages=[], output_format=list[int])
    assert_type(numbers.result.parsed_output, list[int] | None)
    assert_type(collect(client, model="m", max_tokens=1, messages=[], output_format=None), StableResult)
    assert_type(collect(client, model="m", max_tokens=1, messages=[], output_format=anthropic.omit), StableResult)


def opened(client: anthropic.Anthropic) -> None:
    raw = client.messages.create(model="m", max_tokens=1, messages=[], stream=True)
    manager = client.messages.stream(model="m", max_tokens=1, messages=[])
    formatted = client.messages.stream(model="m", max_tokens=1, messages=[], output_format=Model)
    with manager as entered, formatted as entered_formatted:
        assert_type(stream_text(raw), StableText)
        assert_type(stream_events(raw), StableEvents)
        assert_type(collect(raw), StableResult)
        assert_type(stream_text(manager), StableText)
        assert_type(stream_events(manager), StableEvents)
        assert_type(collect(manager), StableResult)
        assert_type(stream_text(entered), StableText)
        assert_type(stream_events(entered), StableEvents)
        assert_type(collect(entered), StableResult)
        assert_type(stream_text(formatted), StableText)
        assert_type(stream_events(formatted), StableEvents)
        assert_type(collect(formatted), StableResult)
        assert_type(stream_text(entered_formatted), StableText)
        assert_type(stream_events(entered_formatted), StableEvents)
        assert_type(collect(entered_formatted), StableResult)


def opened_beta(client: anthropic.Anthropic) -> None:
    raw = client.beta.messages.create(model="m", max_tokens=1, messages=[], stream=True)
    manager = client.beta.messages.stream(model="m", max_tokens=1, messages=[], output_format=Model)
    with manager as entered:
        assert_type(stream_text(raw), BetaText)
        assert_type(stream_events(raw), BetaEvents)
        assert_type(collect(raw), BetaResult)
        assert_type(stream_text(manager), BetaText)
        assert_type(stream_events(manager), BetaEvents)
        assert_type(collect(manager), BetaResult)
        assert_type(stream_text(entered), BetaText)
        assert_type(stream_events(entered), BetaEvents)
        assert_type(collect(entered), BetaResult)
    runner = client.beta.messages.tool_runner(model="m", max_tokens=1, messages=[], tools=[tide], stream=True)
    for turn in runner:
        assert_type(stream_text(turn), BetaText)
        assert_type(stream_events(turn), BetaEvents)
        assert_type(collect(turn), BetaResult)


async def opened_async(client: anthropic.AsyncAnthropic) -> None:
    raw = await client.messages.create(model="m", max_tokens=1, messages=[], stream=True)
    manager = client.messages.stream(model="m", max_tokens=1, messages=[], output_format=Model)
    async with manager as entered:
        assert_type(stream_text(raw), AsyncStableText)
        assert_type(stream_events(raw), AsyncStableEvents)
        assert_type(await collect(raw), AsyncStableResult)
        assert_type(stream_text(manager), AsyncStableText)
        assert_type(stream_events(manager), AsyncStableEvents)
        assert_type(await collect(manager), AsyncStableResult)
        assert_type(stream_text(entered), AsyncStableText)
        assert_type(stream_events(entered), AsyncStableEvents)
        assert_type(await collect(entered), AsyncStableResult)


async def opened_async_beta(client: anthropic.AsyncAnthropic) -> None:
    raw = await client.beta.messages.create(model="m", max_tokens=1, messages=[], stream=True)
    manager = client.beta.messages.stream(model="m", max_tokens=1, messages=[], output_format=Model)
    async with manager as entered:
        assert_type(stream_text(raw), AsyncBetaText)
        assert_type(stream_events(raw), AsyncBetaEvents)
        assert_type(await collect(raw), AsyncBetaResult)
        assert_type(stream_text(manager), AsyncBetaText)
        assert_type(stream_events(manager), AsyncBetaEvents)
        assert_type(await collect(manager), AsyncBetaResult)
        assert_type(stream_text(entered), AsyncBetaText)
        assert_type(stream_events(entered), AsyncBetaEvents)
        assert_type(await collect(entered), AsyncBetaResult)
    runner = client.beta.messages.tool_runner(model="m", max_tokens=1, messages=[], tools=[async_tide], stream=True)
    async for turn in runner:
        assert_type(stream_text(turn), AsyncBetaText)
        assert_type(stream_events(turn), AsyncBetaEvents)
        assert_type(await collect(turn), AsyncBetaResult)


def platforms(
    bedrock: AnthropicBedrock,
    vertex: AnthropicVertex,
    foundry: anthropic.AnthropicFoundry,
    aws: anthropic.AnthropicAWS,
    google: anthropic.AnthropicGoogleCloud,
) -> None:
    assert_type(stream_text(bedrock, model="m", max_tokens=1, messages=[]), StableText)
    assert_type(collect(bedrock.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(streamed(bedrock.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(bedrock.beta.messages, model="m", max_tokens=1, messages=[]), BetaEvents)
    assert_type(stream_text(vertex, model="m", max_tokens=1, messages=[]), StableText)
    assert_type(collect(vertex.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(streamed(vertex.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(vertex.beta.messages, model="m", max_tokens=1, messages=[]), BetaEvents)
    assert_type(stream_text(foundry, model="m", max_tokens=1, messages=[]), StableText)
    assert_type(collect(foundry.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(streamed(foundry.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(foundry.beta.messages, model="m", max_tokens=1, messages=[]), BetaEvents)
    assert_type(stream_text(aws, model="m", max_tokens=1, messages=[]), StableText)
    assert_type(collect(aws.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(streamed(aws.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(aws.beta.messages, model="m", max_tokens=1, messages=[]), BetaEvents)
    assert_type(stream_text(google, model="m", max_tokens=1, messages=[]), StableText)
    assert_type(collect(google.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(streamed(google.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(google.beta.messages, model="m", max_tokens=1, messages=[]), BetaEvents)


async def async_platforms(
    bedrock: AsyncAnthropicBedrock,
    vertex: AsyncAnthropicVertex,
    foundry: anthropic.AsyncAnthropicFoundry,
    aws: anthropic.AsyncAnthropicAWS,
    google: anthropic.AsyncAnthropicGoogleCloud,
) -> None:
    assert_type(stream_text(bedrock, model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(await collect(bedrock.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(await streamed(bedrock.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(bedrock.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaEvents)
    assert_type(stream_text(vertex, model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(await collect(vertex.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(await streamed(vertex.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(vertex.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaEvents)
    assert_type(stream_text(foundry, model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(await collect(foundry.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(await streamed(foundry.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(foundry.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaEvents)
    assert_type(stream_text(aws, model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(await collect(aws.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(await streamed(aws.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(aws.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaEvents)
    assert_type(stream_text(google, model="m", max_tokens=1, messages=[]), AsyncStableText)
    assert_type(await collect(google.messages, model="m", max_tokens=1, messages=[]), StableResult)
    assert_type(await streamed(google.messages.create)(model="m", max_tokens=1, messages=[]), Message)
    assert_type(stream_events(google.beta.messages, model="m", max_tokens=1, messages=[]), AsyncBetaEvents)


def wrapped(client: anthropic.Anthropic) -> None:
    create = streamed(client.messages.create, sinks=StdoutSink, retries=1)
    assert_type(create(model="m", max_tokens=1, messages=[]), Message)
    assert_type(create(model="m", max_tokens=1, messages=[], stream=True), anthropic.Stream[RawMessageStreamEvent])
    beta = streamed(client.beta.messages.create)
    assert_type(beta(model="m", max_tokens=1, messages=[], betas=["x"]), BetaMessage)


async def wrapped_async(client: anthropic.AsyncAnthropic) -> None:
    create = streamed(client.messages.create)
    assert_type(await create(model="m", max_tokens=1, messages=[]), Message)
    beta = streamed(client.beta.messages.create)
    assert_type(await beta(model="m", max_tokens=1, messages=[]), BetaMessage)


def refused(client: anthropic.Anthropic, async_client: anthropic.AsyncAnthropic) -> None:
    collect(client, model="m", max_tokens=1, messages=[], stream=True)  # type: ignore[call-overload]
    collect(client, model="m", max_tokens=1, messages=[], retry=1)  # type: ignore[call-overload]
    collect(client, model="m", max_tokens=1, messages=[], on_error="ignore")  # type: ignore[call-overload]
    collect(async_client, model="m", max_tokens=1, messages=[], on_interrupt="return")  # type: ignore[call-overload]
    collect(client, model="m", max_tokens=1, messages=[], betas=["x"])  # type: ignore[call-overload]
    stream_text(client, model="m", max_tokens=1, messages=[], on_error="return")  # type: ignore[call-overload]
    stream_events(client.messages, model="m", messages=[])  # type: ignore[call-overload]


def no_sources(client: anthropic.Anthropic) -> None:
    collect(client.messages.with_raw_response, model="m", max_tokens=1, messages=[])  # type: ignore[call-overload]
    collect(client.messages.with_streaming_response, model="m", max_tokens=1, messages=[])  # type: ignore[call-overload]
    collect(client.with_raw_response, model="m", max_tokens=1, messages=[])  # type: ignore[call-overload]
    collect(client.beta.messages.with_raw_response, model="m", max_tokens=1, messages=[])  # type: ignore[call-overload]
    collect(client.beta, model="m", max_tokens=1, messages=[])  # type: ignore[call-overload]
    collect(anthropic.Anthropic, model="m", max_tokens=1, messages=[])  # type: ignore[call-overload]
    collect(client.messages.create(model="m", max_tokens=1, messages=[]))  # type: ignore[call-overload]


def no_parameters_beside_an_opened_stream(client: anthropic.Anthropic) -> None:
    manager = client.messages.stream(model="m", max_tokens=1, messages=[])
    collect(manager, model="m")  # type: ignore[call-overload]
    collect(manager, retries=1)  # type: ignore[call-overload]


def not_to_be_wrapped(client: anthropic.Anthropic) -> None:
    streamed(client.messages.with_raw_response.create)  # type: ignore[type-var]
    streamed(client.messages.with_streaming_response.create)  # type: ignore[type-var]
    streamed(client.messages.stream)  # type: ignore[type-var]
    streamed(client.messages.create, model="m")  # type: ignore[call-arg]
    streamed(client.messages.create)(model="m", max_tokens=1)  # type: ignore[call-overload]
