"""The sync driver: opens, reads, hands over and closes. What all of it means is decided in `_state`."""

from __future__ import annotations

import sys
import time
import warnings
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from itertools import starmap
from threading import Lock, get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Generic

import anthropic
from anthropic.types import RawMessageStreamEvent
from typing_extensions import Self, TypeVar

from ._result import MessageT, OutputT, Status, StreamResult
from ._sinks import FINISHED
from ._source import Reading, Source
from ._state import Options
from ._stream import DROPPED, TWO_READERS, BaseStream, thrown
from ._wake import NEVER, watch

ItemT = TypeVar("ItemT")
EventT = TypeVar("EventT", default=RawMessageStreamEvent)


class SyncStream(
    BaseStream[MessageT, OutputT],
    Generator[ItemT, None, StreamResult[MessageT, OutputT]],
    Generic[ItemT, MessageT, OutputT],
):
    """The sync half of `TextStream` and `EventStream`."""

    def __init__(self, source: Source, options: Options) -> None:
        super().__init__(source, options)
        self._turn = Lock()
        self._thread: int | None = None  # that of the last reader
        self._timed = options.idle_timeout is not None or options.total_timeout is not None

    def open(self) -> Self:
        """Send the request, so that a refused one fails here, and return the stream. Once open, does nothing.

        Raises the SDK's own exceptions for a request that fails.
        """
        if not self._turn.acquire(False):
            raise RuntimeError(TWO_READERS)
        try:
            if self._state.over:
                self._refuse_reading()
            elif self._state.waker.reason == "cancel":
                self._end_early(None)
            elif self._state.reading is None:
                self._connect()
                if self._state.failure is not None:
                    raise self._state.failure
        except BaseException as error:
            self._abandon(error)
            raise
        finally:
            self._turn.release()
        return self

    # Not `Self`: type checkers give `yield from` its value only where this says `Generator`.
    def __iter__(self) -> Generator[ItemT, None, StreamResult[MessageT, OutputT]]:
        return self

    def __next__(self) -> ItemT:
        if not self._turn.acquire(False):
            raise RuntimeError(TWO_READERS)
        try:
            self._thread = get_ident()
            state = self._state
            item = state.pull() if state.waiting or state.ready else None
            while item is None:
                if state.halted:
                    if not self._settle():
                        break
                    item = state.pull()
                    continue
                if self._timed:
                    if state.waker.reason is not None:  # where the socket could not be shut down
                        item = state.broke(None, monotonic())
                        continue
                    state.waker.idle_at = state.idle_deadline(monotonic())
                try:
                    chunk = next(self._body)
                except StopIteration:
                    item = state.end_of_body()
                except Exception as error:  # noqa: BLE001 - classified, and raised as one of our family
                    item = state.broke(error, monotonic())
                else:
                    if self._timed:
                        state.waker.idle_at = NEVER
                    item = state.feed(chunk, monotonic())
            else:
                return item  # type: ignore[no-any-return]
        except StopIteration as error:  # a sink's: it would look like the end
            self._abandon(error)
            raise RuntimeError("a sink raised StopIteration") from error
        except BaseException as error:
            self._abandon(error)
            raise
        finally:
            self._turn.release()
            if self._closed:  # by another thread, which left that to the reader
                self._leave(None)
        raise StopIteration(self.result)

    def send(self, value: None, /) -> ItemT:
        """The same as `next`; part of the generator protocol."""
        if value is not None:
            raise TypeError("a stream takes no values: send(None) or next()")
        return next(self)

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> ItemT:
        """End the stream with an exception, which is raised; part of the generator protocol."""
        error = thrown(typ, val, tb)
        self._leave(error)
        raise error

    def close(self) -> None:
        """Close the connection, and finish the sinks. Harmless when the stream is closed already."""
        self.__exit__(None, None, None)

    def until_done(self) -> StreamResult[MessageT, OutputT]:
        """Read the rest into the sinks, and return the result. Raises `StreamError` like iteration does."""
        if self._state.status != "complete":
            deque(self, maxlen=0)
        return self.result

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt, when the stream may be open already
                self._leave(error)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._closed = True
            self._leave(error)
        except BaseException as second:
            self._leave(second)  # interrupted on the way: what is left to do
            raise

    def __del__(self) -> None:
        if getattr(self, "_slot", None) and not sys.is_finalizing():
            try:
                try:
                    warnings.warn(f"{self!r} {DROPPED}", ResourceWarning, stacklevel=2, source=self)
                finally:  # also where warnings are errors
                    self._end_early(None)
            except BaseException:
                self._end("interrupted", None)  # what an interrupt left
                raise

    def _settle(self) -> bool:
        """Do what there is to do but to read on; `False` when the stream is over."""
        state = self._state
        if state.over:
            return not self._refuse_reading()
        if state.waker.reason == "cancel":
            self._end_early(None)
        elif state.failure is not None:
            if not state.retrying:
                raise state.failure
            self._reopen()
        elif state.reading is None:
            self._connect()
        elif state.builder.stopped:
            self._read_on()
            self._end("complete", None)
        elif state.judge():
            self._end("complete", None)
        return not state.over

    def _connect(self) -> None:
        state = self._state
        self._thread = get_ident()
        state.begin(monotonic())
        if self._timed:
            watch(state.waker)
        total_at = state.waker.total_at
        try:
            # One C call opens the stream and keeps it: no interrupt can come in between and lose it.
            self._slot.extend(starmap(self._source.prepare(total_at), ((),)))
        except (anthropic.APITimeoutError, TimeoutError) as error:
            if monotonic() < total_at:
                raise
            state.timed_out("total", error)
            return
        reading = Reading(self._slot[-1], self._source)
        self._body = reading.body
        state.connected(reading, monotonic())

    def _reopen(self) -> None:
        state = self._state
        state.waker.detach()
        self._release()
        state.waker.forgive()
        until = monotonic() + state.pause()
        while state.waker.reason is None and (left := until - monotonic()) > 0:
            time.sleep(min(left, 0.05))
        if state.waker.reason == "total":
            state.timed_out("total")
        elif state.waker.reason is None:
            self._connect()

    def _read_on(self) -> None:
        """Read what comes after the message, at most one chunk, so that the connection can be used again."""
        if self._timed:
            self._state.waker.idle_at = self._state.idle_deadline(monotonic())
        with suppress(Exception):  # the message is complete, nothing can harm it any more
            next(self._body, None)

    def _abandon(self, error: BaseException) -> None:
        """End early, because of an error that is on its way to the caller."""
        if isinstance(error, Exception):  # an interrupt may have come in the middle of an event
            self._state.absorb()
        try:
            self._end(self._state.status_for(error), error)
        except Exception as second:  # noqa: BLE001 - a sink's, at its `finish`
            self._first_goes_on(error, second)

    def _leave(self, error: BaseException | None) -> None:
        """End the stream from outside of its reader, if it is not over."""
        if not self._turn.acquire(False):
            if self._thread != get_ident():
                self.cancel()  # the reader, in another thread, wakes and closes
                return
            # This thread was interrupted while it read, or a sink closes the stream that is calling it: as `cancel`.
            self._state.waker.wake("cancel")
            self._end("interrupted", error)
            return
        try:
            self._end_early(error)
        except Exception as second:
            if error is None:
                raise
            self._first_goes_on(error, second)
        finally:
            self._turn.release()

    def _end_early(self, error: BaseException | None) -> None:
        """End between two items. What the last chunk held counts, though nobody has asked for it."""
        try:
            self._state.take_rest()
        except BaseException as second:
            self._end(self._state.status_for(second), error or second)
            raise
        self._end("interrupted", error)

    def _end(self, status: Status, error: BaseException | None) -> None:
        """The end, whatever it is; what was interrupted is taken up where it was left."""
        state = self._state
        result = state.finish(status, error, monotonic())
        try:
            self._release()
        finally:
            self._finish_sinks(result)

    def _release(self) -> None:
        """Close the connection, or give it back where the body was read to its end."""
        while self._slot:
            stream = self._slot[-1]
            for layer in (self._body, stream):
                close = getattr(layer, "close", None)
                with suppress(Exception):  # closing what is broken already
                    if close is not None:
                        close()
            self._slot.clear()
        self._body = None

    def _finish_sinks(self, result: StreamResult[Any, Any]) -> None:
        finishing = self._state.sinks.finishing(result)
        failure: BaseException | None = None
        while True:
            try:
                if next(finishing) is FINISHED:
                    break
            except BaseException as error:  # noqa: BLE001 - raised below, once every sink is finished
                failure = failure or error
        self._state.sinks.release()
        if failure is not None:
            raise failure


class TextStream(SyncStream[str, MessageT, OutputT]):
    """Iterates over the text of a reply, as it arrives. Made by `stream_text` for a sync source."""


class EventStream(SyncStream[EventT, MessageT, OutputT]):
    """Iterates over the SDK's own raw event objects. Made by `stream_events` for a sync source."""

    _yields_events = True
