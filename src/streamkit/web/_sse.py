"""`sse`: a stream as the body of an HTTP response."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast, overload

import anyio
import anyio.from_thread

from streamkit import AsyncEventStream, AsyncTextStream, EventStream, TextStream

from ._async_frames import AsyncFrames
from ._protocol import Encoder, Protocol
from ._sync_frames import Frames

_LONGEST_PING = 86_400.0  # one day; a wait of a thread is limited as well


@overload
def sse(
    stream: AsyncEventStream[Any, Any, Any], protocol: Protocol, *, ping: float = ..., detach: bool = ...
) -> AsyncFrames: ...
@overload
def sse(stream: EventStream[Any, Any, Any], protocol: Protocol, *, ping: float = ..., detach: bool = ...) -> Frames: ...
def sse(stream: Any, protocol: Protocol, *, ping: float = 15.0, detach: bool = False) -> AsyncFrames | Frames:
    """Return the body of a streaming response: server-sent events as bytes, in the protocol of the frontend.

    `stream` is a stream of `stream_events` that nothing has been read from, opened or not. Of an async stream the body
    is an async iterator with `aclose()`, of a sync stream an iterator with `close()`. Closing it, cancelling its
    consumer, or dropping it closes the connection to the API. Send it with the protocol's `headers`.

    - `ping`: seconds of silence after which a comment is sent, which keeps proxies from ending the response. Silence
      includes the wait for the response, and a sink that takes long.
    - `detach`: if the consumer goes away, read the stream to its end into its sinks all the same, in the background.

    The iterator raises nothing for what happens to the stream: its last frames tell how the reply ended, and the logger
    `streamkit` gets the class of an error, or the traceback of an exception that is not the API's. Open the stream
    yourself, with `open()`, to answer a refused request with an HTTP status: see `http_error`.

    The stream is read ahead of a slow consumer by about 64 kB. For a sync stream this is done in a thread, in which
    sinks are called.

    Raises `TypeError` for a stream of another kind, a protocol that is not an instance of `Protocol`, and a sync stream
    in an async application, which would never close it; `ValueError` for a stream that has ended or a wrong `ping`.
    """
    if isinstance(stream, TextStream | AsyncTextStream):
        raise TypeError(
            f"expected a stream of stream_events, got {type(cast('Any', stream)).__name__}, which lacks tools and "
            "thinking: call stream_events with the same arguments"
        )
    if not _is_event_stream(stream):
        raise TypeError(f"expected a stream of stream_events, got {type(stream).__name__}")
    if not isinstance(protocol, Protocol):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected a protocol such as AISDK(), got {protocol!r}")
    if not isinstance(ping, int | float) or isinstance(ping, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected a number of seconds for ping=, got {ping!r}")
    if not 0 < ping <= _LONGEST_PING:
        raise ValueError(f"expected more than 0 seconds for ping=, and at most a day, got {ping!r}")
    return _frames(stream, protocol.encoder(), ping=ping, detach=detach)


def _frames(
    stream: EventStream[Any, Any, Any] | AsyncEventStream[Any, Any, Any],
    encoder: Encoder,
    *,
    ping: float,
    detach: bool,
) -> AsyncFrames | Frames:
    if stream.status not in ("pending", "streaming"):
        raise ValueError(f"expected a stream that is not over, got one that has ended ({stream.status})")
    if isinstance(stream, AsyncEventStream):
        return AsyncFrames(stream, encoder, ping=ping, detach=detach)
    if _in_async_application():
        raise TypeError(
            "a sync stream in an async application would stay open after the client has left, as Starlette and others "
            "never close a sync iterator: use AsyncAnthropic in an `async def` function"
        )
    return Frames(stream, encoder, ping=ping, detach=detach)


def _is_event_stream(stream: object) -> bool:
    return isinstance(stream, EventStream | AsyncEventStream)


def _in_async_application() -> bool:
    """Return `True` in an event loop, and in a thread of anyio, where Starlette calls sync functions."""
    probes: tuple[Callable[[], object], ...] = (anyio.get_current_task, lambda: anyio.from_thread.run_sync(int))
    for probe in probes:
        with suppress(RuntimeError):  # neither in a task, nor in a thread of anyio
            probe()
            return True
    return False
