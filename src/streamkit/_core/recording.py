"""A stream whose body is recorded: see `streamkit.testing.record`."""

from __future__ import annotations

from typing import Any

from .attempt import Response
from .state import StreamState
from .timing import Reason


class RecordingState(StreamState):
    """The state of a stream with sinks that keep the bytes of its body."""

    def response_opened(self, response: Response, now: float, reason: Reason | None = None) -> None:
        """The same, after telling the recorders that a body begins."""
        for keep in self.sinks.recorders:
            keep(None)
        super().response_opened(response, now, reason)

    def receive(self, chunk: object, now: float) -> Any:
        """The same, after handing the chunk to the recorders."""
        frame = self.attempt.response.as_frame(chunk)
        for keep in self.sinks.recorders:
            keep(frame)
        return super().receive(chunk, now)
