"""The thread that watches the deadlines of sync streams: one for the whole process."""

from __future__ import annotations

import os
import threading
import time
from queue import SimpleQueue

from streamkit._core.timing import NO_DEADLINE

from .interrupt import LATE, Interrupter

_POLL_INTERVAL = 0.05  # seconds


class _Clock:
    """A daemon thread that watches deadlines. It starts with the first of them."""

    def __init__(self) -> None:
        self._new: SimpleQueue[Interrupter] = SimpleQueue()
        self._starting = threading.RLock()  # reentrant: a signal handler may open a stream
        self._thread: threading.Thread | None = None

    def watch(self, interrupter: Interrupter) -> None:
        self._new.put(interrupter)
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._keep_time, name="streamkit-clock", daemon=True)
                thread.start()
                self._thread = thread

    def _keep_time(self) -> None:
        watched: set[Interrupter] = set()
        checked_at = NO_DEADLINE
        while True:
            if not watched:
                watched.add(self._new.get())
                checked_at = time.monotonic()
            while not self._new.empty():
                watched.add(self._new.get())
            now = time.monotonic()
            late = now - checked_at > _POLL_INTERVAL + LATE
            checked_at = now
            for interrupter in tuple(watched):
                if interrupter.disarmed:
                    watched.discard(interrupter)
                else:
                    interrupter.check_deadlines(now, late=late)
            time.sleep(_POLL_INTERVAL)


_clock = _Clock()


def watch(interrupter: Interrupter) -> None:
    """Watch the deadlines of an interrupter until it is disarmed."""
    _clock.watch(interrupter)


def _restart_clock() -> None:
    global _clock  # noqa: PLW0603 - one thread for the whole process
    _clock = _Clock()


# The child of a fork has no clock thread, and watches none of its parent's streams.
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_restart_clock)
