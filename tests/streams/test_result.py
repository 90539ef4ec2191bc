"""`StreamResult`: what it says, what of it goes into a pickle, and what of it goes into the history."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import pydantic
import pytest

from streamkit import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamResult,
    StreamTimeoutError,
    StreamTruncatedError,
    UsageMeter,
    collect,
    stream_text,
)
from streamkit.testing import Reply, serve
from tests.conftest import PARAMS, STOP, closed, delta, ending, opened, sdk, sse, start, text, tool, tool_input

KEY = "sk-ant-very-secret-key"
HELLO = (start(), opened(), text("Hello "), text("there"))
WHOLE = (*HELLO, closed(), ending(), STOP)


class Place(pydantic.BaseModel):
    """An output format."""

    name: str
    size: int = 0


class Local(Exception):  # noqa: N818
    """An exception that cannot be pickled."""

    def __init__(self, number: int, word: str) -> None:
        super().__init__(f"{number} {word}")
        self.unpicklable = lambda: None


def read(*events: dict[str, Any], reply: Reply | None = None, beta: bool = False, **options: Any) -> StreamResult:
    """The result of a body of these events."""
    with serve(reply or Reply.events(*events)) as server:
        client = sdk(server, api_key=KEY)
        source: Any = client.beta.messages if beta else client
        return collect(source, on_error="return", retries=0, **{**PARAMS, **options})


def ended_by(raised: BaseException, *events: dict[str, Any]) -> StreamResult:
    """The result of a stream in whose loop something was raised."""
    with serve(Reply.events(*(events or WHOLE))) as server:
        stream = stream_text(sdk(server, api_key=KEY), **PARAMS)
        with pytest.raises(type(raised)):  # noqa: PT012
            with stream:
                next(stream)
                raise raised
    return stream.result


def again(result: StreamResult) -> StreamResult:
    """Through a pickle, of each protocol, which must not hold the key."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(result, protocol)
        assert KEY.encode() not in data, "a pickle holds the key"
        back = pickle.loads(data)  # noqa: S301
    assert type(back) is StreamResult
    for field in dataclasses.fields(result):
        if field.name not in ("error", "parse_error"):
            assert getattr(back, field.name) == getattr(result, field.name), field.name
    return back


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
    long = repr(read(start(), opened(), text("x\n" * 400), closed(), ending(), STOP))
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
    result = read(*HELLO, closed(), ending(stop_reason), STOP)
    assert (result.status, result.stop_reason, result.ok) == ("complete", stop_reason, ok)


def test_not_ok_when_it_is_not_complete() -> None:
    assert not read(*HELLO).ok
    assert not ended_by(KeyError("x")).ok


def test_a_body_that_ends_cleanly_after_its_stop_reason_is_complete() -> None:
    result = read(*HELLO, closed(), ending())
    assert (result.status, result.error, result.ok) == ("complete", None, True)
    assert read(*HELLO, closed(), ending(None)).status == "disconnected"


def test_tool_uses_are_the_complete_ones() -> None:
    result = read(
        *(start(), tool(0), tool_input('{"a": 1}'), closed(0), tool(1), tool_input('{"b": oops', 1), closed(1)),
        *(tool(2, kind="server_tool_use"), tool_input("{}", 2), closed(2), tool(3), tool_input('{"c": 1}', 3)),
    )
    assert [(use.id, use.input) for use in result.tool_uses] == [("toolu_0", {"a": 1})]
    assert [(bad.block.id, bad.raw) for bad in result.invalid_tool_input] == [("toolu_1", '{"b": oops')]


def test_invalid_tool_input_is_named_with_its_raw_text() -> None:
    result = read(start(), tool(0), tool_input('{"a": 1, oops'), closed(0), ending("tool_use"), STOP)
    (bad,) = result.invalid_tool_input
    assert (bad.block.id, bad.block.input, bad.raw) == ("toolu_0", {"a": 1}, '{"a": 1, oops')
    assert result.tool_uses == ()
    assert (result.status, result.ok) == ("complete", True)


