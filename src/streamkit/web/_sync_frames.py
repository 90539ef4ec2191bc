"""The frames of a sync stream, read in a thread of its own so that pings can be sent meanwhile."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from typing_extensions import Self

from streamkit import EventStream

from ._outcome import PING, READ_AHEAD, joined, log_failure
from ._protocol import Encoder


class _Reader:
    """Reads the stream to its end, and keeps the frames until the consumer takes them."""

    def __init__(self, stream: EventStream[Any, Any, Any], encoder: Encoder) -> None:
        self.stream = stream
        self.encoder = encoder
        self.frames: list[bytes] = []
        self.size = 0
        self.ended = False
        self.consumer_left = False
        # Reentrant: the garbage collector may call `leave` in any thread, also in one that holds it. Taken by
        # itself, as `with self.changed` is a call in Python for each event.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)

    def run(self) -> None:
        """Read the stream. Raises nothing for what happens to the stream."""
        try:
            error = self._read()
            self.close()
            self._put(self.encoder.finish(self.stream.result, error))
        except Exception as caught:  # noqa: BLE001 - of the encoder; nobody waits for an exception of this thread
            log_failure(caught)
        finally:
            with self.lock:
                self.ended = True
                self.changed.notify_all()

    def _read(self) -> Exception | None:
        """Read the stream, and return the exception that it, a sink or the encoder raised."""
        try:
            self._put(self.encoder.start())
            for event in self.stream:
                if not self.consumer_left:
                    self._put(self.encoder.event(event))
        except Exception as caught:  # noqa: BLE001 - told to the browser, and logged
            log_failure(caught)
            return caught
        return None

    def close(self) -> None:
        """Close the stream."""
        with suppress(Exception):  # of a sink; the log has the first one
            self.stream.close()

    def _put(self, frames: list[bytes]) -> None:
        if frames and not self.consumer_left:
            with self.lock:
                if not self.frames:  # else the consumer has been told
                    self.changed.notify_all()
                self.frames += frames
                self.size += sum(map(len, frames))
                while self.size >= READ_AHEAD and not self.consumer_left:
                    self.changed.wait()

    def take(self, seconds: float) -> bytes | None:
        """Return the frames, a ping after some seconds without any, and `None` at the end."""
        with self.lock:
            while not self.frames:
                if self.ended or self.consumer_left:
                    return None
                if not self.changed.wait(seconds):
                    return PING
            self.size = 0
            self.changed.notify_all()
            return joined(self.frames)

    def leave(self) -> None:
        """Note that the consumer has left: nothing is kept for it any more."""
        with self.lock:
            self.consumer_left = True
            self.frames.clear()
            self.size = 0
            self.changed.notify_all()


class Frames(Iterator[bytes]):
    """The frames of a sync stream, as bytes: the body of a streaming response. Made by `sse`.

    An item is one frame or several, or a comment. `close()` and dropping the iterator close the stream, unless
    `detach=True` lets it go on.
    """

    def __init__(self, stream: EventStream[Any, Any, Any], encoder: Encoder, *, ping: float, detach: bool) -> None:
        self._reader = _Reader(stream, encoder)
        self._ping = ping
        self._detach = detach
        self._thread: threading.Thread | None = None
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._thread is None and not self._closed:
            self._start()
        try:
            piece = self._reader.take(self._ping)
        except BaseException:  # raised by a signal handler
            self.close()
            raise
        if piece is None:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """Close the stream and its connection; with `detach=True`, let it go on. Harmless when repeated."""
        self._drop()
        if self._thread is None:
            self._reader.close()
        elif not self._detach or self._reader.ended:
            self._thread.join()

    def _start(self) -> None:
        # The sinks are called in the thread, with the context variables of the consumer. At the end of the program
        # a stream that is still being read is interrupted.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._reader.run,), name="streamkit-sse", daemon=True)
        self._thread.start()

    def _drop(self) -> None:
        """Do what needs no waiting, and leave the rest to the thread."""
        self._closed = True
        if self._detach and self._thread is None:
            self._start()
        self._reader.leave()
        if not self._detach:
            self._reader.stream.cancel()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._drop()
            if self._thread is None:
                self._reader.close()
