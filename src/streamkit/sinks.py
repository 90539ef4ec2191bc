"""The places that text is sent to while it arrives.

Pass a sink to any of the four functions with `sinks=`. Subclass `Sink` (or, for async streams, `AsyncSink`) and
override the methods that you need; a method that is not overridden costs nothing.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from ._result import StreamResult
from ._sinks.base import AsyncSink, Sink
from ._sinks.base import SinkOrFactory as SinkOrFactory  # noqa: PLC0414 - for annotations
from ._sinks.broadcast import Broadcast
from ._sinks.callback import CallbackSink
from ._sinks.coalesce import coalesce
from ._sinks.isolate import isolate
from ._sinks.stdout import StdoutSink

__all__ = [
    "AsyncSink",
    "Broadcast",
    "BufferSink",
    "CallbackSink",
    "ModelUsage",
    "Sink",
    "StdoutSink",
    "UsageMeter",
    "coalesce",
    "isolate",
]


class BufferSink(Sink):
    """A sink that keeps the text in memory. Safe to read from another thread while the text arrives.

    `text` is all text so far, `chunks` the pieces as they arrived, `result` the `StreamResult` once the stream is over.
    A second stream replaces the text of the first.
    """

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self.result: StreamResult[Any, Any] | None = None

    @property
    def chunks(self) -> tuple[str, ...]:
        """The pieces of text, in the order in which they arrived."""
        return tuple(self._chunks)

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._chunks)

    def write(self, text: str) -> None:
        """Keep `text`."""
        if self.result is not None:
            self._chunks, self.result = [], None
        self._chunks.append(text)

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """Keep the result."""
        if self.result is not None:  # a second stream, without any text
            self._chunks = []
        self.result = result


@dataclass
class ModelUsage:
    """The counts of a `UsageMeter`: tokens, streams, and streams whose output tokens are a lower bound."""

    streams: int = 0
    not_final_streams: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0

    def add(self, result: StreamResult[Any, Any]) -> None:
        """Count one more stream, with the tokens of all its attempts."""
        # A failed attempt without `message_start` is left out: the API has reported no usage for it.
        attempts = [failed.result for failed in result.failed_attempts if failed.result.message is not None]
        attempts.append(result)
        self.streams += 1
        self.not_final_streams += not all(attempt.usage_final for attempt in attempts)
        for attempt in attempts:
            self.output_tokens += attempt.min_output_tokens
            for name in _INPUT_TOKENS:
                setattr(self, name, getattr(self, name) + (getattr(attempt.usage, name, None) or 0))


_INPUT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
# One lock for all meters: a thread of the parent may hold it at a fork, so the child replaces it.
_usage_lock = threading.Lock()


def _replace_usage_lock() -> None:  # pragma: no cover - in child processes, by the tests of forks
    global _usage_lock  # noqa: PLW0603
    _usage_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_replace_usage_lock)


class UsageMeter(Sink):
    """A sink that sums usage, in tokens, over many streams, also from many threads at once.

    `total` is the sum over all streams, `by_model` the sums by model. A stream that was retried counts once, with the
    tokens of all its attempts. `not_final_streams` counts the streams with an attempt that ended before the API sent
    its final usage: their output tokens are a lower bound, `StreamResult.min_output_tokens`. A stream that ended before
    the API named its model counts under `"unknown"`.
    """

    shareable = True

    def __init__(self) -> None:
        self.total: ModelUsage = ModelUsage()
        self.by_model: dict[str, ModelUsage] = {}

    def __repr__(self) -> str:
        return f"UsageMeter(total={self.total!r}, by_model={self.by_model!r})"

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """Count the usage of a stream."""
        attempts = [result, *(failed.result for failed in reversed(result.failed_attempts))]
        model = next((str(attempt.message.model) for attempt in attempts if attempt.message is not None), "unknown")
        with _usage_lock:
            self.total.add(result)
            self.by_model.setdefault(model, ModelUsage()).add(result)
