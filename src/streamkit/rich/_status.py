"""The status line: what a reply is doing while no text arrives."""

from __future__ import annotations

from typing import Any

from rich.spinner import Spinner

from streamkit import StreamAPIError, StreamConnectionError, StreamError, StreamTimeoutError

from ._parse import clean


class StatusLine:
    """What a status line says at a moment. Times are in seconds, of any one clock."""

    def __init__(self, encoding: str, now: float) -> None:
        spinner = Spinner("dots" if encoding.lower().startswith("utf") else "line")
        self._frames, self._interval = spinner.frames, spinner.interval / 1000
        self._started_at = now
        self._activity = "waiting"  # "" while text arrives, which shows by itself that the reply is coming
        self._next_attempt: tuple[str, float] | None = None  # what went wrong, and when the next request is sent
        self._tokens = 0  # at least so many: each piece of a reply holds one or more

    def wait_for_retry(self, number: int, at: float, error: StreamError) -> None:
        """Take note that request `number` is sent at the time `at`."""
        self._activity = "waiting"
        self._next_attempt = (f"{reason(error)}, attempt {number}", at)

    def think(self) -> None:
        """Take note of a piece of thinking."""
        self._take("thinking")

    def use_tool(self, block: Any) -> None:
        """Take note of a piece of a tool's input. A tool of the API runs after its last piece."""
        self._take(f"using {clean(str(getattr(block, 'name', 'a tool')))}")

    def hide(self) -> None:
        """Take note of a piece of text."""
        self._take("")

    def _take(self, activity: str) -> None:
        self._activity, self._next_attempt = activity, None
        self._tokens += 1

    @property
    def is_visible(self) -> bool:
        """`True` unless text arrives."""
        return bool(self._activity)

    def text(self, now: float) -> str:
        """Return the line; `""` while text arrives."""
        if not self._activity:
            return ""
        seconds = now - self._started_at
        parts = [self._activity]
        if self._next_attempt is not None:
            attempt, at = self._next_attempt
            parts = [f"{attempt} in {at - now:.0f} s" if at > now else attempt]
        parts.append(f"{seconds:.0f} s")
        if self._tokens:
            parts.append(f"at least {self._tokens} token{'s' if self._tokens > 1 else ''}")
        frame = self._frames[int(seconds / self._interval) % len(self._frames)]
        return f"{frame} {', '.join(parts)}"


def reason(error: StreamError) -> str:
    """Return in a word or two what went wrong."""
    if isinstance(error, StreamAPIError):
        return str(error.type)
    if isinstance(error, StreamTimeoutError):
        return "timed out"
    return "disconnected" if isinstance(error, StreamConnectionError) else "failed"
