"""Streamed replies from Claude: text as it arrives, a status, and a result that is valid however the stream ended.

Four functions, each for sync and async sources: `stream_text`, `stream_events`, `collect` and `streamed`.
`streamkit.testing` has a loopback server for tests.
"""

from ._api import collect, stream_events, stream_text, streamed
from ._io.async_stream import AsyncEventStream, AsyncTextStream
from ._io.sync_stream import EventStream, TextStream
from ._params import BetaMessageParams, MessageParams, StreamOptions
from ._result import InvalidToolInput, Status, StreamResult, Timing
from .errors import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    StreamTruncatedError,
)
from .sinks import (
    AsyncSink,
    Broadcast,
    BufferSink,
    CallbackSink,
    ModelUsage,
    Sink,
    StdoutSink,
    UsageMeter,
    coalesce,
    isolate,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncEventStream",
    "AsyncSink",
    "AsyncTextStream",
    "BetaMessageParams",
    "Broadcast",
    "BufferSink",
    "CallbackSink",
    "EventStream",
    "InvalidToolInput",
    "MessageParams",
    "ModelUsage",
    "Sink",
    "Status",
    "StdoutSink",
    "StreamAPIError",
    "StreamConnectionError",
    "StreamError",
    "StreamOptions",
    "StreamProtocolError",
    "StreamResult",
    "StreamTimeoutError",
    "StreamTruncatedError",
    "TextStream",
    "Timing",
    "UsageMeter",
    "coalesce",
    "collect",
    "isolate",
    "stream_events",
    "stream_text",
    "streamed",
]
