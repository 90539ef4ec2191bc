"""`StreamResult`: what it says of a reply, of failed attempts, and of an output format."""

from __future__ import annotations

import dataclasses
from typing import Any

import anthropic
import pydantic
import pytest

from streamkit import StreamAPIError, StreamConnectionError, UsageMeter, stream_text
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
from tests.support.results import BUSY, HELLO, WHOLE, Place, again, counted, ended_by, read, retried

# What it says.


def test_a_whole_reply() -> None:
    result = read(*WHOLE)
    assert (result.text, result.thinking, result.tool_uses) == ("Hello there", "", ())
    assert (result.status, result.stop_reason, result.stop_details, result.error) == (
        "complete",
        "end_turn",
        None,
        None,
    )
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage_final) == (3, 7, True)
    assert (result.parsed_output, result.parse_error, result.invalid_tool_input) == (None, None, ())
    assert result.attempts == 1
    assert str(result.request_id).startswith("req_")
    assert result.message is not None
    assert result.message.to_dict()["content"] == [{"type": "text", "text": "Hello there"}]
    times = result.timing
    assert times.response is not None
    assert times.first_content is not None
    assert 0 < times.response <= times.first_content <= times.total
    assert times.longest_gap <= times.total


def test_repr_says_how_it_stands_in_one_line() -> None:
    said = repr(read(*WHOLE))
    assert said.startswith("StreamResult(status='complete', stop_reason='end_turn', text='Hello there' (11 characters)")
    assert "usage=3 in, 7 out" in said
    assert "error" not in said
    cut = repr(read(*HELLO))
    assert "status='disconnected'" in cut
    assert "usage=3 in, at least 2 out" in cut, "two deltas"
    assert "error=StreamTruncatedError" in cut
    long = repr(
        read(message_start(), block_start(), text_delta("x\n" * 400), block_stop(), message_delta(), MESSAGE_STOP)
    )
    assert "(800 characters)" in long
    assert "..." in long
    assert len(long) < 300
    assert "\n" not in long


