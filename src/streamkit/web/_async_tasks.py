"""A task in the background and a wait with a timeout, on asyncio and on trio.

anyio has no task that outlives a function call, and its waits take several times the CPU time of these.
"""

from __future__ import annotations

import abc
import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

_Function = Callable[[], Awaitable[Any]]


class Signal(abc.ABC):
    """Wakes the one task that waits for it."""

    @abc.abstractmethod
    async def wait(self, seconds: float | None) -> bool:
        """Wait until `set` is called, at most for some seconds. Returns `False` after that time."""

    @abc.abstractmethod
    def set(self) -> None:
        """Wake the task that waits, if there is one."""


class Task(abc.ABC):
    """A task in the background."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """Cancel the task, from any thread."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Cancel the task and wait for its end, also if this task is cancelled meanwhile."""


def make_signal() -> Signal:
    """Make a signal for the event loop that is running."""
    return _AsyncioSignal() if on_asyncio() else _TrioSignal()


def start(function: _Function) -> Task:
    """Start an async function in a task of its own. Raises `RuntimeError` where no event loop is running."""
    return _AsyncioTask(function) if on_asyncio() else _TrioTask(function)


def on_asyncio() -> bool:
    """Return `True` in an event loop of asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _AsyncioSignal(Signal):
    """One timer serves all waits: most end long before their time, and would otherwise each set a timer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    async def wait(self, seconds: float | None) -> bool:
        self._waiter = self._loop.create_future()
        if seconds is not None:
            self._due = self._loop.time() + seconds
            if self._timer is None:
                self._timer = self._loop.call_at(self._due, self._expire)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def set(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def _expire(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._due:  # a later wait than the one that set the timer
            self._timer = self._loop.call_at(self._due, self._expire)
        else:
            self._waiter.set_result(False)


class _TrioSignal(Signal):
    def __init__(self) -> None:
        self._event = anyio.Event()

    async def wait(self, seconds: float | None) -> bool:
        event = self._event = anyio.Event()
        with anyio.move_on_after(seconds):
            await event.wait()
        return event.is_set()

    def set(self) -> None:
        self._event.set()


# Holds the tasks, as a loop of asyncio holds them only weakly.
_running: set[asyncio.Task[None]] = set()


class _AsyncioTask(Task):
    def __init__(self, function: _Function) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(_call(function))
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    def cancel(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def stop(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        self._task.cancel()
        with anyio.CancelScope(shield=True):
            while not self._task.done():
                try:
                    await asyncio.wait([self._task])
                except asyncio.CancelledError as error:  # no scope shields from asyncio's own `cancel`
                    cancelled = error
        if cancelled is not None:
            raise cancelled


async def _call(function: _Function) -> None:
    await function()


class _TrioTask(Task):
    """A system task, as only those outlive the function that started them."""

    def __init__(self, function: _Function) -> None:
        import trio.lowlevel  # noqa: PLC0415 - it is there: its loop is running

        self._function = function
        self._token = trio.lowlevel.current_trio_token()
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        trio.lowlevel.spawn_system_task(self._run, context=contextvars.copy_context())

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._function()
        finally:
            self._ended.set()

    def cancel(self) -> None:
        with suppress(Exception):  # the loop has ended
            self._token.run_sync_soon(self._scope.cancel)

    async def stop(self) -> None:
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()
