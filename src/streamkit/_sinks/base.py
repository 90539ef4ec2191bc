"""The base classes of all sinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from streamkit._result import StreamResult
from streamkit.errors import StreamError

METHODS = ("write", "thinking", "tool_input", "event", "attempt")
"""The methods of a sink but for `finish`, which each sink gets, whether it overrides `finish` or not."""


class Sink:
    """A receiver of a reply while it arrives. The methods do nothing here; override those that you need.

    A method that raises ends the stream: the connection is closed, the other sinks are finished with status
    `"failed"`, and the exception reaches the caller unchanged. A sink serves one stream at a time, unless its class
    sets `shareable`; then its methods may be called from several threads at once.
    """

    shareable: ClassVar[bool] = False

    def write(self, text: str) -> None:
        """Take a piece of text, which is never empty."""

    def thinking(self, text: str) -> None:
        """Take a piece of thinking, which is never empty."""

    def tool_input(self, block: Any, piece: str) -> None:
        """Take a piece of a tool's input: JSON text, never empty. `block` is the SDK's block as it was opened.

        All pieces of a block come with the same object, which has the tool's `name` and the `id`.
        """

    def event(self, event: Any) -> None:
        """Take an event: the object that the SDK's own raw iterator yields."""

    def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        """Take note that request `number`, counted from 1, is sent in `delay` seconds.

        The first one is sent at once, so `delay` is 0.0 and `error` is `None`. Each further one is a retry: `error` is
        the failure that caused it, and `error.result` is what had arrived. The SDK's own retries are not reported.
        """

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """Take the result. Called exactly once, however the stream ended."""


class AsyncSink:
    """A `Sink` whose methods are coroutines. Only async streams take one."""

    shareable: ClassVar[bool] = False

    async def write(self, text: str) -> None:
        """Take a piece of text, which is never empty."""

    async def thinking(self, text: str) -> None:
        """Take a piece of thinking, which is never empty."""

    async def tool_input(self, block: Any, piece: str) -> None:
        """Take a piece of a tool's input: JSON text, never empty. `block` is the SDK's block as it was opened.

        All pieces of a block come with the same object, which has the tool's `name` and the `id`.
        """

    async def event(self, event: Any) -> None:
        """Take an event: the object that the SDK's own raw iterator yields."""

    async def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        """Take note that request `number`, counted from 1, is sent in `delay` seconds.

        The first one is sent at once, so `delay` is 0.0 and `error` is `None`. Each further one is a retry: `error` is
        the failure that caused it, and `error.result` is what had arrived. The SDK's own retries are not reported.
        """

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        """Take the result. Called exactly once, however the stream ended."""


Factory: TypeAlias = Callable[[], Sink | AsyncSink]
"""A function that makes a sink for one stream: a sink class, or a `functools.partial` of one."""

SinkOrFactory: TypeAlias = Sink | AsyncSink | Factory | Callable[[str], object]
"""An item of `sinks=`: a sink, a function that makes one, or a function that is called with each piece of text."""
