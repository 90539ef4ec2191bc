"""The async driver, on asyncio and trio: the twin of `_sync`, with awaits. What it means is decided in `_state`."""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
import weakref
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Generic

import anthropic
import anyio
from anthropic.types import RawMessageStreamEvent
from typing_extensions import Self, TypeVar

from streamkit._core.dispatch import FINISHED
from streamkit._options import Options
from streamkit._result import MessageT, OutputT, Status, StreamResult
from streamkit._sdk.failures import pause_before_retry
from streamkit._sdk.response import Reading
from streamkit._sdk.sources import Source

from .async_wait import ENDED, AsyncioWait, Leftover, LoopEnd, TrioWait
from .base import AT_EXIT, DROPPED, READ_ON, TWO_READERS, BaseStream, thrown
from .interrupt import NEVER, end_read, reachable
from .lifetime import ended, opened

ItemT = TypeVar("ItemT")
EventT = TypeVar("EventT", default=RawMessageStreamEvent)


class AsyncBaseStream(BaseStream[MessageT, OutputT], AsyncGenerator[ItemT, None], Generic[ItemT, MessageT, OutputT]):
    """The async half of `AsyncTextStream` and `AsyncEventStream`."""

    def __init__(self, source: Source, options: Options) -> None:
        super().__init__(source, options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wait: AsyncioWait | TrioWait
        self._loop_end: LoopEnd | None = None
        self._guarded = True  # each read can be ended by `_wait`; else by the response's socket

    async def open(self) -> Self:
        """Send the request, so that a refused one fails here, and return the stream. Once open, does nothing.

        Raises the SDK's own exceptions for a request that fails.
        """
        self._take_turn()
        try:
            if self._state.over:
                self._refuse_reading()
            elif self._state.waker.cancelled:
                await self._end_early(None)
            elif self._state.reading is None:
                await self._connect()
                while self._state.failure is not None and not self._state.waker.cancelled:
                    if not self._state.retrying:
                        raise self._state.failure
                    await self._reopen()
                if self._state.waker.cancelled:  # while the headers were waited for
                    await self._end_early(None)
        except BaseException as error:
            await self._abandon(error)
            raise
        finally:
            self._reading = False
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        self._take_turn()
        try:
            state = self._state
            item = state.pull() if state.waiting or state.ready else None
            while True:
                if state.calls:
                    await self._call_sinks()
                if item is not None:
                    if self._closed:  # by another task, while a sink was awaited
                        await self._end_early(None)
                    return item  # type: ignore[no-any-return]
                if state.halted:
                    if not await self._settle():
                        break
                    item = state.pull()
                    continue
                if self._guarded and not self._may_wait():
                    item = state.broke(None, monotonic())
                    continue
                try:
                    read = self._body.__anext__
                    chunk = await (self._wait.run(read) if self._guarded else read())
                except StopAsyncIteration:
                    item = state.end_of_body()
                except Exception as error:  # noqa: BLE001 - classified: one of our family, or raised as it is
                    item = state.broke(error, monotonic())
                else:
                    if self._timed:
                        state.waker.idle_at = NEVER
                    if chunk is not ENDED:  # else the waker ended the wait
                        item = state.feed(chunk, monotonic())
        except StopAsyncIteration as error:  # a sink's: it would look like the end
            await self._abandon(error)
            raise RuntimeError("a sink raised StopAsyncIteration") from error
        except BaseException as error:
            await self._abandon(error)
            raise
        finally:
            self._reading = False
        raise StopAsyncIteration

    async def asend(self, value: None, /) -> ItemT:
        """The same as `anext`; part of the async generator protocol."""
        if value is not None:
            raise TypeError("a stream takes no values: asend(None) or anext()")
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> ItemT:
        """End the stream with an exception, which is raised; part of the async generator protocol."""
        error = thrown(typ, val, tb)
        await self._leave(error)
        raise error

    async def aclose(self) -> None:
        """Close the connection, and finish the sinks. Harmless when the stream is closed already."""
        self._closed = True
        await self._leave(None)

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
        await self._leave(error)

    def __del__(self) -> None:
        if getattr(self, "_slot", None) and not sys.is_finalizing():
            try:
                warnings.warn(f"{self!r} {DROPPED}", ResourceWarning, stacklevel=2, source=self)
            finally:  # also where warnings are errors
                self._drop()

    def _end_at_exit(self) -> None:  # pragma: no cover - in child processes, by the tests of the program's end
        try:
            warnings.warn(f"{self!r} {AT_EXIT}", ResourceWarning, stacklevel=2, source=self)
        finally:  # also where warnings are errors
            self._drop()

    def _take_turn(self) -> None:
        if self._reading:
            raise RuntimeError(TWO_READERS)
        self._reading = True

    def _may_wait(self) -> bool:
        """Return `False` if the wait that is about to begin has to end at once; else watch its deadlines."""
        waker = self._state.waker
        if self._timed and waker.reason is None:
            now = monotonic()
            if now >= waker.total_at:  # while data keeps coming, the loop may get no turn to look at its timers
                return False
            waker.idle_at = self._state.idle_deadline(now)
            self._wait.watch()
        return waker.reason is None

    async def _settle(self) -> bool:
        """Do what there is to do but to read on; `False` when the stream is over."""
        state = self._state
        if state.over:
            return not self._refuse_reading()
        if state.waker.cancelled:
            await self._end_early(None)
        elif state.failure is not None:
            if not state.retrying:
                raise state.failure
            await self._reopen()
        elif state.reading is None:
            await self._connect()
        elif state.builder.stopped:
            state.message_ended(monotonic())
            await self._undisturbed(self._read_on())
            await self._end("complete", None)
        elif state.judge():
            await self._end("complete", None)
        return not state.over

    async def _connect(self) -> None:
        state = self._state
        waker = state.waker
        state.begin(monotonic())
        if state.attempts == 1:
            self._begin_waiting()
        waker.attach(self._wait.end)
        if self._source.sends:
            waker.idle_at = state.idle_deadline(monotonic())
            self._wait.watch()
            try:
                await self._wait.run(self._open_source)
            except anthropic.APIError:
                if waker.reason is None:  # else the wait was ended already
                    raise
            waker.idle_at = NEVER
        else:
            await self._open_source()
        if not self._slot:
            state.give_up_opening()
            return
        reading = Reading(self._slot[-1], self._source)
        self._body = reading.body
        self._wait.response = reading.response
        self._guarded = self._timed or not reachable(reading.response)
        if not self._guarded:  # cheaper for each read: the socket is enough
            waker.attach(partial(end_read, reading.response))
        state.connected(reading, monotonic())

    def _begin_waiting(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._wait = TrioWait(self._state.waker)
        else:
            self._wait = AsyncioWait(self._state.waker)
            still: Any = weakref.proxy(self)  # no cycle through an open stream
            self._loop_end = LoopEnd(lambda: still.aclose())  # noqa: PLW0108 - `still.aclose` would hold the stream
        opened(self)

    async def _open_source(self) -> None:
        self._slot.append(await self._source.prepare(None)())

    async def _reopen(self) -> None:
        state = self._state
        waker = state.waker
        waker.detach()
        await self._release()
        waker.forgive()
        waker.attach(self._wait.end)
        self._wait.watch()
        await self._wait.run(partial(anyio.sleep, pause_before_retry(state.reading, state.attempts)))
        if waker.reason == "total":
            state.timed_out("total")
        elif waker.reason is None:
            await self._connect()

    async def _read_on(self) -> None:
        """Read what comes after the message, at most one chunk, so that the connection can be used again."""
        with anyio.move_on_after(READ_ON):
            with suppress(Exception):  # the message is complete, nothing can harm it any more
                await self._body.__anext__()

    async def _undisturbed(self, work: Coroutine[Any, Any, None]) -> None:
        """Await something to its end, also when this task is cancelled meanwhile: then that goes on.

        A close of the HTTP library that is cut off is never resumed, and no scope shields from asyncio's own `cancel`.
        """
        with anyio.CancelScope(shield=True):
            if self._loop is None or not hasattr(self._slot[-1], "response"):
                await work
                return
            cancelled: asyncio.CancelledError | None = None
            task = self._loop.create_task(work)
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:
                    cancelled = error
            task.result()
            if cancelled is not None:
                raise cancelled

    async def _call_sinks(self) -> None:
        calls = self._state.calls
        while calls:
            method, item = calls.popleft()
            try:
                answer = method(item)
                if inspect.isawaitable(answer):
                    await answer
            except BaseException as error:
                self._state.sink_error = error
                raise

    async def _abandon(self, error: BaseException) -> None:
        """End early, because of an error that is on its way to the caller."""
        if isinstance(error, GeneratorExit):  # the coroutine is being closed, and may not await
            self._state.finish("interrupted", error, monotonic())
            self._drop()
            return
        if not isinstance(error, KeyboardInterrupt):  # that may have come in the middle of an event
            self._state.absorb()
        try:
            await self._end(self._state.status_for(error), error)
        except Exception as second:  # noqa: BLE001 - a sink's, at its `finish`
            self._first_goes_on(error, second)

    async def _leave(self, error: BaseException | None) -> None:
        """End the stream from outside of its reader, if it is not over."""
        if self._reading:
            self.cancel()  # the reader, in another task, wakes and closes
            return
        self._reading = True
        try:
            await self._end_early(error)
        except Exception as second:
            if error is None:
                raise
            self._first_goes_on(error, second)
        finally:
            self._reading = False

    async def _end_early(self, error: BaseException | None) -> None:
        """End between two items. What the last chunk held counts, though nobody has asked for it."""
        try:
            self._state.take_rest()
            with anyio.CancelScope(shield=True):
                await self._call_sinks()
        except BaseException as second:
            await self._end(self._state.status_for(second), error or second)
            raise
        await self._end("interrupted", error)

    async def _end(self, status: Status, error: BaseException | None) -> None:
        """The end, whatever it is. Shielded: what is being cancelled closes too."""
        result = self._state.finish(status, error, monotonic())
        with anyio.CancelScope(shield=True):
            try:
                await self._release()
            finally:
                await self._finish_sinks(result)
        self._ended()

    def _ended(self) -> None:
        if self._state.attempts:
            self._wait.close()
        ended(self)

    async def _release(self) -> None:
        """Close the connection, or give it back where the body was read to its end."""
        if self._slot:
            await self._undisturbed(self._close_layers())

    async def _close_layers(self) -> None:
        for layer in (self._body, *self._slot):
            close = getattr(layer, "aclose", None) or getattr(layer, "close", None)
            with suppress(Exception):  # closing what is broken already
                if close is not None:
                    await close()
        self._slot.clear()
        self._body = None

    async def _finish_sinks(self, result: StreamResult[Any, Any]) -> None:
        finishing = self._state.sinks.finishing(result)
        failure: BaseException | None = None
        while True:
            try:
                answer = next(finishing)
                if answer is FINISHED:
                    break
                if inspect.isawaitable(answer):
                    await answer
            except BaseException as error:  # noqa: BLE001 - raised below, once every sink is finished
                failure = failure or error
        self._state.sinks.release()
        if failure is not None:
            raise failure

    def _drop(self) -> None:
        """End where nothing can be awaited: here what needs no loop, and in the loop, if it runs, the rest."""
        state = self._state
        state.waker.wake("cancel")
        layers = [layer for layer in (self._body, *self._slot) if layer is not None]
        self._slot, self._body = [], None
        answers: list[Any] = []
        try:
            try:
                state.take_rest()
                answers += filter(inspect.isawaitable, [method(item) for method, item in state.calls])
            finally:
                finishing = state.sinks.finishing(state.finish("interrupted", None, monotonic()))
                state.sinks.release()
                answers += filter(inspect.isawaitable, iter(finishing.__next__, FINISHED))
        finally:
            self._ended()
            loop = self._loop
            if loop is not None and loop.is_running():
                Leftover(layers, answers, loop)
            elif answers:
                for answer in answers:
                    getattr(answer, "close", bool)()  # a coroutine that is never awaited would warn in its own words
                warnings.warn(
                    f"{self!r} could not finish its AsyncSink: the event loop has ended",
                    ResourceWarning,
                    stacklevel=3,
                    source=self,
                )


class AsyncTextStream(AsyncBaseStream[str, MessageT, OutputT]):
    """Iterates over the text of a reply, as it arrives. Made by `stream_text` for an async source."""


class AsyncEventStream(AsyncBaseStream[EventT, MessageT, OutputT]):
    """Iterates over the SDK's own raw event objects. Made by `stream_events` for an async source."""

    _yields_events = True
