"""The tool runner and message threads of the beta client, which take their message from the stream afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import StreamAPIError, StreamConnectionError, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import OLD_SDK, PARAMS, assert_no_connection_in_use, client_for
from tests.support.harness import awaited, items_of, read_all, run
from tests.support.messages import plain

MODES = ["sync", "asyncio"]


# The tool runner: it opens the stream of each turn, hands it out, and takes its final message from it afterwards.

TIDE = {"harbour": "Brest"}

TURNS = (Reply.tool_use("tide", TIDE, text="Let me see."), Reply.tool_use("tide", TIDE), Reply.text("High at noon."))


class Runner:
    """A tool runner of either kind with one tool, and how its turns are read."""

    def __init__(self, mode: str, client: Any, **options: Any) -> None:
        self.asked: list[str] = []

        def tide(harbour: str) -> str:
            """When the tide is high."""
            self.asked.append(harbour)
            return "noon"

        async def tide_async(harbour: str) -> str:
            """When the tide is high."""
            return tide(harbour)

        tool = anthropic.beta_tool(tide) if mode == "sync" else anthropic.beta_async_tool(name="tide")(tide_async)
        self.runner = client.beta.messages.tool_runner(**PARAMS, tools=[tool], stream=True, **options)

    async def turns(self) -> AsyncIterator[Any]:
        async for turn in items_of(self.runner):
            yield turn

    async def last(self) -> Any:
        return await awaited(self.runner.until_done())


@pytest.mark.parametrize("eagerly", [False, True], ids=["", "eagerly"])
@pytest.mark.parametrize("function", ["stream_text", "stream_events", "collect"])
@pytest.mark.parametrize("mode", MODES)
def test_all_turns_of_a_tool_runner_through_the_same_sinks(mode: str, function: str, eagerly: bool) -> None:
    if OLD_SDK and eagerly:
        pytest.skip("this SDK runs tools between the turns only")
    options = {"run_tools_eagerly": True} if eagerly else {}

    async def main() -> None:
        said, seen, meter, buffer = [], [], streamkit.UsageMeter(), streamkit.BufferSink()
        sinks = [buffer, meter, streamkit.CallbackSink(on_text=said.append, on_event=seen.append)]
        with serve(*TURNS) as server:
            async with client_for(mode, server) as client:
                runner = Runner(mode, client, **options)
                results = []
                async for turn in runner.turns():
                    if function == "collect":
                        results.append(await awaited(streamkit.collect(turn, sinks=sinks)))
                    else:
                        stream = getattr(streamkit, function)(turn, sinks=sinks)
                        await read_all(stream)
                        results.append(stream.result)
                    assert buffer.text == results[-1].text, "a sink is free again when its stream is over"
                    assert len(runner.asked) == min(len(results) - (not eagerly), 2)
                last = await runner.last()
                assert plain(last) == plain(results[-1].message)
                assert_no_connection_in_use(client)
            assert len(server.requests) == len(TURNS)
        assert runner.asked == ["Brest", "Brest"]
        assert [result.stop_reason for result in results] == ["tool_use", "tool_use", "end_turn"]
        assert said == ["Let ", "me ", "see.", "High ", "at ", "noon."]
        assert [event.type for event in seen].count("message_start") == len(TURNS)
        assert meter.total.streams == len(TURNS)
        assert meter.total.output_tokens == sum(result.usage.output_tokens for result in results)
        assert meter.total.input_tokens == 10 * len(TURNS)

    run(mode, main)


TOOL_CUT = TURNS[0].cut(after_events=len(TURNS[0].frames) - 3)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (TOOL_CUT, StreamTruncatedError),
        (replace(TOOL_CUT, ending="reset"), StreamConnectionError),
        (TURNS[0].error("overloaded_error", after_events=len(TURNS[0].frames) - 3), StreamAPIError),
    ],
    ids=["cut", "reset", "error"],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_turn_that_breaks_off_ends_the_tool_runner_s_loop(mode: str, reply: Reply, kind: type) -> None:
    async def main() -> None:
        meter = streamkit.UsageMeter()
        with serve(TURNS[1], reply, TURNS[2]) as server:
            async with client_for(mode, server) as client:
                runner = Runner(mode, client)
                with pytest.raises(kind) as caught:  # noqa: PT012 - the loop around it is what ends
                    async for turn in runner.turns():
                        await awaited(streamkit.collect(turn, sinks=meter))
                assert_no_connection_in_use(client)
            assert len(server.requests) == 2
        assert runner.asked == ["Brest"], "only what the first turn asked for"
        assert caught.value.result.text == "Let me see."
        assert (meter.total.streams, meter.total.not_final_streams) == (2, 1)

    run(mode, main)


@pytest.mark.parametrize("function", ["stream_text", "stream_events", "collect"])
@pytest.mark.parametrize("mode", MODES)
def test_a_thread_of_messages_follows_what_was_read(mode: str, function: str) -> None:
    """Its `stream()` gives a manager that is not entered yet."""
    if not hasattr(anthropic.resources.beta.messages.Messages, "thread"):
        pytest.skip("this SDK has no threads")
    replies = (Reply.text("Tides."), Reply.text("The moon."), Reply.text("And the sun."), Reply.text("Yes."))

    async def main() -> None:
        with serve(replies[0], replies[1].cut(after_events=4), replies[2], replies[3]) as server:
            async with client_for(mode, server) as client:
                thread = client.beta.messages.thread(model=PARAMS["model"], max_tokens=100)

                def ask(question: str) -> Any:
                    return thread.stream({"role": "user", "content": question})

                if function == "collect":
                    result = await awaited(streamkit.collect(ask("What comes twice?")))
                else:
                    stream = getattr(streamkit, function)(ask("What comes twice?"))
                    await read_all(stream)
                    result = stream.result
                assert (result.ok, result.text) == (True, "Tides.")
                cut = await awaited(streamkit.collect(ask("Why?"), on_error="return"))
                assert (cut.status, cut.text) == ("disconnected", "The ")
                left = streamkit.stream_text(ask("Go on."))
                if mode == "sync":
                    with left:
                        next(left)
                else:
                    async with left:
                        await left.__anext__()
                assert (left.status, left.text) == ("interrupted", "And ")
                assert (await awaited(streamkit.collect(ask("Sure?")))).ok, "the thread is free for another turn"
            sent = server.requests[-1].json["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant"] * 3 + ["user"]
        assert [message["content"][0]["text"].strip() for message in sent if message["role"] == "assistant"] == [
            "Tides.",
            "The",
            "And",
        ]

    run(mode, main)
