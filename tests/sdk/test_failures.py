"""The family of exceptions: what each is, and what it says."""

from __future__ import annotations

import pickle
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    StreamTruncatedError,
    collect,
)
from streamkit._sdk.response import NoResponse
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client

FAMILY: dict[type[StreamError], tuple[type[Exception], ...]] = {
    StreamError: (anthropic.APIError,),
    StreamConnectionError: (StreamError, anthropic.APIConnectionError),
    StreamTruncatedError: (StreamConnectionError, anthropic.APIConnectionError),
    StreamTimeoutError: (StreamError, anthropic.APITimeoutError, anthropic.APIConnectionError),
    StreamAPIError: (StreamError, anthropic.APIStatusError),
    StreamProtocolError: (StreamError, anthropic.APIError),
}


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_handlers_for_the_sdk_catch_it(kind: type[StreamError]) -> None:
    assert issubclass(kind, FAMILY[kind])
    assert issubclass(kind, anthropic.AnthropicError)
    assert kind.__doc__
    assert getattr(streamkit, kind.__name__) is kind


def test_what_is_not_what() -> None:
    assert not issubclass(StreamTimeoutError, StreamConnectionError)
    assert not issubclass(StreamProtocolError, (anthropic.APIConnectionError, anthropic.APIStatusError))
    assert not issubclass(StreamAPIError, anthropic.APIConnectionError)


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [
        ("invalid_request_error", 400, False),
        ("authentication_error", 401, False),
        ("billing_error", 402, False),
        ("permission_error", 403, False),
        ("not_found_error", 404, False),
        ("request_too_large", 413, False),
        ("rate_limit_error", 429, True),
        ("api_error", 500, True),
        ("timeout_error", 504, True),
        ("overloaded_error", 529, True),
        ("tea_error", 500, False),
    ],
)
def test_an_error_event_has_the_status_of_its_type(kind: str, status: int, retryable: bool) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "Words"}}
    error = StreamAPIError("Words", body=body)
    assert (error.type, error.status_code, error.retryable, error.body) == (kind, status, retryable, body)
    assert (error.message, str(error), error.request_id) == ("Words", "Words", None)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.type, again.status_code, again.retryable) == (kind, status, retryable)
    assert not hasattr(again, "result")


@pytest.mark.parametrize("body", [None, "x", [], {}, {"error": "x"}, {"error": {}}, {"error": {"type": 5}}], ids=repr)
def test_an_error_body_of_any_form(body: Any) -> None:
    error = StreamAPIError("Words", body=body)
    assert (error.type, error.status_code, error.retryable) == (None, 500, False)


@pytest.mark.parametrize("clock", ["idle", "total", "read"])
def test_a_timeout_names_its_clock(clock: Any) -> None:
    error = StreamTimeoutError("Words", clock=clock)
    assert (error.clock, error.retryable, str(error)) == (clock, True, "Words")
    assert pickle.loads(pickle.dumps(error)).clock == clock  # noqa: S301


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [(StreamError, False), (StreamConnectionError, True), (StreamTruncatedError, True), (StreamProtocolError, False)],
)
def test_retryable(kind: type[StreamError], retryable: bool) -> None:
    error = kind("Words")
    assert error.retryable is retryable
    assert error.body is None
    assert pickle.loads(pickle.dumps(error)).retryable is retryable  # noqa: S301


@pytest.mark.parametrize("data", [b'{"type":"error"}', b'{"detail":"gone"}', b"upstream gone"])
def test_an_error_event_of_any_form_is_an_api_error(data: bytes) -> None:
    with serve(Reply.text("Hello there").error("api_error", after_events=4, body=data)) as server:
        with pytest.raises(StreamAPIError) as caught:
            collect(sdk_client(server), **PARAMS)
    assert caught.value.status_code == 500
    assert caught.value.result.text == "Hello "
    assert str(caught.value)


def test_the_error_has_the_request_id_and_the_response_of_the_stream() -> None:
    with serve(Reply.text("Hello there").error("overloaded_error", after_events=4, message="Busy")) as server:
        with pytest.raises(StreamAPIError) as caught:
            collect(sdk_client(server), **PARAMS)
    error = caught.value
    assert str(error) == "overloaded_error: Busy"
    assert error.request_id == error.result.request_id is not None
    assert error.response.status_code == 200
    assert str(error.request.url) == server.url + "/v1/messages"


class Raises:
    """An opened stream whose reading fails, in code of the SDK."""

    _fail: Any = eval("lambda error: (_ for _ in ()).throw(error)", {"__name__": "anthropic.lib"})  # noqa: S307

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __next__(self) -> Any:
        type(self)._fail(self.error)

    def close(self) -> None:
        pass


AWS = {":message-type": "exception", ":exception-type": "throttlingException"}
SHOWN = "Bad response code, expected 200: "


@pytest.mark.parametrize(
    ("said", "kind", "status"),
    [
        (SHOWN + repr({"headers": AWS, "body": b'{"message": "slow"}'}), "throttlingException: slow", 429),
        (SHOWN + repr({"headers": {":error-code": "odd", ":error-message": "no"}, "body": b""}), "odd: no", 500),
        (SHOWN + "{", None, None),
        (SHOWN + repr({"headers": AWS, "body": b"no JSON"}), None, None),
        (SHOWN + repr({"headers": AWS}), None, None),
        ("something else", None, None),
    ],
)
def test_an_exception_of_aws_in_the_words_of_an_old_sdk(said: str, kind: str | None, status: int | None) -> None:
    """Older SDKs show the frame in a plain `ValueError`."""
    with pytest.raises(StreamError) as caught:
        for _ in streamkit.stream_text(Raises(ValueError(said))):  # type: ignore[call-overload]
            pass
    if kind is None:
        assert type(caught.value) is StreamProtocolError
    else:
        error = caught.value
        assert isinstance(error, StreamAPIError)
        assert (str(error).partition("\n")[0], error.status_code) == (kind, status)


def test_an_error_event_that_cannot_be_shown() -> None:
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    event = {"type": "error", "error": deep}
    error = NoResponse().error_from_event(event)
    assert "nested too deeply" in str(error)
    while deep:  # or taking it apart would be a recursion too
        (deep,) = deep
