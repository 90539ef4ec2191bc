"""`new_messages()`, case by case; for every cut of a reply: test_history.py."""

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
    sse,
    text_delta,
    tool_use_start,
)
from tests.support.results import Place, again, ended_by, read


def history(*events: dict[str, Any], **options: Any) -> list[Any]:
    """The blocks of the one message to append, or [] when there is none."""
    messages: list[Any] = read(*events, **options).new_messages()
    assert [message["role"] for message in messages] in ([], ["assistant"])
    return messages[0]["content"] if messages else []


THOUGHT = (
    *(block_start(0, "thinking", thinking="", signature=""), block_delta(0, "thinking_delta", thinking="Hm")),
    *(block_delta(0, "signature_delta", signature="sig"), block_stop(0)),
)

HM = {"type": "thinking", "thinking": "Hm", "signature": "sig"}

USE = (tool_use_start(2), input_delta('{"a": 1}', 2), block_stop(2))

USED = {"type": "tool_use", "id": "toolu_2", "name": "get_tide", "input": {"a": 1}}

SEARCH = (tool_use_start(3, "web_search", "server_tool_use"), input_delta('{"q": "x"}', 3), block_stop(3))

SEARCHED = {"type": "server_tool_use", "id": "toolu_3", "name": "web_search", "input": {"q": "x"}}

FOUND = {"type": "web_search_tool_result", "tool_use_id": "toolu_3", "content": []}

RESULT = ({"type": "content_block_start", "index": 4, "content_block": FOUND}, block_stop(4))

A = {"type": "text", "text": "A"}

SAID = (block_start(1), text_delta("A", 1))


def test_a_whole_reply_goes_into_the_history_as_it_is() -> None:
    events = (
        message_start(),
        *THOUGHT,
        *SAID,
        block_stop(1),
        *SEARCH,
        *RESULT,
        *USE,
        message_delta("tool_use"),
        MESSAGE_STOP,
    )
    assert history(*events) == [HM, A, SEARCHED, FOUND, USED]


def test_a_pause_waits_for_its_continuation() -> None:
    assert history(message_start(), *SAID, block_stop(1), *SEARCH, message_delta("pause_turn"), MESSAGE_STOP) == [
        A,
        SEARCHED,
    ]


def test_a_refusal_gives_nothing() -> None:
    assert history(message_start(), *SAID, block_stop(1), message_delta("refusal"), MESSAGE_STOP) == []


def test_the_unfinished_text_is_kept() -> None:
    assert history(message_start(), *THOUGHT, *SAID) == [HM, A]


def test_no_tool_use_of_an_unfinished_reply() -> None:
    assert history(message_start(), *SAID, block_stop(1), *USE) == [A]
    assert history(message_start(), *SAID, block_stop(1), tool_use_start(2), input_delta('{"a"', 2)) == [A]


def test_no_server_tool_use_without_its_result() -> None:
    assert history(message_start(), *SAID, block_stop(1), *SEARCH) == [A]
    assert history(message_start(), *SAID, block_stop(1), *SEARCH, *RESULT) == [A, SEARCHED, FOUND]
    assert history(message_start(), *SAID, block_stop(1), *SEARCH, message_delta("max_tokens"), MESSAGE_STOP) == [A]


def test_no_thinking_without_its_signature_or_at_the_end() -> None:
    assert history(message_start(), *THOUGHT) == []
    assert history(message_start(), THOUGHT[0], THOUGHT[1]) == []
    assert history(message_start(), THOUGHT[0], THOUGHT[1], block_stop(), *SAID) == [A]
    redacted = block_start(5, "redacted_thinking", data="xx")
    assert history(message_start(), *SAID, block_stop(1), redacted, block_stop(5)) == [A]
    assert history(message_start(), redacted, block_stop(5), *SAID) == [redacted["content_block"], A]
    assert history(message_start(), *THOUGHT, *USE) == [], "thinking whose tool use was dropped is at the end"


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t \u3000"])
def test_no_blank_text(blank: str) -> None:
    assert history(
        message_start(),
        block_start(0),
        text_delta(blank),
        block_stop(0),
        *SAID,
        block_stop(1),
        message_delta(),
        MESSAGE_STOP,
    ) == [A]
    assert history(message_start(), block_start(0), text_delta(blank)) == []


@pytest.mark.parametrize("stop_reason", ["tool_use", "max_tokens"])
def test_no_tool_use_whose_input_did_not_parse(stop_reason: str) -> None:
    bad = (tool_use_start(5), input_delta('{"path": "lo', 5), block_stop(5))
    assert history(message_start(), *SAID, block_stop(1), *USE, *bad, message_delta(stop_reason), MESSAGE_STOP) == [
        A,
        USED,
    ]
    assert history(message_start(), *THOUGHT, *bad, message_delta(stop_reason), MESSAGE_STOP) == []


@pytest.mark.parametrize("between", [(block_start(1), text_delta(" ", 1)), (tool_use_start(1), input_delta("{", 1))])
def test_no_thinking_beside_thinking_that_it_did_not_stand_beside(between: tuple[dict[str, Any], ...]) -> None:
    """Where what stood between is left out, so is the thinking before it, which led to it."""
    redacted = block_start(4, "redacted_thinking", data="xx")
    later = (block_start(5, "thinking", thinking="So", signature="s"), block_stop(5))
    said = (block_start(6), text_delta("A", 6), block_stop(6), message_delta(), MESSAGE_STOP)
    so = later[0]["content_block"]
    assert history(message_start(), *THOUGHT, *between, block_stop(1), *later, *said) == [so, A]
    assert history(message_start(), *THOUGHT, redacted, block_stop(4), *between, block_stop(1), *later, *said) == [
        so,
        A,
    ]
    assert history(message_start(), *THOUGHT, *between, block_stop(1), redacted, block_stop(4), *later, *said) == [
        *(redacted["content_block"], so, A)
    ]
    assert history(message_start(), *THOUGHT, *later, *said) == [HM, so, A], "they stood side by side"
    assert history(message_start(), *THOUGHT, *between, block_stop(1), *said) == [HM, A]


