"""Results in pickles: all that can be kept, and never a key."""

from __future__ import annotations

import builtins
import copy
import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from streamkit import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    StreamTruncatedError,
    stream_text,
)
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
from tests.support.results import BUSY, KEY, WHOLE, again, counted, ended_by, read, retried, timed_out


class Local(Exception):  # noqa: N818
    """An exception that cannot be pickled."""

    def __init__(self, number: int, word: str) -> None:
        super().__init__(f"{number} {word}")
        self.unpicklable = lambda: None


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
    reply = BROKEN[kind](Reply.events(*WHOLE))
    result = timed_out(reply, "Hello there") if kind is StreamTimeoutError else read(reply=reply)
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
            sdk_client(server, api_key=KEY).messages.create(**PARAMS)
    return caught.value


def api_timeout_error() -> anthropic.APITimeoutError:
    with serve(Reply.text("x").stall(after_events=0)) as server:
        client = sdk_client(server, api_key=KEY, timeout=0.05)
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
        stream = stream_text(sdk_client(server, api_key=KEY), **PARAMS)
        before = again(stream.result)
        assert (before.status, before.message, before.text, before.attempts) == ("pending", None, "", 0)
        assert (before.usage.input_tokens, before.usage.output_tokens, before.usage_final) == (0, 0, False)
        assert before.new_messages() == []
        with stream:
            next(stream)
            assert again(stream.result).text == "Hello "


@pytest.mark.parametrize("depth", [100, 300, 500, 900])
def test_json_that_is_nested_deep(depth: int) -> None:
    """Wherever it stands, it goes into the history and through a pickle."""
    deep = "[" * depth + "]" * depth
    frames = (
        *(message_start(), block_start(0, "hologram", shape="deep"), block_stop(0), block_start(1), text_delta("A", 1)),
        *(block_delta(1, "citations_delta", citation={"type": "odd", "at": "deep"}), block_stop(1)),
        *(
            tool_use_start(2),
            input_delta('{"a": ' + deep + "}", 2),
            block_stop(2),
            tool_use_start(3),
            input_delta(deep[:-1], 3),
            block_stop(3),
        ),
        *(message_delta("tool_use", server_tool_use="deep"), MESSAGE_STOP),
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
