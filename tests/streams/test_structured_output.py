"""Structured output: `output_format` through each function, against what the SDK makes of the same reply."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import pydantic
import pytest
from typing_extensions import TypedDict

import streamkit
from streamkit import StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import OLD_SDK, PARAMS, client_for
from tests.support.harness import awaited, entered, items_of, run

MODES = ["sync", "asyncio"]


class Boat(pydantic.BaseModel):
    name: str
    masts: int


@dataclass
class BoatClass:
    name: str
    masts: int


class BoatDict(TypedDict):
    name: str
    masts: int


PIECES = ['{"name": "The', 'kla", "masts', '": 3}']
REPLY = Reply.text(PIECES)
TEXT = "".join(PIECES)
FORMATS = {
    "model": (Boat, Boat(name="Thekla", masts=3)),
    "dataclass": (BoatClass, BoatClass("Thekla", 3)),
    "TypedDict": (BoatDict, {"name": "Thekla", "masts": 3}),
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "masts": {"type": "integer"}},
    "required": ["name", "masts"],
    "additionalProperties": False,
}


@contextlib.contextmanager
def old_sdk_warns() -> Iterator[None]:
    """The beta client of old SDKs calls `output_format` deprecated, where it means a schema and where it does not."""
    with warnings.catch_warnings():
        if OLD_SDK:
            warnings.filterwarnings("ignore", "The 'output_format' parameter is deprecated", DeprecationWarning)
        yield


def of(client: Any, kind: str) -> Any:
    return client.messages if kind == "stable" else client.beta.messages


def plain(message: Any) -> dict[str, Any]:
    """A message without the value, which old SDKs keep in the text block and in what it is dumped as."""
    made = message.to_dict(exclude_none=True, warnings=False)
    for block in made["content"]:
        block.pop("parsed_output", None)
    return dict(made)


async def by_sdk(resource: Any, **params: Any) -> Any:
    async with entered(resource.stream(**params)) as stream:
        return await awaited(stream.get_final_message())


async def drained(stream: Any) -> tuple[list[Any], list[Any]]:
    """All items of a stream, and the partial output at each."""
    items: list[Any] = []
    partial = []
    async with entered(stream):
        async for item in items_of(stream):
            items.append(item)
            partial.append(stream.partial_output)
    return items, partial


@pytest.mark.parametrize("kind", ["stable", "beta"])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_the_value_is_that_of_the_sdk(mode: str, name: str, kind: str) -> None:
    output_format, value = FORMATS[name]
    params = {**PARAMS, "output_format": output_format}

    async def main() -> None:
        with serve(REPLY, repeat=True) as server, old_sdk_warns():
            async with client_for(mode, server) as client:
                resource = of(client, kind)
                theirs = await by_sdk(resource, **params)
                text = streamkit.stream_text(resource, **params)
                assert await drained(text) == (
                    PIECES,
                    [{"name": "The"}, {"name": "Thekla"}, {"name": "Thekla", "masts": 3}],
                )
                events = streamkit.stream_events(resource, **params)
                items, partial = await drained(events)
                assert [item.delta.text for item in items if item.type == "content_block_delta"] == PIECES
                assert (partial[0], partial[-1]) == (None, {"name": "Thekla", "masts": 3})
                whole = await awaited(streamkit.collect(resource, **params))
                for result in (text.result, events.result, whole):
                    assert result.parsed_output == theirs.parsed_output == value
                    assert type(result.parsed_output) is type(value)
                    assert (result.parse_error, result.text, result.ok) == (None, TEXT, True)
                    # The value has a field of its own: the message is the SDK's plain one.
                    assert plain(result.message) == plain(theirs)
                    assert type(result.message).__name__ == ("Message" if kind == "stable" else "BetaMessage")
            sent = [request.json for request in server.requests]
        assert sent[0] == sent[1] == sent[2] == sent[3]
        assert sent[1]["output_config"]["format"]["type"] == "json_schema"
        assert "output_format" not in sent[1]

    run(mode, main)


# What the reply is, its stop reason as the result has it, its status, and what `parse_error` says.
CUT_SHORT = {
    "max_tokens": (Reply.text(PIECES[:2], stop_reason="max_tokens"), "max_tokens", "complete", "'max_tokens'"),
    "refusal": (Reply.text(PIECES[:1], stop_reason="refusal"), "refusal", "complete", "'refusal'"),
    "refused at once": (Reply.blocks(stop_reason="refusal"), "refusal", "complete", "no text .*refusal"),
    "paused": (Reply.text(PIECES[:2], stop_reason="pause_turn"), "pause_turn", "complete", "'pause_turn'"),
    "truncated": (REPLY.cut(after_events=5), None, "disconnected", "ended early"),
    "an API error": (REPLY.error("overloaded_error", after_events=5), None, "failed", "ended early"),
    "no JSON": (Reply.text(["Sorry, ", "no."]), "end_turn", "complete", "Invalid JSON"),
    "does not fit": (Reply.text('{"name": "Thekla"}'), "end_turn", "complete", "masts"),
    "tool use": (Reply.tool_use("rig", {"masts": 3}, text="Let me see."), "tool_use", "complete", "Invalid JSON"),
}


@pytest.mark.parametrize("name", CUT_SHORT)
@pytest.mark.parametrize("mode", MODES)
def test_without_a_value_the_rest_is_kept(mode: str, name: str) -> None:
    reply, stop_reason, status, said = CUT_SHORT[name]

    async def main() -> None:
        with serve(reply) as server:
            async with client_for(mode, server) as client:
                result = await awaited(streamkit.collect(client, on_error="return", output_format=Boat, **PARAMS))
        assert result.parsed_output is None
        assert isinstance(result.parse_error, ValueError)
        with pytest.raises(ValueError, match=said):
            raise result.parse_error
        assert (result.stop_reason, result.status, result.usage.input_tokens) == (stop_reason, status, 10)
        assert result.usage_final is (stop_reason is not None)
        assert result.message is not None
        assert result.text == "".join(block.text for block in result.message.content if block.type == "text")

    run(mode, main)


@pytest.mark.parametrize("mode", MODES)
def test_a_truncated_reply_raises_with_what_came(mode: str) -> None:
    async def main() -> None:
        with serve(REPLY.cut(after_events=5)) as server:
            async with client_for(mode, server) as client:
                stream = streamkit.stream_text(client, output_format=Boat, **PARAMS)
                with pytest.raises(StreamTruncatedError) as caught:
                    await drained(stream)
        assert caught.value.result is stream.result
        assert stream.text == "".join(PIECES[:2])
        assert stream.partial_output == {"name": "Thekla"}, "also after the end"
        assert stream.result.parsed_output is None

    run(mode, main)


def test_an_interrupted_reply_keeps_what_came() -> None:
    with serve(REPLY) as server:
        stream = streamkit.stream_text(server.client(), output_format=Boat, **PARAMS)
        with stream:
            next(stream)
            assert stream.result.parse_error is None, "there is none before the end"
    assert (stream.status, stream.partial_output, stream.result.parsed_output) == ("interrupted", {"name": "The"}, None)
    assert "ended early" in str(stream.result.parse_error)


SEAM = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}, "trigger": {"type": "refusal"}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "rig", "input": {}}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


# Where the SDK raises: it wants each text block to be a value.
SEVERAL = {
    "text before a tool use": [said("Let me see."), USE, said(TEXT)],
    "an empty block before": [said(""), said(TEXT)],
    "another model goes on": [said(TEXT[:15]), SEAM, said(TEXT[15:])],
    "another model begins anew": [said(TEXT[:15]), SEAM, said(TEXT)],
    "two values": [said(TEXT), SEAM, said('{"name": "Elbe", "masts": 1}')],
}


@pytest.mark.parametrize("name", SEVERAL)
def test_the_value_among_several_text_blocks(name: str) -> None:
    reply = Reply.blocks(*SEVERAL[name])
    with serve(reply, reply) as server, old_sdk_warns():
        client = server.client()
        events = streamkit.stream_events(client.beta.messages, output_format=Boat, **PARAMS)
        with events:
            partial = [events.partial_output for _ in events]
        assert events.result.parsed_output == Boat(name="Thekla", masts=3)
        assert events.result.parse_error is None
        assert partial[-1] == {"name": "Thekla", "masts": 3}
        stream = client.beta.messages.stream(output_format=Boat, **PARAMS)
        if name == "two values":
            with stream as theirs:
                assert theirs.get_final_message().parsed_output == Boat(name="Thekla", masts=3)
        else:
            with pytest.raises(pydantic.ValidationError), stream as theirs:
                theirs.until_done()


@pytest.mark.parametrize(
    ("text", "output_format", "value"), [("0", int, 0), ("[]", list[int], []), ("false", bool, False)]
)
def test_a_value_that_is_false_is_a_value(text: str, output_format: Any, value: Any) -> None:
    """The SDK's `parsed_output` is `None` then, as if there were none."""
    with serve(Reply.text(text)) as server:
        result = streamkit.collect(server.client(), output_format=output_format, **PARAMS)
    assert (result.parsed_output, result.parse_error) == (value, None)
    assert type(result.parsed_output) is type(value)