@pytest.mark.parametrize("beta", [False, True])
def test_the_types_are_those_of_the_endpoint(beta: bool) -> None:
    result: Any = read(start(), tool(), tool_input("{}"), closed(), ending("tool_use"), STOP, beta=beta)
    types: Any = anthropic.types.beta if beta else anthropic.types
    prefix = "Beta" if beta else ""
    assert type(result.message) is getattr(types, prefix + "Message")
    assert type(result.usage) is getattr(types, prefix + "Usage")
    assert type(result.tool_uses[0]) is getattr(types, prefix + "ToolUseBlock")


# Attempts and tokens.

BUSY = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}


def counted(tokens: int) -> dict[str, Any]:
    return start(usage={"input_tokens": 10, "output_tokens": tokens, "cache_read_input_tokens": 4})


def retried(*replies: Reply, retries: int = 2, **options: Any) -> StreamResult:
    replies = tuple(dataclasses.replace(reply, headers=(("retry-after", "0.001"),)) for reply in replies)
    with serve(*replies) as server:
        return collect(sdk(server, api_key=KEY), on_error="return", retries=retries, **{**PARAMS, **options})


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


def test_failed_attempts_in_a_pickle() -> None:
    result = retried(Reply.events(counted(2), BUSY), Reply.events(counted(1)), Reply.events(*WHOLE))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(result, protocol)
        assert KEY.encode() not in data, "a pickle holds the key"
        back = pickle.loads(data)  # noqa: S301
        assert [repr(failed.result) for failed in back.failed_attempts] == [
            repr(failed.result) for failed in result.failed_attempts
        ]
        assert [type(failed) for failed in back.failed_attempts] == [StreamAPIError, StreamTruncatedError]
        assert all(failed.result.error is failed for failed in back.failed_attempts)
        assert back.failed_attempts[1].result.failed_attempts == back.failed_attempts[:1]


def test_the_last_attempt_is_the_result_itself() -> None:
    """Its usage is not counted twice, also where it never got an answer."""
    result = retried(Reply.events(counted(2), BUSY), Reply.events(counted(5), BUSY), retries=1)
    assert (result.status, len(result.failed_attempts)) == ("failed", 1)
    assert (result.failed_attempts[0].result.usage.output_tokens, result.usage.output_tokens) == (2, 5)
    meter = UsageMeter()
    with serve(Reply.events(counted(2), BUSY, headers={"retry-after": "0.001"}), Reply.http_error(400)) as server:
        stream = stream_text(sdk(server), sinks=meter, retries=1, **PARAMS)
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
        ((counted(1), opened(), text("A"), text(""), text("B")), 2),
        ((counted(5), opened(), text("A"), text("B")), 5),
        ((counted(1), opened(0, "thinking", thinking=""), *[delta(0, "thinking_delta", thinking="x")] * 3), 3),
        ((counted(1), tool(), *[tool_input(" ")] * 4, tool_input("")), 4),
        ((counted(1), opened(), *[text("A")] * 1000), 1000),
        ((counted(1), opened(), *[text("A")] * 20, closed(), ending(output_tokens=9), STOP), 9),
        ((counted(1), opened(), *[text("A")] * 20, closed(), ending(None, output_tokens=9)), 20),
        ((start(usage={"output_tokens": "many"}), opened(), text("A")), 1),
        ((start(usage={}), opened(), text("A"), ending(output_tokens=None), STOP), 0),
    ],
    ids=repr,
)
def test_how_many_tokens_there_were_at_least(events: tuple[dict[str, Any], ...], least: int) -> None:
    result = read(*events)
    assert result.min_output_tokens == again(result).min_output_tokens == least
    assert f"{least} out" in repr(result)


# Output formats.


def test_parsed_output() -> None:
    result = read(start(), opened(), text('{"name": "Br'), text('est"}'), closed(), ending(), STOP, output_format=Place)
    assert result.parsed_output == Place(name="Brest")
    assert result.parse_error is None
    assert again(result).parsed_output == Place(name="Brest")
    assert result.ok


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", None])
def test_output_that_was_cut_says_so(reason: str | None) -> None:
    tail = () if reason is None else (closed(), ending(reason), STOP)
    result = read(start(), opened(), text('{"name": "Br'), *tail, output_format=Place)
    assert result.parsed_output is None
    assert isinstance(result.parse_error, ValueError)
    assert (reason or "ended early") in str(result.parse_error)
    assert result.stop_reason == reason
    assert result.usage.input_tokens == 3
    assert str(again(result).parse_error) == str(result.parse_error)


