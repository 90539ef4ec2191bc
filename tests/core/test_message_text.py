"""The text of a message: appended, read meanwhile from other threads, and separated between blocks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit._core.message import MessageBuilder, TextBuffer
from tests.support.events import (
    MESSAGE_STOP,
    PING,
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


def talking(*before: str) -> MessageBuilder:
    """A builder within a text block that has said this much."""
    return build(message_start(), block_start(), *(text_delta(piece) for piece in before))[0]


@given(st.lists(st.one_of(st.text(max_size=3), st.none(), st.integers(1, 600)), max_size=30), st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True)
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
                builder.apply(text_delta(piece))
                plain += piece
    assert content(builder) == [{"type": "text", "text": plain}]
    assert all(read == expected for read, expected in kept), "what was read before has changed"


@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_reading_after_each_piece(kind: str) -> None:
    builder, plain = build(message_start(), block_start(0, kind))[0], ""
    for number in range(1100):
        builder.apply(block_delta(0, f"{kind}_delta", **{kind: f"{number},"}))
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
            builder.apply(text_delta(piece))
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
                builder.apply(text_delta(pieces[-1]))
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

        _, reached = at_each_step(lambda builder=builder: builder.apply(text_delta("new")), function, inside, step)
        assert set(seen) <= {plain, plain + "new"}, step
        assert str(builder.text) == content(builder)[0]["text"] == plain + "new", step


@pytest.mark.parametrize("raw", ['{"a": 1}', '{"path": "/tmp", "force": fal'])
def test_a_tool_use_is_never_complete_by_halves(raw: str) -> None:
    """A reader in another thread, or an interrupt, at any bytecode of closing a block."""
    expected = build(message_start(), tool_use_start(), input_delta(raw), block_stop())[0].blocks[0]
    step, reached = 0, True
    while reached:
        step += 1
        builder, states = build(message_start(), tool_use_start(), input_delta(raw))[0], list[Any]()

        def inside(builder: MessageBuilder = builder, states: list[Any] = states) -> None:
            (block,) = builder.blocks
            states.append((block.closed, block.invalid_input, content(builder)[0]["input"]))

        _, reached = at_each_step(lambda builder=builder: builder.apply(block_stop()), "close", inside, step)
        for is_closed, kept, value in states:
            assert value == expected.data["input"], f"at bytecode {step}"
            assert kept == expected.invalid_input or not is_closed, (
                f"at bytecode {step} malformed input passes for whole"
            )


def test_each_delta_is_handed_out_and_kept() -> None:
    builder, said = build(
        message_start(),
        block_start(),
        PING,
        text_delta("One"),
        text_delta(""),
        text_delta(" two"),
        block_stop(),
        message_delta(),
        MESSAGE_STOP,
    )
    assert said == [("One", ""), (" two", "")]
    assert str(builder.text) == "One two"
    assert content(builder) == [{"type": "text", "text": "One two"}]
    assert builder.saw_message_stop
    assert builder.stop_reason == "end_turn"


def test_text_that_comes_with_the_start_of_its_block() -> None:
    builder, said = build(
        message_start(),
        block_start(text="Come "),
        text_delta("whole"),
        block_stop(),
        block_start(1, text="!"),
        block_stop(1),
    )
    assert said == [("Come ", ""), ("whole", ""), ("!", "")]
    assert content(builder) == [{"type": "text", "text": "Come whole"}, {"type": "text", "text": "!"}]


def test_text_and_thinking_that_come_with_the_message() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "A"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
        {"type": "text", "text": "B"},
    ]
    builder, said = build(message_start(*blocks), text_delta("C", 3), block_start(4), text_delta("D", 4))
    assert said == [("A\n\nB", "Hm"), ("C", ""), ("D", "")]
    assert str(builder.text) == "A\n\nBCD"
    assert str(builder.thinking) == "Hm"
    assert content(builder) == [*blocks[:3], {"type": "text", "text": "BC"}, {"type": "text", "text": "D"}]
    assert [block.closed for block in builder.blocks] == [True] * 4 + [False]


@pytest.mark.parametrize("separator", ["\n\n", "", " | "])
def test_separator_between_texts_that_another_block_stood_between(separator: str) -> None:
    search = block_start(1, "server_tool_use", id="s", name="web_search", input={})
    builder, said = build(
        message_start(),
        block_start(),
        text_delta("A"),
        search,
        block_stop(1),
        block_start(2),
        text_delta("B", 2),
        text_delta("C", 2),
        separator=separator,
    )
    assert [one for one, _ in said] == ["A", separator + "B", "C"]
    assert str(builder.text) == f"A{separator}BC"
    assert [block["text"] for block in content(builder) if block["type"] == "text"] == ["A", "BC"], "not in the message"


def test_no_separator_between_adjacent_texts_or_before_the_first_or_after_the_last() -> None:
    thinking = block_start(0, "thinking", thinking="", signature="")
    builder, _ = build(
        message_start(),
        thinking,
        block_start(1),
        text_delta("A", 1),
        block_start(2),
        block_start(3),
        text_delta("B", 3),
        tool_use_start(4),
        block_start(5),
        tool_use_start(6),
    )
    assert str(builder.text) == "AB"


def test_separator_comes_before_text_in_a_start_and_only_once() -> None:
    builder, said = build(
        message_start(),
        block_start(text="A"),
        tool_use_start(1),
        tool_use_start(2),
        block_start(3),
        block_start(4, text="B"),
        text_delta("C", 3),
    )
    assert [one for one, _ in said] == ["A", "\n\nB", "C"]
    assert str(builder.text) == "A\n\nBC"
