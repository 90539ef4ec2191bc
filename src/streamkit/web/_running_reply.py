"""A reply that is read in this process, whether somebody views it or not."""

from __future__ import annotations

import abc
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from streamkit import AsyncEventStream

from ._async_tasks import Task, start
from ._endings import ReplyStopped
from ._protocol import Encoder
from ._reply_frames import ReplyBuffer
from ._stream_reader import StreamReader

_logger = logging.getLogger("streamkit")


class Limits(NamedTuple):
    """The limits of a reply."""

    keep: float
    """Seconds for which a reply that has ended is kept."""
    detached: float
    """Seconds without any viewer after which a reply is stopped."""
    max_bytes: int
    """The size of the frames above which a reply is stopped."""


class LogWriter(abc.ABC):
    """Copies the frames of one reply into a log that other processes read."""

    def __init__(self, reply_id: str) -> None:
        self.reply_id = reply_id
        self.last_viewed = time.monotonic()  # when a viewer in another process was last seen

    @abc.abstractmethod
    def start(self, reply: RunningReply) -> None:
        """Start to copy the frames of the reply, in a task."""

    @abc.abstractmethod
    def wake(self) -> None:
        """Note that the reply has new frames."""

    @abc.abstractmethod
    async def finish(self, frames: list[bytes]) -> None:
        """Write what is missing, these last frames, and the end. Raises nothing for a log that cannot be written."""


class RunningReply(StreamReader):
    """Reads a stream into a buffer, and stops it beyond the limits."""

    def __init__(
        self,
        stream: AsyncEventStream[Any, Any, Any],
        encoder: Encoder,
        limits: Limits,
        writer: LogWriter | None,
    ) -> None:
        super().__init__(stream, encoder)
        self.reply_id = secrets.token_hex(16) if writer is None else writer.reply_id
        self.buffer = ReplyBuffer(self.reply_id)
        self.done = anyio.Event()
        self._limits = limits
        self._writer = writer
        self._reason: ReplyStopped | None = None
        self._watch: Task

    def run(self, forget: Callable[[RunningReply], None]) -> None:
        """Start to read. Calls `forget` once the reply need not be kept any more."""
        if self._writer is not None:
            self._writer.start(self)
        self.start()

        async def watch() -> None:
            await self._watch_viewers()
            await anyio.sleep(self._limits.keep)
            forget(self)

        self._watch = start(watch)

    def stop(self, kind: str | None = None) -> None:
        """Interrupt the reply. `kind` is the kind of error that its viewers are told, if any."""
        if self._reason is None and kind is not None and not self.ended:
            self._reason = ReplyStopped(kind)
        self.stream.cancel()

    async def stop_watching(self) -> None:
        """End the task that keeps the reply."""
        await self._watch.stop()

    async def _watch_viewers(self) -> None:
        """Wait for the end of the reply, and stop the reply if nobody views it for too long."""
        longest = self._limits.detached
        while not self.ended:
            # A viewer that leaves during this wait leaves the rest of `detached` to the next one.
            seconds = longest
            if not self.buffer.has_viewers:
                last = max(self.buffer.last_viewed, self._writer.last_viewed if self._writer is not None else 0)
                seconds += last - time.monotonic()
            if seconds <= 0:
                self.stop("no_viewers")
                await self.done.wait()
            with anyio.move_on_after(seconds):
                await self.done.wait()

    def _put(self, frames: list[bytes]) -> None:
        if frames:
            self.buffer.add(self.buffer.numbered(frames))
            if self._writer is not None:
                self._writer.wake()
            if self.buffer.size > self._limits.max_bytes:
                self.stop("reply_too_large")

    def _last_frames(self, error: Exception | None) -> list[bytes]:
        reason = self._reason if self.stream.status == "interrupted" else None
        if reason is not None:
            _logger.warning("%s", reason)
        return super()._last_frames(error or reason)

    async def _put_last(self, frames: list[bytes]) -> None:
        """Add the last frames. Viewers get them after the log: on the end of a reply the next one may follow."""
        last = self.buffer.numbered(frames)
        if self._writer is not None:
            await self._writer.finish(last)
        self.ended = True
        self.buffer.add(last, ended=True)

    def _on_end(self) -> None:
        self.buffer.add([], ended=True)
        self.done.set()