def test_it_is_frozen() -> None:
    result = read(*WHOLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.text = "x"  # type: ignore[misc]
    assert dataclasses.replace(result, text="x").text == "x"


@pytest.mark.parametrize(
    ("stop_reason", "ok"),
    [
        *(("end_turn", True), ("stop_sequence", True), ("tool_use", True), ("stop_for_tea", True)),
        *(("max_tokens", False), ("model_context_window_exceeded", False), ("refusal", False)),
        *(("pause_turn", False), ("compaction", False)),
    ],
)
def test_ok(stop_reason: str, ok: bool) -> None:
    result = read(*HELLO, block_stop(), message_delta(stop_reason), MESSAGE_STOP)
    assert (result.status, result.stop_reason, result.ok) == ("complete", stop_reason, ok)


def test_not_ok_when_it_is_not_complete() -> None:
    assert not read(*HELLO).ok
    assert not ended_by(KeyError("x")).ok


def test_a_body_that_ends_cleanly_after_its_stop_reason_is_complete() -> None:
    result = read(*HELLO, block_stop(), message_delta())
    assert (result.status, result.error, result.ok) == ("complete", None, True)
    assert read(*HELLO, block_stop(), message_delta(None)).status == "disconnected"


def test_tool_uses_are_the_complete_ones() -> None:
    result = read(
        *(
            message_start(),
            tool_use_start(0),
            input_delta('{"a": 1}'),
            block_stop(0),
            tool_use_start(1),
            input_delta('{"b": oops', 1),
            block_stop(1),
        ),
        *(
            tool_use_start(2, kind="server_tool_use"),
            input_delta("{}", 2),
            block_stop(2),
            tool_use_start(3),
            input_delta('{"c": 1}', 3),
        ),
    )
    assert [(use.id, use.input) for use in result.tool_uses] == [("toolu_0", {"a": 1})]
    assert [(bad.block.id, bad.raw) for bad in result.invalid_tool_input] == [("toolu_1", '{"b": oops')]


def test_invalid_tool_input_is_named_with_its_raw_text() -> None:
    result = read(
        message_start(),
        tool_use_start(0),
        input_delta('{"a": 1, oops'),
        block_stop(0),
        message_delta("tool_use"),
        MESSAGE_STOP,
    )
    (bad,) = result.invalid_tool_input
    assert (bad.block.id, bad.block.input, bad.raw) == ("toolu_0", {"a": 1}, '{"a": 1, oops')
    assert result.tool_uses == ()
    assert (result.status, result.ok) == ("complete", True)


@pytest.mark.parametrize("beta", [False, True])
def test_the_types_are_those_of_the_endpoint(beta: bool) -> None:
    result: Any = read(
        message_start(),
        tool_use_start(),
        input_delta("{}"),
        block_stop(),
        message_delta("tool_use"),
        MESSAGE_STOP,
        beta=beta,
    )
    types: Any = anthropic.types.beta if beta else anthropic.types
    prefix = "Beta" if beta else ""
    assert type(result.message) is getattr(types, prefix + "Message")
    assert type(result.usage) is getattr(types, prefix + "Usage")
    assert type(result.tool_uses[0]) is getattr(types, prefix + "ToolUseBlock")


# Attempts and tokens.


def test_failed_attempts_are_kept_each_with_its_result() -> None:
    result = retried(
        Reply.events(counted(2), BUSY), Reply.events(counted(1)).reset(after_events=1), Reply.events(*WHOLE)
    )
    assert (result.status, result.text, result.attempts, result.usage.input_tokens) == ("complete", "Hello there", 3, 3)
    first, second = result.failed_attempts
    assert isinstance(first, StreamAPIError)
    assert type(second) is StreamConnectionError
    assert (first.result.status, second.result.status) == ("failed", "disconnected")
    for number, failed in enumerate(result.failed_attempts):
        given = failed.result
        assert given.error is failed
        assert (given.text, given.usage.input_tokens, given.usage_final) == ("", 10, False)
        assert (given.attempts, given.failed_attempts) == (number + 1, result.failed_attempts[:number])
        assert given.message is not None
        assert given.request_id is not None
    assert len({failed.result.request_id for failed in result.failed_attempts} | {result.request_id}) == 3


def test_the_last_attempt_is_the_result_itself() -> None:
    """Its usage is not counted twice, also where it never got an answer."""
    result = retried(Reply.events(counted(2), BUSY), Reply.events(counted(5), BUSY), retries=1)
    assert (result.status, len(result.failed_attempts)) == ("failed", 1)
    assert (result.failed_attempts[0].result.usage.output_tokens, result.usage.output_tokens) == (2, 5)
    meter = UsageMeter()
    with serve(Reply.events(counted(2), BUSY, headers={"retry-after": "0.001"}), Reply.http_error(400)) as server:
        stream = stream_text(sdk_client(server), sinks=meter, retries=1, **PARAMS)
        with pytest.raises(anthropic.BadRequestError):
            stream.until_done()
    refused = stream.result
    assert (refused.message, refused.usage.input_tokens, refused.attempts) == (None, 0, 2)
    assert [failed.result.usage.input_tokens for failed in refused.failed_attempts] == [10]
    assert (meter.total.input_tokens, list(meter.by_model)) == (10, ["claude-sonnet-5-5"])


def test_a_stream_without_failed_attempts() -> None:
    assert read(*WHOLE).failed_attempts == read(*HELLO).failed_attempts == ()


@pytest.mark.parametrize(
    ("events", "least"),
    [
        ((), 0),
        ((counted(5),), 5),
        ((counted(1), block_start(), text_delta("A"), text_delta(""), text_delta("B")), 2),
        ((counted(5), block_start(), text_delta("A"), text_delta("B")), 5),
        (
            (
                counted(1),
                block_start(0, "thinking", thinking=""),
                *[block_delta(0, "thinking_delta", thinking="x")] * 3,
            ),
            3,
        ),
        ((counted(1), tool_use_start(), *[input_delta(" ")] * 4, input_delta("")), 4),
        ((counted(1), block_start(), *[text_delta("A")] * 1000), 1000),
        (
            (
                counted(1),
                block_start(),
                *[text_delta("A")] * 20,
                block_stop(),
                message_delta(output_tokens=9),
                MESSAGE_STOP,
            ),
            9,
        ),
        ((counted(1), block_start(), *[text_delta("A")] * 20, block_stop(), message_delta(None, output_tokens=9)), 20),
        ((message_start(usage={"output_tokens": "many"}), block_start(), text_delta("A")), 1),
        ((message_start(usage={}), block_start(), text_delta("A"), message_delta(output_tokens=None), MESSAGE_STOP), 0),
    ],
    ids=repr,
)
def test_how_many_tokens_there_were_at_least(events: tuple[dict[str, Any], ...], least: int) -> None:
    result = read(*events)
    assert result.min_output_tokens == again(result).min_output_tokens == least
    assert f"{least} out" in repr(result)


# Output formats.


def test_parsed_output() -> None:
    result = read(
        message_start(),
        block_start(),
        text_delta('{"name": "Br'),
        text_delta('est"}'),
        block_stop(),
        message_delta(),
        MESSAGE_STOP,
        output_format=Place,
    )
    assert result.parsed_output == Place(name="Brest")
    assert result.parse_error is None
    assert again(result).parsed_output == Place(name="Brest")
    assert result.ok


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", None])
def test_output_that_was_cut_says_so(reason: str | None) -> None:
    tail = () if reason is None else (block_stop(), message_delta(reason), MESSAGE_STOP)
    result = read(message_start(), block_start(), text_delta('{"name": "Br'), *tail, output_format=Place)
    assert result.parsed_output is None
    assert isinstance(result.parse_error, ValueError)
    assert (reason or "ended early") in str(result.parse_error)
    assert result.stop_reason == reason
    assert result.usage.input_tokens == 3
    assert str(again(result).parse_error) == str(result.parse_error)


def test_output_that_does_not_fit_its_format() -> None:
    result = read(
        message_start(),
        block_start(),
        text_delta('{"nome": 1}'),
        block_stop(),
        message_delta(),
        MESSAGE_STOP,
        output_format=Place,
    )
    assert isinstance(result.parse_error, pydantic.ValidationError)
    assert (result.status, result.stop_reason, result.ok) == ("complete", "end_turn", False)
    assert str(again(result).parse_error) == str(result.parse_error)


def test_output_without_text() -> None:
    result = read(
        message_start(), tool_use_start(), block_stop(), message_delta("tool_use"), MESSAGE_STOP, output_format=Place
    )
    assert "no text" in str(result.parse_error)
    assert read(message_start(), output_format=Place).parsed_output is None


def test_output_after_a_block_of_another_kind_has_no_separator() -> None:
    blocks = (
        message_start(),
        block_start(),
        tool_use_start(1),
        block_stop(1),
        block_start(2),
        text_delta('{"name": "B"}', 2),
        block_stop(2),
        message_delta(),
        MESSAGE_STOP,
    )
    assert read(*blocks, output_format=Place).text == '{"name": "B"}'
