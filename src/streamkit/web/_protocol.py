"""What a protocol is: response headers, and an encoder for each reply."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from streamkit import StreamResult

# `x-accel-buffering` keeps nginx from buffering the response
# (nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering).
SSE_HEADERS: Mapping[str, str] = MappingProxyType(
    {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}
)


class Encoder(abc.ABC):
    """Turns the events of one reply into frames. Does no I/O; each reply needs an encoder of its own.

    A frame is one server-sent event as bytes, with the blank line at its end. Frames may be stored and sent again: they
    depend on the events alone. Call `start` once, `event` for each event, and `finish` once.
    """

    @abc.abstractmethod
    def start(self) -> list[bytes]:
        """Return the frames that begin the reply."""

    @abc.abstractmethod
    def event(self, event: Any) -> list[bytes]:
        """Return the frames for an event that `stream_events` yields; often one, sometimes none."""

    @abc.abstractmethod
    def finish(self, result: StreamResult[Any, Any], error: BaseException | None = None) -> list[bytes]:
        """Close what is open, and return the frames that tell how the reply ended.

        `error` is an exception that is not in the result: one that was raised outside of the stream.
        """


class Protocol(abc.ABC):
    """A protocol that a frontend understands. `headers` are those of the HTTP response, by lower-case names."""

    headers: ClassVar[Mapping[str, str]] = SSE_HEADERS

    @abc.abstractmethod
    def encoder(self) -> Encoder:
        """Make the encoder for one reply."""

    @abc.abstractmethod
    def lost(self, frames: Iterable[bytes]) -> list[bytes]:
        """Return the frames that end a reply whose server was lost. `frames` are those that were sent so far."""
