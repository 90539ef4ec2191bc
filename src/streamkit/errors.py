"""The exceptions of an open stream, one family.

Before a stream is open, the SDK's own exceptions pass untouched. From then on whatever ends a stream early is a
`StreamError`, which carries all that arrived, and each kind is also the SDK's exception of that kind, so that handlers
written for the SDK catch it.
"""

from __future__ import annotations

import copyreg
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import anthropic

from ._pickling import flatten, unflatten

if TYPE_CHECKING:
    from ._result import StreamResult

__all__ = [
    "StreamAPIError",
    "StreamConnectionError",
    "StreamError",
    "StreamProtocolError",
    "StreamTimeoutError",
    "StreamTruncatedError",
]

# The HTTP status that the API gives each error type when it refuses a request with it
# (platform.claude.com/docs/en/api/errors). An error event comes after status 200 was sent.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Those of Bedrock, whose stream can end with an exception of its own.
    "validationException": 400,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "throttlingException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
_RETRYABLE = frozenset(
    {
        "rate_limit_error",
        "api_error",
        "timeout_error",
        "overloaded_error",
        "modelTimeoutException",
        "modelStreamErrorException",
        "throttlingException",
        "internalServerException",
        "serviceUnavailableException",
    }
)
# These hold the request, and with it the API key: they stay out of every pickle.
_NEVER_PICKLED = frozenset({"request", "response"})


class StreamError(anthropic.APIError):
    """A stream ended early.

    `result` is the `StreamResult` with all that arrived, `retryable` says whether the same request may succeed if it is
    sent again, and `__cause__` is the exception below this one, if there was one.
    """

    result: StreamResult[Any, Any]
    retryable: bool = False

    def __init__(self, message: str, *, response: Any = None, body: object = None) -> None:
        Exception.__init__(self, message)
        self.message: str = message
        self.body: object = body
        # As in the SDK: typed as present. Here it is `None` when the stream had no HTTP response, and after a pickle.
        self.request: Any = None
        with suppress(AttributeError, RuntimeError):  # a response that somebody made for a test may have none
            self.request = response.request

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by `__init__`, which differs between the kinds. `result` refers back to this error, which pickle can
        # follow because it is in the state.
        state = {name: value for name, value in self.__dict__.items() if name not in _NEVER_PICKLED}
        return copyreg.__newobj__, (type(self), *self.args), flatten(state)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update({"request": None, **unflatten(state)})
        if isinstance(self, anthropic.APIStatusError):
            self.__dict__["response"] = None


class StreamConnectionError(StreamError, anthropic.APIConnectionError):
    """The connection broke while the reply was being read."""

    retryable = True


class StreamTruncatedError(StreamConnectionError):
    """The body ended cleanly, but before the end of the message."""


class StreamTimeoutError(StreamError, anthropic.APITimeoutError):
    """A clock ran out.

    `clock` says which: `"idle"` (no content for `idle_timeout` seconds), `"total"` (`total_timeout` seconds since
    `open`), or `"read"` (nothing at all on the line for the read timeout of the SDK's client).
    """

    clock: Literal["idle", "total", "read"]
    retryable = True

    def __init__(self, message: str, *, clock: Literal["idle", "total", "read"], response: Any = None) -> None:
        super().__init__(message, response=response)
        self.clock = clock


class StreamAPIError(StreamError, anthropic.APIStatusError):
    """The API sent an `error` event instead of the rest of the reply.

    `type` is the API's error type, for example `"overloaded_error"`. `status_code` is the HTTP status that the API
    gives this type when it refuses a request with it (529 for `"overloaded_error"`), as `response.status_code` is
    always 200. `body` is the event's data.
    """

    def __init__(self, message: str, *, body: object, response: Any = None) -> None:
        self.request_id: str | None = None
        with suppress(AttributeError, RuntimeError):  # no response, or a stand-in that lacks something
            # The SDK reads further fields, which differ between its versions, from the response and the body.
            anthropic.APIStatusError.__init__(self, message, response=response, body=body)
        super().__init__(message, response=response, body=body)
        kind = dig(body, "error", "type")
        self.type: Any = kind if isinstance(kind, str) else None
        self.status_code: int = _STATUS.get(str(kind), 500)
        self.retryable: bool = self.type in _RETRYABLE


class StreamProtocolError(StreamError):
    """The body is no stream of Messages events: bad JSON, bad UTF-8, an event out of order, an HTML page."""


def dig(value: Any, *path: str) -> Any:
    """What stands in nested dicts under `path`; `None` where one of them is no dict or lacks the key."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return value  # pyright: ignore[reportUnknownVariableType]