def test_output_that_does_not_fit_its_format() -> None:
    result = read(start(), opened(), text('{"nome": 1}'), closed(), ending(), STOP, output_format=Place)
    assert isinstance(result.parse_error, pydantic.ValidationError)
    assert (result.status, result.stop_reason, result.ok) == ("complete", "end_turn", False)
    assert str(again(result).parse_error) == str(result.parse_error)


def test_output_without_text() -> None:
    result = read(start(), tool(), closed(), ending("tool_use"), STOP, output_format=Place)
    assert "no text" in str(result.parse_error)
    assert read(start(), output_format=Place).parsed_output is None


def test_output_after_a_block_of_another_kind_has_no_separator() -> None:
    blocks = (start(), opened(), tool(1), closed(1), opened(2), text('{"name": "B"}', 2), closed(2), ending(), STOP)
    assert read(*blocks, output_format=Place).text == '{"name": "B"}'


# Pickles.


def test_a_pickle_of_a_whole_result() -> None:
    result = read(*WHOLE)
    back = again(result)
    assert back == result
    assert back.error is None
    assert (back.ok, repr(back), back.new_messages()) == (True, repr(result), result.new_messages())
    assert copy.deepcopy(result) == result


BROKEN: dict[type[StreamError], Callable[[Reply], Reply]] = {
    StreamTruncatedError: lambda reply: reply.cut(after_events=4),
    StreamConnectionError: lambda reply: reply.reset(after_events=4),
    StreamAPIError: lambda reply: reply.error("overloaded_error", after_events=4),
    StreamTimeoutError: lambda reply: reply.stall(after_events=4),
    StreamProtocolError: lambda reply: reply.garbage(b"data: {oops\n\n", after_events=4),
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_pickle_of_each_error_and_its_result(kind: type[StreamError]) -> None:
    options = {"idle_timeout": 0.1} if kind is StreamTimeoutError else {}
    result = read(reply=BROKEN[kind](Reply.events(*WHOLE)), **options)
    error: Any = result.error
    assert type(error) is kind
    assert result.text == "Hello there"
    assert error.result is result
    assert KEY in str(dict(error.request.headers)), "while it lives, it has the request, as the SDK's errors do"

    back = again(result)
    assert type(back.error) is kind
    assert back.error.result is back
    assert repr(back) == repr(result)

    for data in (pickle.dumps(error), pickle.dumps({"jobs": [error, result]})):
        assert KEY.encode() not in data, "a pickle holds the key"
    loaded = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(loaded), loaded.args, loaded.retryable) == (str(error), error.args, error.retryable)
    assert (loaded.message, loaded.body) == (error.message, error.body)
    assert loaded.request is getattr(loaded, "response", None) is None
    for name in ("clock", "type", "status_code", "request_id"):
        assert getattr(loaded, name, None) == getattr(error, name, None)
    assert loaded.result.text == "Hello there"
    assert loaded.result.error is loaded
    assert not hasattr(loaded, "request") or loaded.request is None
    assert isinstance(copy.copy(error), kind)


def api_status_error() -> anthropic.APIStatusError:
    with serve(Reply.http_error(429)) as server:
        with pytest.raises(anthropic.RateLimitError) as caught:
            sdk(server, api_key=KEY).messages.create(**PARAMS)
    return caught.value


def api_timeout_error() -> anthropic.APITimeoutError:
    with serve(Reply.text("x").stall(after_events=0)) as server:
        client = sdk(server, api_key=KEY, timeout=0.05)
        with pytest.raises(anthropic.APITimeoutError) as caught:
            client.messages.create(**PARAMS)
    return caught.value


@pytest.mark.parametrize("make", [api_status_error, api_timeout_error])
def test_a_pickle_with_an_error_of_the_sdk_holds_its_words_and_no_key(make: Callable[[], anthropic.APIError]) -> None:
    error = make()
    result = ended_by(error)
    assert result.error is error
    back = again(result)
    assert isinstance(back.error, StreamError)
    assert type(error).__name__ in str(back.error)
    assert str(error) in str(back.error)


