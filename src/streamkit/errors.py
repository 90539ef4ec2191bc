"""The exceptions of an open stream: `StreamError` and its subclasses.

Before a stream is open, the SDK's own exceptions pass untouched. A failure of an open stream is a `StreamError`, which
carries all that arrived. Each subclass is also the SDK's exception for that failure, so handlers written for the SDK
catch it.
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

# The HTTP status of a request that the API refuses with an error of each type
# (platform.claude.com/docs/en/api/errors). An error event arrives after status 200, and has no status of its own.
_STATUS_CODES = {
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
    # The exceptions that can end a stream of Bedrock.
    "validationException": 400,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "throttlingException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
_RETRYABLE_CODES = frozenset({408, 424, 429, *range(500, 600)})
# Both hold the request, and the request holds the API key: a pickle must not contain them.
_NEVER_PICKLED = frozenset({"request", "response"})


class StreamError(anthropic.APIError):
    """A failure that ended a stream early.

    `result` is the `StreamResult` with all that arrived, `retryable` is true if the same request may succeed when it is
    sent again, and `__cause__` is the underlying exception, if any.
    """

    result: StreamResult[Any, Any]
    retryable: bool = False

    def __init__(self, message: str, *, response: Any = None, body: object = None) -> None:
        Exception.__init__(self, message)
        self.message: str = message
        self.body: object = body
        # `None` if the stream had no HTTP response, and after unpickling; the SDK types it as always present.
        self.request: Any = None
        with suppress(AttributeError, RuntimeError):  # a response made by hand, for a test, may lack the request
            self.request = response.request

    def __reduce__(self) -> tuple[Any, ...]:
        # Bypass `__init__`: its parameters differ between the subclasses. `result` refers back to this error, so it
        # belongs in the state: `pickle` creates the object first and can then resolve the circle.
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
    """The body ended cleanly before the message was complete."""


class StreamTimeoutError(StreamError, anthropic.APITimeoutError):
    """A timeout that expired.

    `clock` says which one: `"idle"` (no content for `idle_timeout` seconds), `"total"` (`total_timeout` seconds since
    `open`), or `"read"` (no bytes within the read timeout of the SDK's client).
    """

    clock: Literal["idle", "total", "read"]
    retryable = True

    def __init__(self, message: str, *, clock: Literal["idle", "total", "read"], response: Any = None) -> None:
        super().__init__(message, response=response)
        self.clock = clock


class StreamAPIError(StreamError, anthropic.APIStatusError):
    """An `error` event that the API sent instead of the rest of the reply.

    `type` is the API's error type, for example `"overloaded_error"`. `status_code` is the HTTP status of a request that
    the API refuses with an error of this type (529 for `"overloaded_error"`); `response.status_code` is always 200.
    `body` is the event's data.
    """

    def __init__(self, message: str, *, body: object, response: Any = None) -> None:
        self.request_id: str | None = None
        with suppress(AttributeError, RuntimeError):  # no response, or a stand-in that lacks an attribute
            # The SDK sets further attributes, which differ between its versions, from the response and the body.
            anthropic.APIStatusError.__init__(self, message, response=response, body=body)
        super().__init__(message, response=response, body=body)
        kind = get_nested(body, "error", "type")
        self.type: Any = kind if isinstance(kind, str) else None
        known_code = _STATUS_CODES.get(str(self.type))
        self.status_code: int = known_code or 500
        self.retryable: bool = known_code in _RETRYABLE_CODES  # an unknown type may be permanent


class StreamProtocolError(StreamError):
    """A body that is not a stream of Messages events: bad JSON, bad UTF-8, an event out of order, an HTML page."""


def status_of(error: Exception) -> Literal["timed_out", "disconnected", "failed"]:
    """Return the status of a stream that an exception of the SDK or of streamkit ends."""
    if isinstance(error, anthropic.APITimeoutError):
        return "timed_out"
    return "disconnected" if isinstance(error, anthropic.APIConnectionError) else "failed"


def is_interruption(error: BaseException) -> bool:
    """Return `True` for an exception that ends code from outside: Ctrl-C, a cancellation, a closed generator."""
    if isinstance(error, Exception):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    cancelled = not names.isdisjoint({"CancelledError", "Cancelled"})  # of asyncio and of trio
    return cancelled or isinstance(error, (KeyboardInterrupt, GeneratorExit))


def get_nested(value: Any, *path: str) -> Any:
    """Return the value in nested dicts under `path`; `None` if one of them is not a dict or lacks the key."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return value  # pyright: ignore[reportUnknownVariableType]
