"""`sse`: a stream as the body of an HTTP response."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, overload

import anyio
import anyio.from_thread

from streamkit import AsyncEventStream, EventStream

from ._arguments import check_protocol, check_seconds, check_stream
from ._async_frames import AsyncFrames
from ._protocol import Encoder, Protocol
from ._sync_frames import Frames


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
    check_stream(stream)
    check_protocol(protocol)
    check_seconds("ping", ping)
    return _frames(stream, protocol.encoder(), ping=ping, detach=detach)


def _frames(
    stream: EventStream[Any, Any, Any] | AsyncEventStream[Any, Any, Any],
    encoder: Encoder,
    *,
    ping: float,
    detach: bool,
) -> AsyncFrames | Frames:
    if isinstance(stream, AsyncEventStream):
        return AsyncFrames(stream, encoder, ping=ping, detach=detach)
    if _in_async_application():
        raise TypeError(
            "a sync stream in an async application would stay open after the client has disconnected, as Starlette and "
            "others never close a sync iterator: use AsyncAnthropic in an `async def` function"
        )
    return Frames(stream, encoder, ping=ping, detach=detach)


def _in_async_application() -> bool:
    """Return `True` in an event loop, and in a thread of anyio, where Starlette calls sync functions."""
    probes: tuple[Callable[[], object], ...] = (anyio.get_current_task, lambda: anyio.from_thread.run_sync(int))
    for probe in probes:
        with suppress(RuntimeError):  # neither in a task, nor in a thread of anyio
            probe()
            return True
    return False
