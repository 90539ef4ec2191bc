"""Where text goes while it arrives.

A sink is handed to any of the four functions with `sinks=`. Subclass `Sink` (or, for async streams, `AsyncSink`) and
override what you need; what a sink does not override costs nothing.
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
    """Receives a reply while it arrives. All four methods do nothing here; override what you need.

    A method that raises ends the stream: the connection is closed, the other sinks are finished with status
    `"failed"`, and the exception reaches the caller unchanged. A sink serves one stream at a time, unless its class
    sets `shareable`; then its methods may be called from several threads at once.
    """

    shareable: ClassVar[bool] = False

    def write(self, text: str) -> None:
        """A piece of text arrived. Never empty."""

    def thinking(self, text: str) -> None:
        """A piece of thinking arrived. Never empty."""

    def event(self, event: Any) -> None:
        """An event arrived: the object that the SDK's own raw iterator yields."""

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """The stream is over. Called exactly once, whatever ended it."""


class AsyncSink:
    """A `Sink` whose methods are coroutines. Only async streams take one."""

    shareable: ClassVar[bool] = False

    async def write(self, text: str) -> None:
        """A piece of text arrived. Never empty."""

    async def thinking(self, text: str) -> None:
        """A piece of thinking arrived. Never empty."""

    async def event(self, event: Any) -> None:
        """An event arrived: the object that the SDK's own raw iterator yields."""

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        """The stream is over. Called exactly once, whatever ended it."""


SinkOrFactory: TypeAlias = Sink | AsyncSink | Callable[[], Sink | AsyncSink]
"""What `sinks=` takes, alone or several of them."""


class StdoutSink(Sink):
    """Writes the text to standard output, or to `file`, as it arrives, and flushes each piece.

    `end` is written when the stream is over if what was written does not end with it, and something was. With
    `thinking` the thinking is written too. Characters that the file's encoding lacks are replaced. The file is never
    closed.
    """

    def __init__(self, file: TextIO | None = None, end: str = "\n", thinking: bool = False) -> None:
        self._file = file
        self._end = end
        self._thinking = thinking
        self._last = ""  # the end of what was written
        self._in_thinking = False

    def write(self, text: str) -> None:
        """Write and flush `text`."""
        self._put(text, in_thinking=False)

    def thinking(self, text: str) -> None:
        """Write and flush the thinking, if it was asked for."""
        if self._thinking:
            self._put(text, in_thinking=True)

    def finish(self, result: StreamResult[Any, Any]) -> None:  # noqa: ARG002 - the text is out already
        """Write `end`, unless the text ended with it or there was none."""
        if self._last and not self._last.endswith(self._end):
            self._put(self._end, in_thinking=self._in_thinking)
        self._last = ""

    def _put(self, text: str, *, in_thinking: bool) -> None:
        if self._last and in_thinking != self._in_thinking:
            text = "\n\n" + text
        self._in_thinking = in_thinking
        # Looked up for each piece, as programs and test runners replace `sys.stdout`; `None` under pythonw.
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
    """Calls a function for each piece of text, each piece of thinking, each event, and at the end.

    Each is optional. Plain functions, called in the thread or task that reads the stream; one object may serve many
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
                    raise TypeError(f"a callback is no function: {callback!r}")
                # In place of the method, so that the stream sees what is listened to and calls it directly.
                setattr(self, name, callback)


class BufferSink(Sink):
    """Keeps the text in memory. Safe to read from another thread while it fills.

    `text` is all text so far, `chunks` the pieces as they came, `result` the `StreamResult` once the stream is over.
    When it is used for another stream after that, it starts anew.
    """

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self.result: StreamResult[Any, Any] | None = None

    @property
    def chunks(self) -> tuple[str, ...]:
        """The pieces of text, in the order in which they came."""
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
        if self.result is not None:  # a second stream, which brought no text
            self._chunks = []
        self.result = result


@dataclass
class ModelUsage:
    """What a `UsageMeter` counted: streams, streams whose output tokens are a lower bound, and tokens."""

    streams: int = 0
    not_final: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0

    def add(self, result: StreamResult[Any, Any]) -> None:
        """Count one more stream, with the tokens of all its attempts."""
        # An attempt that failed before the API began a message has cost nothing, as far as anybody knows.
        began = [failed.result for failed in result.failed_attempts if failed.result.message is not None]
        self.streams += 1
        self.not_final += not all(attempt.usage_final for attempt in (result, *began))
        for attempt in (result, *began):
            self.output_tokens += attempt.min_output_tokens
            for name in _INPUT_TOKENS:
                setattr(self, name, getattr(self, name) + (getattr(attempt.usage, name, None) or 0))


_INPUT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
# One for all meters, so that the child of a fork can start with one that no thread of its parent holds.
_counting = threading.Lock()


def _count_anew() -> None:  # pragma: no cover - in child processes, by the tests of forks
    global _counting  # noqa: PLW0603
    _counting = threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_count_anew)


class UsageMeter(Sink):
    """Sums usage, in tokens, over many streams, also from many threads at once.

    `total` is the sum of all, `by_model` one sum for each model that answered. A stream that was retried counts once,
    with the tokens of all its attempts. `not_final` in each counts the streams of which an attempt ended before the API
    had sent its final usage: their output tokens are a lower bound, `StreamResult.min_output_tokens`. A stream that
    ended before the API named its model counts under `"unknown"`.
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
        with _counting:
            self.total.add(result)
            self.by_model.setdefault(model, ModelUsage()).add(result)
