"""The task that reads an async stream to its end and encodes its events, whoever takes the frames."""

from __future__ import annotations

import abc
import time
from contextlib import suppress
from typing import Any

import anyio.lowlevel

from streamkit import AsyncEventStream

from ._async_tasks import Signal, Task, make_signal, start
from ._outcome import READ_AHEAD, log_failure
from ._protocol import Encoder

# Events after which other tasks get a turn. In a busy process all streams have many events at once; if each took all of
# its own, a task that needs several turns, such as a call to Redis, would take seconds. In a process that is not busy,
# the turns, in which the loop asks the system for news, would be most of what an event costs.
_IN_A_ROW, _IN_A_ROW_IF_BUSY = 32, 4
_BUSY = 0.005  # seconds that the turn of the other tasks takes in a busy process


class StreamReader(abc.ABC):
    """Reads the stream to its end in a task, and puts its frames where a subclass keeps them."""

    def __init__(self, stream: AsyncEventStream[Any, Any, Any], encoder: Encoder) -> None:
        self.stream = stream
        self.encoder = encoder
        self.ended = False
        self.discards = False  # True once nobody takes the frames: the stream is read for its sinks alone
        self.size = 0  # bytes that wait for the consumer; above READ_AHEAD, the reader waits
        self.events_in_a_row = 0  # since another task had a turn
        self._most_in_a_row = _IN_A_ROW
        self.taken: Signal  # by the consumer
        self.task: Task | None = None

    def start(self) -> None:
        """Start to read. Raises `RuntimeError` where no event loop is running."""
        self.taken = make_signal()
        self.task = start(self._run)

    async def _run(self) -> None:
        try:
            error = await self._read()
            await self._close()
            await self._put_last(self._last_frames(error))
        except BaseException:  # cancelled
            await self._close()
            raise
        finally:
            self.ended = True
            self._on_end()

    async def _read(self) -> Exception | None:
        """Read the stream, and return the exception that it, a sink or the encoder raised."""
        try:
            self._put(self.encoder.start())
            async for event in self.stream:
                self.events_in_a_row += 1
                if self.events_in_a_row >= self._most_in_a_row:
                    await self._give_turn()
                if not self.discards:
                    self._put(self.encoder.event(event))
                    while self.size >= READ_AHEAD:
                        await self.taken.wait(None)
        except Exception as caught:  # noqa: BLE001 - told to the browser, and logged
            log_failure(caught)
            return caught
        return None

    async def _give_turn(self) -> None:
        """Let the other tasks run, and note if they are busy.

        Trio runs the tasks of a turn in random order, so there half of the busy turns are not noted.
        """
        started = time.monotonic()
        await anyio.lowlevel.checkpoint()
        self._most_in_a_row = _IN_A_ROW_IF_BUSY if time.monotonic() - started > _BUSY else _IN_A_ROW
        self.events_in_a_row = 0

    async def _close(self) -> None:
        """Close the stream, which is over already, except after a cancellation or an exception of the encoder."""
        with suppress(Exception):  # of a sink; the log has the first one
            await self.stream.aclose()

    def _last_frames(self, error: Exception | None) -> list[bytes]:
        try:
            return self.encoder.finish(self.stream.result, error)
        except Exception as caught:  # noqa: BLE001 - of the encoder; nobody awaits this task
            log_failure(caught)
            return []

    @abc.abstractmethod
    def _put(self, frames: list[bytes]) -> None:
        """Keep the frames for whoever takes them."""

    @abc.abstractmethod
    async def _put_last(self, frames: list[bytes]) -> None:
        """Keep the last frames."""

    @abc.abstractmethod
    def _on_end(self) -> None:
        """Wake whoever waits for frames: there will be no more."""
