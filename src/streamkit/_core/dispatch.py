"""The sinks of one stream: which of them listens to what, and which are finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from streamkit._sinks.base import METHODS, AsyncSink, Sink, SinkOrFactory
from streamkit._sinks.resolve import Listener, innermost, is_awaited, listener_of, make_sink, wrapped_sinks


class SinkDispatcher:
    """The listeners of one stream, by what they listen to.

    Raises `TypeError` for an object that is not a sink, and for an `AsyncSink` on a sync stream.
    """

    def __init__(self, sinks: SinkOrFactory | Iterable[SinkOrFactory] | None, *, is_async: bool) -> None:
        self._is_async = is_async
        made = [make_sink(sink) for sink in _listed(sinks)]
        # A sink that is named twice counts once. By identity, as a sink need not be hashable.
        self._sinks: list[Sink | AsyncSink] = list({id(sink): sink for sink in made}.values())
        awaited = [sink for sink in self._sinks if is_awaited(sink)]
        if awaited and not is_async:
            sink = innermost(awaited[0])
            kind = "an AsyncSink" if isinstance(sink, AsyncSink) else "given async functions"
            raise TypeError(
                f"{type(sink).__name__} is {kind} and this stream is sync: use a Sink, or pass an async client"
            )
        self._listeners = tuple(
            [listener for sink in self._sinks if (listener := listener_of(sink, method)) is not None]
            for method in METHODS
        )
        self.text, self.thinking, self.tool_input, self.event, self.attempt = self._listeners
        # `streamkit.testing.record` keeps the body's bytes.
        recorders = [getattr(sink, "_streamkit_body", None) for sink in self._sinks]
        self.recorders: list[Callable[[bytes | None], None]] = [keep for keep in recorders if keep is not None]
        # If any sink has to be awaited, all calls are put here, for the driver to make in order.
        self.pending_calls: deque[tuple[Listener, tuple[Any, ...]]] = deque()
        if awaited:
            for listeners in self._listeners:
                listeners[:] = [partial(self._enqueue, listener) for listener in listeners]
        self._unfinished: Iterator[Sink | AsyncSink] | None = None

    def _enqueue(self, listener: Listener, *items: object) -> None:
        self.pending_calls.append((listener, items))

    def mute(self) -> None:
        """Stop calling the sinks, but for `finish`; also in the middle of a round of calls."""
        for listeners in self._listeners:
            listeners.clear()

    def acquire(self) -> None:
        """Take the sinks for this stream. Raises `RuntimeError` if another stream uses one of them."""
        for sink in self._sinks:
            if not self._acquire(sink):
                raise RuntimeError(
                    f"{type(innermost(sink)).__name__} is in use by another stream: give each stream its own, "
                    "for example by passing its class, or a function that makes a sink"
                )

    def _acquire(self, sink: Sink | AsyncSink) -> bool:
        """Take a sink with the sinks that it wraps. Returns `False` if another stream uses one of them."""
        parts = wrapped_sinks(sink)
        for part in parts:
            if hasattr(part, "_streamkit_is_async"):
                setattr(part, "_streamkit_is_async", self._is_async)  # noqa: B010 - not of every sink
        return all([part.shareable or _owners.setdefault(id(part), self) is self for part in parts])  # noqa: C419 - take all

    def unfinished(self) -> Iterator[Sink | AsyncSink]:
        """Return the sinks that are still to be finished: always the same iterator, so that none is finished twice."""
        if self._unfinished is None:
            # A sink that another stream uses is for that stream to finish.
            self._unfinished = iter([sink for sink in self._sinks if self._acquire(sink)])
        return self._unfinished

    def forget(self) -> None:  # pragma: no cover - in child processes, by the tests of forks
        """Let the sinks go without finishing them, as the parent process does that."""
        self.mute()
        self.release()
        self._sinks.clear()

    def release(self) -> None:
        """Give the sinks back."""
        for sink in self._sinks:
            for part in wrapped_sinks(sink):
                if _owners.get(id(part)) is self:
                    del _owners[id(part)]


# Which stream uses which sink. `setdefault` takes a sink in a single step, whatever other threads do.
_owners: dict[int, SinkDispatcher] = {}


def _listed(sinks: Any) -> list[Any]:
    if sinks is None:
        return []
    if isinstance(sinks, (Sink, AsyncSink)) or callable(sinks):
        return [sinks]
    if isinstance(sinks, (str, bytes)) or not hasattr(sinks, "__iter__") or hasattr(sinks, "write"):
        advice = "; for a file, use StdoutSink(file)" if hasattr(sinks, "write") else ""
        raise TypeError(f"expected a sink, a function, or several of them for sinks=, got {sinks!r}{advice}")
    return list(sinks)
