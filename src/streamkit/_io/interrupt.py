"""Ending a reader's wait from outside: for `cancel()` and for the two timeouts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeAlias

from streamkit._sdk.response import observer_of

Reason: TypeAlias = Literal["cancel", "idle", "total"]
NEVER = float("inf")
LATE = 0.1  # seconds; a deadline noticed later than this was missed because the process or the loop stood still
_LONGEST_WAIT = 1.0  # seconds; Windows delivers Ctrl-C only between two waits


class Waker:
    """Interrupts the reader of one stream: the first `wake` sets the reason and ends what the reader waits for.

    It does not refer to the stream, so that a stream that is dropped can be collected while its deadlines are watched.
    """

    __slots__ = ("__weakref__", "_end_wait", "_extended", "idle_at", "lock", "over", "reason", "total_at")

    def __init__(self) -> None:
        # Reentrant: a signal handler may call `cancel` while this thread holds it.
        self.lock = threading.RLock()
        self._end_wait: Callable[[Reason], object] | None = None
        self._extended = False
        self.over = False
        self.reason: Reason | None = None
        # Deadlines on the clock of `time.monotonic`. The reader sets `idle_at` while it waits.
        self.idle_at = NEVER
        self.total_at = NEVER

    @property
    def cancelled(self) -> bool:
        """True if `cancel()` ended the stream."""
        return self.reason == "cancel"

    def attach(self, end_wait: Callable[[Reason], object]) -> None:
        """Set the function that ends the reader's current wait. It is called from any thread."""
        with self.lock:
            self._end_wait = end_wait
            if self.reason is not None:
                end_wait(self.reason)

    def detach(self) -> None:
        """Forget that function: the connection may be serving the next request already."""
        with self.lock:
            self._end_wait = None

    def forgive(self) -> None:
        """Reset an idle timeout, as the request is sent again."""
        with self.lock:
            self.idle_at = NEVER  # first, or the timeout would expire again before the reader sets it
            if self.reason == "idle":
                self.reason = None

    def retire(self) -> None:
        """Ignore `wake` from now on: the stream has ended."""
        with self.lock:
            self.over = True
            self._end_wait = None

    def wake(self, reason: Reason) -> None:
        """End the stream. Harmless when repeated or late."""
        with self.lock:
            if self.reason is None and not self.over:
                self.reason = reason
                if self._end_wait is not None:
                    self._end_wait(reason)

    def inherit(self) -> None:
        """Let go of what a thread of the parent process may hold: it does not exist in the child of a fork."""
        self.lock = threading.RLock()
        self._end_wait = None

    def look(self, now: float, *, late: bool) -> float:
        """Wake the reader if a deadline has passed, and return the next deadline.

        `late` says that nobody could look in time, because the process or the event loop stood still. What the server
        sent meanwhile lies in the socket, so the reader gets a moment to take it.
        """
        if now < min(self.idle_at, self.total_at):
            self._extended = False
        elif late and not self._extended:
            self._extended = True  # only once, or a machine that is always late would never time out
            self.idle_at, self.total_at = (max(moment, now + LATE) for moment in (self.idle_at, self.total_at))
        else:
            self.wake("total" if self.total_at <= self.idle_at else "idle")
        return min(self.idle_at, self.total_at)


def wait(signals: SimpleQueue[None], waker: Waker, until: float = NEVER) -> None:
    """Wait for a signal, for a deadline of the waker, or until a moment on the clock of `time.monotonic`."""
    while waker.reason is None and (now := time.monotonic()) < until:
        deadline = waker.look(now, late=now - min(waker.idle_at, waker.total_at) > LATE)
        seconds = min(deadline, until) - now
        try:
            signals.get(timeout=max(min(seconds, _LONGEST_WAIT), 0))
        except Empty:
            continue
        return


def end_read(response: Any, reason: Reason) -> None:
    """End a blocking read of a response: shut its socket down under the reader."""
    end_span(response, reason)
    found = _socket(response)
    if found is None:
        return
    try:
        if isinstance(found, socket.socket):
            # Not `found.shutdown`: that of a TLS socket drops its TLS state while the reader is using it.
            socket.socket.shutdown(found, socket.SHUT_RDWR)
        else:  # what an event loop wraps a socket in, not always with a `shutdown`
            with socket.fromfd(found.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
                same.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # closed already: the reader is awake


@contextmanager
def no_longer_than(seconds: float, response: Any) -> Generator[None]:
    """Bound a blocking read of a response. What is there already is read without further ado."""
    if _socket(response) is None or response.extensions["network_stream"].get_extra_info("is_readable"):
        yield
        return
    # The HTTP library does not say whether it holds the rest already, and nothing else can bound its read from here.
    timer = threading.Timer(seconds, end_read, (response, "total"))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def reachable(response: Any) -> bool:
    """Return whether `end_read` can end a read of this response."""
    return _socket(response) is not None


def _socket(response: Any) -> Any:
    """Return the socket of a response that has it for itself; `None` where the HTTP library offers none."""
    extensions: dict[str, Any] = getattr(response, "extensions", None) or {}
    if getattr(response, "is_closed", True) or extensions.get("http_version") not in (b"HTTP/1.1", b"HTTP/1.0"):
        return None
    get_extra_info = getattr(extensions.get("network_stream"), "get_extra_info", None)
    return None if get_extra_info is None else get_extra_info("socket")


def end_span(response: Any, reason: Reason) -> None:
    """Tell a tracer why the response ends, before the reader meets what looks like another error."""
    observer = observer_of(response)
    if observer is not None and reason == "cancel":
        observer.end("closed")
    elif observer is not None:
        observer.end("failed", TimeoutError(f"{reason}_timeout"))
