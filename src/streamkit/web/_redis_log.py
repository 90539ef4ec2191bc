"""The log of replies that several processes share."""

from __future__ import annotations

import inspect
from typing import Any

from ._arguments import check_seconds, check_text

_SHORTEST_LEASE = 1.0


class RedisLog:
    """Replies in Redis, for an application of several processes: `Replies(RedisLog(client))`.

    Any process resumes or stops a reply, whichever process reads its stream. A process that dies is told to the viewers
    within the lease and a second, with the text so far; their status is `disconnected`, the kind of the error
    `server_lost`. The same is told if Redis cannot be reached for as long as the lease.

    `client` is a `redis.asyncio.Redis` of redis-py 5.0.1 or newer, on Redis 5 or newer. `prefix` begins the names of
    the keys. `lease`: seconds after which a process that does not answer counts as dead. A reply survives a restart of
    Redis, or a failover, that takes less; what Redis lost in it is written again.

    Needs asyncio. Raises `TypeError` and `ValueError` for wrong arguments.
    """

    def __init__(self, client: Any, *, prefix: str = "streamkit", lease: float = 3.0) -> None:
        if isinstance(client, type) or not inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
            raise TypeError(f"expected a client such as redis.asyncio.Redis(), got {type(client).__name__}")
        check_text("prefix=", prefix)
        check_seconds("lease", lease)
        if lease < _SHORTEST_LEASE:
            raise ValueError(f"expected at least {_SHORTEST_LEASE:g} second for lease=, got {lease!r}")
        self.client: Any = client
        self.prefix: str = prefix
        self.lease: float = lease