@pytest.mark.parametrize("make", [api_status_error, api_timeout_error])
def test_a_pickle_with_an_error_that_holds_an_error_of_the_sdk_holds_no_key(make: Callable[[], Exception]) -> None:
    again(ended_by(RuntimeError("while doing this", make())))
    if sys.version_info >= (3, 11):
        again(ended_by(builtins.ExceptionGroup("in a task group", [make()])))
    noted = ValueError("with an attribute")
    noted.last_error = make()  # type: ignore[attr-defined]
    again(ended_by(noted))


def test_a_pickle_with_a_foreign_error() -> None:
    back = again(ended_by(KeyError("a", 1)))
    assert type(back.error) is KeyError
    assert back.error.args == ("a", 1)
    assert type(again(ended_by(KeyboardInterrupt())).error) is KeyboardInterrupt


def test_a_pickle_with_a_foreign_error_that_has_no_pickle() -> None:
    back = again(ended_by(Local(5, "words")))
    assert type(back.error) is StreamError
    assert str(back.error) == "Local: 5 words"


def test_a_pickle_of_a_running_stream_and_of_one_that_never_began() -> None:
    with serve(Reply.events(*WHOLE)) as server:
        stream = stream_text(sdk(server, api_key=KEY), **PARAMS)
        before = again(stream.result)
        assert (before.status, before.message, before.text, before.attempts) == ("streaming", None, "", 0)
        assert (before.usage.input_tokens, before.usage.output_tokens, before.usage_final) == (0, 0, False)
        assert before.new_messages() == []
        with stream:
            next(stream)
            assert again(stream.result).text == "Hello "


# The history.


def history(*events: dict[str, Any], **options: Any) -> list[Any]:
    """The blocks of the one message to append, or [] when there is none."""
    messages: list[Any] = read(*events, **options).new_messages()
    assert [message["role"] for message in messages] in ([], ["assistant"])
    return messages[0]["content"] if messages else []


