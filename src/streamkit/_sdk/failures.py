"""Errors of a reply that ends early, and the exceptions that are not errors of the connection."""

from __future__ import annotations

import ast
import json
import random
import sys
from typing import TYPE_CHECKING, Any, Literal

import anthropic

from streamkit._core.sse import WireError
from streamkit.errors import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    StreamTruncatedError,
    dig,
)

if TYPE_CHECKING:
    from .response import Reading

# Pauses before a request is sent again, in seconds: doubled each time, as the SDK does between its own retries.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_ASKED = 0.5, 8.0, 60.0
# What reads a reply: the SDK, what it uses, and the standard library below.
_PEERS = sys.stdlib_module_names | {
    *("streamkit", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "hpack", "anyio", "trio"),
    *("aiohttp", "httpx_aiohttp", "uvloop", "botocore", "pydantic", "pydantic_core", "jiter"),
}


def raised_elsewhere(error: Exception, reading: Reading) -> Exception | None:
    """Return the exception that a signal handler raised while the reader waited; `None` for a connection error.

    An alarm may well raise a `TimeoutError`, which the HTTP library takes for the socket's and wraps. So the frame that
    raised it decides: it belongs to the SDK, to what the SDK uses, or to the program.
    """
    if not _is_peer(type(error).__module__):
        return error
    if reading.response is None or not _is_peer(type(reading.response).__module__):
        return None  # the program's own stand-in for a stream: what it raises is its way to fail
    cause: BaseException | None = error
    while cause is not None:
        trace = cause.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None and not _is_peer(str(trace.tb_frame.f_globals.get("__name__"))):
            return cause if isinstance(cause, Exception) else error
        cause = cause.__cause__
    return None


def _is_peer(module: str) -> bool:
    return module.partition(".")[0] in _PEERS


def explain(error: Exception, reading: Reading) -> StreamError:
    """The error of our family for what reading the body raised."""
    names = {kind.__name__ for kind in type(error).__mro__}
    response = reading.response
    said = str(error) or type(error).__name__
    made: StreamError
    exception = _aws_exception(error)
    if exception is not None:
        made = api_error(exception, reading)
    elif isinstance(error, anthropic.APIStatusError):  # an error event, met by the SDK's iterator
        made = StreamAPIError(api_error_message(error.body, said), body=error.body, response=response)
    elif isinstance(error, TimeoutError) or "TimeoutException" in names:  # the HTTP library's, whichever it is
        made = StreamTimeoutError(
            f"nothing arrived for the read timeout of the client ({said})", clock="read", response=response
        )
    elif (
        isinstance(error, WireError)
        or "DecodingError" in names
        or (not reading.by_bytes and not _is_transport(error, names))
    ):
        made = StreamProtocolError(f"no stream of Messages events: {said}", response=response)
    else:
        made = StreamConnectionError(f"the connection broke while the reply was being read: {said}", response=response)
    made.__cause__ = error
    return made


def truncated(reading: Reading, stream_began: bool) -> StreamError:
    """The error for a body that ended cleanly before its message did."""
    if reading.decoder.unstreamed:
        said = "expected a stream of events, got one whole message as JSON: the server did not stream"
        return StreamProtocolError(f"{said}; look for a gateway that ignores stream=true", response=reading.response)
    foreign = reading.decoder.foreign[:200]
    if foreign and not stream_began:
        said = foreign.decode("utf-8", "replace")
        kind = reading.header("content-type") or "no content type"
        return StreamProtocolError(
            f"the body is no event stream ({kind}), it begins {said!r}", response=reading.response
        )
    return StreamTruncatedError("the body ended cleanly before the end of the message", response=reading.response)


def api_error(event: dict[str, Any], reading: Reading) -> StreamAPIError:
    """The error for an `error` event."""
    try:
        said = str(event)
    except RecursionError:
        said = "an error that is nested too deeply to be shown"
    return StreamAPIError(api_error_message(event, said), body=event, response=reading.response)


def api_error_message(body: Any, fallback: str) -> str:
    """The API's words in an error body, with the error's type before them."""
    message = dig(body, "error", "message")
    return fallback if message is None else f"{dig(body, 'error', 'type')}: {message}"


def _aws_exception(error: Exception) -> dict[str, Any] | None:
    """What ended a stream of Bedrock, as an error event: an older SDK shows it in the text of a plain `ValueError`."""
    text, found, shown = str(error).partition("Bad response code, expected 200: ")
    if type(error) is not ValueError or text or not found:
        return None
    try:
        frame = ast.literal_eval(shown)
        headers, payload = frame["headers"], json.loads(frame["body"] or b"{}")
        kind = headers.get(":exception-type") or headers[":error-code"]
        said = headers.get(":error-message") or payload["message"]
    except (ValueError, SyntaxError, LookupError, TypeError, AttributeError):
        return None
    return {"type": "error", "error": {"type": kind, "message": said}}


def _is_transport(error: Exception, names: set[str]) -> bool:
    # `httpx.TransportError` and `httpx2.TransportError` by name, as the SDK moved from one to the other.
    return isinstance(error, (OSError, EOFError, anthropic.APIConnectionError)) or "TransportError" in names


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception ends what runs from outside: Ctrl-C, a cancellation, a generator that is closed."""
    if isinstance(error, Exception):
        return False
    kinds = {kind.__name__ for kind in type(error).__mro__}
    cancelled = not kinds.isdisjoint({"CancelledError", "Cancelled"})  # of asyncio and of trio
    return cancelled or isinstance(error, (KeyboardInterrupt, GeneratorExit))


def timed_out(clock: Literal["idle", "total"], seconds: float | None, reading: Reading | None) -> StreamTimeoutError:
    """The error for a timeout of ours."""
    if clock == "idle":
        said = f"no content for {seconds} seconds (idle_timeout)"
    else:
        said = f"the reply took longer than {seconds} seconds (total_timeout)"
    return StreamTimeoutError(said, clock=clock, response=reading and reading.response)


def pause_before_retry(reading: Reading | None, attempts: int) -> float:
    """Return how long to wait before the request is sent again, in seconds."""
    asked = reading.header("retry-after") if reading is not None else None
    try:
        seconds = float(asked or 0)
    except ValueError:  # a date: the API sends seconds
        seconds = 0.0
    if 0 < seconds <= _LONGEST_ASKED:
        return seconds
    longest = min(_FIRST_PAUSE * 2.0 ** (attempts - 1), _LONGEST_PAUSE)
    return longest * (1 - 0.25 * random.random())  # noqa: S311 - jitter, no secret
