"""Waking a reader that is blocked on the network, from another thread: for `cancel()` and for the clocks."""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

import anthropic

Reason: TypeAlias = Literal["cancel", "idle", "total"]
NEVER = float("inf")
_TICK = 0.05  # seconds between two looks at the clocks
ParamsT = ParamSpec("ParamsT")
SelfT = TypeVar("SelfT", bound="Waker")


def _locked(method: Callable[Concatenate[SelfT, ParamsT], None]) -> Callable[Concatenate[SelfT, ParamsT], None]:
    @functools.wraps(method)
    def call(self: SelfT, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> None:
        try:
            with self.lock:
                method(self, *args, **kwargs)
        except BaseException:
            _free(self.lock)
            raise

    return call


def _free(lock: Any) -> None:
    """Let go of a lock that an interrupt, between the end of a `with` block and its exit, may have left locked."""
    with suppress(RuntimeError):  # not this thread's
        while True:
            lock.release()


class Waker:
    """Ends one stream from outside: the first `wake` gives the reason, and shuts the socket down under the reader.

    It does not refer to the stream, so that a stream that is dropped can be collected while its clock runs.
    """

    __slots__ = ("__weakref__", "_response", "idle_at", "lock", "over", "reason", "total_at")

    def __init__(self) -> None:
        # Reentrant: a signal handler may call `cancel` while this thread holds it.
        self.lock = threading.RLock()
        self._response: Any = None
        self.over = False
        self.reason: Reason | None = None
        # On the clock of `time.monotonic`, kept by `watch`. The reader sets `idle_at` while it waits.
        self.idle_at = NEVER
        self.total_at = NEVER

    @_locked
    def attach(self, response: Any) -> None:
        """The response that is being read from now on."""
        self._response = response
        if self.reason is not None:
            _shut_down(response)

    @_locked
    def detach(self) -> None:
        """The response is not read any more: its connection may be serving the next request already."""
        self._response = None

    @_locked
    def forgive(self) -> None:
        """The request is sent again: the idle clock starts anew."""
        self.idle_at = NEVER  # first, or the clock would run out again before the reader sets it
        if self.reason == "idle":
            self.reason = None

    @_locked
    def retire(self) -> None:
        """The stream has its verdict: `wake` does nothing from now on."""
        self.over = True
        self._response = None

    @_locked
    def wake(self, reason: Reason) -> None:
        """End the stream. Harmless when repeated or late."""
        if self.reason is None and not self.over:
            self.reason = reason
            if self._response is not None:
                if reason == "cancel":
                    _say_closed(self._response)
                _shut_down(self._response)


class _Part:
    """One of the four seconds of a `TimeLeft`: its own, or what is left if that is less."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, timeout: TimeLeft, seconds: float | None) -> None:
        vars(timeout)[self._name] = seconds

    def __get__(self, timeout: TimeLeft, owner: type) -> float:
        left = timeout.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("there is no time left for another attempt")
        own = vars(timeout)[self._name]
        return left if own is None else min(own, left)


class TimeLeft(anthropic.Timeout):
    """A timeout for the SDK that does not go beyond a moment: nobody can wake who waits for the response's headers.

    The SDK reads it anew for each of its attempts. After that moment this raises `TimeoutError`, which ends them.
    """

    connect: Any = _Part()
    read: Any = _Part()
    write: Any = _Part()
    pool: Any = _Part()

    def __init__(self, timeout: Any, until: float) -> None:
        super().__init__(timeout)
        self.until = until  # on the clock of `time.monotonic`

    def __repr__(self) -> str:  # also when it is over
        return f"TimeLeft(until={self.until})"


def reachable(response: Any) -> bool:
    """Whether `wake` can end the wait for this response."""
    return _socket(response) is not None


def _socket(response: Any) -> Any:
    """What the response is read from, where it says so and it serves this response alone; else `None`."""
    extensions: dict[str, Any] = getattr(response, "extensions", None) or {}
    if getattr(response, "is_closed", True) or extensions.get("http_version") not in (b"HTTP/1.1", b"HTTP/1.0"):
        return None
    get_extra_info = getattr(extensions.get("network_stream"), "get_extra_info", None)
    return None if get_extra_info is None else get_extra_info("socket")


def _shut_down(response: Any) -> None:
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


def observer_of(response: Any) -> Any:
    """What the SDK traces the response with; `None` where nothing does."""
    return getattr(getattr(response, "stream", None), "stream_observer", None)


def _say_closed(response: Any) -> None:
    """Tell who traces the response that it is being closed, before the reader meets what looks like an error."""
    observer = observer_of(response)
    if observer is not None:
        observer.end("closed")


# Interrupts are harmless to it, in whatever bytecode: it is all C.
_new: SimpleQueue[Waker] = SimpleQueue()
_starting = threading.RLock()
_thread: threading.Thread | None = None


def watch(waker: Waker) -> None:
    """Keep the clocks of a waker. All of them share one daemon thread, which starts with the first."""
    global _thread  # noqa: PLW0603 - one thread for the whole process
    _new.put(waker)
    try:
        with _starting:
            if _thread is None or not _thread.is_alive():  # not alive: in a child process after a fork
                _thread = threading.Thread(target=_keep_time, name="streamkit-clock", daemon=True)
                _thread.start()
    except BaseException:
        _free(_starting)
        raise


def _keep_time() -> None:
    watched: set[Waker] = set()
    while True:
        while not watched or not _new.empty():
            watched.add(_new.get())
        now = time.monotonic()
        for waker in tuple(watched):
            if waker.over:
                watched.discard(waker)
            elif now >= waker.total_at:
                waker.wake("total")
            elif now >= waker.idle_at:
                waker.wake("idle")
        time.sleep(_TICK)
