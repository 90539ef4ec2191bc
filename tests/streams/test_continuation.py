"""`continuation()`, case by case; for every cut of a reply: test_continuation_cuts.py."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from streamkit import StreamResult, collect, stream_text
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client
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
from tests.support.results import BUSY, HELLO, WHOLE, Place, again, ended_by, read, timed_out

THOUGHT = (
    *(block_start(0, "thinking", thinking="", signature=""), block_delta(0, "thinking_delta", thinking="Hm")),
    *(block_delta(0, "signature_delta", signature="sig"), block_stop(0)),
)
HM = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
SAID = (block_start(1), text_delta("A tide ", 1), block_stop(1))
TIDE = {"type": "text", "text": "A tide"}
USE = (tool_use_start(2), input_delta('{"a": 1}', 2), block_stop(2))
SEARCH = (tool_use_start(3, "web_search", "server_tool_use"), input_delta('{"q": "x"}', 3), block_stop(3))
SEARCHED = {"type": "server_tool_use", "id": "toolu_3", "name": "web_search", "input": {"q": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "toolu_3", "content": []}
RESULT = ({"type": "content_block_start", "index": 4, "content_block": FOUND}, block_stop(4))
AFTER_TEXT = """\
Your reply was cut off. It ends with:

<end>
{end}
</end>

