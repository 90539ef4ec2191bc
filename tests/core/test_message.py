"""`streamkit._core.message`: event dicts to text, blocks and usage."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit._core.message import MessageBuilder, TextBuffer, _stopped_at
from streamkit._core.sse import EventDecoder, WireError
from tests.conftest import BETA, PING, STOP, closed, delta, ending, opened, start, text, tool, tool_input


def build(*events: dict[str, Any], **options: Any) -> tuple[MessageBuilder, list[tuple[str, str]]]:
    """A builder that took these events, and what came out: (text, thinking) where there was any."""
    builder = MessageBuilder(**options)
    said = [builder.apply(event) for event in events]
    return builder, [pair for pair in said if any(pair)]


def content(builder: MessageBuilder) -> list[dict[str, Any]]:
    message = builder.message()
    assert message is not None
    return message["content"]


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
    assert _stopped_at(b'{"a\n"', message) == at


# Text.


def talking(*before: str) -> MessageBuilder:
    """A builder within a text block that has said this much."""
    return build(start(), opened(), *(text(piece) for piece in before))[0]


@given(st.lists(st.one_of(st.text(max_size=3), st.none(), st.integers(1, 600)), max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_adding_and_reading_in_any_order_is_plain_concatenation(steps: list[Any], keep: bool) -> None:
    """A text is added, None is a reading, a number is so many pieces at once."""
    builder, plain, kept = talking(), "", []
    for step in [*steps, None]:
        if step is None:
            assert str(builder.text) == plain
            if plain:
                assert builder.text
            if keep:  # a string that somebody else refers to cannot be extended in place
                kept.append((str(builder.text), plain))
        else:
            for piece in [step] if isinstance(step, str) else map(str, range(step)):
                builder.apply(text(piece))
                plain += piece
    assert content(builder) == [{"type": "text", "text": plain}]
    assert all(read == expected for read, expected in kept), "what was read before has changed"


@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_reading_after_each_piece(kind: str) -> None:
    builder, plain = build(start(), opened(0, kind))[0], ""
    for number in range(1100):
        builder.apply(delta(0, f"{kind}_delta", **{kind: f"{number},"}))
        plain += f"{number},"
        assert str(getattr(builder, kind)) == plain
        assert content(builder)[0][kind] == plain
    assert not TextBuffer()


def test_readers_in_other_threads_see_only_prefixes() -> None:
    builder, wrong = talking(), list[str]()
    pieces = [f"{number:x}." for number in range(10_000)]
    whole = "".join(pieces)
    begun, done = threading.Barrier(3), threading.Event()

    def read() -> None:
        begun.wait()
        last = 0
        final = False
        while not final:
            final = done.is_set()
            seen = str(builder.text)
            if not whole.startswith(seen) or len(seen) < last:
                wrong.append(seen[-50:])
            last = len(seen)

    threads = [threading.Thread(target=read) for _ in range(2)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        begun.wait()
        for piece in pieces:
            builder.apply(text(piece))
    finally:
        sys.setswitchinterval(before)
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert str(builder.text) == whole


def at_each_step(run: Callable[[], Any], name: str, inside: Callable[[], None], step: int) -> tuple[Any, bool]:
    """Run, and call `inside` at one bytecode of `_message`'s functions of this name, as another thread may.

    Returns what `run` gave, and whether the step was reached.
    """
    count = 0

    def trace(frame: Any, what: str, argument: object) -> Any:
        nonlocal count
        if frame.f_code.co_name != name or frame.f_globals["__name__"] != "streamkit._core.message":
            return None
        frame.f_trace_opcodes = True
        if what == "opcode":
            count += 1
            if count == step:
                inside()  # tracing is off while a trace function runs
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        given = run()
    finally:
        sys.settrace(before)
    return given, count >= step


@pytest.mark.parametrize("before", [0, 3, 255, 256, 300, 600])
@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("meanwhile", [1, 255, 600])
def test_two_readers_and_a_writer_that_meet_at_any_bytecode(before: int, read_before: bool, meanwhile: int) -> None:
    """One reader is overtaken by the writer and another reader, wherever it stands."""
    step, reached = 0, True
    while reached:
        step += 1
        pieces = [f"{n}," for n in range(before)]
        builder, plain = talking(*pieces), "".join(pieces)
        if read_before:
            str(builder.text)

        def inside(builder: MessageBuilder = builder, pieces: list[str] = pieces) -> None:
            for number in range(meanwhile):
                pieces.append(f"{number};")
                builder.apply(text(pieces[-1]))
            assert str(builder.text) == "".join(pieces)

        seen, reached = at_each_step(lambda builder=builder: str(builder.text), "__str__", inside, step)
        assert seen.startswith(plain), f"lost at bytecode {step}"
        assert "".join(pieces).startswith(seen), f"wrong at bytecode {step}"
        assert str(builder.text) == "".join(pieces), f"wrong for ever after bytecode {step}"


@pytest.mark.parametrize("function", ["apply", "fold", "_fold", "_delta", "_first_text"])
@pytest.mark.parametrize("before", [0, 254, 255, 256, 511])
def test_a_reader_that_meets_the_writer_at_any_bytecode(before: int, function: str) -> None:
    step, reached = 0, True
    while reached:
        step += 1
        builder, seen = talking(*(f"{number}," for number in range(before))), list[str]()
        plain = str(builder.text)

        def inside(builder: MessageBuilder = builder, seen: list[str] = seen) -> None:
            seen.extend([str(builder.text), content(builder)[0]["text"]])

        _, reached = at_each_step(lambda builder=builder: builder.apply(text("new")), function, inside, step)
        assert set(seen) <= {plain, plain + "new"}, step
        assert str(builder.text) == content(builder)[0]["text"] == plain + "new", step


@pytest.mark.parametrize("raw", ['{"a": 1}', '{"path": "/tmp", "force": fal'])
def test_a_tool_use_is_never_complete_by_halves(raw: str) -> None:
    """A reader in another thread, or an interrupt, at any bytecode of closing a block."""
    expected = build(start(), tool(), tool_input(raw), closed())[0].blocks[0]
    step, reached = 0, True
    while reached:
        step += 1
        builder, states = build(start(), tool(), tool_input(raw))[0], list[Any]()

        def inside(builder: MessageBuilder = builder, states: list[Any] = states) -> None:
            (block,) = builder.blocks
            states.append((block.closed, block.raw, content(builder)[0]["input"]))

        _, reached = at_each_step(lambda builder=builder: builder.apply(closed()), "close", inside, step)
        for is_closed, kept, value in states:
            assert value == expected.data["input"], f"at bytecode {step}"
            assert kept == expected.raw or not is_closed, f"at bytecode {step} malformed input passes for whole"


def test_each_delta_is_handed_out_and_kept() -> None:
    builder, said = build(start(), opened(), PING, text("One"), text(""), text(" two"), closed(), ending(), STOP)
    assert said == [("One", ""), (" two", "")]
    assert str(builder.text) == "One two"
    assert content(builder) == [{"type": "text", "text": "One two"}]
    assert builder.stopped
    assert builder.stop_reason == "end_turn"


def test_text_that_comes_with_the_start_of_its_block() -> None:
    builder, said = build(start(), opened(text="Come "), text("whole"), closed(), opened(1, text="!"), closed(1))
    assert said == [("Come ", ""), ("whole", ""), ("!", "")]
    assert content(builder) == [{"type": "text", "text": "Come whole"}, {"type": "text", "text": "!"}]


def test_text_and_thinking_that_come_with_the_message() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "A"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
        {"type": "text", "text": "B"},
    ]
    builder, said = build(start(*blocks), text("C", 3), opened(4), text("D", 4))
    assert said == [("A\n\nB", "Hm"), ("C", ""), ("D", "")]
    assert str(builder.text) == "A\n\nBCD"
    assert str(builder.thinking) == "Hm"
    assert content(builder) == [*blocks[:3], {"type": "text", "text": "BC"}, {"type": "text", "text": "D"}]
    assert [block.closed for block in builder.blocks] == [True] * 4 + [False]


@pytest.mark.parametrize("separator", ["\n\n", "", " | "])
def test_separator_between_texts_that_another_block_stood_between(separator: str) -> None:
    search = opened(1, "server_tool_use", id="s", name="web_search", input={})
    builder, said = build(
        start(), opened(), text("A"), search, closed(1), opened(2), text("B", 2), text("C", 2), separator=separator
    )
    assert [one for one, _ in said] == ["A", separator + "B", "C"]
    assert str(builder.text) == f"A{separator}BC"
    assert [block["text"] for block in content(builder) if block["type"] == "text"] == ["A", "BC"], "not in the message"


def test_no_separator_between_adjacent_texts_or_before_the_first_or_after_the_last() -> None:
    thinking = opened(0, "thinking", thinking="", signature="")
    builder, _ = build(
        start(), thinking, opened(1), text("A", 1), opened(2), opened(3), text("B", 3), tool(4), opened(5), tool(6)
    )
    assert str(builder.text) == "AB"


def test_separator_comes_before_text_in_a_start_and_only_once() -> None:
    builder, said = build(start(), opened(text="A"), tool(1), tool(2), opened(3), opened(4, text="B"), text("C", 3))
    assert [one for one, _ in said] == ["A", "\n\nB", "C"]
    assert str(builder.text) == "A\n\nBC"


# Blocks.


def test_indexes_may_interleave_and_leave_gaps() -> None:
    builder, _ = build(start(), opened(7), opened(2), text("b", 2), text("a", 7), text("B", 2), closed(2), text("A", 7))
    assert [block["text"] for block in content(builder)] == ["aA", "bB"], "in the order in which they were opened"
    assert str(builder.text) == "baBA"


def test_an_index_that_is_opened_again_is_a_new_block() -> None:
    builder, _ = build(start(), opened(), text("a"), closed(), opened(), text("b"))
    assert [block["text"] for block in content(builder)] == ["a", "b"]


def test_unknown_events_deltas_and_blocks_pass() -> None:
    hologram = opened(0, "hologram", layers=[1])
    builder, said = build(
        {"type": "weather"},
        start(),
        {"type": "weather", "index": 99, "delta": None},
        hologram,
        delta(0, "voxel_delta", voxels="AA"),
        delta(0, "input_json_delta", partial_json="{"),
        delta(0, "thinking_delta", thinking="no"),
        delta(0, "signature_delta", signature="no"),
        delta(0, "citations_delta", citation={}),
        delta(0, "compaction_delta", content="no"),
        delta(0, ["odd"]),  # type: ignore[arg-type]
        closed(),
        {"type": None},
    )
    assert said == []
    assert content(builder) == [hologram["content_block"]]


def test_text_for_a_block_of_an_unknown_type_is_text_that_arrived() -> None:
    builder, said = build(start(), opened(0, "hologram"), text("seen"), closed())
    assert said == [("seen", "")]
    assert str(builder.text) == "seen"
    assert content(builder) == [{"type": "hologram", "text": "seen"}]


def test_text_for_a_tool_use_does_not_spoil_its_input() -> None:
    builder, said = build(start(), tool(), tool_input('{"a":'), text("stray"), tool_input("1}"), closed())
    assert said == [("stray", "")]
    assert content(builder)[0]["input"] == {"a": 1}


def test_thinking_and_its_signature() -> None:
    block = opened(0, "thinking", thinking="Hm", signature="")
    builder, said = build(
        start(), block, delta(0, "thinking_delta", thinking=", so"), delta(0, "thinking_delta", thinking="")
    )
    assert content(builder) == [{"type": "thinking", "thinking": "Hm, so", "signature": ""}]
    builder.apply(delta(0, "signature_delta", signature="sig"))
    assert said == [("", "Hm"), ("", ", so")]
    assert content(builder)[0]["signature"] == "sig"
    assert str(builder.thinking) == "Hm, so"
    assert not builder.text


def test_citations_are_collected_and_the_events_stay_as_they_are() -> None:
    first = opened(citations=[{"n": 0}])
    builder, _ = build(start(), first, delta(0, "citations_delta", citation={"n": 1}), text("x"))
    assert content(builder) == [{"type": "text", "text": "x", "citations": [{"n": 0}, {"n": 1}]}]
    assert first["content_block"]["citations"] == [{"n": 0}]
    for empty in ({"citations": None}, {"citations": []}, {}):
        builder, _ = build(start(), opened(**empty), delta(0, "citations_delta", citation={"n": 1}))
        assert content(builder)[0]["citations"] == [{"n": 1}]


def test_compaction() -> None:
    block = opened(0, "compaction", content=None)
    builder, said = build(start(), block, delta(0, "compaction_delta", content="All so far.", encrypted_content="e"))
    assert content(builder) == [{"type": "compaction", "content": "All so far.", "encrypted_content": "e"}]
    assert said == []


@pytest.mark.parametrize("beta", [True, False])
def test_fallback_to_another_model(beta: bool) -> None:
    block = opened(0, "fallback", **{"from": {"model": "a"}, "to": {"model": "b"}})
    message = build(start(), block, beta=beta)[0].message()
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
    builder, said = build(start(), tool(kind=kind), *(tool_input(piece) for piece in pieces), closed())
    (block,) = builder.blocks
    assert said == []
    assert block.raw == (raw and "".join(pieces))
    if parsed is not None:
        assert content(builder) == [{"type": kind, "id": "toolu_0", "name": "get_tide", "input": parsed}]


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
@pytest.mark.parametrize("pieces", [[], [""], ["", ""]], ids=len)
@pytest.mark.parametrize("tail", [(ending("max_tokens"), STOP), (ending("model_context_window_exceeded"),)], ids=len)
@pytest.mark.parametrize("ends", [True, False])
def test_a_tool_use_that_a_limit_cut_before_its_input(
    kind: str, pieces: list[str], tail: tuple[dict[str, Any], ...], ends: bool
) -> None:
    block = (tool(1, kind=kind), *(tool_input(piece, 1) for piece in pieces), *([closed(1)] if ends else []))
    builder, _ = build(start(), *(tool(0), closed(0)), *block, *tail)
    assert [block.raw for block in builder.blocks] == [None, ""], "one before the last had ended: it takes no input"
    assert [block["input"] for block in content(builder)] == [{}, {}]


@pytest.mark.parametrize("reason", ["tool_use", "end_turn", "stop_sequence", None])
def test_a_tool_use_without_input_that_no_limit_cut(reason: str | None) -> None:
    builder, _ = build(start(), tool(), tool_input(""), closed(), ending(reason), STOP)
    assert builder.blocks[0].raw is None


def test_a_limit_cuts_nothing_that_has_its_input() -> None:
    with_input = opened(0, "tool_use", id="toolu_0", name="x", input={"a": 1})
    assert build(start(), with_input, closed(), ending("max_tokens"), STOP)[0].blocks[0].raw is None
    assert build(start(), tool(), tool_input("{}"), closed(), ending("max_tokens"), STOP)[0].blocks[0].raw is None
    whole = start({"type": "tool_use", "id": "t", "name": "x", "input": {}}, stop_reason="max_tokens")
    assert build(whole, STOP)[0].blocks[0].raw == ""
    assert build(start(), ending("max_tokens"), STOP)[0].blocks == []


def test_deltas_that_were_not_empty_are_counted() -> None:
    """Of text, thinking and tool input; also where pieces were joined in between."""
    assert MessageBuilder().delta_count() == 0
    thinking = (opened(0, "thinking", thinking="Hm", signature=""), delta(0, "thinking_delta", thinking="so"))
    signed = (delta(0, "signature_delta", signature="x"), delta(0, "thinking_delta", thinking=""), closed())
    said = (opened(1, text="A"), text("", 1), *(text("b", 1) for _ in range(1000)), closed(1))
    used = (tool(2), tool_input("", 2), tool_input("{", 2), tool_input("}", 2), closed(2))
    builder, _ = build(start(), *thinking, *signed, *said, *used)
    assert builder.delta_count() == 1 + 1000 + 2


def test_tool_input_while_it_arrives() -> None:
    builder, _ = build(start(), tool())
    seen = []
    for piece in ['{"a"', ": [1,", ' 2], "b": "x', 'y"', "}"]:
        builder.apply(tool_input(piece))
        seen.append(content(builder)[0]["input"])
    assert seen == [{}, {"a": [1]}, {"a": [1, 2]}, {"a": [1, 2], "b": "xy"}, {"a": [1, 2], "b": "xy"}]


def test_tool_input_as_fine_grained_streaming_reads_it() -> None:
    events = (start(), tool(), tool_input('{"a": "x'))
    builder, _ = build(*events, partial_mode="trailing-strings")
    assert content(builder)[0]["input"] == {"a": "x"}
    builder.apply(closed())
    assert content(builder)[0]["input"] == {"a": "x"}
    assert builder.blocks[0].raw == '{"a": "x'


def test_input_that_came_whole_with_the_start() -> None:
    builder, _ = build(start(), opened(0, "server_tool_use", id="s", name="n", input={"q": 1}), closed())
    assert content(builder)[0]["input"] == {"q": 1}


# Usage and the end.


def test_counts_overwrite_and_what_a_delta_leaves_out_stays() -> None:
    usage = {"input_tokens": 8, "output_tokens": 1, "cache_read_input_tokens": 5, "service_tier": "standard"}
    builder, _ = build(start(usage=usage))
    assert (builder.usage, builder.usage_final) == (usage, False)
    builder.apply(ending(None, 11, input_tokens=9, cache_read_input_tokens=None, unheard_of=3))
    assert (builder.usage, builder.usage_final) == (usage | {"output_tokens": 11, "input_tokens": 9}, False)
    builder.apply(ending("end_turn", 14, server_tool_use={"web_search_requests": 2}))
    assert builder.usage_final
    assert builder.usage["output_tokens"] == 14
    assert builder.usage["server_tool_use"] == {"web_search_requests": 2}
    assert builder.usage["cache_read_input_tokens"] == 5


def test_usage_is_not_final_when_the_last_delta_has_none() -> None:
    event = ending()
    del event["usage"]
    builder, _ = build(start(), event)
    assert not builder.usage_final
    assert builder.usage["output_tokens"] == 1


def test_a_message_delta_sets_what_it_names() -> None:
    event = ending("stop_sequence")
    event["delta"] |= {"stop_sequence": "END", "stop_details": {"type": "x"}, "container": {"id": "c"}}
    event["context_management"] = {"applied_edits": []}
    message = build(start(), event)[0].message()
    assert message is not None
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    assert (message["stop_details"], message["container"]) == ({"type": "x"}, {"id": "c"})
    assert "context_management" not in message
    message = build(start(), event, beta=True)[0].message()
    assert message is not None
    assert message["context_management"] == {"applied_edits": []}


def test_beta_counts() -> None:
    event = ending(iterations=[{"type": "message"}], fallback_credit=3)
    assert build(start(), event, beta=True)[0].usage["iterations"] == [{"type": "message"}]
    assert "iterations" not in build(start(), event)[0].usage


def test_the_end_needs_no_message_delta() -> None:
    builder, _ = build(start(), STOP)
    assert builder.stopped
    assert builder.stop_reason is None


def test_before_the_start_there_is_nothing() -> None:
    builder = MessageBuilder()
    assert builder.message() is None
    assert not builder.text
    assert builder.usage == {}


def test_the_end_of_a_block_that_was_never_opened_does_no_harm() -> None:
    builder, said = build(
        closed(), start(), closed(), opened(), text("A"), closed(7), text("B"), closed(), STOP, closed()
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
        *(opened(index, "tool_use", input={}) for index in range(count)),
        *(closed(index) for index in range(count)),
        *(ending("max_tokens") for _ in range(count)),
    ],
    "message deltas, and blocks that are never closed": lambda count: [
        *(opened(index) for index in range(count)),
        *(ending() for _ in range(count)),
    ],
    "texts": lambda count: [
        *(opened(index) for index in range(count)),
        *(text("x", index) for index in range(count)),
        *(text("x", count - 1) for _ in range(2 * count)),
    ],
}


@pytest.mark.parametrize("name", MANY)
def test_the_cost_of_many_blocks_is_linear(name: str) -> None:
    few, many = (lines(start(), *MANY[name](count), STOP) for count in (1500, 6000))
    print(f"{name}: {few} and {many} lines")
    assert many < 4.4 * few, "four times the blocks and the deltas take far more than four times the steps"


# Errors.


@pytest.mark.parametrize("event", [opened(), text("x"), ending(), STOP], ids=lambda event: event["type"])
def test_an_event_before_the_start(event: dict[str, Any]) -> None:
    builder = MessageBuilder()
    with pytest.raises(WireError, match="before 'message_start'"):
        builder.apply(event)
    assert not builder.stopped


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (start(), "a second 'message_start'"),
        (text("x", 5), "'content_block_delta' for a block that was never opened (index 5)"),
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
        (opened(1, text=5), "malformed"),
        (opened(1, text=["x"]), "malformed"),
        (opened(1, "thinking", thinking=5), "malformed"),
        (opened(1, "thinking", thinking={"a": 1}), "malformed"),
        (delta(0, "text_delta"), "malformed"),
        (delta(0, "text_delta", text=None), "malformed"),
        (delta(0, "text_delta", text=5), "malformed"),
        (delta(0, "text_delta", text=["x"]), "malformed"),
        ({"type": "message_delta"}, "malformed"),
        ({"type": "message_delta", "delta": None}, "malformed"),
        ({"type": "message_delta", "delta": {}, "usage": 5}, "malformed"),
    ],
    ids=lambda value: repr(value)[:70] if isinstance(value, dict) else None,
)
def test_an_event_that_is_malformed_or_out_of_order(event: dict[str, Any], said: str) -> None:
    builder, _ = build(start(), opened(), text("Before"))
    with pytest.raises(WireError) as caught:
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
    with pytest.raises(WireError, match="malformed 'message_start'"):
        builder.apply({"type": "message_start", "message": message})
    assert str(builder.text) == ""
    assert str(builder.thinking) == ""


@pytest.mark.parametrize("partial_json", [None, 5, ["x"]])
def test_a_piece_of_tool_input_that_is_no_text(partial_json: Any) -> None:
    builder, _ = build(start(), tool(), tool_input('{"a": 1'))
    with pytest.raises(WireError, match="malformed"):
        builder.apply(delta(0, "input_json_delta", partial_json=partial_json))
    assert content(builder)[0]["input"] == {"a": 1}


# The recorded bodies.


def recorded_events(path: Path) -> list[dict[str, Any]]:
    decoder = EventDecoder()
    decoder.feed(path.read_bytes())
    decoder.end()
    return [event for frame in decoder.waiting if (event := decoder.parse(frame)) is not None]


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
        assert builder.stopped == (upto == len(events))
        last_text, last_thinking, last_blocks = str(builder.text), str(builder.thinking), len(content(builder))
    assert last_blocks > 0
    assert live.usage_final


def test_a_recorded_body_is_left_as_it_is(recorded: Path) -> None:
    """Events are handed on to the consumer: none may change when the message grows."""
    events, again = recorded_events(recorded), recorded_events(recorded)
    build(*events, beta=recorded.stem in BETA)
    assert events == again
