"""A sync request in a thread of its own, so that the wait for its headers can be ended."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import anthropic

from ._wake import Reason, Waker, wait


class RequestAbandoned(Exception):  # noqa: N818 - nobody sees it
    """Raised inside the SDK, in the place of another attempt for a stream that has ended."""


class _Part:
    """One of the four values of an `AbandonableTimeout`, in seconds."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, timeout: AbandonableTimeout, seconds: float | None) -> None:
        vars(timeout)[self._name] = seconds

    def __get__(self, timeout: AbandonableTimeout, owner: type) -> float | None:
        if timeout.is_abandoned():
            raise RequestAbandoned
        seconds: float | None = vars(timeout)[self._name]
        return seconds


class AbandonableTimeout(anthropic.Timeout):
    """The timeout of a request, which ends the SDK's own retries once nobody waits for them.

    The SDK pauses before a retry with `time.sleep`, which nothing can end; but it reads the timeout anew for each
    attempt, and what that raises ends the request.
    """

    connect: Any = _Part()
    read: Any = _Part()
    write: Any = _Part()
    pool: Any = _Part()

    def __init__(self, timeout: Any, is_abandoned: Callable[[], bool]) -> None:
        self.is_abandoned = is_abandoned
        super().__init__(timeout)

    def __deepcopy__(self, memo: object) -> AbandonableTimeout:
        return self  # the SDK copies the options of each attempt for some platforms

    def __repr__(self) -> str:  # also once it is abandoned
        return f"AbandonableTimeout({vars(self).get('read')})"


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
