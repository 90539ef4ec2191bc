"""The calls to Redis: what a process may ask of the log."""

from __future__ import annotations

import asyncio
import math
import secrets
from typing import Any, NamedTuple
from urllib.parse import quote

from ._redis_batch import Batch, fail_after
from ._redis_log import RedisLog
from ._redis_scripts import ACQUIRE, APPEND, CURRENT, READ, STOP

# Calls at once that are not in a batch: redis-py raises an exception where more are made than its pool has connections,
# and the pool serves the application as well.
_MOST_CALLS = 8
_MOST_ENTRIES = 100  # in one answer


class Lease(NamedTuple):
    """The right to write a reply."""

    key: str
    """The key of the reply."""
    reply: str
    """The id of the reply, which only its owner may use to write."""
    keep: float
    """Seconds for which the reply is kept after its end."""
    end: int
    """When the lease ends, in ms, by the clock of Redis."""


class Appended(NamedTuple):
    """The answer to an append."""

    last: int
    """The number of the last frame in the log; -1 if the lease is lost."""
    lease_end: int = 0
    """When the lease ends now."""
    stop: int = 0
    """1 if somebody asked for the end of the reply."""
    unviewed: int = 0
    """Milliseconds since a viewer was seen in another process."""
    ended: int = 0
    """1 if the log has the end of the reply."""


class Current(NamedTuple):
    """The last reply of a key."""

    reply: str
    """Its id."""
    is_running: bool
    """True if it has not ended, and its owner holds the lease."""
    ended_for: float
    """Seconds since it ended; 0 if it has not."""


class Found(NamedTuple):
    """The next entries of a reply."""

    lease_left: float
    """Seconds until the lease ends."""
    entries: list[tuple[int, bytes]]
    """The number of the last frame of each entry, and its frames."""
    is_full: bool
    """True if there may be more."""
    ended: bool
    """True if the reply ends with them."""


class RedisCalls:
    """The calls, each of which runs one script. They raise the exceptions of the client, and `TimeoutError`."""

    def __init__(self, log: RedisLog) -> None:
        client = log.client
        self.lease = log.lease
        self._prefix = log.prefix
        self._slots = asyncio.Semaphore(_MOST_CALLS)
        self._acquire: Any = client.register_script(ACQUIRE)
        self._current: Any = client.register_script(CURRENT)
        self._stop: Any = client.register_script(STOP)
        self._appends = Batch(client, APPEND, self.lease / 3)
        self._reads = Batch(client, READ, self.lease / 3)

    def channel(self, key: str, reply: str) -> str:
        """Return the name of the stream of a reply, and of the channel that tells of new entries."""
        return f"{self._record(key)}:{reply}"

    async def acquire(self, key: str, keep: float) -> Lease | None:
        """Return the lease for a new reply, or `None` while another one is running under the key."""
        reply = secrets.token_hex(16)
        args = (reply, _ms(self.lease), _ms(self.lease + keep))
        end = await self._call(self._acquire, [self._record(key)], args)
        return Lease(key, reply, keep, end) if end else None

    async def append(self, lease: Lease, first: int, frames: list[bytes], *, ended: bool) -> Appended:
        """Write frames, the first of them with this number, and the end; renew the lease."""
        args = (
            lease.reply,
            _ms(self.lease),
            _ms(self.lease + lease.keep),
            lease.end,
            first,
            first + len(frames) - 1,
            b"".join(frames),
            int(ended),
        )
        keys = [self._record(lease.key), self.channel(lease.key, lease.reply)]
        return Appended(*await self._appends.call(keys, args))

    async def read(self, key: str, reply: str, after: int, *, viewed: bool) -> Found:
        """Return the entries after this number. `viewed`: note that the reply has viewers."""
        keys = [self._record(key), self.channel(key, reply)]
        args = (reply, after, _MOST_ENTRIES, int(viewed))
        left, found = await self._reads.call(keys, args)
        ended = bool(found) and text(found[-1][1][0]) == "e"
        entries: list[tuple[int, bytes]] = []
        for entry_id, (_, value) in found[: len(found) - ended]:
            number = int(text(entry_id).partition("-")[0])
            entries.append((number, value.encode() if isinstance(value, str) else value))
        return Found(left / 1000, entries, len(found) == _MOST_ENTRIES, ended)

    async def current(self, key: str) -> Current | None:
        """Return the last reply of a key, if there is one."""
        found = await self._call(self._current, [self._record(key)], ())
        return Current(text(found[0]), bool(found[1]), found[2] / 1000) if found else None

    async def request_stop(self, key: str) -> str | None:
        """Ask the owner of the running reply to end it. Returns the id of the reply."""
        found = await self._call(self._stop, [self._record(key)], ())
        return text(found[0]) if found else None

    def _record(self, key: str) -> str:
        # All keys of a reply have the same hash tag, as a script needs it in a cluster.
        return f"{self._prefix}:{{{quote(key, safe=':@', errors='backslashreplace')}}}"

    async def _call(self, script: Any, keys: list[str], args: tuple[Any, ...]) -> Any:
        # redis-py tries again by itself, at longer and longer intervals: beyond the lease this would help nobody.
        async with self._slots:
            with fail_after(self.lease):
                return await script(keys=keys, args=args)


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def text(value: bytes | str) -> str:
    """Return text that Redis sent; a client may decode it by itself."""
    return value.decode() if isinstance(value, bytes) else value
