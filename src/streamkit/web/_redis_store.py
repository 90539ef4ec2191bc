"""All that `Replies` needs of Redis."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import anyio

from ._async_tasks import on_asyncio
from ._protocol import Protocol
from ._redis_calls import RedisCalls
from ._redis_log import RedisLog
from ._redis_reader import RedisReader
from ._redis_writer import RedisWriter
from ._reply_frames import ReplyBuffer

_POLL = 0.05  # seconds between two looks for the end of a reply in another process


class RedisStore:
    """The writers and the readers of one `Replies`."""

    def __init__(self, log: RedisLog, keep: float) -> None:
        self._calls = RedisCalls(log)
        self._reader = RedisReader(log.client, self._calls)
        self._keep = keep

    async def acquire(self, key: str) -> RedisWriter | None:
        """Return the writer for a new reply, or `None` while another one is running under the key."""
        _require_asyncio()
        lease = await self._calls.acquire(key, self._keep)
        return None if lease is None else RedisWriter(self._calls, lease)

    async def current(self, key: str) -> str | None:
        """Return the id of the last reply, if it may be resumed."""
        _require_asyncio()
        found = await self._calls.current(key)
        return None if found is None or found.ended_for > self._keep else found.reply

    def following(self, key: str, reply: str, protocol: Protocol) -> AbstractAsyncContextManager[ReplyBuffer]:
        """Give the buffer of a reply that another process reads, with all that is there."""
        return self._reader.following(key, reply, protocol)

    async def stop(self, key: str) -> bool:
        """Ask for the end of the running reply, and wait for it, or for the end of the lease of its owner."""
        _require_asyncio()
        reply = await self._calls.request_stop(key)
        if reply is None:
            return False
        with anyio.move_on_after(2 * self._calls.lease):
            while await self._is_running(key, reply):  # noqa: ASYNC110 - the end is in Redis
                await asyncio.sleep(_POLL)
        return True

    async def _is_running(self, key: str, reply: str) -> bool:
        found = await self._calls.current(key)
        return found is not None and found.is_running and found.reply == reply

    async def aclose(self) -> None:
        """Stop to read."""
        await self._reader.aclose()


def _require_asyncio() -> None:
    if not on_asyncio():
        raise RuntimeError("RedisLog needs asyncio, as redis-py does: use Replies() without a log on trio")
