"""The sync streams: they open, read, wait and close. `_core.state` decides what to do next."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Generic

from typing_extensions import Self

from streamkit._core.phase import BODY_ENDED, FAILED, MESSAGE_ENDED, NEW, OVER, READY, RETRYING, STREAMING, WAITING
from streamkit._core.timing import NO_DEADLINE
from streamkit._options import Options
from streamkit._result import EventT, ItemT, MessageT, OutputT, Status, StreamResult
from streamkit._sdk.sources import Source
from streamkit._sinks.stdout import OutputClosedError

from .base import AT_EXIT_MESSAGE, DRAIN_SECONDS, DROPPED_MESSAGE, TWO_READERS_MESSAGE, BaseStream
from .clock import watch
from .interrupt import bounded_read, interrupt_read, wait
from .lifetime import open_streams
from .request import Request


class SyncStreamBase(
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
            raise RuntimeError(TWO_READERS_MESSAGE)
        try:
            state = self._state
            if state.phase is OVER:
                self._check_readable()
            elif state.phase is NEW:
                while (state.cancelled or state.phase is not STREAMING) and self._advance():
                    pass
        except BaseException as error:
            try:
                self._fail_with(error)
            except BaseException:  # a second interrupt: resume where the first one came
                self._fail_with(error)
                raise
            raise
        finally:
            self._reading = False
            if self._closed:  # by a signal handler or another thread, which left the closing to the reader
                self._close_from_outside(None)
        return self

    # Not `Self`: type checkers give `yield from` its value only if this says `Generator`.
    def __iter__(self) -> Generator[ItemT, None, StreamResult[MessageT, OutputT]]:
        return self

    def __next__(self) -> ItemT:
        busy, self._reading = self._reading, True  # as in `open`
        if busy:
            raise RuntimeError(TWO_READERS_MESSAGE)
        try:
            state = self._state
            item = state.next_item() if state.frames or state.released_items else None
            while item is None:
                if state.phase is not STREAMING or state.cancelled:
                    if not self._advance():
                        break
                    item = state.next_item()
                    continue
                interrupter = self._interrupter
                has_deadlines = self._has_deadlines
                if has_deadlines:
                    if interrupter.reason is not None:  # and the socket could not be shut down
                        state.interrupted(interrupter.reason)
                        item = state.next_item()
                        continue
                    interrupter.idle_deadline = state.idle_deadline(monotonic())
                try:
                    chunk = next(self._body)
                except StopIteration:
                    interrupter.idle_deadline = NO_DEADLINE
                    item = state.body_ended(interrupter.reason)
                except Exception as error:  # noqa: BLE001 - becomes one of our family, or is raised as it is
                    interrupter.idle_deadline = NO_DEADLINE
                    item = state.read_failed(error, monotonic(), interrupter.reason)
                else:
                    if has_deadlines:
                        interrupter.idle_deadline = NO_DEADLINE
                    item = state.receive(chunk, monotonic())
            else:
                return item  # type: ignore[no-any-return]
        except BaseException as error:
            try:
                self._fail_with(error)
            except BaseException:  # a second interrupt: resume where the first one came
                self._fail_with(error)
                raise
            if isinstance(error, StopIteration):  # raised by a sink: it would look like the end
                raise RuntimeError("a sink raised StopIteration") from error
            raise
        finally:
            self._reading = False
            if self._closed:  # by a signal handler or another thread, which left the closing to the reader
                self._close_from_outside(None)
        raise StopIteration(self.result)

    def send(self, value: None, /) -> ItemT:
        """The same as `next`; part of the generator protocol."""
        if value is not None:
            raise TypeError("expected None, as a stream takes no values: use send(None) or next()")
        return next(self)

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> ItemT:
        """End the stream with an exception, which is raised; part of the generator protocol."""
        try:
            return super().throw(typ, val, tb)  # pyright: ignore[reportAbstractUsage] - it raises
        except BaseException as error:
            self._close_from_outside(error)
            raise

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
                    self._close_from_outside(error)
                except BaseException:
                    self._close_from_outside(error)
                    raise
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._closed = True
            self._close_from_outside(error)
        except BaseException as second:
            self._close_from_outside(second)  # an interrupt: resume where it came
            raise

    def __del__(self) -> None:
        if getattr(self, "_open_streams", None) and not sys.is_finalizing():
            try:
                try:
                    self._warn(DROPPED_MESSAGE)
                finally:  # also if warnings are errors
                    self._close_early(None)
            except BaseException:
                self._conclude("interrupted", None)  # an interrupt: resume where it came
                raise

    def _end_at_exit(self) -> None:  # pragma: no cover - in child processes, by the tests of the program's end
        try:
            self._warn(AT_EXIT_MESSAGE)
        finally:  # also if warnings are errors
            self.close()
            for _ in range(1000):  # turns and not time, as the whole process may stand still
                if not self._reading:  # in a daemon thread, which ends the stream
                    break
                sleep(0.001)

    def _advance(self) -> bool:
        """Do what the phase asks for, other than to read on. Returns `False` once the stream is over."""
        state = self._state
        phase = state.phase
        if phase is OVER:
            self._check_readable()
        elif state.cancelled:
            self._close_early(None)
        elif phase is NEW:
            self._schedule_first_attempt()
        elif phase is READY:
            self._open_attempt()
        elif phase is RETRYING:
            self._interrupter.detach()
            self._release()
            self._schedule_retry()
        elif phase is WAITING:
            self._wait_for_retry()
        elif phase is FAILED and state.failure is not None:
            raise state.failure
        elif phase is BODY_ENDED:
            state.judge()
        else:
            if phase is MESSAGE_ENDED:
                state.stopwatch.ended_at = monotonic()
                self._drain_tail()
            self._conclude("complete", None)
        return state.phase is not OVER

    def _open_attempt(self) -> None:
        state, interrupter = self._state, self._interrupter
        self._begin_attempt()
        request = self._request = Request(self._source.opener)
        self._open_streams = request.streams
        if self._source.sends:
            interrupter.idle_deadline = state.idle_deadline(monotonic())
            try:
                request.run_in_thread(interrupter)
            except Exception as error:  # raised by a signal handler
                state.foreign_error = error
                raise
            interrupter.idle_deadline = NO_DEADLINE
        else:
            request.run()
        failure, request.error = request.error, None
        reason = interrupter.reason
        if reason is not None and (failure is not None or not request.done):
            self._release()
            state.interrupted(reason)
            return
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it refers to this frame
        response = self._source.response(self._open_streams[-1])
        self._body = response.body
        interrupter.attach(partial(interrupt_read, response.http_response))
        if self._has_deadlines:
            watch(interrupter)
        state.response_opened(response, monotonic(), interrupter.reason)

    def _wait_for_retry(self) -> None:
        interrupter = self._interrupter
        interrupter.reset_idle()
        signals: SimpleQueue[Any] = SimpleQueue()
        interrupter.attach(signals.put)
        wait(signals, interrupter, until=self._state.stopwatch.attempt_due_at)
        self._state.wait_ended(interrupter.reason)

    def _drain_tail(self) -> None:
        """Read what follows the message, at most one chunk, so that the connection can be used again."""
        response = self._state.attempt.response.http_response
        with suppress(Exception), bounded_read(DRAIN_SECONDS, response):  # nothing can harm the message any more
            next(self._body, None)

    def _fail_with(self, error: BaseException) -> None:
        """End the stream because of an error that is on its way to the caller."""
        if isinstance(error, Exception):  # an interrupt may have come in the middle of an event
            self._state.flush(to_sinks=False)
        try:
            self._conclude(self._state.status_for(error), error)
        except Exception as second:  # noqa: BLE001 - raised by a sink's `finish`
            self._chain_finish_error(error, second)

    def _close_from_outside(self, error: BaseException | None) -> None:
        """End the stream, if it is not over, from outside of its reader."""
        busy, self._reading = self._reading, True  # as in `open`
        if busy:
            # Left to the reader: in another thread, or in this one below a signal handler or a sink.
            self.cancel()
            return
        try:
            self._close_early(error)
        except Exception as second:
            if error is None:
                raise
            self._chain_finish_error(error, second)
        finally:
            self._reading = False

    def _close_early(self, error: BaseException | None) -> None:
        """End between two items. What the last chunk held counts, though nobody has asked for it."""
        try:
            self._state.flush()
        except BaseException as second:
            self._conclude(self._state.status_for(second), error or second)
            raise
        self._conclude("interrupted", error)

    def _conclude(self, status: Status, error: BaseException | None) -> None:
        """Record the status, close the connection, finish the sinks. Idempotent: may be repeated after an interrupt."""
        result = self._finish(status, error)
        try:
            self._release()
        finally:
            self._finish_sinks(result)
        open_streams.discard(self)

    def _release(self) -> None:
        """Close the connection, or give it back if the body was read to its end."""
        if self._request is not None and self._inherited is None:
            close = getattr(self._body, "close", None)
            with suppress(Exception):  # closing a broken connection may fail
                if close is not None:
                    close()
            self._request.abandon()
        self._body, self._open_streams = None, []  # what an abandoned request still opens, its thread closes

    def _finish_sinks(self, result: StreamResult[Any, Any]) -> None:
        sinks = self._state.sinks
        failure: BaseException | None = None
        for sink in sinks.unfinished():
            try:
                sink.finish(result)  # pyright: ignore[reportUnusedCoroutine] - a sync stream has no AsyncSink
            except OutputClosedError:
                pass  # as `cancel()`, and too late
            except BaseException as error:  # noqa: BLE001 - raised below, once every sink is finished
                failure = failure or error
        sinks.release()
        if failure is not None:
            raise failure


class TextStream(SyncStreamBase[str, MessageT, OutputT]):
    """Iterates over the text of a reply, as it arrives. Made by `stream_text` for a sync source."""


class EventStream(SyncStreamBase[EventT, MessageT, OutputT]):
    """Iterates over the SDK's own raw event objects. Made by `stream_events` for a sync source."""

    _yields_events = True
