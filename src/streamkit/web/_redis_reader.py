"""Follows replies that other processes read: one follower a reply, and one connection for all their news."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio

from ._async_tasks import Task, make_signal, start
from ._protocol import Protocol
from ._redis_calls import RedisCalls, text
from ._reply_frames import ReplyBuffer

_POLL = 0.25  # seconds after which a follower looks without being told to
_GRACE = 0.3  # seconds for which the owner of a lease may be late, as Redis lost its last renewal in a restart
_LISTENING = 0.1  # seconds after which the listener looks for new followers
_STUCK = 2.0  # seconds after which the listener makes a new connection
_BETWEEN_FRAMES = re.compile(rb"(?<=\n\n)(?=id: )")


class _Follower:
    """Copies a reply from Redis into a buffer, for all its viewers in this process, until they have left."""

    def __init__(self, calls: RedisCalls, key: str, reply: str, protocol: Protocol) -> None:
        self.buffer = ReplyBuffer(reply)
        self.loaded = anyio.Event()  # all that was there has been read, or cannot be read
        self.task: Task
        self._calls = calls
        self._key = key
        self._reply = reply
        self._protocol = protocol
        self._signal = make_signal()
        self._has_news = False
        self._alive_until = time.monotonic() + calls.lease  # when the lease of the owner ends, as far as is known

    def wake(self) -> None:
        """Note that there are new frames."""
        self._has_news = True
        self._signal.set()

    async def run(self) -> None:
        """Read until the end of the reply, until its owner is lost, or until no viewer is left."""
        try:
            while self.buffer.has_viewers:
                self._has_news = False
                try:
                    await self._read()
                    self.loaded.set()
                except Exception:  # noqa: BLE001 - of the client; the lease tells for how long to try again
                    await asyncio.sleep(_LISTENING)
                if self.buffer.ended or time.monotonic() >= self._alive_until + _GRACE:
                    break
                if not self._has_news:
                    await self._signal.wait(_POLL)
        finally:
            self._end()
            self.loaded.set()

    async def _read(self) -> None:
        """Take all that is there."""
        buffer, is_full = self.buffer, True
        while is_full:
            count = len(buffer.frames)
            found = await self._calls.read(self._key, self._reply, count, viewed=buffer.has_viewers)
            if found.lease_left > 0 or not self.loaded.is_set():
                self._alive_until = time.monotonic() + found.lease_left
            for last, joined in found.entries:
                frames = _BETWEEN_FRAMES.split(joined)
                # After a restart of Redis, frames may be joined in another way than before.
                buffer.add(frames[max(0, len(buffer.frames) - last + len(frames)) :])
            if found.ended:
                buffer.add([], ended=True)
            is_full = found.is_full

    def _end(self) -> None:
        """Tell the viewers, if there are any, that the server was lost, unless they have the end of the reply."""
        buffer = self.buffer
        if buffer.has_viewers and not buffer.ended:
            buffer.lost_at = len(buffer.frames)
            sent = (frame.partition(b"\n")[2] for frame in buffer.frames)  # without the ids
            buffer.add(buffer.numbered(self._protocol.lost(sent)), ended=True)


class RedisReader:
    """The followers of this process, and the connection over which they hear of new frames."""

    def __init__(self, client: Any, calls: RedisCalls) -> None:
        self._client = client
        self._calls = calls
        self._followers: dict[str, _Follower] = {}  # by channel
        self._listener: Task | None = None

    @asynccontextmanager
    async def following(self, key: str, reply: str, protocol: Protocol) -> AsyncGenerator[ReplyBuffer]:
        """Give the buffer of a reply, with all that is there. The buffer grows as long as it has viewers."""
        channel = self._calls.channel(key, reply)
        follower = self._followers.get(channel)
        if follower is None:
            follower = self._followers[channel] = _Follower(self._calls, key, reply, protocol)
            follower.task = start(partial(self._run, channel, follower))
            if self._listener is None:
                self._listener = start(self._listen)
        viewer = follower.buffer.join()  # until the caller's own one is there
        try:
            await follower.loaded.wait()
            yield follower.buffer
        finally:
            follower.buffer.leave(viewer)

    async def aclose(self) -> None:
        """Stop to follow. Viewers are told that the server was lost: they may resume at another process."""
        for follower in list(self._followers.values()):
            await follower.task.stop()
        if self._listener is not None:
            await self._listener.stop()

    async def _run(self, channel: str, follower: _Follower) -> None:
        try:
            await follower.run()
        finally:
            del self._followers[channel]

    async def _listen(self) -> None:
        """Listen as long as there are followers. They look by themselves where there is no connection."""
        try:
            while self._followers:
                try:
                    async with self._client.pubsub() as connection:
                        await self._hear(connection)
                except Exception:  # noqa: BLE001 - of the client
                    await asyncio.sleep(_LISTENING)
        finally:
            self._listener = None

    async def _hear(self, connection: Any) -> None:
        subscribed: set[str] = set()
        while wanted := set(self._followers):
            with anyio.fail_after(_STUCK):  # redis-py may wait longer until it connects again
                if added := wanted - subscribed:
                    await connection.subscribe(*added)
                if removed := subscribed - wanted:
                    await connection.unsubscribe(*removed)
                subscribed = wanted
                message = await connection.get_message(ignore_subscribe_messages=True, timeout=_LISTENING)
            follower = None if message is None else self._followers.get(text(message["channel"]))
            if follower is not None:
                follower.wake()
