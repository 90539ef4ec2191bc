"""An open stream of the SDK: whether it is stable or beta, and read by bytes or by events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from anthropic.lib import streaming as sdk
from anthropic.types.beta import BetaRawMessageStreamEvent

from streamkit._core.sse import EventDecoder

from .models import SDKEvents, as_dict, event_maker

if TYPE_CHECKING:
    from .sources import Source

_BETA_HELPER_STREAMS = (sdk.BetaMessageStream, sdk.BetaAsyncMessageStream)
HELPER_STREAMS = (sdk.MessageStream, sdk.AsyncMessageStream, *_BETA_HELPER_STREAMS)


class Reading:
    """An open stream of the SDK, and how it is read.

    `body` is the iterator to read from, of bytes or of the SDK's events; `decoder` makes event dicts of what it gives,
    and `to_object` the SDK's event objects of those.
    """

    __slots__ = ("beta", "body", "by_bytes", "decoder", "partial_mode", "response", "stream", "to_object")

    def __init__(self, stream: Any, source: Source) -> None:
        self.stream = stream
        response: Any = getattr(stream, "response", None)
        self.response = response
        if not hasattr(stream, "__anext__" if source.is_async else "__next__"):
            raise TypeError(f"the call returned {type(stream).__name__}, no stream")
        self.beta = _is_beta(stream)
        self.by_bytes = not source.lives_on and _has_plain_body(response)
        self.body: Any = stream
        self.decoder: Any
        if self.by_bytes:
            self.decoder = EventDecoder()
            self.to_object = event_maker(self.beta)
            self.body = _body(response, source)
        else:
            self.decoder = SDKEvents(self.beta, helper=isinstance(stream, HELPER_STREAMS))
            self.to_object = self.decoder.to_object
            if source.manager is not None:
                self.body = _Entered(stream, source.manager)
        betas = _header(getattr(response, "request", None), "anthropic-beta") or ""
        fine_grained = self.beta and "fine-grained-tool-streaming-2025-05-14" in betas
        # As the SDK reads tool input that was cut.
        self.partial_mode: Any = "trailing-strings" if fine_grained else True

    @property
    def request_id(self) -> str | None:
        """The API's id of the request; Bedrock has a header of its own for it."""
        return self.header("request-id") or self.header("x-amzn-requestid")

    def header(self, name: str) -> str | None:
        """A header of the response."""
        return _header(self.response, name)

    def frame(self, chunk: Any) -> bytes:
        """What was read as the bytes of an event stream."""
        if self.by_bytes:
            return bytes(chunk)
        event = as_dict(chunk)
        if event is None:
            return b""
        return f"event: {event['type']}\ndata: {json.dumps(event, default=str)}\n\n".encode()


class _Entered:
    """The events of a helper stream, sync or async; closing them leaves its manager."""

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
    # A raw stream is made as `Stream[RawMessageStreamEvent]`, and says so.
    union = next(iter(get_args(getattr(stream, "__orig_class__", None))), None)
    return bool(union == BetaRawMessageStreamEvent)


def _has_plain_body(response: Any) -> bool:
    """Whether the body can be read by bytes: server-sent events, and nobody else needs to see them pass."""
    if not hasattr(response, "iter_bytes"):
        return False  # a stand-in
    if observer_of(response) is not None:
        return False  # traced: the SDK makes the spans while its own iterator runs
    return not (_header(response, "content-type") or "").startswith("application/vnd.amazon.eventstream")


def _body(response: Any, source: Source) -> Any:
    """The body's bytes, as they arrive. Where nothing is encoded, past the layers that would decode and count."""
    stream = getattr(response, "stream", None)
    read_ahead = getattr(response, "is_stream_consumed", False)
    if stream is None or read_ahead or _header(response, "content-encoding") not in (None, "identity"):
        return response.aiter_bytes() if source.is_async else response.iter_bytes()
    response.is_stream_consumed = True  # as those layers say
    return stream.__aiter__() if source.is_async else iter(stream)


def observer_of(response: Any) -> Any:
    """What the SDK traces the response with; `None` where nothing does."""
    return getattr(getattr(response, "stream", None), "stream_observer", None)


def is_buffered(response: Any) -> bool:
    """Whether the whole body is there, as a hook or a transport read it: then it can be read again."""
    try:
        return response.content is not None
    except Exception:  # noqa: BLE001 - the HTTP library's, whichever it is: nobody read it, or not to its end
        return False


def _header(message: Any, name: str) -> str | None:
    headers = getattr(message, "headers", None)
    return None if headers is None else headers.get(name)