Write the rest of it, and do not mention the break. Begin by writing the last word again, in full, because it may be \
incomplete: {word}"""
AFTER_TOOL = "Your reply was cut off. Write the rest of it. Do not repeat any of it, and do not mention the break."


def assistant(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def user(end: str, word: str) -> dict[str, Any]:
    return {"role": "user", "content": AFTER_TEXT.format(end=end, word=word)}


def stopped_by(reason: str | None, *events: dict[str, Any]) -> StreamResult:
    return read(message_start(), *events, message_delta(reason), MESSAGE_STOP)


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
def test_a_reply_that_a_limit_cut_is_continued(reason: str) -> None:
    result = stopped_by(reason, *SAID)
    assert (result.status, result.ok) == ("complete", False)
    assert result.continuation() == [assistant(TIDE), user("A tide", "tide")]


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "tool_use", "refusal", "a new reason", None])
def test_a_complete_reply_has_no_continuation(reason: str | None) -> None:
    for prefill in (False, True):
        assert stopped_by(reason, *SAID).continuation(prefill=prefill) == []


HELLO_THERE = [assistant({"type": "text", "text": "Hello there"}), user("Hello there", "there")]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply.events(*HELLO), "disconnected"),
        (Reply.events(*HELLO).reset(after_events=4), "disconnected"),
        (Reply.events(*HELLO, BUSY), "failed"),
        (Reply.events(*HELLO).garbage(b"data: {\n\n", after_events=4), "failed"),
        (Reply.events(*HELLO).stall(after_events=4), "timed_out"),
    ],
    ids=["truncated", "reset", "API error", "garbage", "stall"],
)
def test_a_reply_that_a_failure_cut_is_continued(reply: Reply, status: str) -> None:
    result = timed_out(reply, "Hello there") if status == "timed_out" else read(reply=reply)
    assert result.status == status
    assert result.continuation() == HELLO_THERE
    assert again(result).continuation() == HELLO_THERE


def test_a_reply_that_the_consumer_left_is_continued() -> None:
    result = ended_by(KeyboardInterrupt())
    assert result.status == "interrupted"
    assert result.continuation() == [assistant({"type": "text", "text": "Hello"}), user("Hello", "Hello")]


def test_a_stream_that_is_not_over_or_never_began() -> None:
    with serve(Reply.events(*WHOLE)) as server:
        stream = stream_text(sdk_client(server), **PARAMS)
        assert stream.result.continuation() == []
        with stream:
            next(stream)
            assert stream.result.continuation() == [
                assistant({"type": "text", "text": "Hello"}),
                user("Hello", "Hello"),
            ]
            stream.until_done()
        assert stream.result.continuation() == []
    with serve(Reply.http_error(400)) as server:
        assert collect(sdk_client(server), on_error="return", **PARAMS).continuation() == []


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "refusal"])
def test_a_reply_that_broke_after_the_model_had_finished_has_no_continuation(reason: str) -> None:
    reply = Reply.events(message_start(), *SAID, message_delta(reason), MESSAGE_STOP).reset(after_events=5)
    result = read(reply=reply)
    assert (result.status, result.stop_reason) == ("disconnected", reason)
    assert result.continuation() == []


@pytest.mark.parametrize("reason", ["max_tokens", "tool_use", "pause_turn"])
def test_a_reply_that_broke_after_it_was_cut_is_continued(reason: str) -> None:
    """The tool use does not go into the history, so that it cannot be answered, and the pause has no server tool."""
    events = (message_start(), *SAID, *USE, *SEARCH, message_delta(reason), MESSAGE_STOP)
    result = read(reply=Reply.events(*events).reset(after_events=len(events) - 1))
    assert (result.status, result.stop_reason) == ("disconnected", reason)
    assert result.continuation() == [assistant(TIDE), user("A tide", "tide")]


@pytest.mark.parametrize("reason", ["pause_turn", "compaction"])
@pytest.mark.parametrize("arguments", [{}, {"prefill": True}, {"instruction": "Go on."}], ids=repr)
def test_a_pause_is_sent_back_as_it_is(reason: str, arguments: dict[str, Any]) -> None:
    assert stopped_by(reason, *THOUGHT, *SAID, *SEARCH).continuation(**arguments) == [
        assistant(HM, {"type": "text", "text": "A tide "}, SEARCHED)
    ]
    assert stopped_by(reason, *SAID).continuation(**arguments) == [assistant(TIDE)], "the API refuses white space there"


@pytest.mark.parametrize("reason", ["tool_use", "max_tokens", "pause_turn"])
@pytest.mark.parametrize("prefill", [False, True])
def test_a_tool_use_is_answered_and_not_continued(reason: str, prefill: bool) -> None:
    cut = (tool_use_start(5), input_delta('{"a', 5), block_stop(5))
    result = stopped_by(reason, *SAID, *USE, *cut)
    assert [use.id for use in result.tool_uses] == ["toolu_2"]
    assert result.continuation(prefill=prefill) == []


def test_a_tool_use_that_was_cut_is_written_again() -> None:
    cut = (tool_use_start(2), input_delta('{"a', 2), block_stop(2))
    assert stopped_by("max_tokens", *SAID, *cut).continuation() == [assistant(TIDE), user("A tide", "tide")]
    assert stopped_by("max_tokens", *cut).continuation() == []


def test_thinking_stays_except_in_a_prefill() -> None:
    result = stopped_by("max_tokens", *THOUGHT, *SAID)
    assert result.continuation() == [assistant(HM, TIDE), user("A tide", "tide")]
    assert result.continuation(prefill=True) == [assistant(TIDE)]
    redacted = (block_start(0, "redacted_thinking", data="xx"), block_stop(0))
    assert stopped_by("max_tokens", *redacted, *SAID).continuation(prefill=True) == [assistant(TIDE)]
    for prefill in (False, True):
        assert stopped_by("max_tokens", *THOUGHT).continuation(prefill=prefill) == [], "cut while thinking"


def test_the_result_of_a_server_tool_is_kept() -> None:
    """Also where it is all that there is: the search is done and paid for."""
    result = read(message_start(), *SAID, *SEARCH, *RESULT)
    kept = assistant({"type": "text", "text": "A tide "}, SEARCHED, FOUND)
    assert result.continuation() == [kept, {"role": "user", "content": AFTER_TOOL}]
    assert result.continuation(prefill=True) == [kept]
    only = read(message_start(), *SEARCH, *RESULT).continuation()
    assert only == [assistant(SEARCHED, FOUND), {"role": "user", "content": AFTER_TOOL}]


def test_an_instruction_of_the_callers_is_sent_as_it_is() -> None:
    result = stopped_by("max_tokens", *SAID)
    for instruction in ("  Go on. ", ""):
        assert result.continuation(instruction) == result.continuation(instruction=instruction)
        assert result.continuation(instruction) == [assistant(TIDE), {"role": "user", "content": instruction}]
    assert result.continuation("Go on.", prefill=True) == [assistant(TIDE)]


@pytest.mark.parametrize("space", ["", " ", "\n\n", " \t\u3000\u00a0"], ids=repr)
def test_white_space_at_the_cut_stays_in_the_text_alone(space: str) -> None:
    result = read(message_start(), block_start(), text_delta("  A\n\n  tide" + space))
    assert result.text == "  A\n\n  tide" + space
    kept = assistant({"type": "text", "text": "  A\n\n  tide"})
    assert result.continuation() == [kept, user("  A\n\n  tide", "tide")]
    assert result.continuation(prefill=True) == [kept]


@pytest.mark.parametrize(
    ("text", "end", "word"),
    [
        ("word " * 40, ("word " * 40).strip(), "word"),
        ("word " * 41, ("word " * 39).strip(), "word"),
        ("x" * 41, "x" * 41, "x" * 40),
        ("A " + "x" * 201, "x" * 200, "x" * 40),
        ("潮" * 300, "潮" * 200, "潮" * 40),
        ("one two", "one two", "two"),
    ],
    ids=["199 characters", "204 characters", "long word", "longer word", "no spaces", "short"],
)
def test_the_instruction_quotes_the_end_of_the_text(text: str, end: str, word: str) -> None:
    (_, asked) = read(message_start(), block_start(), text_delta(text)).continuation()
    assert asked == user(end, word)


def test_the_quotation_runs_over_adjacent_text_blocks() -> None:
    """A citation splits the text into blocks, which are one text to the reader."""
    result = stopped_by(
        "max_tokens", block_start(0), text_delta("The ti"), block_stop(0), block_start(1), text_delta("de", 1)
    )
    assert result.text == "The tide"
    assert result.continuation()[1] == user("The tide", "tide")


@pytest.mark.parametrize("beta", [False, True])
def test_surrogates_can_be_sent(beta: bool) -> None:
    result = read(message_start(), block_start(0), text_delta("Hi \ud83d"), text_delta("\ude00\ud83d"), beta=beta)
    messages: list[Any] = list(result.continuation())
    assert messages == [assistant({"type": "text", "text": "Hi 😀\ufffd"}), user("Hi 😀\ufffd", "😀\ufffd")]
    json.dumps(messages, ensure_ascii=False).encode()


def test_the_messages_are_copies() -> None:
    result = stopped_by("max_tokens", *SAID)
    result.continuation()[0]["content"][0]["text"] = "B"  # type: ignore[index, call-overload]
    assert result.continuation()[0] == assistant(TIDE)
    assert result.new_messages() == [assistant({"type": "text", "text": "A tide "})], "the history is unchanged"


def test_a_cut_value_of_an_output_format() -> None:
    begun = (message_start(), block_start(), text_delta('{"name": "Ur'), message_delta("max_tokens"), MESSAGE_STOP)
    result = read(*begun, output_format=Place)
    assert result.parse_error is not None
    assert result.continuation()[1] == user('{"name": "Ur', '"Ur')
    whole = (message_start(), block_start(), text_delta("no value"), message_delta(), MESSAGE_STOP)
    assert read(*whole, output_format=Place).continuation() == [], "not cut, only wrong"


@pytest.mark.parametrize("beta", [False, True])
def test_over_several_rounds(beta: bool) -> None:
    """Each reply that is cut extends the history, and goes out through the SDK as it is."""
    replies = [Reply.text("They pu", stop_reason="max_tokens"), Reply.text("push water a").cut(after_events=5)]
    with serve(*replies, Reply.text("aside.")) as server:
        client = sdk_client(server)
        source: Any = client.beta.messages if beta else client
        messages = list(PARAMS["messages"])
        texts = []
        for _ in range(3):
            result = collect(source, on_error="return", **{**PARAMS, "messages": messages})
            texts.append(result.text)
            messages += result.continuation()
        sent = server.requests[2].json["messages"]
    assert texts == ["They pu", "push water ", "aside."]
    assert sent == [
        *PARAMS["messages"],
        assistant({"type": "text", "text": "They pu"}),
        user("They pu", "pu"),
        assistant({"type": "text", "text": "push water"}),
        user("push water", "water"),
    ]


def test_after_a_tool_use_of_an_earlier_round() -> None:
    with serve(Reply.tool_use("get_tide", {"a": 1}), Reply.text("It is 6", stop_reason="max_tokens")) as server:
        client: anthropic.Anthropic = sdk_client(server)
        used = collect(client, **PARAMS)
        assert used.continuation() == []
        answer = {"type": "tool_result", "tool_use_id": used.tool_uses[0].id, "content": "6.5 m"}
        messages = [*PARAMS["messages"], *used.new_messages(), {"role": "user", "content": [answer]}]
        result = collect(client, **{**PARAMS, "messages": messages})
    assert result.continuation() == [assistant({"type": "text", "text": "It is 6"}), user("It is 6", "6")]
