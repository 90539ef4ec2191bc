"""The wrapper that merges small pieces into larger ones."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, overload

import anyio

from streamkit._result import StreamResult

from .base import AsyncSink, Factory, Sink
from .resolve import Listener, attach, call_and_await, is_awaited, wrap

_GRACE = 1.0  # seconds that a call in the background may still take once the stream was interrupted


@overload
def coalesce(sink: Sink, seconds: float = 0.05) -> Sink | AsyncSink: ...
@overload
def coalesce(sink: AsyncSink, seconds: float = 0.05) -> AsyncSink: ...
@overload
def coalesce(sink: Factory | Callable[[str], object], seconds: float = 0.05) -> Factory: ...
def coalesce(sink: Any, seconds: float = 0.05) -> Any:
    """Wrap a sink so that pieces that arrive within `seconds` of the first one are passed on in a single call.

    This merges pieces of text, of thinking and of a tool's input. The order of all calls stays. The pending pieces are
    passed on before an event, at the end, and at every error. A sink that overrides `event` gets each event at once, so
    that little is merged.

    During a pause the pending pieces are passed on in the background, `seconds` after the first of them: on an async
    stream by a task of the event loop, on a sync stream by a daemon thread that lives until the stream is over. The
    calls never overlap. If a call in the background raises, the next call raises that exception, `finish` at the
    latest.

    `sink` is anything that `sinks=` takes. For a class or another function the result is a function that makes one
    wrapped sink per stream. Raises `TypeError` for anything else, and `TypeError` or `ValueError` for wrong `seconds`.
    """
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected a number of seconds, got {seconds!r}")
    if not seconds > 0:
        raise ValueError(f"expected seconds above 0, got {seconds!r}")
    return wrap(sink, partial(_coalesced, seconds))


def _coalesced(seconds: float, sink: Any) -> Sink | AsyncSink:
    wrapper = (_AsyncCoalescedSink if is_awaited(sink) else _CoalescedSink)(sink, seconds)

    def replacement(name: str, method: Listener) -> Listener:
        if name in ("event", "attempt"):
            return partial(wrapper.pass_on, method)
        return partial(wrapper.add, method) if name == "tool_input" else partial(wrapper.add, method, None)

    attach(wrapper, sink, replacement)
    return wrapper


class _Pending:
    """The pieces that were not passed on yet, when they are due, and the event loop's timer for that."""

    def __init__(self, sink: Any, seconds: float) -> None:
        self._finish: Listener = sink.finish
        self._seconds = seconds
        # The method, the block of a tool's input, and the pieces for one call.
        self._calls: deque[tuple[Listener, Any, list[str]]] = deque()
        self._due = math.inf
        self._failure: BaseException | None = None  # of a call in the background, until the next call raises it
        self._failed = False
        self._timer_scope: anyio.CancelScope | None = None
        self._timer_runs = False  # or is about to begin, without a scope yet

    def _append(self, method: Listener, block: Any, piece: str) -> bool:
        """Append a piece, unless a call has failed. Returns `True` if it is the first one."""
        if self._failed:
            return False
        if self._calls and self._calls[-1][0] is method and self._calls[-1][1] is block:
            self._calls[-1][2].append(piece)
            return False
        self._calls.append((method, block, [piece]))
        if len(self._calls) > 1:
            return False
        self._due = monotonic() + self._seconds
        return True

    def _seconds_left(self) -> float:
        """Return the seconds until the pieces are due; infinity if there are none."""
        return self._due - monotonic()

    def _next_call(self) -> tuple[Listener, tuple[Any, ...]] | None:
        """Take the next call out, with its arguments."""
        if not self._calls:
            self._due = math.inf
            return None
        method, block, pieces = self._calls.popleft()
        text = "".join(pieces)
        return method, ((text,) if block is None else (block, text))

    def _fail(self) -> None:
        """Drop everything, as a call has failed."""
        self._calls.clear()
        self._due = math.inf
        self._failed = True

    def _raise_failure(self) -> None:
        """Raise the exception of a call in the background, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _keep_time_in_loop(self, flush_if_due: Callable[[], Any]) -> None:
        with anyio.CancelScope() as self._timer_scope:
            while (left := self._seconds_left()) < math.inf:
                await anyio.sleep(max(left, 0))
                await call_and_await(flush_if_due)
        self._timer_runs = False

    def _stop_timer(self) -> None:
        self._timer_runs = False
        if self._timer_scope is not None:
            self._timer_scope.cancel()


class _CoalescedSink(_Pending, Sink):
    _streamkit_is_async = False  # set by the stream: a sync one blocks the event loop that it may be read in

    def __init__(self, sink: Sink, seconds: float) -> None:
        super().__init__(sink, seconds)
        # Of a reentrant lock: within a call, the sink may close the stream, which finishes this sink.
        self._changed = threading.Condition()
        self._timer_thread: threading.Thread | None = None
        self._over = False

    def add(self, method: Listener, block: Any, piece: str) -> None:
        with self._changed:
            self._raise_failure()
            if self._seconds_left() <= 0:
                self._flush()
            if self._append(method, block, piece):
                self._start_timer()

    def pass_on(self, method: Listener, *items: object) -> None:
        with self._changed:
            self._raise_failure()
            self._flush()
            if not self._failed:
                method(*items)

    def finish(self, result: StreamResult[Any, Any]) -> None:
        with self._changed:
            try:
                self._raise_failure()
                self._flush()
            finally:
                self._failed = False  # for the next stream
                self._over = True
                self._changed.notify_all()
                self._stop_timer()
                self._finish(result)

    def _flush(self) -> None:
        while (pending_call := self._next_call()) is not None:
            method, items = pending_call
            try:
                method(*items)
            except Exception:
                self._fail()
                raise

    def _flush_if_due(self) -> None:
        """Pass on the calls that are due, in the background."""
        with self._changed:
            if self._seconds_left() <= 0:
                try:
                    self._flush()
                except BaseException as error:  # noqa: BLE001 - raised by the next call
                    self._failure = error

    def _start_timer(self) -> None:
        self._over = False
        if self._timer_runs or (
            self._streamkit_is_async and spawn(partial(self._keep_time_in_loop, self._flush_if_due))
        ):
            self._timer_runs = True
            return
        if self._timer_thread is None or not self._timer_thread.is_alive():  # not in the child of a fork
            self._timer_thread = threading.Thread(target=self._keep_time, name="streamkit-coalesce", daemon=True)
            self._timer_thread.start()
        self._changed.notify_all()

    def _keep_time(self) -> None:
        with self._changed:
            while not self._over:
                self._flush_if_due()
                left = self._seconds_left()
                self._changed.wait(None if left == math.inf else left)
            self._timer_thread = None


class _AsyncCoalescedSink(_Pending, AsyncSink):
    _lock: anyio.Lock | None = None

    async def add(self, method: Listener, block: Any, piece: str) -> None:
        async with self._in_turn():
            self._raise_failure()
            if self._seconds_left() <= 0:
                await self._flush()
            # CPython 3.11 does not trace the way out of an `async with`.
            starts = self._append(method, block, piece) and not self._timer_runs
            if starts:  # pragma: no branch
                self._timer_runs = spawn(partial(self._keep_time_in_loop, self._flush_if_due))

    async def pass_on(self, method: Listener, *items: object) -> None:
        async with self._in_turn():
            self._raise_failure()
            await self._flush()
            if not self._failed:
                await call_and_await(method, *items)

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        # A call in the background comes first. Of an interrupted stream it may hang, and nobody else would end it.
        with anyio.move_on_after(_GRACE if result.status == "interrupted" else math.inf):
            async with self._in_turn():
                pass
        self._stop_timer()
        async with self._in_turn():
            try:
                self._raise_failure()
                await self._flush()
            finally:
                self._failed = False  # for the next stream
                await call_and_await(self._finish, result)
        self._lock = None

    def _in_turn(self) -> anyio.Lock:
        if self._lock is None:  # made within the event loop, which the next stream may not share
            self._lock = anyio.Lock()
        return self._lock

    async def _flush(self) -> None:
        while (pending_call := self._next_call()) is not None:
            method, items = pending_call
            try:
                await call_and_await(method, *items)
            except Exception:
                self._fail()
                raise

    async def _flush_if_due(self) -> None:
        """Pass on the calls that are due, in the background."""
        async with self._in_turn():
            if self._seconds_left() <= 0:  # pragma: no branch - else another call came first
                try:
                    await self._flush()
                except Exception as error:  # noqa: BLE001 - raised by the next call
                    self._failure = error


_tasks: set[asyncio.Task[None]] = set()  # as a loop holds its tasks only weakly


def spawn(function: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Run a function in the background of the running event loop, asyncio's or trio's. Returns `False` without one.

    The function must not raise. The loop cancels it when the loop ends.
    """
    with suppress(RuntimeError):  # asyncio does not run in this thread
        task = asyncio.get_running_loop().create_task(function())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return True
    trio: Any = sys.modules.get("trio")  # imported by whoever runs its loop
    if trio is not None:
        with suppress(RuntimeError):  # nor does trio
            trio.lowlevel.spawn_system_task(function)
            return True
    return False
