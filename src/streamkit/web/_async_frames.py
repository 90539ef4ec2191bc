"""The frames of an async stream, read in a task of its own so that pings can be sent meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from typing_extensions import Self

from streamkit import AsyncEventStream

from ._async_tasks import Signal, make_signal, start
from ._outcome import ONE_READER_MESSAGE, PING, joined
from ._protocol import Encoder
from ._stream_reader import StreamReader


class _Reader(StreamReader):
    """A reader that keeps the frames until the consumer takes them."""

    def __init__(self, stream: AsyncEventStream[Any, Any, Any], encoder: Encoder) -> None:
        super().__init__(stream, encoder)
        self.frames: list[bytes] = []
        self.arrived: Signal

    def start(self) -> None:
        """Start to read. Raises `RuntimeError` where no event loop is running."""
        self.arrived = make_signal()
        super().start()

    def _put(self, frames: list[bytes]) -> None:
        if frames and not self.discards:
            if not self.frames:  # else the consumer has been told
                self.arrived.set()
            self.frames += frames
            self.size += sum(map(len, frames))

    async def _put_last(self, frames: list[bytes]) -> None:
        self._put(frames)

    def _on_end(self) -> None:
        self.arrived.set()

    def take(self) -> bytes:
        """Return all frames that wait for the consumer."""
        self.size = self.events_in_a_row = 0
        self.taken.set()
        return joined(self.frames)

    def leave(self) -> None:
        """Note that the consumer has left: nothing is kept for it any more."""
        self.discards = True
        self.frames.clear()
        self.size = 0
        if self.task is not None:
            self.taken.set()
            self.arrived.set()


class AsyncFrames(AsyncIterator[bytes]):
    """The frames of an async stream, as bytes: the body of a streaming response. Made by `sse`.

    An item is one frame or several, or a comment. Cancelling the task that waits for an item, `aclose()`, and dropping
    the iterator close the stream, unless `detach=True` lets it go on.
    """

    def __init__(self, stream: AsyncEventStream[Any, Any, Any], encoder: Encoder, *, ping: float, detach: bool) -> None:
        self._reader = _Reader(stream, encoder)
        self._ping = ping
        self._detach = detach
        self._waiting = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._waiting:
            raise RuntimeError(ONE_READER_MESSAGE)
        self._waiting = True
        try:
            while not self._closed:
                if self._reader.task is None:
                    self._reader.start()
                if self._reader.frames:
                    return self._reader.take()
                if self._reader.ended:
                    break
                if not await self._reader.arrived.wait(self._ping):
                    return PING
            await self.aclose()
        except GeneratorExit:  # the coroutine is being closed, and may not await
            self._drop()
            raise
        except BaseException:  # cancelled
            await self.aclose()
            raise
        finally:
            self._waiting = False
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the stream and its connection; with `detach=True`, let it go on. Harmless when repeated."""
        self._closed = True
        reader = self._reader
        if self._detach and not reader.ended:
            self._let_go_on()
            return
        reader.leave()
        if reader.task is not None:
            reader.stream.cancel()  # closes the connection at once, also while a sink is awaited
            await reader.task.stop()
        with suppress(Exception):  # of a sink, which the log has
            await reader.stream.aclose()

    def _let_go_on(self) -> None:
        """Let the stream be read to its end in the background."""
        if self._reader.task is None:
            self._reader.start()
        self._reader.leave()

    def _drop(self) -> None:
        """Do what needs no awaiting, and leave the rest to a task."""
        self._closed = True
        reader = self._reader
        if self._detach and not reader.ended:
            self._let_go_on()
        elif reader.task is not None:
            reader.leave()
            reader.stream.cancel()
            reader.task.cancel()
        else:
            start(reader.stream.aclose)

    def __del__(self) -> None:
        # Starlette drops the iterator without closing it if the client leaves while a frame is being sent.
        if not getattr(self, "_closed", True) and not self._reader.ended:
            with suppress(RuntimeError):  # there is no event loop any more
                self._drop()
