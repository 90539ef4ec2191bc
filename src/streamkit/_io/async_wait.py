"""Ending what an async reader waits for, on asyncio and on trio: for `cancel()` and for the two timeouts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import anyio

from .interrupt import LATE, NEVER, Reason, Waker, end_span

ENDED = object()  # not `None`, which a broken server may send as an event
_COUNTS_CANCELLATIONS = sys.version_info >= (3, 11)


class AsyncioWait:
    """The waits of a reader on asyncio. What ends one is a `cancel` of its task, which is taken back afterwards."""

    __slots__ = ("_cancelling", "_due", "_loop", "_sent", "_task", "_timer", "_waker", "response")

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._loop = asyncio.get_running_loop()
        self._task: Any = None  # that of the reader, while it waits; its counter of cancellations is new in 3.11
        self._cancelling = 0  # how often others had asked to cancel it when the wait began
        self._sent = False  # ours is on its way
        self._timer: asyncio.TimerHandle | None = None
        self._due = NEVER
        self.response: Any = None

    def end(self, reason: Reason) -> None:
        """End the current wait, from any thread."""
        end_span(self.response, reason)
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # The reason may have been forgiven since, for another attempt.
        if self._task is None or self._waker.reason is None or self._sent:
            return
        # A second cancellation would cut off what the HTTP library does about the first one.
        if not _COUNTS_CANCELLATIONS or self._task.cancelling() <= self._cancelling:
            self._sent = True
            self._task.cancel()

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await a function and return its value; `ENDED` where the waker has a reason to wait no longer."""
        if self._waker.reason is not None:
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
            if self._sent:  # what was awaited has swallowed it
                self._absorb(task)  # pragma: no cover - run by tests, but CPython 3.11 traces no line after a throw
        return value

    def _absorb(self, task: Any) -> bool:
        """Take our `cancel` back. Returns `False` where there was none, or where others cancelled the task too."""
        if not self._sent:
            return False
        self._sent = False
        # Before 3.11 asyncio does not count: a second cancellation in the same moment is taken for ours.
        return not _COUNTS_CANCELLATIONS or task.uncancel() <= self._cancelling

    def watch(self) -> None:
        """See to it that the deadlines are looked at in time."""
        deadline = min(self._waker.idle_at, self._waker.total_at)
        if deadline < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = deadline
            self._timer = self._loop.call_later(max(deadline - monotonic(), 0), self._look)

    def _look(self) -> None:
        now = monotonic()
        late = now - self._due > LATE
        self._timer, self._due = None, NEVER
        if not self._waker.over and self._waker.reason is None:
            self._waker.look(now, late=late)
            self.watch()

    def close(self) -> None:
        """Stop looking at the deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._due = None, NEVER


class TrioWait:
    """The waits of a reader on trio, each within a cancel scope."""

    __slots__ = ("_scope", "_token", "_waker", "response")

    def __init__(self, waker: Waker) -> None:
        import trio  # noqa: PLC0415 - it is there: its loop is running

        self._waker = waker
        self.response: Any = None
        self._token = trio.lowlevel.current_trio_token()
        self._scope: anyio.CancelScope | None = None

    def end(self, reason: Reason) -> None:
        """End the current wait, from any thread."""
        end_span(self.response, reason)
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._token.run_sync_soon(self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None and self._waker.reason is not None:
            self._scope.cancel()

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await a function and return its value; `ENDED` where the waker has a reason to wait no longer."""
        if self._waker.reason is not None:
            return ENDED
        deadline = min(self._waker.idle_at, self._waker.total_at)
        with anyio.CancelScope(deadline=anyio.current_time() + deadline - monotonic()) as scope:
            self._scope = scope
            try:
                return await function()
            finally:
                self._scope = None
                if (now := monotonic()) >= deadline:  # the loop stood still, or the scope ends it
                    self._waker.look(now, late=now - deadline > LATE)
        # A deadline of the scope, where it was not `end`. By its own clock, which may differ from ours by a moment.
        self._waker.wake("total" if self._waker.total_at <= self._waker.idle_at else "idle")
        return ENDED

    def watch(self) -> None:
        """The scope of each wait has the deadlines."""

    def close(self) -> None:
        """Nothing outlives a wait."""


class LoopEnd:
    """Has something awaited before the loop of asyncio ends, if it is not done by then.

    As it shuts down, a loop calls `aclose` of what was announced to it as an async generator. It refers to that weakly.
    """

    def __init__(self, close: Callable[[], Awaitable[object]]) -> None:
        self._close = close
        firstiter = sys.get_asyncgen_hooks().firstiter
        if firstiter is not None:
            firstiter(self)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    async def aclose(self) -> None:
        """Do it now."""
        # The loop closes the HTTP library's generators at the same time, and reports one that is being closed already.
        await asyncio.sleep(0)
        await self._close()


class Leftover:
    """The pending cleanup of a stream that was dropped: layers to close, and coroutines of its sinks to await."""

    def __init__(self, layers: list[Any], answers: list[Awaitable[object]], loop: asyncio.AbstractEventLoop) -> None:
        self._layers, self._answers = layers, answers
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is loop:  # at once, as the loop may be about to end
                self._schedule(loop)
                return
        loop.call_soon_threadsafe(self._schedule, loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._run())
        _leftovers[task] = LoopEnd(self._run)  # a loop that is about to end cancels the task
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not self._layers and not self._answers:
            del _leftovers[task]

    async def _run(self) -> None:
        while self._layers:
            layer = self._layers[0]
            with suppress(Exception):  # closing what is broken already
                await (getattr(layer, "aclose", None) or layer.close)()
            self._layers.pop(0)  # not before: a close that was cancelled is begun again
        while self._answers:
            await self._answers.pop(0)


# A loop refers to its tasks only weakly.
_leftovers: dict[asyncio.Task[None], LoopEnd] = {}
