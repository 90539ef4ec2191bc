"""Streams of the SDK that the program has opened: raw streams, managers, the tool runner."""

# ruff: noqa: PT012 - the whole life of a stream stands under one `raises`
from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import pytest

from streamkit.testing import Reply, record, serve
from tests.support.bodies import BETA, each_that_the_sdk_reads
from tests.support.clients import PARAMS, assert_no_connection_in_use
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import FAULTS, REPLY, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


async def test_a_raw_stream(harness: Harness) -> None:
    with serve(REPLY) as server:
        raw = await harness.call(harness.client(server).messages.create, **PARAMS, stream=True)
        stream = harness.text(raw)
        assert [piece async for piece in stream] == ["One ", "two ", "three"]
        assert stream.result.ok
        assert stream.request_id == raw.response.headers["request-id"]


async def test_a_manager_that_is_not_entered(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = harness.client(server)
        stream = harness.text(client.messages.stream(**PARAMS))
        assert server.requests == []
        assert (await stream.until_done()).text == TEXT
        assert len(server.requests) == 1
        assert_no_connection_in_use(client)


async def test_an_entered_stream_still_answers(harness: Harness) -> None:
    log = Log()
    with serve(REPLY) as server:
        manager = harness.client(server).messages.stream(**PARAMS)
        if harness.is_async:
            async with manager as entered:
                result = await harness.collect(entered, sinks=log)
                final = await entered.get_final_message()
        else:
            with manager as entered:
                result = await harness.collect(entered, sinks=log)
                final = entered.get_final_message()
    assert result.text == final.content[0].text == TEXT
    assert final.usage.output_tokens == result.usage.output_tokens == 3
    assert log.of("write") == ["One ", "two ", "three"]
    assert set(log.of("event")) <= {
        f"{a}_{b}" for a in ("message", "content_block") for b in ("start", "delta", "stop")
    }


async def test_an_entered_stream_that_is_left_early(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = harness.client(server)
        manager = client.messages.stream(**PARAMS)
        if harness.is_async:
            async with manager as entered, harness.text(entered) as stream:
                assert await stream.next() == "One "
        else:
            with manager as entered:
                async with harness.text(entered) as stream:
                    assert await stream.next() == "One "
        assert_no_connection_in_use(client)
    assert (stream.status, stream.text) == ("interrupted", "One ")


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("cut in an event", "type no text")])
async def test_faults_of_an_entered_stream(harness: Harness, fault: str) -> None:
    reply, kind, sdk_kind, status = FAULTS[fault]
    with serve(reply) as server:
        manager = harness.client(server).messages.stream(**PARAMS)
        with pytest.raises(sdk_kind) as caught:
            if harness.is_async:
                async with manager as entered:
                    await harness.collect(entered)
            else:
                with manager as entered:
                    await harness.collect(entered)
    error: Any = caught.value
    assert type(error) is kind
    assert (error.result.text, error.result.status) == ("One two ", status)


@each_that_the_sdk_reads
async def test_by_bytes_and_by_events_give_the_same(harness: Harness, path: Path) -> None:
    with serve(Reply.recorded(path), repeat=True) as server:
        client = harness.client(server)
        resource = client.beta.messages if path.stem in BETA else client.messages
        logs = (Log(), Log())
        by_bytes = await harness.collect(resource, sinks=logs[0])
        manager = resource.stream(**PARAMS)
        if harness.is_async:
            async with manager as entered:
                by_events = await harness.collect(entered, sinks=logs[1])
        else:
            with manager as entered:
                by_events = await harness.collect(entered, sinks=logs[1])
    odd = ("event", "weather_report")  # which older versions of the SDK leave out
    assert [call for call in logs[0].calls if call != odd] == [call for call in logs[1].calls if call != odd]
    assert by_bytes.message is not None
    assert by_bytes.message.to_dict(warnings=False) == by_events.message.to_dict(warnings=False)
    fields = ("text", "thinking", "tool_uses", "usage", "usage_final", "stop_reason", "stop_details", "status", "ok")
    for field in (*fields, "error", "invalid_tool_input", "attempts"):
        assert getattr(by_bytes, field) == getattr(by_events, field), field
    assert by_bytes.new_messages() == by_events.new_messages()


async def test_the_tool_runner_runs_its_tools(harness: Harness) -> None:
    asked = []
    replies = (Reply.tool_use("tide", {"harbour": "Brest"}, text="Let me see."), Reply.text("High at noon."))
    with serve(*replies) as server:
        client, texts, results = harness.client(server), [], []
        if harness.is_async:

            @anthropic.beta_async_tool
            async def tide(harbour: str) -> str:
                """When the tide is high."""
                asked.append(harbour)
                return "noon"

            runner = client.beta.messages.tool_runner(**PARAMS, tools=[tide], stream=True)
            async for opened_stream in runner:
                stream = harness.text(opened_stream)
                texts += [piece async for piece in stream]
                results.append(stream.result)
        else:

            @anthropic.beta_tool
            def tide(harbour: str) -> str:
                """When the tide is high."""
                asked.append(harbour)
                return "noon"

            for opened_stream in client.beta.messages.tool_runner(**PARAMS, tools=[tide], stream=True):
                stream = harness.text(opened_stream)
                texts += [piece async for piece in stream]
                results.append(stream.result)
        assert asked == ["Brest"]
        assert "".join(texts) == "Let me see.High at noon."
        assert [result.ok for result in results] == [True, True]
        assert [type(result.message) for result in results] == [anthropic.types.beta.BetaMessage] * 2
        assert [use.input for use in results[0].tool_uses] == [{"harbour": "Brest"}]
        answer = server.requests[1].json["messages"][-1]["content"][0]
        assert answer["type"] == "tool_result"
        assert answer["tool_use_id"] == results[0].tool_uses[0].id
        assert "noon" in str(answer["content"])


async def test_a_body_that_only_the_sdk_can_read(harness: Harness) -> None:
    """As from Bedrock: told by its content type, and read by the SDK's own iterator."""
    log = Log()
    with serve(Reply.recorded(REPLY.body, content_type="application/vnd.amazon.eventstream"), repeat=True) as server:
        client = harness.client(server)
        result = await harness.collect(client, sinks=log)
        assert_no_connection_in_use(client)
    assert (result.text, result.ok) == (TEXT, True)
    assert log.of("event")[0] == "message_start"


async def test_recording_what_is_read_by_events(harness: Harness, tmp_path: Path) -> None:
    with serve(REPLY) as server:
        manager = harness.client(server).messages.stream(**PARAMS)
        if harness.is_async:
            async with manager as entered:
                await harness.collect(entered, sinks=record(tmp_path / "x.sse"))
        else:
            with manager as entered:
                await harness.collect(entered, sinks=record(tmp_path / "x.sse"))
    with serve(Reply.recorded(tmp_path / "x.sse")) as server:
        assert (await harness.collect(server)).text == TEXT
