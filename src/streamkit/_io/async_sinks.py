"""The calls of sinks that an async stream makes: in order, each awaited before the next."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from streamkit._core.dispatch import SinkDispatcher
from streamkit._core.state import StreamState
from streamkit._result import StreamResult
from streamkit._sinks.stdout import OutputClosedError


async def call_sinks(state: StreamState) -> None:
    """Make the pending calls."""
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


def call_without_awaiting(state: StreamState) -> Iterator[Any]:
    """Make the pending calls, and yield what they return: `None`, or a coroutine that is still to be awaited."""
    for method, items in state.sinks.pending_calls:
        with suppress(OutputClosedError):  # the stream is being cancelled already
            yield method(*items)


async def finish_sinks(sinks: SinkDispatcher, result: StreamResult[Any, Any]) -> None:
    """Finish all sinks. Raises the first exception of those that raise."""
    failure: BaseException | None = None
    for sink in sinks.unfinished():
        try:
            answer: Any = sink.finish(result)
            if inspect.isawaitable(answer):
                await answer
        except OutputClosedError:
            pass  # as `cancel()`, and too late
        except BaseException as error:  # noqa: BLE001 - raised below, once every sink is finished
            failure = failure or error
    sinks.release()
    if failure is not None:
        raise failure
