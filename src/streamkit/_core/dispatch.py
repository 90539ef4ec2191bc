"""The sinks of one stream: which of them listens to what, and which are finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeAlias

from streamkit.sinks import AsyncSink, Sink, SinkOrFactory

if TYPE_CHECKING:
    pass


Listener: TypeAlias = Callable[[Any], Any]


class SinkDispatcher:
    """The listeners of one stream, by what they listen to.

    Raises `TypeError` for an object that is not a sink, and for an `AsyncSink` on a sync stream.
    """

    __slots__ = ("_sinks", "_unfinished", "event", "pending_calls", "recorders", "text", "thinking")

    def __init__(self, sinks: SinkOrFactory | Iterable[SinkOrFactory] | None, *, is_async: bool) -> None:
        made = [_make(sink) for sink in _listed(sinks)]
        # A sink that is named twice counts once. By identity, as a sink need not be hashable.
        self._sinks: list[Sink | AsyncSink] = list({id(sink): sink for sink in made}.values())
        awaited = [sink for sink in self._sinks if _is_awaited(sink)]
        if awaited and not is_async:
            kind = "an AsyncSink" if isinstance(awaited[0], AsyncSink) else "given async functions"
            raise TypeError(
                f"{type(awaited[0]).__name__} is {kind} and this stream is sync: use a Sink, or hand in an async client"
            )
        self.text: list[Listener] = [sink.write for sink in self._sinks if _overrides(sink, "write")]
        self.thinking: list[Listener] = [sink.thinking for sink in self._sinks if _overrides(sink, "thinking")]
        self.event: list[Listener] = [sink.event for sink in self._sinks if _overrides(sink, "event")]
        # `streamkit.testing.record` keeps the body's bytes.
        recorders = [getattr(sink, "_streamkit_body", None) for sink in self._sinks]
        self.recorders: list[Callable[[bytes | None], None]] = [keep for keep in recorders if keep is not None]
        # If any sink has to be awaited, all calls are put here, for the driver to make in order.
        self.pending_calls: deque[tuple[Listener, Any]] = deque()
        if awaited:
            for listeners in (self.text, self.thinking, self.event):
                listeners[:] = [partial(self._enqueue, listener) for listener in listeners]
        self._unfinished: Iterator[Sink | AsyncSink] | None = None

    def _enqueue(self, listener: Listener, item: object) -> None:
        self.pending_calls.append((listener, item))

    def mute(self) -> None:
        """Stop calling the sinks, but for `finish`; also in the middle of a round of calls."""
        for listeners in (self.text, self.thinking, self.event):
            listeners.clear()

    def acquire(self) -> None:
        """Take the sinks for this stream. Raises `RuntimeError` if another stream uses one of them."""
        for sink in self._sinks:
            if not sink.shareable and _owners.setdefault(id(sink), self) is not self:
                raise RuntimeError(
                    f"{type(sink).__name__} is in use by another stream: give each stream its own, "
                    "for example by handing in the class or a function that makes one"
                )

    def unfinished(self) -> Iterator[Sink | AsyncSink]:
        """Return the sinks that are still to be finished: always the same iterator, so that none is finished twice."""
        if self._unfinished is None:
            # A sink that another stream uses is for that stream to finish.
            ours = [sink for sink in self._sinks if sink.shareable or _owners.setdefault(id(sink), self) is self]
            self._unfinished = iter(ours)
        return self._unfinished

    def forget(self) -> None:  # pragma: no cover - in child processes, by the tests of forks
        """Let the sinks go without finishing them, as the parent process does that."""
        self.mute()
        self.release()
        self._sinks.clear()

    def release(self) -> None:
        """Give the sinks back."""
        for sink in self._sinks:
            if _owners.get(id(sink)) is self:
                del _owners[id(sink)]


# Which stream uses which sink. `setdefault` takes a sink in a single step, whatever other threads do.
_owners: dict[int, SinkDispatcher] = {}


def _listed(sinks: Any) -> list[Any]:
    if sinks is None:
        return []
    if isinstance(sinks, (Sink, AsyncSink)) or callable(sinks):
        return [sinks]
    if isinstance(sinks, (str, bytes)) or not hasattr(sinks, "__iter__") or hasattr(sinks, "write"):
        raise TypeError(f"expected a sink, a function that makes one, or several of them for sinks=, got {sinks!r}")
    return list(sinks)


def _make(sink: object) -> Sink | AsyncSink:
    made = sink() if callable(sink) and not isinstance(sink, (Sink, AsyncSink)) else sink
    if not isinstance(made, (Sink, AsyncSink)):
        raise TypeError(f"expected a sink, got {made!r}: subclass streamkit.Sink, or use CallbackSink(on_text=...)")
    return made


def _overrides(sink: Sink | AsyncSink, name: str) -> bool:
    base = AsyncSink if isinstance(sink, AsyncSink) else Sink
    return getattr(getattr(sink, name), "__func__", None) is not getattr(base, name)


def _is_awaited(sink: Sink | AsyncSink) -> bool:
    """Return `True` if calls of the sink must be awaited: an `AsyncSink`, or a `CallbackSink` of async functions."""
    methods = (sink.write, sink.thinking, sink.event, sink.finish)
    return isinstance(sink, AsyncSink) or any(iscoroutinefunction(method) for method in methods)
