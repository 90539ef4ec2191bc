"""How a reply ended, in words that are safe to show to anyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import anthropic

from streamkit import StreamProtocolError, StreamResult

# The kinds of error: the HTTP status for a request that was refused, and the sentence for the user.
_ERRORS = {
    "request_refused": (400, "The model could not accept this request."),
    "request_too_large": (413, "This request is too large for the model."),
    "rate_limited": (429, "Too many requests. Please try again later."),
    "internal_error": (500, "Something went wrong on the server."),
    "unreachable": (502, "The model could not be reached. Please try again."),
    "disconnected": (502, "The connection to the model was lost. Please try again."),
    "api_error": (502, "The model failed to answer. Please try again."),
    "invalid_response": (502, "The model sent an invalid reply. Please try again."),
    "server_lost": (502, "The server was lost in the middle of the reply. Please try again."),
    "no_viewers": (500, "The reply was stopped because nobody was reading it."),
    "reply_too_large": (500, "The reply was stopped because it became too large."),
    "overloaded": (503, "The model is overloaded. Please try again later."),
    "timeout": (504, "The model took too long to answer. Please try again."),
}
# By the HTTP status of the API (platform.claude.com/docs/en/api/errors). A wrong key, a missing permission and an
# unknown model (401 to 404) are faults of the server's configuration, which are no business of its users.
_BY_STATUS = {
    400: "request_refused",
    401: "internal_error",
    402: "internal_error",
    403: "internal_error",
    404: "internal_error",
    408: "timeout",
    413: "request_too_large",
    422: "request_refused",
    429: "rate_limited",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_LARGEST = 2**53 - 1  # the largest integer that JavaScript represents exactly


class HTTPError(NamedTuple):
    """The answer to a request that failed before the first byte of the reply."""

    status: int
    """The HTTP status."""
    text: str
    """A sentence for the user, safe to send. `useChat` shows the body of such a response as it is."""


def http_error(error: BaseException) -> HTTPError:
    """Return the HTTP status and a safe sentence for an exception of `await stream.open()`.

    Call it with an `anthropic.APIError`; any other exception gives status 500. Of the exception only its class and the
    API's HTTP status are used. The errors of the API map to 400 (the request was refused), 413, 429, 503 (overloaded)
    and 504 (timeout), a wrong API key or model to 500, and all other failures of the API or the network to 502.
    """
    return HTTPError(*_ERRORS[error_kind(error)])


class ReplyStopped(Exception):  # noqa: N818 - the server meant it
    """The reason for which the server stopped a reply: `kind` is a key of the table of sentences."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the server stopped the reply: {kind}")
        self.kind = kind


def error_kind(error: BaseException) -> str:
    """Return the kind of an error, a key of the table of sentences."""
    if isinstance(error, ReplyStopped):
        return error.kind
    if isinstance(error, anthropic.APITimeoutError):
        return "timeout"
    if isinstance(error, anthropic.APIConnectionError):
        # An error of an open stream has the result so far; one of `open` is the SDK's own.
        return "disconnected" if hasattr(error, "result") else "unreachable"
    if isinstance(error, anthropic.APIStatusError):
        return _BY_STATUS.get(error.status_code, "api_error" if error.status_code >= 500 else "request_refused")
    if isinstance(error, StreamProtocolError):
        return "invalid_response"
    return "api_error" if isinstance(error, anthropic.APIError) else "internal_error"


@dataclass(frozen=True)
class Ending:
    """How a reply ended."""

    status: str
    """The status of the result; `"failed"` as well for an exception outside of the stream."""
    error: str | None
    """The kind of error, if the reply ended in one."""
    stop_reason: str | None
    """The stop reason of the API, if any."""
    usage: dict[str, int]
    """The counts of tokens by the API's names; empty if the API sent none."""
    usage_final: bool
    """False if `output_tokens` is a lower bound."""
    model: str | None
    """The model that answered."""

    @property
    def sentence(self) -> str:
        """The sentence for the user, of a reply that ended in an error."""
        return _ERRORS[self.error or "internal_error"][1]


def ending_of(result: StreamResult[Any, Any], error: BaseException | None) -> Ending:
    """Return how a reply ended: by its result, and by an exception that was raised outside of the stream."""
    status: str = result.status
    cause = error or result.error
    stopped = isinstance(error, ReplyStopped)  # the server interrupted the stream: the status of the result says so
    if error is not None and not stopped and not (isinstance(error, anthropic.APIError) and error is result.error):
        status = "failed"
    kind = error_kind(cause or RuntimeError()) if stopped or status not in ("complete", "interrupted") else None
    reason = result.stop_reason
    return Ending(
        status,
        kind,
        reason if isinstance(reason, str) else None,
        {} if result.message is None else _usage(result),
        result.usage_final,
        None if result.message is None else str(result.message.model),
    )


LOST = Ending("disconnected", "server_lost", None, {}, usage_final=False, model=None)
"""The ending of a reply whose server was lost, as another server tells it."""

_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def _usage(result: StreamResult[Any, Any]) -> dict[str, int]:
    counts = {name: getattr(result.usage, name, None) for name in _INPUT_COUNTS}
    counts["output_tokens"] = result.min_output_tokens
    return {name: count for name, count in counts.items() if isinstance(count, int) and 0 <= count <= _LARGEST}