@pytest.mark.parametrize("kind", ["stable", "beta"])
@pytest.mark.parametrize("mode", MODES)
def test_a_schema_in_output_config(mode: str, kind: str) -> None:
    params = {**PARAMS, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}

    async def main() -> None:
        with serve(REPLY, repeat=True) as server:
            async with client_for(mode, server) as client:
                resource = of(client, kind)
                result = await awaited(streamkit.collect(resource, **params))
                # Without a type there is nothing to make of it: the text is the value.
                assert (result.text, result.parsed_output, result.parse_error) == (TEXT, None, None)
                assert await drained(streamkit.stream_text(resource, **params)) == (PIECES, [None] * 3)
                items, _ = await drained(streamkit.stream_events(resource, **params))
                assert items[-1].type == "message_stop"
                message = await awaited(streamkit.streamed(resource.create)(**params))
                assert Boat.model_validate_json(message.content[0].text) == Boat(name="Thekla", masts=3)
            assert [request.json["output_config"] for request in server.requests] == [params["output_config"]] * 4

    run(mode, main)


def test_create_takes_no_output_format() -> None:
    with serve(REPLY) as server:
        with pytest.raises(TypeError, match="output_format"):
            streamkit.streamed(server.client().messages.create)(output_format=Boat, **PARAMS)  # type: ignore[call-overload]
        assert server.requests == []


