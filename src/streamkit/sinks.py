"""The places that text is sent to while it arrives.

Pass a sink to any of the four functions with `sinks=`. Subclass `Sink` (or, for async streams, `AsyncSink`) and
override the methods that you need; a method that is not overridden costs nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TextIO, TypeAlias

if TYPE_CHECKING:
    from ._result import StreamResult

__all__ = ["AsyncSink", "BufferSink", "CallbackSink", "Sink", "StdoutSink", "UsageMeter"]


class Sink:
    """A receiver of a reply while it arrives. The four methods do nothing here; override those that you need.

    A method that raises ends the stream: the connection is closed, the other sinks are finished with status
    `"failed"`, and the exception reaches the caller unchanged. A sink serves one stream at a time, unless its class
    sets `shareable`; then its methods may be called from several threads at once.
    """

    shareable: ClassVar[bool] = False

    def write(self, text: str) -> None:
        """Take a piece of text, which is never empty."""

    def thinking(self, text: str) -> None:
        """Take a piece of thinking, which is never empty."""

    def event(self, event: Any) -> None:
        """Take an event: the object that the SDK's own raw iterator yields."""

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """Take the result. Called exactly once, however the stream ended."""


class AsyncSink:
    """A `Sink` whose methods are coroutines. Only async streams take one."""

    shareable: ClassVar[bool] = False

    async def write(self, text: str) -> None:
        """Take a piece of text, which is never empty."""

    async def thinking(self, text: str) -> None:
        """Take a piece of thinking, which is never empty."""

    async def event(self, event: Any) -> None:
        """Take an event: the object that the SDK's own raw iterator yields."""

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        """Take the result. Called exactly once, however the stream ended."""


SinkOrFactory: TypeAlias = Sink | AsyncSink | Callable[[], Sink | AsyncSink]
"""An item of `sinks=`: a sink, or a function that makes one."""


class StdoutSink(Sink):
    """A sink that writes the text to standard output, or to `file`, and flushes each piece.

    When the stream is over, `end` is written unless the output is empty or ends with it already. With `thinking=True`
    the thinking is written too. Characters that the file's encoding lacks are replaced. The file is never closed.
    """

    def __init__(self, file: TextIO | None = None, end: str = "\n", thinking: bool = False) -> None:
        self._file = file
        self._end = end
        self._thinking = thinking
        self._last = ""  # the last characters of the output
        self._in_thinking = False

    def write(self, text: str) -> None:
        """Write and flush `text`."""
        self._put(text, in_thinking=False)

    def thinking(self, text: str) -> None:
        """Write and flush the thinking, if the sink was made with `thinking=True`."""
        if self._thinking:
            self._put(text, in_thinking=True)

    def finish(self, result: StreamResult[Any, Any]) -> None:  # noqa: ARG002 - the text is out already
        """Write `end`, unless the output is empty or ends with it already."""
        if self._last and not self._last.endswith(self._end):
            self._put(self._end, in_thinking=self._in_thinking)
        self._last = ""

    def _put(self, text: str, *, in_thinking: bool) -> None:
        if self._last and in_thinking != self._in_thinking:
            text = "\n\n" + text
        self._in_thinking = in_thinking
        # Look `sys.stdout` up for each piece: programs and test runners replace it. It is `None` under pythonw.
        file = sys.stdout if self._file is None else self._file
        if file is None:  # pyright: ignore[reportUnnecessaryComparison]
            return
        try:
            file.write(text)
        except UnicodeEncodeError:
            encoding = file.encoding or "ascii"
            file.write(text.encode(encoding, "replace").decode(encoding))
        file.flush()
        self._last = (self._last + text)[-max(len(self._end), 1) :]


class CallbackSink(Sink):
    """A sink that calls functions: for each piece of text or thinking, for each event, and with the result.

    Each function is optional. The thread or task that reads the stream calls them; one `CallbackSink` may serve many
    streams at once.
    """

    shareable = True

    def __init__(
        self,
        on_text: Callable[[str], object] | None = None,
        on_thinking: Callable[[str], object] | None = None,
        on_event: Callable[[Any], object] | None = None,
        on_finish: Callable[[StreamResult[Any, Any]], object] | None = None,
    ) -> None:
        callbacks = {"write": on_text, "thinking": on_thinking, "event": on_event, "finish": on_finish}
        for name, callback in callbacks.items():
            if callback is not None:
                if not callable(callback):
                    raise TypeError(f"expected a function as a callback, got {callback!r}")
                # Replace the method: the stream sees that the sink overrides it, and calls the function directly.
                setattr(self, name, callback)


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
