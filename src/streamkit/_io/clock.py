"""The thread that watches the deadlines of sync streams."""

from __future__ import annotations

import os
import threading
import time
from queue import SimpleQueue

from .interrupt import LATE, NEVER, Waker

_TICK = 0.05  # seconds between two looks at the deadlines


class _Clock:
    """One daemon thread that watches the deadlines of all sync streams. It starts with the first of them."""

    def __init__(self) -> None:
        self._new: SimpleQueue[Waker] = SimpleQueue()
        self._starting = threading.RLock()  # reentrant: a signal handler may open a stream
        self._thread: threading.Thread | None = None

    def watch(self, waker: Waker) -> None:
        self._new.put(waker)
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._keep_time, name="streamkit-clock", daemon=True)
                thread.start()
                self._thread = thread

    def _keep_time(self) -> None:
        watched: set[Waker] = set()
        looked = NEVER
        while True:
            if not watched:
                watched.add(self._new.get())
                looked = time.monotonic()
            while not self._new.empty():
                watched.add(self._new.get())
            now = time.monotonic()
            late = now - looked > _TICK + LATE
            looked = now
            for waker in tuple(watched):
                if waker.over:
                    watched.discard(waker)
                else:
                    waker.look(now, late=late)
            time.sleep(_TICK)


_clock = _Clock()


def watch(waker: Waker) -> None:
    """Watch the deadlines of a waker, from one daemon thread for all streams of this process."""
    _clock.watch(waker)


def _restart_clock() -> None:
    global _clock  # noqa: PLW0603 - one thread for the whole process
    _clock = _Clock()


# The child of a fork has no clock thread, and watches nothing of its parent's.
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_restart_clock)
