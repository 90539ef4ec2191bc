"""A sync request in a thread of its own, so that the wait for its headers can be ended."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from .interrupt import Reason, Waker, wait


class Request:
    """One request of a stream. `streams` holds the SDK's stream once it is open, `error` what was raised instead.

    Neither refers to our stream, so that one that is dropped while it waits can be collected.
    """

    __slots__ = ("_lock", "_open", "_signals", "abandoned", "done", "error", "streams")

    def __init__(self, prepare: Callable[[Callable[[], bool]], Callable[[], Any]]) -> None:
        self._open = prepare(self._is_abandoned)
        self._lock = threading.RLock()  # reentrant: a signal handler may close the stream that this thread closes
        self._signals: SimpleQueue[None] = SimpleQueue()
        self.streams: list[Any] = []
        self.error: BaseException | None = None
        self.done = False
        self.abandoned = False

    def run(self) -> None:
        """Open the SDK's stream, and close it at once if the request was abandoned meanwhile."""
        try:
            self.streams.append(self._open())
        except BaseException as error:  # noqa: BLE001 - raised in the reader's thread
            self.error = error
        self.done = True
        self._signals.put(None)
        if self.abandoned:
            self.error = None
            self.close()

    def run_in_thread(self, waker: Waker) -> None:
        """The same, in a thread; returns when it is done, or when the waker has a reason to wait no longer."""
        waker.attach(self._end_wait)
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self.run,), name="streamkit-request", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system, or an interpreter that is ending, has no thread to give
            self.run()
        while not self.done and waker.reason is None:
            wait(self._signals, waker)

    def abandon(self) -> None:
        """Close the stream, now or as soon as it is open, and let the SDK send no more requests."""
        self.abandoned = True
        self.close()

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            for stream in self.streams:
                with suppress(Exception):  # closing what is broken already
                    stream.close()
            self.streams.clear()

    def _end_wait(self, _: Reason) -> None:
        self._signals.put(None)

    def _is_abandoned(self) -> bool:
        return self.abandoned and not self.done
