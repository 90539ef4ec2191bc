"""When the parts of a reply arrive, how long to wait before a retry, and what may end a wait.

Times are handed in: seconds, monotonic.
"""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

from streamkit._result import Timing

Reason: TypeAlias = Literal["cancel", "idle", "total"]
"""Why a wait was ended from outside: `cancel()`, or one of the two timeouts."""

NO_DEADLINE = float("inf")
# Seconds before a retry: doubled each time, as the SDK does between its own retries.
_INITIAL_DELAY, _MAX_DELAY, _MAX_RETRY_AFTER = 0.5, 8.0, 60.0


class Stopwatch:
    """The times of one stream, from its first request to its end."""

    def __init__(self) -> None:
        self.started_at: float | None = None
        self.attempt_due_at = 0.0  # when the next request is to be sent
        self.response_at: float | None = None
        self.first_content_at: float | None = None
        self.last_chunk_at = 0.0
        self.ended_at: float | None = None  # when the message was complete: the rest of the body does not count
        self.idle_since: float | None = None  # since when the reader has waited for content
        self.last_content_at = -NO_DEADLINE
        self.longest_gap = 0.0

    def content_arrived(self) -> None:
        """Note that the last chunk held content."""
        now = self.last_chunk_at
        if now - self.last_content_at > self.longest_gap:
            if self.first_content_at is None:
                self.first_content_at = now
            else:
                self.longest_gap = now - self.last_content_at
        self.last_content_at = now
        self.idle_since = None

    def timing(self, now: float) -> Timing:
        """Return the times in the form of a result."""
        start = self.started_at
        if start is None:
            return Timing(None, None, 0.0, 0.0)
        response = None if self.response_at is None else self.response_at - start
        first_content = None if self.first_content_at is None else self.first_content_at - start
        total = (now if self.ended_at is None else self.ended_at) - start
        return Timing(response, first_content, total, self.longest_gap)


def retry_delay(attempts: int, retry_after: str | None) -> float:
    """Return the seconds to wait after so many attempts; `retry_after` is the header of the last response."""
    try:
        asked = float(retry_after or 0)
    except ValueError:  # a date, but the API sends seconds
        asked = 0.0
    if 0 < asked <= _MAX_RETRY_AFTER:
        return asked
    delay = min(_INITIAL_DELAY * 2.0 ** (attempts - 1), _MAX_DELAY)
    return delay * (1 - 0.25 * random.random())  # noqa: S311 - jitter, not a secret
