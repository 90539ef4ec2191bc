"""The wrapper that keeps the failure of a sink away from the stream."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, overload

from .base import AsyncSink, Factory, Sink
from .resolve import Listener, attach, call_and_await, innermost, is_awaited, wrap

if TYPE_CHECKING:
    from streamkit._result import StreamResult

OnError = Callable[[Exception], object]


@overload
def isolate(sink: Sink, on_error: OnError | None = None) -> Sink | AsyncSink: ...
@overload
def isolate(sink: AsyncSink, on_error: OnError | None = None) -> AsyncSink: ...
@overload
def isolate(sink: Factory | Callable[[str], object], on_error: OnError | None = None) -> Factory: ...
def isolate(sink: Any, on_error: OnError | None = None) -> Any:
    """Wrap a sink so that an exception of it does not end the stream.

    After its first exception the sink is not called any more, not even with `finish`; the other sinks and the stream go
    on. `on_error(exception)` is called once; without it, a `RuntimeWarning` names the sink and the exception. An
    exception of `on_error` ends the stream. So does an exception of the sink that is not an `Exception`, such as a
    cancellation.

    `sink` is anything that `sinks=` takes. For a class or another function the result is a function that makes one
    wrapped sink per stream. Raises `TypeError` for anything else, and for an async `on_error`.
    """
    if on_error is not None and (not callable(on_error) or iscoroutinefunction(on_error)):
        raise TypeError(f"expected a plain function for on_error=, got {on_error!r}")
    return wrap(sink, partial(_isolated, on_error))


def _isolated(on_error: OnError | None, sink: Any) -> Sink | AsyncSink:
    return (_AsyncIsolatedSink if is_awaited(sink) else _IsolatedSink)(sink, _Isolation(sink, on_error))


class _Isolation:
    """What became of an isolated sink."""

    def __init__(self, sink: Sink | AsyncSink, on_error: OnError | None) -> None:
        self.failed = False
        self._sink = sink
        self._on_error = on_error
        self._lock = threading.Lock()  # a shareable sink may fail in several threads at once

    def record(self, error: Exception) -> None:
        """Report the first failure."""
        with self._lock:
            first, self.failed = not self.failed, True
        if not first:
            return
        if self._on_error is not None:
            self._on_error(error)
        else:
            name = type(innermost(self._sink)).__name__
            message = f"{name} raised {error!r}, and gets nothing more; pass on_error= to handle this"
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    def call(self, method: Listener, *items: object) -> None:
        """Call a method of the sink, unless the sink has failed."""
        if not self.failed:
            try:
                method(*items)
            except Exception as error:  # noqa: BLE001 - reported
                self.record(error)

    async def call_async(self, method: Listener, *items: object) -> None:
        """The same for a method that may have to be awaited."""
        if not self.failed:
            try:
                await call_and_await(method, *items)
            except Exception as error:  # noqa: BLE001 - reported
                self.record(error)

    def attach(self, wrapper: Sink | AsyncSink, guarded: Callable[..., Any]) -> None:
        """Give the wrapper the methods of the sink, each within the call of a function that records its failure."""
        sink = self._sink
        attach(wrapper, sink, lambda _, method: partial(guarded, method))
        setattr(wrapper, "shareable", sink.shareable)  # noqa: B010 - a class variable, for type checkers
        record_body = getattr(sink, "_streamkit_body", None)
        if record_body is not None:
            setattr(wrapper, "_streamkit_body", partial(self.call, record_body))  # noqa: B010


class _IsolatedSink(Sink):
    def __init__(self, sink: Sink, isolation: _Isolation) -> None:
        self._finish: Listener = sink.finish
        self._isolation = isolation
        isolation.attach(self, isolation.call)

    def finish(self, result: StreamResult[Any, Any]) -> None:
        self._isolation.call(self._finish, result)


class _AsyncIsolatedSink(AsyncSink):
    def __init__(self, sink: Sink | AsyncSink, isolation: _Isolation) -> None:
        self._finish: Listener = sink.finish
        self._isolation = isolation
        isolation.attach(self, isolation.call_async)

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        await self._isolation.call_async(self._finish, result)