THOUGHT = (
    *(opened(0, "thinking", thinking="", signature=""), delta(0, "thinking_delta", thinking="Hm")),
    *(delta(0, "signature_delta", signature="sig"), closed(0)),
)
HM = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
USE = (tool(2), tool_input('{"a": 1}', 2), closed(2))
USED = {"type": "tool_use", "id": "toolu_2", "name": "get_tide", "input": {"a": 1}}
SEARCH = (tool(3, "web_search", "server_tool_use"), tool_input('{"q": "x"}', 3), closed(3))
SEARCHED = {"type": "server_tool_use", "id": "toolu_3", "name": "web_search", "input": {"q": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "toolu_3", "content": []}
RESULT = ({"type": "content_block_start", "index": 4, "content_block": FOUND}, closed(4))
A = {"type": "text", "text": "A"}
SAID = (opened(1), text("A", 1))


def test_a_whole_reply_goes_into_the_history_as_it_is() -> None:
    events = (start(), *THOUGHT, *SAID, closed(1), *SEARCH, *RESULT, *USE, ending("tool_use"), STOP)
    assert history(*events) == [HM, A, SEARCHED, FOUND, USED]


def test_a_pause_waits_for_its_continuation() -> None:
    assert history(start(), *SAID, closed(1), *SEARCH, ending("pause_turn"), STOP) == [A, SEARCHED]


def test_a_refusal_gives_nothing() -> None:
    assert history(start(), *SAID, closed(1), ending("refusal"), STOP) == []


def test_the_unfinished_text_is_kept() -> None:
    assert history(start(), *THOUGHT, *SAID) == [HM, A]


def test_no_tool_use_of_an_unfinished_reply() -> None:
    assert history(start(), *SAID, closed(1), *USE) == [A]
    assert history(start(), *SAID, closed(1), tool(2), tool_input('{"a"', 2)) == [A]


def test_no_server_tool_use_without_its_result() -> None:
    assert history(start(), *SAID, closed(1), *SEARCH) == [A]
    assert history(start(), *SAID, closed(1), *SEARCH, *RESULT) == [A, SEARCHED, FOUND]
    assert history(start(), *SAID, closed(1), *SEARCH, ending("max_tokens"), STOP) == [A]


def test_no_thinking_without_its_signature_or_at_the_end() -> None:
    assert history(start(), *THOUGHT) == []
    assert history(start(), THOUGHT[0], THOUGHT[1]) == []
    assert history(start(), THOUGHT[0], THOUGHT[1], closed(), *SAID) == [A]
    redacted = opened(5, "redacted_thinking", data="xx")
    assert history(start(), *SAID, closed(1), redacted, closed(5)) == [A]
    assert history(start(), redacted, closed(5), *SAID) == [redacted["content_block"], A]
    assert history(start(), *THOUGHT, *USE) == [], "thinking whose tool use was dropped is at the end"


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t \u3000"])
def test_no_blank_text(blank: str) -> None:
    assert history(start(), opened(0), text(blank), closed(0), *SAID, closed(1), ending(), STOP) == [A]
    assert history(start(), opened(0), text(blank)) == []


@pytest.mark.parametrize("stop_reason", ["tool_use", "max_tokens"])
def test_no_tool_use_whose_input_did_not_parse(stop_reason: str) -> None:
    bad = (tool(5), tool_input('{"path": "lo', 5), closed(5))
    assert history(start(), *SAID, closed(1), *USE, *bad, ending(stop_reason), STOP) == [A, USED]
    assert history(start(), *THOUGHT, *bad, ending(stop_reason), STOP) == []


@pytest.mark.parametrize("between", [(opened(1), text(" ", 1)), (tool(1), tool_input("{", 1))])
def test_no_thinking_beside_thinking_that_it_did_not_stand_beside(between: tuple[dict[str, Any], ...]) -> None:
    """Where what stood between is left out, so is the thinking before it, which led to it."""
    redacted = opened(4, "redacted_thinking", data="xx")
    later = (opened(5, "thinking", thinking="So", signature="s"), closed(5))
    said = (opened(6), text("A", 6), closed(6), ending(), STOP)
    so = later[0]["content_block"]
    assert history(start(), *THOUGHT, *between, closed(1), *later, *said) == [so, A]
    assert history(start(), *THOUGHT, redacted, closed(4), *between, closed(1), *later, *said) == [so, A]
    assert history(start(), *THOUGHT, *between, closed(1), redacted, closed(4), *later, *said) == [
        *(redacted["content_block"], so, A)
    ]
    assert history(start(), *THOUGHT, *later, *said) == [HM, so, A], "they stood side by side"
    assert history(start(), *THOUGHT, *between, closed(1), *said) == [HM, A]


def test_a_tool_use_that_a_limit_cut_before_its_input_is_not_in_the_history() -> None:
    result = read(start(), *SAID, closed(1), tool(2), tool_input("", 2), closed(2), ending("max_tokens"), STOP)
    assert (result.tool_uses, [bad.raw for bad in result.invalid_tool_input]) == ((), [""])
    assert result.new_messages() == [{"role": "assistant", "content": [A]}]


@pytest.mark.parametrize("beta", [False, True])
def test_surrogates_can_be_sent(beta: bool) -> None:
    """A pair that two deltas split is joined, others are replaced, wherever they stand."""
    said = (opened(0), text("Hi \ud83d"), text("\ude00 and \ud83d"), closed(0))
    odd = opened(1, "hologram", note={"\ud83d\ude00": ["\ude00"]})
    use = (tool(2), tool_input('{"a\ud83d', 2), tool_input('\ude00": "\\udead"}', 2), closed(2))
    result = read(start(), *said, odd, closed(1), *use, ending("tool_use"), STOP, beta=beta)
    (message,) = result.new_messages()
    content: Any = message["content"]
    assert (content[0]["text"], content[2]["input"]) == ("Hi 😀 and \ufffd", {"a😀": "\ufffd"})
    assert content[1] == {"type": "hologram", "note": {"😀": ["\ufffd"]}}
    json.dumps(message, ensure_ascii=False).encode()
    assert result.text == "Hi \ud83d\ude00 and \ud83d", "the result itself holds what arrived"


@pytest.mark.parametrize("depth", [100, 300, 500, 900])
def test_json_that_is_nested_deep(depth: int) -> None:
    """Wherever it stands, it goes into the history and through a pickle."""
    deep = "[" * depth + "]" * depth
    frames = (
        *(start(), opened(0, "hologram", shape="deep"), closed(0), opened(1), text("A", 1)),
        *(delta(1, "citations_delta", citation={"type": "odd", "at": "deep"}), closed(1)),
        *(tool(2), tool_input('{"a": ' + deep + "}", 2), closed(2), tool(3), tool_input(deep[:-1], 3), closed(3)),
        *(ending("tool_use", server_tool_use="deep"), STOP),
    )
    body = sse(*frames).replace(b'"deep"', deep.encode())
    result = read(reply=Reply.recorded(body))
    assert (result.status, len(result.tool_uses), len(result.invalid_tool_input)) == ("complete", 1, 1)
    (message,) = result.new_messages()
    kinds = [block["type"] for block in message["content"]]  # type: ignore[index, union-attr]
    assert kinds == ["hologram", "text", "tool_use"]
    assert json.dumps(message).count("[") == 3 * depth + 2
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(result, protocol))  # noqa: S301
        assert json.dumps(back.new_messages()) == json.dumps([message])
        assert back.tool_uses[0] is back.message.content[2], "what was one object is one again"
    assert json.dumps(copy.deepcopy(result).new_messages()) == json.dumps([message])


