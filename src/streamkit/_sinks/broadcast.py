"""The sink that passes the text on to any number of async readers."""

# A broadcast and its readers are two halves of one thing.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator
from typing import Any, Literal

import anyio
import anyio.lowlevel
from typing_extensions import Self

from streamkit._options import check_type
from streamkit._result import StreamResult
from streamkit.errors import StreamError

from .base import AsyncSink


class Broadcast(AsyncSink):
    """A sink of async streams that any number of readers iterate: `async for piece in broadcast.reader()`.

    Each reader gets all the text: what came before it began as one piece, then each piece as it arrives. Its iteration
    ends when the stream is complete, and raises the stream's error if the stream ended otherwise. `result` is the
    `StreamResult` once the stream is over.

    A reader may be `maxsize` pieces behind. With `on_slow="wait"` the stream then waits for the reader, and with it all
    other readers do; with `on_slow="drop"` the reader's iteration raises `RuntimeError`. A reader that goes away does
    not affect the others.

    A `Broadcast` serves one stream, and its readers run in the event loop of the stream.
    """

    def __init__(self, maxsize: int = 100, on_slow: Literal["wait", "drop"] = "wait") -> None:
        check_type("maxsize", maxsize, int, "an int")
        if maxsize < 1:
            raise ValueError(f"expected 1 or more for maxsize=, got {maxsize!r}")
        if on_slow not in ("wait", "drop"):
            raise ValueError(f'expected "wait" or "drop" for on_slow=, got {on_slow!r}')
        self.result: StreamResult[Any, Any] | None = None
        self._maxsize = maxsize
        self._waits = on_slow == "wait"
        self._pieces: list[str] = []
        # Weakly: a reader that was left by `break` is gone once nobody refers to it.
        self._readers: weakref.WeakSet[BroadcastReader] = weakref.WeakSet()
        self._arrival = _Signal()  # of a piece, or of the end
        self._departure = _Signal()  # of a piece that a reader took, or of a reader

    def reader(self) -> BroadcastReader:
        """Return a new reader, for one task, at any time: before the stream begins, while it runs, or after its end.

        A reader counts as slow from its first piece on, until it ends, is closed (`aclose()`, `async with`), or nothing
        refers to it. Of a stream that was interrupted the iteration raises `StreamError`.
        """
        return BroadcastReader(self)

    async def attempt(self, number: int, delay: float, error: StreamError | None) -> None:  # noqa: ARG002
        """Refuse a second stream, before its request is sent."""
        self._check_unused()

    async def write(self, text: str) -> None:
        """Pass `text` on, and wait for slow readers, or drop them."""
        self._check_unused()
        self._pieces.append(text)
        self._arrival.send()
        if self._waits:
            while self._slow_readers():
                await self._departure.wait()
        elif self._slow_readers():
            for _ in range(2):  # a reader that only waits for its turn is not slow; trio takes turns in any order
                await anyio.lowlevel.checkpoint()
            for reader in self._slow_readers():
                reader._dropped = True
                reader._leave()

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        """Let each reader come to its end."""
        self._check_unused()
        self.result = result
        self._arrival.send()

    def _check_unused(self) -> None:
        if self.result is not None:
            raise RuntimeError("expected a Broadcast for one stream, got a second stream: make one for each stream")

    def _slow_readers(self) -> list[BroadcastReader]:
        limit = len(self._pieces) - self._maxsize
        return [reader for reader in self._readers if reader._position < limit]


class BroadcastReader(AsyncIterator[str]):
    """A reader of a `Broadcast`: an async iterator over the pieces of text, for one task.

    A reader counts as one, and can be too slow, from its first piece on, until its iteration ends, it is dropped, or
    `aclose` is called. `async with` closes it.
    """

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self._position = 0  # of the next piece
        self._dropped = False
        self._closed = False

    async def __anext__(self) -> str:
        source = self._broadcast
        while not self._closed:
            if self._dropped:
                raise RuntimeError(
                    f"this reader was dropped, as it was more than {source._maxsize} pieces behind: read faster, "
                    'or use a larger maxsize= or on_slow="wait"'
                )
            first, end = self._position, len(source._pieces)
            if first < end:
                # What came before a reader began is one piece.
                began = self in source._readers
                self._position = first + 1 if began else end
                source._readers.add(self)
                source._departure.send()
                return "".join(source._pieces[first : self._position])
            if source.result is not None:
                self._leave()
                if source.result.status == "complete":
                    break
                raise _error_of(source.result)
            source._readers.add(self)
            try:
                await source._arrival.wait()
            except BaseException:
                self._leave()  # cancelled, and possibly gone; a reader that goes on misses nothing
                raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Leave. Harmless when repeated."""
        self._closed = True
        self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        self._broadcast._readers.discard(self)
        self._broadcast._departure.send()


class _Signal:
    """Wakes all that wait for the next thing to happen."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def send(self) -> None:
        """Wake all that wait now."""
        event, self._event = self._event, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Wait for the next `send`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


def _error_of(result: StreamResult[Any, Any]) -> Exception:
    """Return the error that ended a stream. An interruption is not raised in the task of another."""
    if isinstance(result.error, Exception):
        return result.error
    error = StreamError("the stream was interrupted before its end")
    error.result = result
    return error
