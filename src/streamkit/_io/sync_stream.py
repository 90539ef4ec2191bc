"""The sync driver: opens, reads, hands over and closes. What all of it means is decided in `_state`."""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Generic

from anthropic.types import RawMessageStreamEvent
from typing_extensions import Self, TypeVar

from streamkit._core.dispatch import FINISHED
from streamkit._options import Options
from streamkit._result import MessageT, OutputT, Status, StreamResult
from streamkit._sdk.failures import pause_before_retry
from streamkit._sdk.response import Reading
from streamkit._sdk.sources import Source

from .base import AT_EXIT, DROPPED, READ_ON, TWO_READERS, BaseStream, thrown
from .clock import watch
from .interrupt import NEVER, end_read, no_longer_than, wait
from .lifetime import ended, opened
from .request import Request

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
        self._request: Request | None = None

    def open(self) -> Self:
        """Send the request, so that a refused one fails here, and return the stream. Once open, does nothing.

        Raises the SDK's own exceptions for a request that fails.
        """
        # A swap and not a lock: no interrupt can come between the swap and the `try`, and leave it taken.
        busy, self._reading = self._reading, True
        if busy:
            raise RuntimeError(TWO_READERS)
        try:
            if self._state.over:
                self._refuse_reading()
            elif self._state.waker.cancelled:
                self._end_early(None)
            elif self._state.reading is None:
                self._connect()
                while self._state.failure is not None and not self._state.waker.cancelled:
                    if not self._state.retrying:
                        raise self._state.failure
                    self._reopen()
                if self._state.waker.cancelled:  # while the headers were waited for
                    self._end_early(None)
        except BaseException as error:
            try:
                self._abandon(error)
            except BaseException:  # a second interrupt: go on where the first one was left
                self._abandon(error)
                raise
            raise
        finally:
            self._reading = False
            if self._closed:  # by a signal handler or another thread, which left that to the reader
                self._leave(None)
        return self

    # Not `Self`: type checkers give `yield from` its value only where this says `Generator`.
    def __iter__(self) -> Generator[ItemT, None, StreamResult[MessageT, OutputT]]:
        return self

    def __next__(self) -> ItemT:
        busy, self._reading = self._reading, True  # as in `open`
        if busy:
            raise RuntimeError(TWO_READERS)
        try:
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
                except Exception as error:  # noqa: BLE001 - classified: one of our family, or raised as it is
                    item = state.broke(error, monotonic())
                else:
                    if self._timed:
                        state.waker.idle_at = NEVER
                    item = state.feed(chunk, monotonic())
            else:
                return item  # type: ignore[no-any-return]
        except BaseException as error:
            try:
                self._abandon(error)
            except BaseException:  # a second interrupt: go on where the first one was left
                self._abandon(error)
                raise
            if isinstance(error, StopIteration):  # a sink's: it would look like the end
                raise RuntimeError("a sink raised StopIteration") from error
            raise
        finally:
            self._reading = False
            if self._closed:  # by a signal handler or another thread, which left that to the reader
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
                try:
                    self._leave(error)
                except BaseException:
                    self._leave(error)
                    raise
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

    def _end_at_exit(self) -> None:  # pragma: no cover - in child processes, by the tests of the program's end
        try:
            warnings.warn(f"{self!r} {AT_EXIT}", ResourceWarning, stacklevel=2, source=self)
        finally:  # also where warnings are errors
            self.close()
            until = monotonic() + READ_ON
            while self._reading and monotonic() < until:  # a daemon thread reads it, and ends it
                sleep(0.001)

    def _settle(self) -> bool:
        """Do what there is to do but to read on; `False` when the stream is over."""
        state = self._state
        if state.over:
            return not self._refuse_reading()
        if state.waker.cancelled:
            self._end_early(None)
        elif state.failure is not None:
            if not state.retrying:
                raise state.failure
            self._reopen()
        elif state.reading is None:
            self._connect()
        elif state.builder.stopped:
            state.message_ended(monotonic())
            self._read_on()
            self._end("complete", None)
        elif state.judge():
            self._end("complete", None)
        return not state.over

    def _connect(self) -> None:
        state = self._state
        state.begin(monotonic())
        waker = state.waker
        request = self._request = Request(self._source.prepare)
        self._slot = request.streams
        opened(self)
        if self._source.sends:
            waker.idle_at = state.idle_deadline(monotonic())
            try:
                request.run_in_thread(waker)
            except Exception as error:
                state.outsider = error
                raise
            waker.idle_at = NEVER
        else:
            request.run()
        failure, request.error = request.error, None
        if not request.done or (failure is not None and waker.reason is not None):
            self._release()
            state.give_up_opening()
            return
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it refers to this frame
        reading = Reading(self._slot[-1], self._source)
        self._body = reading.body
        waker.attach(partial(end_read, reading.response))
        if self._timed:
            watch(waker)
        state.connected(reading, monotonic())

    def _reopen(self) -> None:
        state = self._state
        waker = state.waker
        waker.detach()
        self._release()
        waker.forgive()
        signals: SimpleQueue[Any] = SimpleQueue()
        waker.attach(signals.put)
        wait(signals, waker, until=monotonic() + pause_before_retry(state.reading, state.attempts))
        if waker.reason == "total":
            state.timed_out("total")
        elif waker.reason is None:
            self._connect()

    def _read_on(self) -> None:
        """Read what comes after the message, at most one chunk, so that the connection can be used again."""
        with suppress(Exception), no_longer_than(READ_ON, self._state.reading.response):  # type: ignore[union-attr]
            next(self._body, None)  # the message is complete, nothing can harm it any more

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
        busy, self._reading = self._reading, True  # as in `open`
        if busy:
            # The reader closes it: in another thread, or in this one below a signal handler or a sink.
            self.cancel()
            return
        try:
            self._end_early(error)
        except Exception as second:
            if error is None:
                raise
            self._first_goes_on(error, second)
        finally:
            self._reading = False

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
        ended(self)

    def _release(self) -> None:
        """Close the connection, or give it back where the body was read to its end."""
        if self._request is not None and self._inherited is None:
            close = getattr(self._body, "close", None)
            with suppress(Exception):  # closing what is broken already
                if close is not None:
                    close()
            self._request.abandon()
        self._body, self._slot = None, []  # what a request that was abandoned opens is for its thread to close

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