def test_an_error_with_json_that_is_nested_deep_goes_into_a_pickle() -> None:
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    error = StreamAPIError("Busy", body={"type": "error", "error": deep})
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    depth, inner = 0, back.body["error"]
    while inner:
        depth, (inner,) = depth + 1, inner
    assert depth == 2000


def test_the_history_is_a_copy() -> None:
    result = read(start(), *SAID, closed(1), *USE, ending("tool_use"), STOP)
    result.new_messages()[0]["content"][1]["input"]["a"] = 2  # type: ignore[index, call-overload]
    assert result.new_messages()[0]["content"] == [A, USED]


def test_an_unknown_block_is_kept_when_it_is_whole() -> None:
    odd = opened(0, "hologram", shape="cube")
    assert history(start(), odd, closed(), *SAID) == [odd["content_block"], A]
    assert history(start(), odd, closed(), ending(), STOP) == [odd["content_block"]]
    assert history(start(), *SAID, closed(1), odd) == [A], "the last one of a broken stream may be half"


def test_an_unknown_block_that_is_whole_is_kept_also_at_the_break() -> None:
    odd = opened(2, "hologram", shape="cube")
    assert history(start(), *SAID, closed(1), odd, closed(2)) == [A, odd["content_block"]]


@pytest.mark.parametrize("block", [{}, {"type": None}, {"type": 5}, {"type": ["x"]}, {"text": "x"}], ids=repr)
def test_a_block_without_a_type_does_no_harm(block: dict[str, Any]) -> None:
    odd = {"type": "content_block_start", "index": 0, "content_block": block}
    for tail in ((), (closed(1), ending(), STOP)):
        result = read(start(), odd, closed(0), *SAID, *tail)
        assert isinstance(result, StreamResult)
        assert A in result.new_messages()[0]["content"]
        again(result)
    assert read(start(), odd, *SAID, closed(1), ending(), STOP, output_format=Place).parse_error is not None


def test_a_tool_use_without_an_id_does_no_harm() -> None:
    bad = (opened(2, "tool_use", name="x", input={}), tool_input('{"path": "lo', 2), closed(2))
    assert history(start(), *SAID, closed(1), *bad, ending(), STOP) == [A]


def test_interrupted_mid_way_and_never_answered() -> None:
    result = ended_by(KeyError("x"))
    assert result.new_messages() == [{"role": "assistant", "content": [{"type": "text", "text": "Hello "}]}]
    assert read(start()).new_messages() == []
    with serve(Reply.http_error(400)) as server:
        stream = stream_text(sdk(server), **PARAMS)
        with pytest.raises(anthropic.BadRequestError):
            stream.open()
    assert stream.result.new_messages() == []


def test_the_history_is_accepted_again_by_the_sdk() -> None:
    """What `new_messages` gives goes out as JSON, as it is."""
    result = read(start(), *THOUGHT, *SAID, closed(1), *USE, ending("tool_use"), STOP)
    with serve(Reply.text("x")) as server:
        collect(sdk(server), **{**PARAMS, "messages": [*PARAMS["messages"], *result.new_messages()]})
        assert server.requests[0].json["messages"][1] == {"role": "assistant", "content": [HM, A, USED]}
