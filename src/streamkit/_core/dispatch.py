"""The sinks of one stream: who listens to what, who is in use, and who is finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from inspect import iscoroutinefunction
from itertools import chain, repeat
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from streamkit.sinks import AsyncSink, Sink, SinkOrFactory

if TYPE_CHECKING:
    from streamkit._result import StreamResult


class SinkSet:
    """The sinks of one stream: which listens to what, and who is finished.

    Raises `TypeError` for what is no sink, and for an `AsyncSink` on a sync stream.
    """

    __slots__ = ("_finishing", "_sinks", "bodies", "calls", "event", "text", "thinking")

    def __init__(self, sinks: SinkOrFactory | Iterable[SinkOrFactory] | None, *, is_async: bool) -> None:
        made = [_make(sink) for sink in _listed(sinks)]
        # One that is named twice is still one sink. By identity, as a sink need not be hashable.
        self._sinks: list[Sink | AsyncSink] = list({id(sink): sink for sink in made}.values())
        awaited = [sink for sink in self._sinks if _is_awaited(sink)]
        if awaited and not is_async:
            kind = "an AsyncSink" if isinstance(awaited[0], AsyncSink) else "given async functions"
            raise TypeError(
                f"{type(awaited[0]).__name__} is {kind} and this stream is sync: use a Sink, or hand in an async client"
            )
        self.text: list[Callable[[str], Any]] = [sink.write for sink in self._sinks if _overrides(sink, "write")]
        self.thinking: list[Callable[[str], Any]] = [
            sink.thinking for sink in self._sinks if _overrides(sink, "thinking")
        ]
        self.event: list[Callable[[Any], Any]] = [sink.event for sink in self._sinks if _overrides(sink, "event")]
        # `streamkit.testing.record` keeps the body's bytes.
        found = [getattr(sink, "_streamkit_body", None) for sink in self._sinks]
        self.bodies: list[Callable[[bytes | None], None]] = [keep for keep in found if keep is not None]
        # Where one of them has to be awaited, calls are put here for the driver, in place of being made.
        self.calls: deque[tuple[Callable[[Any], Any], Any]] = deque()
        if awaited:
            for listeners in (self.text, self.thinking, self.event):
                listeners[:] = [partial(self._later, listener) for listener in listeners]
        self._finishing: Iterator[object] | None = None

    def _later(self, listener: Callable[[Any], Any], item: Any) -> None:
        self.calls.append((listener, item))

    def silence(self) -> None:
        """Tell nobody anything any more but the end, also where somebody is being told just now."""
        for listeners in (self.text, self.thinking, self.event):
            listeners.clear()

    def claim(self) -> None:
        """Take the sinks for one stream. Raises `RuntimeError` when one is in use already."""
        for sink in self._sinks:
            if not sink.shareable and _in_use.setdefault(id(sink), self) is not self:
                raise RuntimeError(
                    f"{type(sink).__name__} is in use by another stream: give each stream its own, "
                    "for example by handing in the class or a function that makes one"
                )

    def finishing(self, result: StreamResult[Any, Any]) -> Iterator[object]:
        """Each step calls `finish` of one more sink, and gives `FINISHED` after the last.

        The same iterator each time, so that no sink is called twice.
        """
        if self._finishing is None:
            # A `map` over C: between taking the next sink and calling it, no interrupt can come in between.
            # A sink that is in use by another stream is that stream's to finish.
            ours = [sink for sink in self._sinks if sink.shareable or _in_use.setdefault(id(sink), self) is self]
            # Without an end of its own: a `StopIteration` is a sink's.
            self._finishing = map(methodcaller("finish", result), chain(ours, repeat(_End)))
        return self._finishing

    def forget(self) -> None:  # pragma: no cover - in child processes, by the tests of forks
        """Let the sinks go without finishing them, as the parent process does that."""
        self.silence()
        self.release()
        self._sinks.clear()

    def release(self) -> None:
        """Give the sinks back."""
        for sink in self._sinks:
            if _in_use.get(id(sink)) is self:
                del _in_use[id(sink)]


FINISHED = object()


class _End:
    @staticmethod
    def finish(_: object) -> object:
        return FINISHED


# Which stream uses which sink. `setdefault` claims one in a single step, whatever other threads do.
_in_use: dict[int, SinkSet] = {}


def _listed(sinks: Any) -> list[Any]:
    if sinks is None:
        return []
    if isinstance(sinks, (Sink, AsyncSink)) or callable(sinks):
        return [sinks]
    if isinstance(sinks, (str, bytes)) or not hasattr(sinks, "__iter__") or hasattr(sinks, "write"):
        raise TypeError(f"sinks= takes a sink, a function that makes one, or several of them, not {sinks!r}")
    return list(sinks)


def _make(sink: Any) -> Sink | AsyncSink:
    made = sink() if callable(sink) and not isinstance(sink, (Sink, AsyncSink)) else sink
    if not isinstance(made, (Sink, AsyncSink)):
        raise TypeError(f"{made!r} is no sink: subclass streamkit.Sink, or use CallbackSink(on_text=...)")
    return made


def _overrides(sink: Sink | AsyncSink, name: str) -> bool:
    base = AsyncSink if isinstance(sink, AsyncSink) else Sink
    return getattr(getattr(sink, name), "__func__", None) is not getattr(base, name)


def _is_awaited(sink: Sink | AsyncSink) -> bool:
    """Whether the sink has to be awaited: an `AsyncSink`, and a `CallbackSink` of async functions."""
    methods = (sink.write, sink.thinking, sink.event, sink.finish)
    return isinstance(sink, AsyncSink) or any(iscoroutinefunction(method) for method in methods)
