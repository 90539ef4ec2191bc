"""A sync request in a thread of its own, so that the wait for its headers can be ended."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from streamkit._core.timing import Reason
from streamkit._sdk.sources import IsAbandoned, Opener

from .interrupt import Interrupter, wait


class Request:
    """One request of a stream. `streams` holds the SDK's stream once it is open, `error` the exception if it is not.

    It does not refer to our stream, so that a stream that is dropped during the request can be collected.
    """

    __slots__ = ("_lock", "_open", "_signals", "abandoned", "done", "error", "streams")

    def __init__(self, opener: Callable[[IsAbandoned | None], Opener]) -> None:
        self._open = opener(self._is_abandoned)
        self._lock = threading.RLock()  # reentrant: a signal handler may close the stream that this thread closes
        self._signals: SimpleQueue[None] = SimpleQueue()
        self.streams: list[Any] = []
        self.error: BaseException | None = None
        self.done = False
        self.abandoned = False

    def run(self) -> None:
        """Open the SDK's stream, and close it at once if the request was abandoned meanwhile."""
        try:
            if not self.abandoned:  # by an interrupt while the thread was being started
                # In one step: an interrupt between opening and storing would lose the connection.
                self.streams.append(self._open())
        except BaseException as error:  # noqa: BLE001 - raised in the reader's thread
            self.error = error
        self.done = True
        self._signals.put(None)
        if self.abandoned:
            self.error = None
            self.close()

    def run_in_thread(self, interrupter: Interrupter) -> None:
        """Do the same in a thread. Returns when it is done, or when the interrupter has a reason to wait no longer."""
        interrupter.attach(self._end_wait)
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self.run,), name="streamkit-request", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self.run()
        while not self.done and interrupter.reason is None:
            wait(self._signals, interrupter)

    def abandon(self) -> None:
        """Close the stream, now or as soon as it is open, and keep the SDK from sending further requests."""
        self.abandoned = True
        self.close()

    def close(self) -> None:
        """Close the stream if it is open."""
        with self._lock:
            for stream in self.streams:
                with suppress(Exception):  # closing a broken connection may fail
                    stream.close()
            self.streams.clear()

    def _end_wait(self, _: Reason) -> None:
        self._signals.put(None)

    def _is_abandoned(self) -> bool:
        return self.abandoned and not self.done
