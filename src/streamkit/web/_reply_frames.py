"""The frames of a reply, which are kept, and a viewer, who reads them from anywhere."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from typing_extensions import Self

from ._async_tasks import Signal, make_signal
from ._outcome import ONE_READER_MESSAGE, PING, joined

_MOST_FRAMES = 500  # in one item for the viewer


class ReplyBuffer:
    """The frames of one reply, each with its id, and the viewers that wait for more.

    An id names the reply and counts its frames from 1, so that an id of an earlier reply is not taken for a position
    in this one.
    """

    def __init__(self, reply_id: str) -> None:
        self.frames: list[bytes] = []
        self.size: int = 0  # in bytes
        self.ended: bool = False
        self.lost_at: int | None = None  # the number of frames before those that tell that the server was lost
        self.last_viewed: float = time.monotonic()  # when the last viewer left
        self._name = reply_id[:8]  # the whole id is the right to write the reply
        self._viewers: set[Signal] = set()

    def numbered(self, frames: list[bytes]) -> list[bytes]:
        """Return the frames with their ids, as the next ones of this reply."""
        first = len(self.frames) + 1
        return [f"id: {self._name}-{number}\n".encode() + frame for number, frame in enumerate(frames, first)]

    def add(self, frames: list[bytes], *, ended: bool = False) -> None:
        """Add frames that have their ids, and wake the viewers."""
        self.frames += frames
        self.size += sum(map(len, frames))
        self.ended = self.ended or ended
        for viewer in tuple(self._viewers):
            viewer.set()

    def position(self, after: int | str) -> int:
        """Return the number of frames up to an id: 0 for an id of another reply."""
        if isinstance(after, int):
            return after
        name, _, number = after.rpartition("-")
        return int(number) if name == self._name and number.isascii() and number.isdigit() else 0

    def join(self) -> Signal:
        """Note a new viewer, and return the signal that wakes this viewer."""
        signal = make_signal()
        self._viewers.add(signal)
        return signal

    def leave(self, viewer: Signal) -> None:
        """Note that a viewer has left. May be called by the garbage collector, in any thread."""
        self.last_viewed = time.monotonic()
        self._viewers.discard(viewer)

    @property
    def has_viewers(self) -> bool:
        """True if there are viewers."""
        return bool(self._viewers)


class ReplyFrames(AsyncIterator[bytes]):
    """The frames of a reply, as bytes: the body of a streaming response. Made by `Replies`.

    An item is one frame or several, or a comment. Cancelling the task that waits for an item, `aclose()`, and dropping
    the iterator end the iterator alone: the reply goes on.
    """

    def __init__(self, buffer: ReplyBuffer, position: int, *, ping: float) -> None:
        self._closed = True  # until the viewer is noted
        self._buffer = buffer
        self._position = position
        self._ping = ping
        self._waiting = False
        self._has_frames = False
        self._signal = buffer.join()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._waiting:
            raise RuntimeError(ONE_READER_MESSAGE)
        self._waiting = True
        try:
            while not self._closed:
                lost_at = self._buffer.lost_at
                if lost_at is not None and not self._has_frames:
                    # The browser may have frames of the lost server that did not reach the log.
                    self._position = min(self._position, lost_at)
                frames = self._buffer.frames[self._position : self._position + _MOST_FRAMES]
                if frames:
                    self._position += len(frames)
                    self._has_frames = True
                    return joined(frames)
                if self._buffer.ended:
                    break
                if not await self._signal.wait(self._ping):
                    return PING
        except BaseException:  # cancelled, or the coroutine is being closed
            self._leave()
            raise
        finally:
            self._waiting = False
        self._leave()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the iterator. The reply goes on. Harmless when repeated."""
        self._leave()
        self._signal.set()

    def _leave(self) -> None:
        if not self._closed:
            self._closed = True
            self._buffer.leave(self._signal)

    def __del__(self) -> None:
        self._leave()
