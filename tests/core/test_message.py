"""Blocks, usage, the end of a message, and malformed events, by events alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamkit._core.message import MessageBuilder, _jiter_error_offset
from streamkit._core.sse import ProtocolViolation, SSEDecoder
from tests.support.bodies import BETA
from tests.support.events import (
    MESSAGE_STOP,
    block_delta,
    block_start,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    text_delta,
    tool_use_start,
)
from tests.support.in_memory import build, content


@pytest.mark.parametrize(
    ("message", "at"),
    [
        ("expected value at line 1 column 3", 2),
        ("expected value at line 2 column 1", 4),
        ("expected value at line 1 column 0", 0),
        ("words of another kind", 0),
        ("no", 0),
    ],
)
def test_where_the_parser_stopped(message: str, at: int) -> None:
    assert _jiter_error_offset(b'{"a\n"', message) == at


# Blocks.


def test_indexes_may_interleave_and_leave_gaps() -> None:
    builder, _ = build(
        message_start(),
        block_start(7),
        block_start(2),
        text_delta("b", 2),
        text_delta("a", 7),
        text_delta("B", 2),
        block_stop(2),
        text_delta("A", 7),
    )
    assert [block["text"] for block in content(builder)] == ["aA", "bB"], "in the order in which they were opened"
    assert str(builder.text) == "baBA"


def test_an_index_that_is_opened_again_is_a_new_block() -> None:
    builder, _ = build(message_start(), block_start(), text_delta("a"), block_stop(), block_start(), text_delta("b"))
    assert [block["text"] for block in content(builder)] == ["a", "b"]


def test_unknown_events_deltas_and_blocks_pass() -> None:
    hologram = block_start(0, "hologram", layers=[1])
    builder, said = build(
        {"type": "weather"},
        message_start(),
        {"type": "weather", "index": 99, "delta": None},
        hologram,
        block_delta(0, "voxel_delta", voxels="AA"),
        block_delta(0, "input_json_delta", partial_json="{"),
        block_delta(0, "thinking_delta", thinking="no"),
        block_delta(0, "signature_delta", signature="no"),
        block_delta(0, "citations_delta", citation={}),
        block_delta(0, "compaction_delta", content="no"),
        block_delta(0, ["odd"]),  # type: ignore[arg-type]
        block_stop(),
        {"type": None},
    )
    assert said == []
    assert content(builder) == [hologram["content_block"]]


def test_text_for_a_block_of_an_unknown_type_is_text_that_arrived() -> None:
    builder, said = build(message_start(), block_start(0, "hologram"), text_delta("seen"), block_stop())
    assert said == [("seen", "")]
    assert str(builder.text) == "seen"
    assert content(builder) == [{"type": "hologram", "text": "seen"}]


def test_text_for_a_tool_use_does_not_spoil_its_input() -> None:
    builder, said = build(
        message_start(), tool_use_start(), input_delta('{"a":'), text_delta("stray"), input_delta("1}"), block_stop()
    )
    assert said == [("stray", "")]
    assert content(builder)[0]["input"] == {"a": 1}


def test_thinking_and_its_signature() -> None:
    block = block_start(0, "thinking", thinking="Hm", signature="")
    builder, said = build(
        message_start(),
        block,
        block_delta(0, "thinking_delta", thinking=", so"),
        block_delta(0, "thinking_delta", thinking=""),
    )
    assert content(builder) == [{"type": "thinking", "thinking": "Hm, so", "signature": ""}]
    builder.apply(block_delta(0, "signature_delta", signature="sig"))
    assert said == [("", "Hm"), ("", ", so")]
    assert content(builder)[0]["signature"] == "sig"
    assert str(builder.thinking) == "Hm, so"
    assert not builder.text


def test_citations_are_collected_and_the_events_stay_as_they_are() -> None:
    first = block_start(citations=[{"n": 0}])
    builder, _ = build(message_start(), first, block_delta(0, "citations_delta", citation={"n": 1}), text_delta("x"))
    assert content(builder) == [{"type": "text", "text": "x", "citations": [{"n": 0}, {"n": 1}]}]
    assert first["content_block"]["citations"] == [{"n": 0}]
    for empty in ({"citations": None}, {"citations": []}, {}):
        builder, _ = build(message_start(), block_start(**empty), block_delta(0, "citations_delta", citation={"n": 1}))
        assert content(builder)[0]["citations"] == [{"n": 1}]


def test_compaction() -> None:
    block = block_start(0, "compaction", content=None)
    builder, said = build(
        message_start(), block, block_delta(0, "compaction_delta", content="All so far.", encrypted_content="e")
    )
    assert content(builder) == [{"type": "compaction", "content": "All so far.", "encrypted_content": "e"}]
    assert said == []


@pytest.mark.parametrize("beta", [True, False])
def test_fallback_to_another_model(beta: bool) -> None:
    block = block_start(0, "fallback", **{"from": {"model": "a"}, "to": {"model": "b"}})
    message = build(message_start(), block, beta=beta)[0].message()
    assert message is not None
    assert message["model"] == ("b" if beta else "claude-sonnet-5-5")


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
@pytest.mark.parametrize(
    ("pieces", "parsed", "raw"),
    [
        (['{"a": [1, "', 'é"]}'], {"a": [1, "é"]}, None),
        (["", "{}"], {}, None),
        ([], {}, None),
        ([""], {}, None),
        (['{"path": "lo', 'g.txt", "lines": ["x", "un'], {"path": "log.txt", "lines": ["x"]}, "as it came"),
        (["{"], {}, "as it came"),
        (['{"a": 1, oops}'], {"a": 1}, "as it came"),
        (['{"a": 1,\n "b": 2,\n oops}'], {"a": 1, "b": 2}, "as it came"),
        (["oops"], {}, "as it came"),
        (['{"a": 1} trailing'], {"a": 1}, "as it came"),
        (['{"a": "\ud83d"}'], {"a": "\ud83d"}, None),
        (['{"a": "\\ud83d"}'], {"a": "\ud83d"}, None),
        (['{"a": "x", "b": "\\ud83d'], {"a": "x"}, "as it came"),
        (['{"a": ' + "[" * 300 + "]" * 300 + "}"], None, None),
        (["[" * 200_000], None, "as it came"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_tool_input(kind: str, pieces: list[str], parsed: Any, raw: str | None) -> None:
    builder, said = build(
        message_start(), tool_use_start(kind=kind), *(input_delta(piece) for piece in pieces), block_stop()
    )
    (block,) = builder.blocks
    assert said == []
    assert block.invalid_input == (raw and "".join(pieces))
    if parsed is not None:
        assert content(builder) == [{"type": kind, "id": "toolu_0", "name": "get_tide", "input": parsed}]


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
@pytest.mark.parametrize("pieces", [[], [""], ["", ""]], ids=len)
@pytest.mark.parametrize(
    "tail", [(message_delta("max_tokens"), MESSAGE_STOP), (message_delta("model_context_window_exceeded"),)], ids=len
)
@pytest.mark.parametrize("ends", [True, False])
def test_a_tool_use_that_a_limit_cut_before_its_input(
    kind: str, pieces: list[str], tail: tuple[dict[str, Any], ...], ends: bool
) -> None:
    block = (
        tool_use_start(1, kind=kind),
        *(input_delta(piece, 1) for piece in pieces),
        *([block_stop(1)] if ends else []),
    )
    builder, _ = build(message_start(), *(tool_use_start(0), block_stop(0)), *block, *tail)
    assert [block.invalid_input for block in builder.blocks] == [None, ""], (
        "one before the last had ended: it takes no input"
    )
    assert [block["input"] for block in content(builder)] == [{}, {}]


@pytest.mark.parametrize("reason", ["tool_use", "end_turn", "stop_sequence", None])
def test_a_tool_use_without_input_that_no_limit_cut(reason: str | None) -> None:
    builder, _ = build(
        message_start(), tool_use_start(), input_delta(""), block_stop(), message_delta(reason), MESSAGE_STOP
    )
    assert builder.blocks[0].invalid_input is None


def test_a_limit_cuts_nothing_that_has_its_input() -> None:
    with_input = block_start(0, "tool_use", id="toolu_0", name="x", input={"a": 1})
    assert (
        build(message_start(), with_input, block_stop(), message_delta("max_tokens"), MESSAGE_STOP)[0]
        .blocks[0]
        .invalid_input
        is None
    )
    assert (
        build(
            message_start(),
            tool_use_start(),
            input_delta("{}"),
            block_stop(),
            message_delta("max_tokens"),
            MESSAGE_STOP,
        )[0]
        .blocks[0]
        .invalid_input
        is None
    )
    whole = message_start({"type": "tool_use", "id": "t", "name": "x", "input": {}}, stop_reason="max_tokens")
    assert build(whole, MESSAGE_STOP)[0].blocks[0].invalid_input == ""
    assert build(message_start(), message_delta("max_tokens"), MESSAGE_STOP)[0].blocks == []


def test_deltas_that_were_not_empty_are_counted() -> None:
    """Of text, thinking and tool input; also where pieces were joined in between."""
    assert MessageBuilder().delta_count() == 0
    thinking = (
        block_start(0, "thinking", thinking="Hm", signature=""),
        block_delta(0, "thinking_delta", thinking="so"),
    )
    signed = (
        block_delta(0, "signature_delta", signature="x"),
        block_delta(0, "thinking_delta", thinking=""),
        block_stop(),
    )
    said = (block_start(1, text="A"), text_delta("", 1), *(text_delta("b", 1) for _ in range(1000)), block_stop(1))
    used = (tool_use_start(2), input_delta("", 2), input_delta("{", 2), input_delta("}", 2), block_stop(2))
    builder, _ = build(message_start(), *thinking, *signed, *said, *used)
    assert builder.delta_count() == 1 + 1000 + 2


def test_tool_input_while_it_arrives() -> None:
    builder, _ = build(message_start(), tool_use_start())
    seen = []
    for piece in ['{"a"', ": [1,", ' 2], "b": "x', 'y"', "}"]:
        builder.apply(input_delta(piece))
        seen.append(content(builder)[0]["input"])
    assert seen == [{}, {"a": [1]}, {"a": [1, 2]}, {"a": [1, 2], "b": "xy"}, {"a": [1, 2], "b": "xy"}]


def test_tool_input_as_fine_grained_streaming_reads_it() -> None:
    events = (message_start(), tool_use_start(), input_delta('{"a": "x'))
    builder, _ = build(*events, partial_mode="trailing-strings")
    assert content(builder)[0]["input"] == {"a": "x"}
    builder.apply(block_stop())
    assert content(builder)[0]["input"] == {"a": "x"}
    assert builder.blocks[0].invalid_input == '{"a": "x'


def test_input_that_came_whole_with_the_start() -> None:
    builder, _ = build(
        message_start(), block_start(0, "server_tool_use", id="s", name="n", input={"q": 1}), block_stop()
    )
    assert content(builder)[0]["input"] == {"q": 1}


# Usage and the end.


def test_counts_overwrite_and_what_a_delta_leaves_out_stays() -> None:
    usage = {"input_tokens": 8, "output_tokens": 1, "cache_read_input_tokens": 5, "service_tier": "standard"}
    builder, _ = build(message_start(usage=usage))
    assert (builder.usage, builder.usage_final) == (usage, False)
    builder.apply(message_delta(None, 11, input_tokens=9, cache_read_input_tokens=None, unheard_of=3))
    assert (builder.usage, builder.usage_final) == (usage | {"output_tokens": 11, "input_tokens": 9}, False)
    builder.apply(message_delta("end_turn", 14, server_tool_use={"web_search_requests": 2}))
    assert builder.usage_final
    assert builder.usage["output_tokens"] == 14
    assert builder.usage["server_tool_use"] == {"web_search_requests": 2}
    assert builder.usage["cache_read_input_tokens"] == 5


def test_usage_is_not_final_when_the_last_delta_has_none() -> None:
    event = message_delta()
    del event["usage"]
    builder, _ = build(message_start(), event)
    assert not builder.usage_final
    assert builder.usage["output_tokens"] == 1


def test_a_message_delta_sets_what_it_names() -> None:
    event = message_delta("stop_sequence")
    event["delta"] |= {"stop_sequence": "END", "stop_details": {"type": "x"}, "container": {"id": "c"}}
    event["context_management"] = {"applied_edits": []}
    message = build(message_start(), event)[0].message()
    assert message is not None
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    assert (message["stop_details"], message["container"]) == ({"type": "x"}, {"id": "c"})
    assert "context_management" not in message
    message = build(message_start(), event, beta=True)[0].message()
    assert message is not None
    assert message["context_management"] == {"applied_edits": []}


def test_beta_counts() -> None:
    event = message_delta(iterations=[{"type": "message"}], fallback_credit=3)
    assert build(message_start(), event, beta=True)[0].usage["iterations"] == [{"type": "message"}]
    assert "iterations" not in build(message_start(), event)[0].usage


def test_the_end_needs_no_message_delta() -> None:
    builder, _ = build(message_start(), MESSAGE_STOP)
    assert builder.saw_message_stop
    assert builder.stop_reason is None


def test_before_the_start_there_is_nothing() -> None:
    builder = MessageBuilder()
    assert builder.message() is None
    assert not builder.text
    assert builder.usage == {}


def test_the_end_of_a_block_that_was_never_opened_does_no_harm() -> None:
    builder, said = build(
        block_stop(),
        message_start(),
        block_stop(),
        block_start(),
        text_delta("A"),
        block_stop(7),
        text_delta("B"),
        block_stop(),
        MESSAGE_STOP,
        block_stop(),
    )
    assert (said, content(builder)) == ([("A", ""), ("B", "")], [{"type": "text", "text": "AB"}])


# The cost of many blocks.


def lines(*events: dict[str, Any]) -> int:
    """How many lines of `_message` it takes to apply the events."""
    count = 0

    def trace(frame: Any, what: str, argument: object) -> Any:
        nonlocal count
        if frame.f_globals["__name__"] != "streamkit._core.message":
            return None
        count += what == "line"
        return trace

    builder = MessageBuilder()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for event in events:
            builder.apply(event)
    finally:
        sys.settrace(before)
    return count


MANY: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "message deltas": lambda count: [
        *(block_start(index, "tool_use", input={}) for index in range(count)),
        *(block_stop(index) for index in range(count)),
        *(message_delta("max_tokens") for _ in range(count)),
    ],
    "message deltas, and blocks that are never closed": lambda count: [
        *(block_start(index) for index in range(count)),
        *(message_delta() for _ in range(count)),
    ],
    "texts": lambda count: [
        *(block_start(index) for index in range(count)),
        *(text_delta("x", index) for index in range(count)),
        *(text_delta("x", count - 1) for _ in range(2 * count)),
    ],
}


@pytest.mark.parametrize("name", MANY)
def test_the_cost_of_many_blocks_is_linear(name: str) -> None:
    few, many = (lines(message_start(), *MANY[name](count), MESSAGE_STOP) for count in (1500, 6000))
    print(f"{name}: {few} and {many} lines")
    assert many < 4.4 * few, "four times the blocks and the deltas take far more than four times the steps"


# Errors.


@pytest.mark.parametrize(
    "event", [block_start(), text_delta("x"), message_delta(), MESSAGE_STOP], ids=lambda event: event["type"]
)
def test_an_event_before_the_start(event: dict[str, Any]) -> None:
    builder = MessageBuilder()
    with pytest.raises(ProtocolViolation, match="before 'message_start'"):
        builder.apply(event)
    assert not builder.saw_message_stop


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (message_start(), "a second 'message_start'"),
        (text_delta("x", 5), "'content_block_delta' for a block that was never opened (index 5)"),
        ({"type": "content_block_delta", "index": 0}, "malformed 'content_block_delta' event (no 'delta')"),
        ({"type": "content_block_delta", "delta": {}}, "malformed 'content_block_delta' event (no 'type')"),
        ({"type": "content_block_delta", "index": 0, "delta": {}}, "malformed"),
        ({"type": "content_block_delta", "index": 0, "delta": None}, "malformed"),
        ({"type": "content_block_delta", "index": [], "delta": {}}, "malformed"),
        ({"type": "content_block_stop"}, "malformed"),
        ({"type": "content_block_start", "index": 1}, "malformed"),
        ({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}, "malformed"),
        ({"type": "content_block_start", "index": 1, "content_block": None}, "malformed"),
        ({"type": "content_block_start", "index": 1, "content_block": "text"}, "malformed"),
        ({"type": "content_block_start", "index": {}, "content_block": {"type": "text"}}, "malformed"),
        (block_start(1, text=5), "malformed"),
        (block_start(1, text=["x"]), "malformed"),
        (block_start(1, "thinking", thinking=5), "malformed"),
        (block_start(1, "thinking", thinking={"a": 1}), "malformed"),
        (block_delta(0, "text_delta"), "malformed"),
        (block_delta(0, "text_delta", text=None), "malformed"),
        (block_delta(0, "text_delta", text=5), "malformed"),
        (block_delta(0, "text_delta", text=["x"]), "malformed"),
        ({"type": "message_delta"}, "malformed"),
        ({"type": "message_delta", "delta": None}, "malformed"),
        ({"type": "message_delta", "delta": {}, "usage": 5}, "malformed"),
    ],
    ids=lambda value: repr(value)[:70] if isinstance(value, dict) else None,
)
def test_an_event_that_is_malformed_or_out_of_order(event: dict[str, Any], said: str) -> None:
    builder, _ = build(message_start(), block_start(), text_delta("Before"))
    with pytest.raises(ProtocolViolation) as caught:
        builder.apply(event)
    assert said in str(caught.value)
    assert str(builder.text) == "Before"
    assert content(builder)[0] == {"type": "text", "text": "Before"}
    assert builder.stop_reason is None


@pytest.mark.parametrize(
    "message",
    [
        *(None, "x", 5, {"content": 5}, {"content": ["x"]}, {"content": [5]}, {"usage": 5}),
        {"content": [{"type": "text", "text": 5}]},
        {"content": [{"type": "thinking", "thinking": ["x"]}]},
    ],
    ids=repr,
)
def test_a_malformed_start(message: Any) -> None:
    builder = MessageBuilder()
    with pytest.raises(ProtocolViolation, match="malformed 'message_start'"):
        builder.apply({"type": "message_start", "message": message})
    assert str(builder.text) == ""
    assert str(builder.thinking) == ""


@pytest.mark.parametrize("partial_json", [None, 5, ["x"]])
def test_a_piece_of_tool_input_that_is_no_text(partial_json: Any) -> None:
    builder, _ = build(message_start(), tool_use_start(), input_delta('{"a": 1'))
    with pytest.raises(ProtocolViolation, match="malformed"):
        builder.apply(block_delta(0, "input_json_delta", partial_json=partial_json))
    assert content(builder)[0]["input"] == {"a": 1}


# The recorded bodies.


def recorded_events(path: Path) -> list[dict[str, Any]]:
    decoder = SSEDecoder()
    decoder.feed(path.read_bytes())
    decoder.end()
    return [event for frame in decoder.frames if (event := decoder.parse(frame)) is not None]


def test_each_cut_of_a_recorded_body_is_a_prefix_of_the_next(recorded: Path) -> None:
    events, beta = recorded_events(recorded), recorded.stem in BETA
    last_text, last_thinking, last_blocks, handed_out = "", "", 0, ""
    live = MessageBuilder(beta=beta)
    for upto in range(1, len(events) + 1):
        builder, said = build(*events[:upto], beta=beta)
        handed_out += live.apply(events[upto - 1])[0]
        assert str(builder.text) == "".join(one for one, _ in said) == str(live.text) == handed_out
        assert str(builder.thinking) == "".join(one for _, one in said) == str(live.thinking)
        assert builder.message() == live.message(), "being read in between changes nothing"
        assert str(builder.text).startswith(last_text)
        assert str(builder.thinking).startswith(last_thinking)
        assert len(content(builder)) >= last_blocks
        assert builder.saw_message_stop == (upto == len(events))
        last_text, last_thinking, last_blocks = str(builder.text), str(builder.thinking), len(content(builder))
    assert last_blocks > 0
    assert live.usage_final


def test_a_recorded_body_is_left_as_it_is(recorded: Path) -> None:
    """Events are handed on to the consumer: none may change when the message grows."""
    events, again = recorded_events(recorded), recorded_events(recorded)
    build(*events, beta=recorded.stem in BETA)
    assert events == again
