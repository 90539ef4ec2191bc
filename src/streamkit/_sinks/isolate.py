"""The wrapper that keeps the failure of a sink away from the stream."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, overload

from .base import AsyncSink, Factory, Sink
from .resolve import Listener, attach, call_and_await, innermost, is_awaited, wrap

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
    isolation = _Isolation(type(innermost(sink)).__name__, on_error)
    wrapper = AsyncSink() if is_awaited(sink) else Sink()
    call = isolation.call_async if isinstance(wrapper, AsyncSink) else isolation.call
    attach(wrapper, sink, lambda _, method: partial(call, method))
    vars(wrapper).update(finish=partial(call, sink.finish), shareable=sink.shareable)
    record_body = vars(wrapper).get("_streamkit_body")
    if record_body is not None:
        vars(wrapper)["_streamkit_body"] = partial(isolation.call, record_body)
    return wrapper


class _Isolation:
    """What became of an isolated sink."""

    def __init__(self, name: str, on_error: OnError | None) -> None:
        self.failed = False
        self._name = name
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
            message = f"{self._name} raised {error!r}, and is not called again; pass on_error= to handle this"
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
