"""An open stream of the SDK: stable or beta, read by bytes or by events, and what its objects and errors are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

from anthropic.lib import streaming as sdk
from anthropic.types import Message, Usage
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent, BetaUsage

from streamkit._core.attempt import Decoder
from streamkit._core.message import PartialMode
from streamkit._core.sse import JSONObject, SSEDecoder
from streamkit._result import ResponseHeaders
from streamkit.errors import StreamError, StreamProtocolError, StreamTruncatedError

from .failures import ErrorConversion
from .models import SDKEventDecoder, event_factory, event_to_dict

_BETA_HELPER_STREAMS = (sdk.BetaMessageStream, sdk.BetaAsyncMessageStream)
HELPER_STREAMS = (sdk.MessageStream, sdk.AsyncMessageStream, *_BETA_HELPER_STREAMS)


class NoResponse(ErrorConversion):
    """Stands in for a response until the headers arrive."""

    def __init__(self) -> None:
        self.http_response: Any = None
        self.beta = False
        self.by_bytes = True
        self.decoder: Decoder = SSEDecoder()
        # The SDK's object for an event, and for the frame that the event was parsed from. No method: one call less.
        self.to_sdk_event: Callable[[JSONObject, object], Any] = event_factory(False)
        # As the SDK parses incomplete tool input.
        self.partial_mode: PartialMode = True

    @property
    def request_id(self) -> str | None:
        """The API's id of the request; Bedrock has a header of its own for it."""
        return self.header("request-id") or self.header("x-amzn-requestid")

    @property
    def headers(self) -> ResponseHeaders:
        """The headers of the response; empty if there is none."""
        items = getattr(getattr(self.http_response, "headers", None), "items", None)
        return ResponseHeaders() if items is None else ResponseHeaders(items())

    def note_refusal(self, error: BaseException | None) -> None:
        """Take the headers of the response that refused the request, if the SDK's error has one."""
        self.http_response = getattr(error, "response", None) or self.http_response

    def header(self, name: str) -> str | None:
        """Return a header of the response."""
        return _header(self.http_response, name)

    def as_frame(self, chunk: Any) -> bytes:
        """Return a chunk as the bytes of an event stream."""
        if self.by_bytes:
            return bytes(chunk)
        event = event_to_dict(chunk)
        if event is None:
            return b""
        return f"event: {event['type']}\ndata: {json.dumps(event, default=str)}\n\n".encode()

    def build_message(self, message: JSONObject) -> Any:
        """Return the SDK's message, validated no more strictly than by the SDK itself."""
        return (BetaMessage if self.beta else Message).construct(**message)

    def build_usage(self, usage: JSONObject) -> Any:
        """Return the SDK's usage, with zeros for counts that have not arrived."""
        known: JSONObject = {"input_tokens": 0, "output_tokens": 0, **usage}
        return (BetaUsage if self.beta else Usage).construct(**known)

    def truncation_error(self, *, stream_began: bool) -> StreamError:
        """Return the error of our family for a body that ended before its message did."""
        prefix: bytes = getattr(self.decoder, "non_sse_prefix", b"")[:200]
        if self.decoder.unstreamed:
            found = "a complete message as JSON: the server did not stream; look for a gateway that ignores stream=true"
        elif prefix and not stream_began:
            kind = self.header("content-type") or "no content type"
            found = f"a body ({kind}) that begins with {prefix.decode('utf-8', 'replace')!r}"
        else:
            message = "the response ended before message_stop (a proxy or server cut it)"
            return StreamTruncatedError(message, response=self.http_response)
        return StreamProtocolError(f"expected a stream of events, got {found}", response=self.http_response)


class OpenResponse(NoResponse):
    """An open stream of the SDK. `body` is the iterator to read: of bytes, or of the SDK's events.

    Raises `TypeError` for an object that is not a stream.
    """

    def __init__(self, stream: Any, *, is_async: bool, read_by_events: bool = False, manager: Any = None) -> None:
        super().__init__()
        self.http_response: Any = getattr(stream, "response", None)
        if not hasattr(stream, "__anext__" if is_async else "__next__"):
            raise TypeError(f"expected a stream from the call, got {type(stream).__name__}")
        self.beta: bool = _is_beta(stream)
        self.by_bytes: bool = not read_by_events and _has_plain_body(self.http_response)
        self.body: Any = stream
        self.decoder: Decoder
        self.to_sdk_event: Callable[[JSONObject, object], Any]
        if self.by_bytes:
            self.body = _iter_body(self.http_response, is_async=is_async)
            self.to_sdk_event = event_factory(self.beta)
        else:
            decoder = SDKEventDecoder(self.beta, helper=isinstance(stream, HELPER_STREAMS))
            self.decoder, self.to_sdk_event = decoder, decoder.to_sdk_event
            if manager is not None:
                self.body = _ManagedEvents(stream, manager)
        betas = _header(getattr(self.http_response, "request", None), "anthropic-beta") or ""
        if self.beta and "fine-grained-tool-streaming-2025-05-14" in betas:
            self.partial_mode: PartialMode = "trailing-strings"


class _ManagedEvents:
    """The events of a helper stream, sync or async; closing them leaves the manager of the stream."""

    __slots__ = ("_manager", "_stream")

    def __init__(self, stream: Any, manager: Any) -> None:
        self._stream = stream
        self._manager = manager

    def __next__(self) -> Any:
        return next(self._stream)

    def __anext__(self) -> Any:
        return self._stream.__anext__()

    def close(self) -> None:
        self._manager.__exit__(None, None, None)

    async def aclose(self) -> None:
        await self._manager.__aexit__(None, None, None)


def _is_beta(stream: Any) -> bool:
    if isinstance(stream, HELPER_STREAMS):
        return isinstance(stream, _BETA_HELPER_STREAMS)
    # A raw stream is created as `Stream[RawMessageStreamEvent]`, which it keeps.
    union = next(iter(get_args(getattr(stream, "__orig_class__", None))), None)
    return bool(union == BetaRawMessageStreamEvent)


def _has_plain_body(response: Any) -> bool:
    """Return `True` for a body of server-sent events that only streamkit needs to read."""
    if not hasattr(response, "iter_bytes"):
        return False  # a stand-in
    if observer_of(response) is not None:
        return False  # traced: the SDK makes the spans while its own iterator runs
    return not (_header(response, "content-type") or "").startswith("application/vnd.amazon.eventstream")


def _iter_body(response: Any, *, is_async: bool) -> Any:
    """Iterate over the body's bytes as they arrive. If nothing is encoded, skip the layers that decode and count."""
    stream = getattr(response, "stream", None)
    read_ahead = getattr(response, "is_stream_consumed", False)
    if stream is None or read_ahead or _header(response, "content-encoding") not in (None, "identity"):
        return response.aiter_bytes() if is_async else response.iter_bytes()
    response.is_stream_consumed = True  # as those layers do
    return stream.__aiter__() if is_async else iter(stream)


def observer_of(response: Any) -> Any:
    """Return the object with which the SDK traces the response; `None` if it does not."""
    return getattr(getattr(response, "stream", None), "stream_observer", None)


def is_buffered(response: Any) -> bool:
    """Return `True` if the whole body was read by a hook or a transport: then it can be read again."""
    try:
        return response.content is not None
    except Exception:  # noqa: BLE001 - of either HTTP library: the body was not read, or not to its end
        return False


def _header(message: Any, name: str) -> str | None:
    headers = getattr(message, "headers", None)
    return None if headers is None else headers.get(name)