def by_the_sdk(resource: Any, params: dict[str, Any]) -> Any:
    with resource.stream(output_format=Boat, **params) as stream:
        return stream.get_final_message().parsed_output


def by_streamkit(resource: Any, params: dict[str, Any]) -> Any:
    return streamkit.collect(resource, output_format=Boat, **params).parsed_output


@pytest.mark.parametrize("kind", ["stable", "beta"])
def test_both_ways_to_ask_at_once(kind: str) -> None:
    """What the SDK says to that is what is said."""
    params: dict[str, Any] = {**PARAMS, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    with serve(REPLY, repeat=True) as server, old_sdk_warns():
        resource = of(server.client(), kind)
        answers: list[Any] = []
        for ask in (by_the_sdk, by_streamkit):
            try:
                answers.append(ask(resource, params))
            except (anthropic.AnthropicError, TypeError) as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]


def test_a_stream_that_the_sdk_opened_has_its_own_value() -> None:
    """What format it was opened with is not to be seen from outside: the value stays with the SDK's object."""
    with serve(REPLY) as server, server.client().messages.stream(output_format=Boat, **PARAMS) as theirs:
        result = streamkit.collect(theirs)
        assert (result.text, result.parsed_output) == (TEXT, None)
        assert theirs.get_final_message().parsed_output == Boat(name="Thekla", masts=3)


def test_a_stream_that_the_sdk_opened_and_whose_value_it_cannot_read() -> None:
    reply = Reply.text(PIECES[:2], stop_reason="max_tokens")
    with serve(reply) as server, server.client().messages.stream(output_format=Boat, **PARAMS) as theirs:
        with pytest.raises(streamkit.StreamError) as caught:
            streamkit.collect(theirs)
    assert caught.value.result.text == "".join(PIECES[:2])
    assert isinstance(caught.value.__cause__, pydantic.ValidationError)
