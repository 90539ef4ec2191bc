"""Copies a running reply into Redis, as long as this process holds the lease."""

from __future__ import annotations

import asyncio
import logging
import time

import anyio

from ._async_tasks import Signal, Task, make_signal, start
from ._redis_calls import Appended, Lease, RedisCalls
from ._running_reply import LogWriter, RunningReply

_logger = logging.getLogger("streamkit")
_JOINED, _LONGEST_JOINED = 0.02, 0.1  # seconds for which frames are joined to one append
_MOST_FRAMES = 500  # in one append
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 0.3  # seconds until a call that failed is made again


class RedisWriter(LogWriter):
    """The writer of one reply. Ends the reply if the lease is lost."""

    def __init__(self, calls: RedisCalls, lease: Lease) -> None:
        super().__init__(lease.reply)
        self._renewed = self.last_viewed
        self._calls = calls
        self._lease = lease
        self._written = 0  # the number of the last frame that is in Redis
        self._last: list[bytes] | None = None  # the frames that come with the end
        self._done = anyio.Event()
        self._reply: RunningReply
        self._signal: Signal
        self._task: Task

    def start(self, reply: RunningReply) -> None:
        """Start to copy the frames of the reply, in a task."""
        self._reply = reply
        self._signal = make_signal()
        self._task = start(self._run)

    def wake(self) -> None:
        """Note that the reply has new frames."""
        self._signal.set()

    async def finish(self, frames: list[bytes]) -> None:
        """Write what is missing, these last frames, and the end, unless the lease is lost."""
        self._last = frames
        self._signal.set()
        await self._done.wait()

    async def _run(self) -> None:
        try:
            while await self._append():
                if self._last is None:
                    took = time.monotonic() - self._renewed  # long in a busy process, which then writes less often
                    await asyncio.sleep(min(max(_JOINED, took), _LONGEST_JOINED))
                if self._last is None and self._written == len(self._reply.buffer.frames):
                    await self._signal.wait(self._calls.lease / 3)
        finally:
            self._done.set()

    async def _append(self) -> bool:
        """Write the next frames, or only renew the lease. Returns `False` at the end, or if the lease is lost."""
        frames, ended = self._next_frames()
        started = time.monotonic()
        delay = _FIRST_DELAY
        while True:
            try:
                done = await self._calls.append(self._lease, self._written + 1, frames, ended=ended)
                break
            except Exception as error:  # noqa: BLE001 - of the client: the connection, or Redis itself
                if time.monotonic() + delay >= self._renewed + self._calls.lease:
                    _logger.warning("a reply lost its lease, as Redis could not be written: %s", type(error).__name__)
                    done = Appended(-1)
                    break
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
            started = time.monotonic()
        if done.last < 0:
            self._reply.stop("server_lost")
            return False
        self._renewed = started
        self._written = done.last
        self._lease = self._lease._replace(end=done.lease_end)
        self.last_viewed = started - done.unviewed / 1000
        if done.stop:
            self._reply.stop()
        return not done.ended

    def _next_frames(self) -> tuple[list[bytes], bool]:
        """Return the next frames to write, and True if the reply ends with them."""
        stored = self._reply.buffer.frames
        frames = stored[self._written : self._written + _MOST_FRAMES]
        if self._last is None or self._written + len(frames) < len(stored):
            return frames, False
        return frames + self._last[max(0, self._written - len(stored)) :], True
