"""Exceptions of the SDK, the HTTP library and signal handlers, and the errors of our family that they become."""

from __future__ import annotations

import ast
import json
import sys
import traceback
from typing import Any

import anthropic

from streamkit._core.sse import ProtocolViolation
from streamkit.errors import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    get_nested,
)

# What reads a reply: the SDK, what it uses, and the standard library.
_READERS = sys.stdlib_module_names | {
    *("streamkit", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "hpack", "anyio", "trio"),
    *("aiohttp", "httpx_aiohttp", "uvloop", "botocore", "pydantic", "pydantic_core", "jiter"),
}


class ErrorConversion:
    """Turns what goes wrong while a response is read into errors of our family."""

    http_response: Any
    by_bytes: bool

    def foreign_exception(self, error: Exception) -> Exception | None:
        """Return the exception that a signal handler raised while the reader waited; `None` for a failure to read.

        An alarm may well raise a `TimeoutError`, which the HTTP library takes for the socket's and wraps. So the frame
        that raised the exception decides: it belongs to the SDK and what the SDK uses, or to the program.
        """
        if not _is_reader(type(error).__module__):
            return error
        if self.http_response is None or not _is_reader(type(self.http_response).__module__):
            return None  # the program's own stand-in for a stream: its exceptions are its way to fail
        cause: BaseException | None = error
        while cause is not None:
            frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
            if frames and not _is_reader(str(frames[-1].f_globals.get("__name__"))):
                return cause if isinstance(cause, Exception) else error
            cause = cause.__cause__
        return None

    def to_stream_error(self, error: Exception) -> StreamError:
        """Return the error of our family for an exception of reading or decoding the body."""
        names = {kind.__name__ for kind in type(error).__mro__}
        response = self.http_response
        detail = str(error) or type(error).__name__
        # By name, as the SDK moved from `httpx` to `httpx2`.
        is_transport = isinstance(error, (OSError, EOFError, anthropic.APIConnectionError)) or "TransportError" in names
        stream_error: StreamError
        aws_event = _bedrock_error_event(error)
        if aws_event is not None:
            stream_error = self.error_from_event(aws_event)
        elif isinstance(error, anthropic.APIStatusError):  # an error event that the SDK's iterator met
            stream_error = StreamAPIError(_api_message(error.body, detail), body=error.body, response=response)
        elif isinstance(error, TimeoutError) or "TimeoutException" in names:  # that of `httpx` or of `httpx2`
            message = f"the server sent nothing within the client's read timeout ({detail})"
            stream_error = StreamTimeoutError(message, clock="read", response=response)
        elif isinstance(error, ProtocolViolation) or "DecodingError" in names or not (self.by_bytes or is_transport):
            message = f"the response is not a stream of Messages events: {detail}"
            stream_error = StreamProtocolError(message, response=response)
        else:
            message = f"the connection broke while the reply was being read: {detail}"
            stream_error = StreamConnectionError(message, response=response)
        stream_error.__cause__ = error
        return stream_error

    def error_from_event(self, event: dict[str, Any]) -> StreamAPIError:
        """Return the error of our family for an `error` event."""
        try:
            shown = str(event)
        except RecursionError:
            shown = "an error that is nested too deeply to be shown"
        return StreamAPIError(_api_message(event, shown), body=event, response=self.http_response)


def _is_reader(module: str) -> bool:
    return module.partition(".")[0] in _READERS


def _api_message(body: Any, fallback: str) -> str:
    message = get_nested(body, "error", "message")
    return fallback if message is None else f"{get_nested(body, 'error', 'type')}: {message}"


def _bedrock_error_event(error: Exception) -> dict[str, Any] | None:
    """Return the error that ended a stream of Bedrock as an event: older SDKs show it in the text of a `ValueError`."""
    text, found, shown = str(error).partition("Bad response code, expected 200: ")
    if type(error) is not ValueError or text or not found:
        return None
    try:
        frame = ast.literal_eval(shown)
        headers, payload = frame["headers"], json.loads(frame["body"] or b"{}")
        kind = headers.get(":exception-type") or headers[":error-code"]
        message = headers.get(":error-message") or payload["message"]
    except (ValueError, SyntaxError, LookupError, TypeError, AttributeError):
        return None
    return {"type": "error", "error": {"type": kind, "message": message}}