def test_a_tool_use_that_a_limit_cut_before_its_input_is_not_in_the_history() -> None:
    result = read(
        message_start(),
        *SAID,
        block_stop(1),
        tool_use_start(2),
        input_delta("", 2),
        block_stop(2),
        message_delta("max_tokens"),
        MESSAGE_STOP,
    )
    assert (result.tool_uses, [bad.raw for bad in result.invalid_tool_input]) == ((), [""])
    assert result.new_messages() == [{"role": "assistant", "content": [A]}]


@pytest.mark.parametrize("beta", [False, True])
def test_surrogates_can_be_sent(beta: bool) -> None:
    """A pair that two deltas split is joined, others are replaced, wherever they stand."""
    said = (block_start(0), text_delta("Hi \ud83d"), text_delta("\ude00 and \ud83d"), block_stop(0))
    odd = block_start(1, "hologram", note={"\ud83d\ude00": ["\ude00"]})
    use = (tool_use_start(2), input_delta('{"a\ud83d', 2), input_delta('\ude00": "\\udead"}', 2), block_stop(2))
    result = read(message_start(), *said, odd, block_stop(1), *use, message_delta("tool_use"), MESSAGE_STOP, beta=beta)
    (message,) = result.new_messages()
    content: Any = message["content"]
    assert (content[0]["text"], content[2]["input"]) == ("Hi 😀 and \ufffd", {"a😀": "\ufffd"})
    assert content[1] == {"type": "hologram", "note": {"😀": ["\ufffd"]}}
    json.dumps(message, ensure_ascii=False).encode()
    assert result.text == "Hi \ud83d\ude00 and \ud83d", "the result itself holds what arrived"


def test_the_history_is_a_copy() -> None:
    result = read(message_start(), *SAID, block_stop(1), *USE, message_delta("tool_use"), MESSAGE_STOP)
    result.new_messages()[0]["content"][1]["input"]["a"] = 2  # type: ignore[index, call-overload]
    assert result.new_messages()[0]["content"] == [A, USED]


def test_an_unknown_block_is_kept_when_it_is_whole() -> None:
    odd = block_start(0, "hologram", shape="cube")
    assert history(message_start(), odd, block_stop(), *SAID) == [odd["content_block"], A]
    assert history(message_start(), odd, block_stop(), message_delta(), MESSAGE_STOP) == [odd["content_block"]]
    assert history(message_start(), *SAID, block_stop(1), odd) == [A], "the last one of a broken stream may be half"


def test_an_unknown_block_that_is_whole_is_kept_also_at_the_break() -> None:
    odd = block_start(2, "hologram", shape="cube")
    assert history(message_start(), *SAID, block_stop(1), odd, block_stop(2)) == [A, odd["content_block"]]


@pytest.mark.parametrize("block", [{}, {"type": None}, {"type": 5}, {"type": ["x"]}, {"text": "x"}], ids=repr)
def test_a_block_without_a_type_does_no_harm(block: dict[str, Any]) -> None:
    odd = {"type": "content_block_start", "index": 0, "content_block": block}
    for tail in ((), (block_stop(1), message_delta(), MESSAGE_STOP)):
        result = read(message_start(), odd, block_stop(0), *SAID, *tail)
        assert isinstance(result, StreamResult)
        assert A in result.new_messages()[0]["content"]
        again(result)
    assert (
        read(message_start(), odd, *SAID, block_stop(1), message_delta(), MESSAGE_STOP, output_format=Place).parse_error
        is not None
    )


def test_a_tool_use_without_an_id_does_no_harm() -> None:
    bad = (block_start(2, "tool_use", name="x", input={}), input_delta('{"path": "lo', 2), block_stop(2))
    assert history(message_start(), *SAID, block_stop(1), *bad, message_delta(), MESSAGE_STOP) == [A]


def test_interrupted_mid_way_and_never_answered() -> None:
    result = ended_by(KeyError("x"))
    assert result.new_messages() == [{"role": "assistant", "content": [{"type": "text", "text": "Hello "}]}]
    assert read(message_start()).new_messages() == []
    with serve(Reply.http_error(400)) as server:
        stream = stream_text(sdk_client(server), **PARAMS)
        with pytest.raises(anthropic.BadRequestError):
            stream.open()
    assert stream.result.new_messages() == []


def test_the_history_is_accepted_again_by_the_sdk() -> None:
    """What `new_messages` gives goes out as JSON, as it is."""
    result = read(message_start(), *THOUGHT, *SAID, block_stop(1), *USE, message_delta("tool_use"), MESSAGE_STOP)
    with serve(Reply.text("x")) as server:
        collect(sdk_client(server), **{**PARAMS, "messages": [*PARAMS["messages"], *result.new_messages()]})
        assert server.requests[0].json["messages"][1] == {"role": "assistant", "content": [HM, A, USED]}


def test_deep_tool_input_goes_back_into_the_history() -> None:
    value: Any = 1
    for _ in range(300):
        value = {"a": value}
    body = sse(
        message_start(),
        tool_use_start(),
        input_delta(json.dumps(value)),
        block_stop(),
        message_delta("tool_use"),
        MESSAGE_STOP,
    )
    with serve(Reply.recorded(body)) as server:
        result = collect(sdk_client(server), **PARAMS)
    ((block,),) = [message["content"] for message in result.new_messages()]
    assert block["input"] == value  # type: ignore[index,typeddict-item]
