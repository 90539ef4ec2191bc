"""Where text goes while it arrives.

A sink is handed to any of the four functions with `sinks=`. Subclass `Sink` (or, for async streams, `AsyncSink`) and
override what you need; what a sink does not override costs nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import methodcaller
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


AnySink: TypeAlias = Sink | AsyncSink
SinkOrFactory: TypeAlias = AnySink | Callable[[], AnySink]


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
        if self._in_thinking:
            self._in_thinking = False
            text = "\n\n" + text
        self._put(text)

    def thinking(self, text: str) -> None:
        """Write and flush the thinking, if it was asked for."""
        if self._thinking:
            self._in_thinking = True
            self._put(text)

    def finish(self, result: StreamResult[Any, Any]) -> None:  # noqa: ARG002 - the text is out already
        """Write `end`, unless the text ended with it or there was none."""
        if self._last and not self._last.endswith(self._end):
            self._put(self._end)
        self._last, self._in_thinking = "", False

    def _put(self, text: str) -> None:
        # Looked up for each piece, as programs and test runners replace `sys.stdout`; `None` under pythonw.
        file = self._file or sys.stdout
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
    """What a `UsageMeter` counted: streams, streams whose usage was not final, and tokens."""

    streams: int = 0
    not_final: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0

    def add(self, result: StreamResult[Any, Any]) -> None:
        """Count one more stream."""
        self.streams += 1
        self.not_final += not result.usage_final
        for name in _TOKENS:
            setattr(self, name, getattr(self, name) + (getattr(result.usage, name, None) or 0))


_TOKENS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


@dataclass
class UsageMeter(Sink):
    """Sums usage, in tokens, over many streams, also from many threads at once.

    `total` is the sum of all, `by_model` one sum for each model that answered. `not_final` in each counts the streams
    that ended before the API had sent the final usage: their output tokens are a lower bound. A stream that ended
    before the API named its model counts under `"unknown"`.
    """

    shareable: ClassVar[bool] = True

    total: ModelUsage = field(default_factory=ModelUsage)
    by_model: dict[str, ModelUsage] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """Count the usage of a stream."""
        model = "unknown" if result.message is None else str(result.message.model)
        with self._lock:
            self.total.add(result)
            self.by_model.setdefault(model, ModelUsage()).add(result)


class SinkSet:
    """The sinks of one stream: which listens to what, and who is finished.

    Raises `TypeError` for what is no sink, and for an `AsyncSink` on a sync stream.
    """

    __slots__ = ("_finishing", "_sinks", "any_async", "bodies", "event", "text", "thinking")

    def __init__(self, sinks: SinkOrFactory | Iterable[SinkOrFactory] | None, *, is_async: bool) -> None:
        self._sinks = [_make(sink) for sink in _listed(sinks)]
        for sink in self._sinks:
            if isinstance(sink, AsyncSink) and not is_async:
                raise TypeError(
                    f"{type(sink).__name__} is an AsyncSink and this stream is sync: "
                    "use a Sink, or hand in an async client"
                )
        self.text = [sink.write for sink in self._sinks if _overrides(sink, "write")]
        self.thinking = [sink.thinking for sink in self._sinks if _overrides(sink, "thinking")]
        self.event = [sink.event for sink in self._sinks if _overrides(sink, "event")]
        # `streamkit.testing.record` keeps the body's bytes.
        found = [getattr(sink, "_streamkit_body", None) for sink in self._sinks]
        self.bodies: list[Callable[[bytes | None], None]] = [keep for keep in found if keep is not None]
        self.any_async = any(isinstance(sink, AsyncSink) for sink in self._sinks)
        self._finishing: Iterator[object] | None = None

    def claim(self) -> None:
        """Take the sinks for one stream. Raises `RuntimeError` when one is in use already."""
        for sink in self._sinks:
            if not sink.shareable and _in_use.setdefault(id(sink), self) is not self:
                raise RuntimeError(
                    f"{type(sink).__name__} is in use by another stream: give each stream its own, "
                    "for example by handing in the class or a function that makes one"
                )

    def finishing(self, result: StreamResult[Any, Any]) -> Iterator[Awaitable[None] | None]:
        """Each step calls `finish` of one more sink; the same iterator each time, so that no sink is called twice."""
        if self._finishing is None:
            # A `map` over C: between taking the next sink and calling it, no interrupt can come in between.
            # A sink that is in use by another stream is that stream's to finish.
            ours = [sink for sink in self._sinks if sink.shareable or _in_use.setdefault(id(sink), self) is self]
            self._finishing = map(methodcaller("finish", result), ours)
        return self._finishing  # type: ignore[return-value]

    def release(self) -> None:
        """Give the sinks back."""
        for sink in self._sinks:
            if _in_use.get(id(sink)) is self:
                del _in_use[id(sink)]


# Which stream uses which sink. `setdefault` claims one in a single step, whatever other threads do.
_in_use: dict[int, SinkSet] = {}


def _listed(sinks: Any) -> list[Any]:
    if sinks is None:
        return []
    if isinstance(sinks, (Sink, AsyncSink)) or callable(sinks):
        return [sinks]
    try:
        return list(sinks)
    except TypeError:
        raise TypeError(f"sinks= takes a sink, a function that makes one, or several of them, not {sinks!r}") from None


def _make(sink: Any) -> AnySink:
    made = sink() if callable(sink) and not isinstance(sink, (Sink, AsyncSink)) else sink
    if not isinstance(made, (Sink, AsyncSink)):
        raise TypeError(f"{made!r} is no sink: subclass streamkit.Sink, or use CallbackSink(on_text=...)")
    return made


def _overrides(sink: AnySink, name: str) -> bool:
    base = AsyncSink if isinstance(sink, AsyncSink) else Sink
    return getattr(getattr(sink, name), "__func__", None) is not getattr(base, name)
