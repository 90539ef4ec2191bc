"""The frames of an async stream, read in a task of its own so that pings can be sent meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from typing_extensions import Self

from streamkit import AsyncEventStream

from ._async_tasks import Signal, Task, make_signal, start
from ._outcome import PING, READ_AHEAD, joined, log_failure
from ._protocol import Encoder


class _Reader:
    """Reads the stream to its end, and keeps the frames until the consumer takes them."""

    def __init__(self, stream: AsyncEventStream[Any, Any, Any], encoder: Encoder) -> None:
        self.stream = stream
        self.encoder = encoder
        self.frames: list[bytes] = []
        self.size = 0
        self.ended = False
        self.consumer_left = False
        self.arrived: Signal
        self.taken: Signal
        self.task: Task | None = None

    def start(self) -> None:
        """Start to read, in a task. Raises `RuntimeError` where no event loop is running."""
        self.arrived, self.taken = make_signal(), make_signal()
        self.task = start(self._run)

    async def _run(self) -> None:
        try:
            error = await self._read()
            await self._close()
            self._put(self.encoder.finish(self.stream.result, error))
        except Exception as caught:  # noqa: BLE001 - of the encoder; nobody awaits this task
            log_failure(caught)
        except BaseException:  # cancelled
            await self._close()
            raise
        finally:
            self.ended = True
            self.arrived.set()

    async def _read(self) -> Exception | None:
        """Read the stream, and return the exception that it, a sink or the encoder raised."""
        try:
            self._put(self.encoder.start())
            async for event in self.stream:
                if not self.consumer_left:
                    self._put(self.encoder.event(event))
                    while self.size >= READ_AHEAD:
                        await self.taken.wait(None)
        except Exception as caught:  # noqa: BLE001 - told to the browser, and logged
            log_failure(caught)
            return caught
        return None

    async def _close(self) -> None:
        """Close the stream, which is over already, except after a cancellation or an exception of the encoder."""
        with suppress(Exception):  # of a sink; the log has the first one
            await self.stream.aclose()

    def _put(self, frames: list[bytes]) -> None:
        if frames and not self.consumer_left:
            self.frames += frames
            self.size += sum(map(len, frames))
            self.arrived.set()

    def take(self) -> bytes:
        """Return all frames that wait for the consumer."""
        self.size = 0
        self.taken.set()
        return joined(self.frames)

    def leave(self) -> None:
        """Note that the consumer has left: nothing is kept for it any more."""
        self.consumer_left = True
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
            raise RuntimeError("these frames are being read already: one reader at a time")
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
