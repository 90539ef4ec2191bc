"""Ending what an async reader waits for, on asyncio and on trio: for `cancel()` and for the two timeouts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

import anyio

from streamkit._core.timing import NO_DEADLINE, Reason

from .interrupt import LATE, Interrupter, close_span

ENDED = object()  # not `None`, which a broken server may send as an event
_COUNTS_CANCELLATIONS = sys.version_info >= (3, 11)


class AsyncioWait:
    """The waits of a reader on asyncio. A wait is ended by cancelling its task; the cancellation is taken back then."""

    __slots__ = ("_cancel_sent", "_cancelling", "_due", "_interrupter", "_loop", "_task", "_timer", "response")

    def __init__(self, interrupter: Interrupter) -> None:
        self._interrupter = interrupter
        self._loop = asyncio.get_running_loop()
        self._task: Any = None  # of the reader, while it waits
        self._cancelling = 0  # how often others had asked to cancel the task when the wait began
        self._cancel_sent = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = NO_DEADLINE
        self.response: Any = None

    def end(self, reason: Reason) -> None:
        """End the current wait, from any thread."""
        close_span(self.response, reason)
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # An idle timeout may have been taken back meanwhile, for another attempt.
        if self._task is None or self._interrupter.reason is None or self._cancel_sent:
            return
        # A second cancellation would cut off the HTTP library's reaction to the first one.
        if not _COUNTS_CANCELLATIONS or self._task.cancelling() <= self._cancelling:
            self._cancel_sent = True
            self._task.cancel()

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await a function and return its value; `ENDED` if the interrupter ends the wait."""
        if self._interrupter.reason is not None:
            return ENDED
        task: Any = asyncio.current_task()
        self._task = task
        if _COUNTS_CANCELLATIONS and task is not None:
            self._cancelling = task.cancelling()
        value: Any = ENDED
        try:
            value = await function()
        except asyncio.CancelledError:
            if not self._absorb(task):
                raise
        finally:
            self._task = None
            if self._cancel_sent:  # the awaited function has swallowed the cancellation
                self._absorb(task)  # pragma: no cover - run by tests, but CPython 3.11 traces no line after a throw
        return value

    def _absorb(self, task: Any) -> bool:
        """Take our cancellation back. Returns `False` if there was none, or if others cancelled the task, too."""
        if not self._cancel_sent:
            return False
        self._cancel_sent = False
        # Before 3.11, asyncio does not count: a cancellation by others in the same moment is taken for ours.
        return not _COUNTS_CANCELLATIONS or task.uncancel() <= self._cancelling

    def watch(self) -> None:
        """Check the deadlines in time."""
        deadline = self._interrupter.next_deadline
        if deadline < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = deadline
            self._timer = self._loop.call_later(max(deadline - monotonic(), 0), self._check_deadlines)

    def _check_deadlines(self) -> None:
        now = monotonic()
        late = now - self._due > LATE
        self._timer, self._due = None, NO_DEADLINE
        if not self._interrupter.disarmed and self._interrupter.reason is None:
            self._interrupter.check_deadlines(now, late=late)
            self.watch()

    def close(self) -> None:
        """Stop checking the deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._due = None, NO_DEADLINE


class TrioWait:
    """The waits of a reader on trio, each within a cancel scope."""

    __slots__ = ("_interrupter", "_scope", "_token", "response")

    def __init__(self, interrupter: Interrupter) -> None:
        import trio  # noqa: PLC0415 - it is there: its loop is running

        self._interrupter = interrupter
        self.response: Any = None
        self._token = trio.lowlevel.current_trio_token()
        self._scope: anyio.CancelScope | None = None

    def end(self, reason: Reason) -> None:
        """End the current wait, from any thread."""
        close_span(self.response, reason)
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._token.run_sync_soon(self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None and self._interrupter.reason is not None:
            self._scope.cancel()

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await a function and return its value; `ENDED` if the interrupter ends the wait."""
        if self._interrupter.reason is not None:
            return ENDED
        deadline = self._interrupter.next_deadline
        # `monotonic()` first: after a pause between the two clocks, the scope ends too late, and not too early.
        with anyio.CancelScope(deadline=deadline - monotonic() + anyio.current_time()) as scope:
            self._scope = scope
            try:
                return await function()
            finally:
                self._scope = None
                if (now := monotonic()) >= deadline:  # the loop stood still, or the scope ends it
                    self._interrupter.check_deadlines(now, late=now - deadline > LATE)
        # The scope's deadline, if `end` was not called: the scope's clock may be slightly ahead of ours.
        self._interrupter.interrupt(
            "total" if self._interrupter.total_deadline <= self._interrupter.idle_deadline else "idle"
        )
        return ENDED

    def watch(self) -> None:
        """Do nothing: the scope of each wait has the deadlines."""

    def close(self) -> None:
        """Do nothing: nothing outlives a wait."""


async def run_shielded(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop | None) -> None:
    """Await something to its end, also if this task is cancelled meanwhile; then raise the cancellation.

    On asyncio (`loop`) in a task of its own, as no scope shields from asyncio's own `cancel`.
    """
    with anyio.CancelScope(shield=True):
        if loop is None:
            await work
            return
        cancelled: asyncio.CancelledError | None = None
        task = loop.create_task(work)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        task.result()
        if cancelled is not None:
            raise cancelled


class LoopEnd:
    """Makes asyncio's loop await a function before the loop ends.

    A loop that shuts down calls `aclose` of each async generator it was told about. It holds them weakly.
    """

    def __init__(self, close: Callable[[], Awaitable[object]]) -> None:
        self._close = close
        firstiter = sys.get_asyncgen_hooks().firstiter
        if firstiter is not None:
            firstiter(self)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    async def aclose(self) -> None:
        """Await the function now."""
        # The loop also closes the HTTP library's generators, and reports one that is being closed already.
        await asyncio.sleep(0)
        await self._close()


class Leftover:
    """The pending cleanup of a stream that was dropped: layers to close, and coroutines of its sinks to await."""

    def __init__(self, layers: list[Any], answers: list[Awaitable[object]], loop: asyncio.AbstractEventLoop) -> None:
        self._layers, self._answers = layers, answers
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is loop:  # at once, because the loop may be about to end
                self._schedule(loop)
                return
        loop.call_soon_threadsafe(self._schedule, loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._run())
        _leftovers[task] = LoopEnd(self._run)  # awaits the rest if the ending loop cancels the task
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not self._layers and not self._answers:
            del _leftovers[task]

    async def _run(self) -> None:
        while self._layers:
            layer = self._layers[0]
            with suppress(Exception):  # closing a broken connection may fail
                await (getattr(layer, "aclose", None) or layer.close)()
            self._layers.pop(0)  # afterwards: a close that was cancelled is started again
        while self._answers:
            await self._answers.pop(0)


# Holds the tasks, as a loop holds them only weakly.
_leftovers: dict[asyncio.Task[None], LoopEnd] = {}
