"""The async streams, on asyncio and trio: the twin of `sync_stream`, with awaits. `_core.state` decides."""

from __future__ import annotations

import asyncio
import inspect
import sys
import weakref
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Generic

import anthropic
import anyio
from typing_extensions import Self

from streamkit._core.phase import BODY_ENDED, FAILED, MESSAGE_ENDED, NEW, OVER, READY, RETRYING, STREAMING, WAITING
from streamkit._core.timing import NO_DEADLINE
from streamkit._options import Options
from streamkit._result import EventT, ItemT, MessageT, OutputT, Status, StreamResult
from streamkit._sdk.sources import Source
from streamkit._sinks.resolve import call_and_await
from streamkit._sinks.stdout import OutputClosedError

from .async_wait import ENDED, AsyncioWait, Leftover, LoopEnd, TrioWait, run_shielded
from .base import AT_EXIT_MESSAGE, DRAIN_SECONDS, DROPPED_MESSAGE, TWO_READERS_MESSAGE, BaseStream
from .interrupt import can_interrupt, interrupt_read
from .lifetime import open_streams


class AsyncStreamBase(BaseStream[MessageT, OutputT], AsyncGenerator[ItemT, None], Generic[ItemT, MessageT, OutputT]):
    """The async half of `AsyncTextStream` and `AsyncEventStream`."""

    def __init__(self, source: Source, options: Options) -> None:
        super().__init__(source, options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wait: AsyncioWait | TrioWait
        self._loop_end: LoopEnd | None = None
        self._reads_by_wait = True  # `_wait` can end each read; else the response's socket is shut down

    async def open(self) -> Self:
        """Send the request, so that a refused one fails here, and return the stream. Once open, does nothing.

        Raises the SDK's own exceptions for a request that fails.
        """
        if self._reading:
            raise RuntimeError(TWO_READERS_MESSAGE)
        self._reading = True
        try:
            state = self._state
            if state.phase is OVER:
                self._check_readable()
            elif state.phase is NEW:
                while (state.cancelled or state.phase is not STREAMING) and await self._advance():
                    await self._call_sinks()
        except BaseException as error:
            await self._fail_with(error)
            raise
        finally:
            self._reading = False
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        if self._reading:
            raise RuntimeError(TWO_READERS_MESSAGE)
        self._reading = True
        try:
            state = self._state
            item = state.next_item() if state.frames or state.released_items else None
            while True:
                if state.sinks.pending_calls:
                    await self._call_sinks()
                if item is not None:
                    if self._closed:  # by another task, while a sink was awaited
                        await self._close_early(None)
                    return item  # type: ignore[no-any-return]
                if state.phase is not STREAMING or state.cancelled:
                    if not await self._advance():
                        break
                    item = state.next_item()
                    continue
                if self._reads_by_wait and (reason := self._watch_deadlines()) is not None:
                    state.interrupted(reason)
                    item = state.next_item()
                    continue
                try:
                    read = self._body.__anext__
                    chunk = await (self._wait.run(read) if self._reads_by_wait else read())
                except StopAsyncIteration:
                    item = state.body_ended(self._interrupter.reason)
                except Exception as error:  # noqa: BLE001 - becomes one of our family, or is raised as it is
                    item = state.read_failed(error, monotonic(), self._interrupter.reason)
                else:
                    if chunk is not ENDED:  # else the interrupter ended the wait
                        item = state.receive(chunk, monotonic())
                if self._has_deadlines:
                    self._interrupter.idle_deadline = NO_DEADLINE
        except StopAsyncIteration as error:  # raised by a sink: it would look like the end
            await self._fail_with(error)
            raise RuntimeError("a sink raised StopAsyncIteration") from error
        except BaseException as error:
            await self._fail_with(error)
            raise
        finally:
            self._reading = False
        raise StopAsyncIteration

    async def asend(self, value: None, /) -> ItemT:
        """The same as `anext`; part of the async generator protocol."""
        if value is not None:
            raise TypeError("expected None, as a stream takes no values: use asend(None) or anext()")
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> ItemT:
        """End the stream with an exception, which is raised; part of the async generator protocol."""
        try:
            return await super().athrow(typ, val, tb)  # pyright: ignore[reportAbstractUsage] - it raises
        except BaseException as error:
            await self._close_from_outside(error)
            raise

    async def aclose(self) -> None:
        """Close the connection, and finish the sinks. Harmless when the stream is closed already."""
        self._closed = True
        await self._close_from_outside(None)

    async def until_done(self) -> StreamResult[MessageT, OutputT]:
        """Read the rest into the sinks, and return the result. Raises `StreamError` like iteration does."""
        if self._state.status != "complete":
            async for _ in self:
                pass
        return self.result

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._closed = True
        await self._close_from_outside(error)

    def __del__(self) -> None:
        if getattr(self, "_open_streams", None) and not sys.is_finalizing():
            try:
                self._warn(DROPPED_MESSAGE)
            finally:  # also if warnings are errors
                self._close_without_awaiting()

    def _end_at_exit(self) -> None:  # pragma: no cover - in child processes, by the tests of the program's end
        try:
            self._warn(AT_EXIT_MESSAGE)
        finally:  # also if warnings are errors
            self._close_without_awaiting()

    def _watch_deadlines(self) -> Any:
        """Watch the deadlines of the wait that is about to begin; return the reason if it must not begin."""
        interrupter = self._interrupter
        if self._has_deadlines and interrupter.reason is None:
            now = monotonic()
            if now >= interrupter.total_deadline:  # while data keeps coming, the loop may never reach its timers
                return "total"
            interrupter.idle_deadline = self._state.idle_deadline(now)
            self._wait.watch()
        return interrupter.reason

    async def _advance(self) -> bool:
        """Do what the phase asks for, other than to read on. Returns `False` once the stream is over."""
        state = self._state
        phase = state.phase
        if phase is OVER:
            self._check_readable()
        elif state.cancelled:
            await self._close_early(None)
        elif phase is NEW:
            self._prepare_waits()
            self._schedule_first_attempt()
        elif phase is READY:
            await self._open_attempt()
        elif phase is RETRYING:
            self._interrupter.detach()
            await self._release()
            self._schedule_retry()
        elif phase is WAITING:
            await self._wait_for_retry()
        elif phase is FAILED and state.failure is not None:
            raise state.failure
        elif phase is BODY_ENDED:
            state.judge()
        else:
            if phase is MESSAGE_ENDED:
                state.stopwatch.ended_at = monotonic()
                await self._run_shielded(self._drain_tail())
            await self._conclude("complete", None)
        return state.phase is not OVER

    def _prepare_waits(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._wait = TrioWait(self._interrupter)
        else:
            self._wait = AsyncioWait(self._interrupter)
            stream: Any = weakref.proxy(self)  # no cycle through an open stream
            self._loop_end = LoopEnd(lambda: stream.aclose())  # noqa: PLW0108 - `stream.aclose` would hold the stream

    async def _open_attempt(self) -> None:
        state, interrupter = self._state, self._interrupter
        self._begin_attempt()
        interrupter.attach(self._wait.end)
        if self._source.sends:
            interrupter.idle_deadline = state.idle_deadline(monotonic())
            self._wait.watch()
            try:
                await self._wait.run(self._open_source)
            except anthropic.APIError:
                if interrupter.reason is None:  # else the wait was ended before
                    raise
            interrupter.idle_deadline = NO_DEADLINE
        else:
            await self._open_source()
        reason = interrupter.reason
        if reason is not None and not self._open_streams:
            state.interrupted(reason)
            return
        response = self._source.response(self._open_streams[-1])
        self._body = response.body
        self._wait.response = response.http_response
        self._reads_by_wait = self._has_deadlines or not can_interrupt(response.http_response)
        if not self._reads_by_wait:  # the socket is enough, and each read costs less
            interrupter.attach(partial(interrupt_read, response.http_response))
        state.response_opened(response, monotonic(), interrupter.reason)

    async def _open_source(self) -> None:
        self._open_streams.append(await self._source.opener(None)())

    async def _wait_for_retry(self) -> None:
        interrupter = self._interrupter
        interrupter.reset_idle()
        interrupter.attach(self._wait.end)
        self._wait.watch()
        seconds = max(self._state.stopwatch.attempt_due_at - monotonic(), 0)  # trio refuses less
        await self._wait.run(partial(anyio.sleep, seconds))
        self._state.wait_ended(interrupter.reason)

    async def _drain_tail(self) -> None:
        """Read what follows the message, at most one chunk, so that the connection can be used again."""
        with anyio.move_on_after(DRAIN_SECONDS):
            with suppress(Exception):  # nothing can harm the message any more
                await self._body.__anext__()

    async def _run_shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Await something to its end, also if this task is cancelled meanwhile."""
        # Not for a stand-in: only the HTTP library never resumes a close that is cut off.
        loop = self._loop if hasattr(self._open_streams[-1], "response") else None
        await run_shielded(work, loop)

    async def _fail_with(self, error: BaseException) -> None:
        """End the stream because of an error that is on its way to the caller."""
        if isinstance(error, GeneratorExit):  # the coroutine is being closed, and may not await
            self._finish("interrupted", error)
            self._close_without_awaiting()
            return
        if not isinstance(error, KeyboardInterrupt):  # which may have come in the middle of an event
            self._state.flush(to_sinks=False)
        try:
            await self._conclude(self._state.status_for(error), error)
        except Exception as second:  # noqa: BLE001 - raised by a sink's `finish`
            self._chain_finish_error(error, second)

    async def _close_from_outside(self, error: BaseException | None) -> None:
        """End the stream, if it is not over, from outside of its reader."""
        if self._reading:
            self.cancel()  # the reader, in another task, wakes and closes
            return
        self._reading = True
        try:
            await self._close_early(error)
        except Exception as second:
            if error is None:
                raise
            self._chain_finish_error(error, second)
        finally:
            self._reading = False

    async def _close_early(self, error: BaseException | None) -> None:
        """End between two items. What the last chunk held counts, though nobody has asked for it."""
        try:
            self._state.flush()
            with anyio.CancelScope(shield=True):
                await self._call_sinks()
        except BaseException as second:
            await self._conclude(self._state.status_for(second), error or second)
            raise
        await self._conclude("interrupted", error)

    async def _conclude(self, status: Status, error: BaseException | None) -> None:
        """Record the status, close the connection, finish the sinks; shielded from cancellation. Idempotent."""
        result = self._finish(status, error)
        with anyio.CancelScope(shield=True):
            try:
                await self._release()
            finally:
                await self._finish_sinks(result)
        self._forget_waits()

    def _forget_waits(self) -> None:
        if self._state.attempts:
            self._wait.close()
        open_streams.discard(self)

    async def _release(self) -> None:
        """Close the connection, or give it back if the body was read to its end."""
        if self._open_streams:
            await self._run_shielded(self._close_layers())

    async def _close_layers(self) -> None:
        for layer in (self._body, *self._open_streams):
            close = getattr(layer, "aclose", None) or getattr(layer, "close", None)
            with suppress(Exception):  # closing a broken connection may fail
                if close is not None:
                    await close()
        self._open_streams.clear()
        self._body = None

    async def _call_sinks(self) -> None:
        """Make the pending calls of the sinks in order, each awaited before the next."""
        state = self._state
        calls = state.sinks.pending_calls
        while calls:
            method, items = calls.popleft()
            try:
                answer = method(*items)
                if inspect.isawaitable(answer):
                    await answer
            except OutputClosedError:
                state.cancelled = True  # as `cancel()`, after the call of the other sinks
            except BaseException as error:
                state.sink_error = error
                raise

    async def _finish_sinks(self, result: StreamResult[Any, Any]) -> None:
        sinks = self._state.sinks
        failure: BaseException | None = None
        for sink in sinks.unfinished():
            try:
                await call_and_await(sink.finish, result)
            except OutputClosedError:
                pass  # as `cancel()`, and too late
            except BaseException as error:  # noqa: BLE001 - raised below, once every sink is finished
                failure = failure or error
        sinks.release()
        if failure is not None:
            raise failure

    def _close_without_awaiting(self) -> None:
        """Do what needs no event loop now, and leave the rest to the loop, if it runs."""
        state = self._state
        self._interrupter.interrupt("cancel")
        layers = [layer for layer in (self._body, *self._open_streams) if layer is not None]
        self._open_streams, self._body = [], None
        answers: list[Any] = []
        try:
            try:
                state.flush()
                for method, items in state.sinks.pending_calls:
                    with suppress(OutputClosedError):  # the stream is being cancelled already
                        answers.append(method(*items))
            finally:
                result = self._finish("interrupted", None)
                unfinished = state.sinks.unfinished()
                state.sinks.release()
                answers += (sink.finish(result) for sink in unfinished)
        finally:
            self._forget_waits()
            answers = [answer for answer in answers if inspect.isawaitable(answer)]
            loop = self._loop
            if loop is not None and loop.is_running():
                Leftover(layers, answers, loop)
            elif answers:
                for answer in answers:
                    getattr(answer, "close", bool)()  # a coroutine that is never awaited would print its own warning
                self._warn("could not finish its AsyncSink: the event loop has ended", stacklevel=3)


class AsyncTextStream(AsyncStreamBase[str, MessageT, OutputT]):
    """Iterates over the text of a reply, as it arrives. Made by `stream_text` for an async source."""


class AsyncEventStream(AsyncStreamBase[EventT, MessageT, OutputT]):
    """Iterates over the SDK's own raw event objects. Made by `stream_events` for an async source."""

    _yields_events = True
