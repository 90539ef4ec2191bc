"""Ending what a reader waits for, from any thread: for `cancel()` and for the two timeouts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from streamkit._core.timing import NO_DEADLINE, Reason
from streamkit._sdk.response import observer_of

LATE = 0.1  # seconds; a deadline noticed later than this was missed because the process or the loop stood still
EXTENSION = 1.0  # seconds that a missed deadline is put off by; on a busy machine a reader may not get its turn earlier
_MAX_WAIT = 1.0  # seconds; Windows delivers Ctrl-C only between two waits


class Interrupter:
    """Ends the waits of one stream's reader: the first `interrupt` sets the reason and ends the current wait.

    It does not refer to the stream, so that a stream that is dropped can be collected while its deadlines are watched.
    Deadlines are times of `time.monotonic`; the reader sets `idle_deadline` while it waits.
    """

    def __init__(self) -> None:
        # Reentrant: a signal handler may call `cancel` while this thread holds it.
        self.lock = threading.RLock()
        self._end_wait: Callable[[Reason], object] | None = None
        self._extended = False
        self._cancel_asked = False
        self.disarmed = False
        self.reason: Reason | None = None
        self.idle_deadline = NO_DEADLINE
        self.total_deadline = NO_DEADLINE

    @property
    def next_deadline(self) -> float:
        """The deadline that comes first."""
        return min(self.idle_deadline, self.total_deadline)

    def attach(self, end_wait: Callable[[Reason], object]) -> None:
        """Set the function that ends the reader's current wait. It may be called from any thread."""
        with self.lock:
            self._end_wait = end_wait
            if self.reason is not None:
                end_wait(self.reason)

    def detach(self) -> None:
        """Forget that function: its connection may soon serve another request."""
        with self.lock:
            self._end_wait = None

    def reset_idle(self) -> None:
        """Take an idle timeout back, as the request is sent again, unless `cancel()` was called meanwhile."""
        with self.lock:
            self.idle_deadline = NO_DEADLINE  # first, or the timeout would expire again before the reader sets it
            if self.reason == "idle":
                self.reason = "cancel" if self._cancel_asked else None

    def disarm(self) -> None:
        """Ignore `interrupt` from now on: the stream has ended."""
        with self.lock:
            self.disarmed = True
            self._end_wait = None

    def interrupt(self, reason: Reason) -> None:
        """End the stream. Harmless when repeated or late."""
        with self.lock:
            self._cancel_asked |= reason == "cancel"
            if self.reason is None and not self.disarmed:
                self.reason = reason
                if self._end_wait is not None:
                    self._end_wait(reason)

    def leave_to_parent(self) -> None:
        """Disarm in the child of a fork, with a new lock: a thread of the parent may hold the other one for good."""
        self.lock = threading.RLock()
        self.disarm()

    def check_deadlines(self, now: float, *, late: bool) -> float:
        """Interrupt the reader if a deadline has passed, and return the next deadline.

        `late` is true if the check could not be made in time, because the process or the event loop stood still. Then
        what the server sent meanwhile lies in the socket, so the reader gets a moment to take it.
        """
        if now < self.next_deadline:
            self._extended = False
        elif late and not self._extended:
            self._extended = True  # only once, or a machine that is always late would never time out
            self.idle_deadline = max(self.idle_deadline, now + EXTENSION)
            self.total_deadline = max(self.total_deadline, now + EXTENSION)
        else:
            self.interrupt("total" if self.total_deadline <= self.idle_deadline else "idle")
        return self.next_deadline


def wait(signals: SimpleQueue[None], interrupter: Interrupter, until: float = NO_DEADLINE) -> None:
    """Wait for a signal, for a deadline of the interrupter, or until a time of `time.monotonic`."""
    while interrupter.reason is None and (now := time.monotonic()) < until:
        deadline = interrupter.check_deadlines(now, late=now - interrupter.next_deadline > LATE)
        seconds = min(deadline, until) - now
        try:
            signals.get(timeout=max(min(seconds, _MAX_WAIT), 0))
        except Empty:
            continue
        return


def interrupt_read(response: object, reason: Reason) -> None:
    """End a blocking read of a response: shut its socket down under the reader."""
    close_span(response, reason)
    connection = _socket(response)
    if connection is None:
        return
    try:
        if isinstance(connection, socket.socket):
            # Not `connection.shutdown`: a TLS socket would drop its TLS state while the reader uses it.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        else:  # the wrapper of an event loop, which may lack `shutdown`
            with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
                same.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # closed already: the reader is awake


@contextmanager
def bounded_read(seconds: float, response: object) -> Generator[None]:
    """Bound a blocking read of a response. Data that is there already is read without a timer."""
    if _socket(response) is None or _extension(response, "network_stream").get_extra_info("is_readable"):
        yield
        return
    # The HTTP library does not tell whether it holds the rest already, and offers no other way to bound its read.
    timer = threading.Timer(seconds, interrupt_read, (response, "total"))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def can_interrupt(response: object) -> bool:
    """Return `True` if `interrupt_read` can end a read of this response."""
    return _socket(response) is not None


def _socket(response: object) -> Any:
    """Return the socket of a response that shares it with no other; `None` if the HTTP library offers none."""
    shared = _extension(response, "http_version") not in (b"HTTP/1.1", b"HTTP/1.0")
    if shared or getattr(response, "is_closed", True):
        return None
    get_extra_info = getattr(_extension(response, "network_stream"), "get_extra_info", None)
    return None if get_extra_info is None else get_extra_info("socket")


def _extension(response: object, name: str) -> Any:
    """Return what the HTTP library offers about a response under `name`, if anything."""
    extensions: dict[str, Any] = getattr(response, "extensions", None) or {}
    return extensions.get(name)


def close_span(response: object, reason: Reason) -> None:
    """Tell the SDK's tracer why the response ends, before the reader meets what looks like another error."""
    observer = observer_of(response)
    if observer is not None and reason == "cancel":
        observer.end("closed")
    elif observer is not None:
        observer.end("failed", TimeoutError(f"{reason}_timeout"))
