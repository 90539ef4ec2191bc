"""The sink that calls functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamkit._result import StreamResult
from streamkit.errors import StreamError

from .base import Sink


class CallbackSink(Sink):
    """A sink that calls functions: for each piece of text, thinking or tool input, for each event, request and result.

    Each function is optional, and takes the arguments of the method of `Sink` that it stands for. The thread or task
    that reads the stream calls them; one `CallbackSink` may serve many streams at once.
    """

    shareable = True

    def __init__(
        self,
        on_text: Callable[[str], object] | None = None,
        on_thinking: Callable[[str], object] | None = None,
        on_event: Callable[[Any], object] | None = None,
        on_finish: Callable[[StreamResult[Any, Any]], object] | None = None,
        on_tool_input: Callable[[Any, str], object] | None = None,
        *,
        on_attempt: Callable[[int, float, StreamError | None], object] | None = None,
    ) -> None:
        callbacks: dict[str, Callable[..., object] | None] = {
            "write": on_text,
            "thinking": on_thinking,
            "tool_input": on_tool_input,
            "event": on_event,
            "attempt": on_attempt,
            "finish": on_finish,
        }
        for name, callback in callbacks.items():
            if callback is not None:
                if not callable(callback):
                    raise TypeError(f"expected a function as a callback, got {callback!r}")
                # Replace the method: the stream sees that the sink overrides it, and calls the function directly.
                setattr(self, name, callback)
