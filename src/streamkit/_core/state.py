"""One stream without I/O: its phase, what the consumer and the sinks get, retries, and how it ends.

A driver opens, reads, waits and closes. It reports what happened (`attempt_scheduled`, `response_opened`, `receive`,
`body_ended`, `read_failed`, `deadline_passed`, ...), and the `phase` says what to do next. Times are handed in, in
seconds on a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

from streamkit._options import Options
from streamkit._output import parse_output
from streamkit._result import Status, StreamResult
from streamkit._sinks.resolve import Listener
from streamkit._sinks.stdout import OutputClosedError
from streamkit.errors import StreamError, StreamTimeoutError, is_interruption, status_of

from .attempt import Attempt, Response
from .dispatch import SinkDispatcher
from .message import text_delta_event
from .phase import BODY_ENDED, COMPLETE, FAILED, MESSAGE_ENDED, NEW, OPENING, OVER, READY, RETRYING, STREAMING, WAITING
from .sse import JSONObject, ProtocolViolation
from .timing import NO_DEADLINE, Reason, Stopwatch

_CONTENT = frozenset({"content_block_delta", "content_block_start", "content_block_stop"})


class StreamState:
    """All that is known about one stream. `yields_events` tells what the consumer gets: SDK events, or text."""

    def __init__(
        self,
        options: Options,
        sinks: SinkDispatcher,
        response: Response,
        *,
        max_retries: int,
        output_format: object = None,
        yields_events: bool = False,
    ) -> None:
        self.phase = NEW
        self.options = options
        self.sinks = sinks
        self.stopwatch = Stopwatch()
        self.attempts = 0
        self.cancelled = False  # a flag beside the phase, as any thread may set it
        self.failure: StreamError | None = None
        self.sink_error: BaseException | None = None  # what a sink raised
        self.foreign_error: Exception | None = None  # what a signal handler raised while the reader waited
        self.released_items: deque[Any] = deque()  # for the consumer; they were held back
        self._failed_attempts: tuple[StreamError, ...] = ()
        self._max_retries = max_retries
        self._output_format = output_format
        self._yields_events = yields_events
        self._takes_text_alone = not yields_events and not sinks.event
        self._follows_text = False  # the last event held text, as the next one then probably does
        self._final: StreamResult[Any, Any] | None = None
        self.attempt = self._new_attempt(response)
        self.frames = self.attempt.decoder.frames  # arrived whole, and not processed yet

    def _new_attempt(self, response: Response) -> Attempt:
        separator = "" if self._output_format is not None else self.options.separator
        return Attempt(response, separator=separator, holds_events=self.attempts <= self._max_retries)

    # What the driver reports.

    def attempt_scheduled(self, now: float, delay: float = 0.0) -> None:
        """Take note that the next request is to be sent in `delay` seconds, and tell the sinks.

        The first one is due at once. A retry is to be waited for, until `stopwatch.attempt_due_at`.
        """
        failure = self.failure
        if failure is None:
            self.stopwatch.started_at = now
            self.sinks.acquire()
            self.phase = READY
        else:
            failure.result = self.build_result(self.status_for(failure), failure, now)
            self.phase = WAITING
        self.stopwatch.attempt_due_at = now + delay
        self._call_sinks(self.sinks.attempt, self.attempts + 1, delay, failure)

    def wait_ended(self, reason: Reason | None = None) -> None:
        """Take note that a retry is due, or that the wait for it was ended for a `reason`."""
        self.phase = READY
        if reason is not None:
            self.interrupted(reason)

    def attempt_started(self) -> None:
        """Take note that a request is sent now."""
        if self.failure is not None:
            self._failed_attempts += (self.failure,)
        self.stopwatch.idle_since = None
        self.attempts += 1
        # The former response stays until the next one is there: it has the latest request id.
        self.attempt = self._new_attempt(self.attempt.response)
        self.failure = None
        self.frames.clear()
        self.released_items.clear()
        self.phase = OPENING

    def response_opened(self, response: Response, now: float, reason: Reason | None = None) -> None:
        """Take note that the headers have arrived; with a `reason`, too late."""
        self.stopwatch.response_at = self.stopwatch.last_chunk_at = now
        self.attempt = self._new_attempt(response)
        self.frames = self.attempt.decoder.frames
        self.phase = STREAMING
        if reason is not None:
            self.interrupted(reason)
        elif now >= self.total_deadline:
            self.deadline_passed("total")

    def receive(self, chunk: object, now: float) -> Any:
        """Take a chunk of the body, or an event of the SDK's iterator. Returns the next item, as `next_item` does.

        What arrived counts, also if a deadline passed meanwhile: that is noticed before the next chunk.
        """
        self.stopwatch.last_chunk_at = now
        attempt = self.attempt
        try:
            text = None if self.cancelled else attempt.matcher.match(chunk)
            if text is not None:  # nearly every chunk
                if self._takes_text_alone:
                    return self._apply_text(text)
                return self._apply(text_delta_event(attempt.matcher.index, text), chunk)
            attempt.decoder.feed(chunk)
        except ProtocolViolation as error:
            self._record_failure(attempt.response.to_stream_error(error))
        return self.next_item()

    def body_ended(self, reason: Reason | None = None) -> Any:
        """Take note that the body ended cleanly, or that a `reason` cut it. Returns the next item."""
        if reason is not None:
            self.interrupted(reason)
        else:
            self.attempt.decoder.end()
            self.phase = BODY_ENDED
        return self.next_item()

    def read_failed(self, error: Exception, now: float, reason: Reason | None = None) -> Any:
        """Take note that reading raised `error`, or was ended for a `reason`. Returns the next item.

        Raises the exception of a signal handler that ran while the reader waited.
        """
        response = self.attempt.response
        foreign_error = response.foreign_exception(error)
        if foreign_error is not None:
            self.foreign_error = foreign_error
            raise foreign_error
        if reason is None and now >= self.total_deadline:
            reason = "total"
        if reason is not None:
            self.interrupted(reason)
        else:
            self._record_failure(response.to_stream_error(error))
        return self.next_item()

    def interrupted(self, reason: Reason) -> None:
        """Take note that the wait for the response or for the next chunk was ended from outside."""
        if reason == "cancel":
            self.cancelled = True
        else:
            self.deadline_passed(reason)

    def deadline_passed(self, clock: Literal["idle", "total"]) -> None:
        """Take note that a timeout expired."""
        if clock == "idle":
            message = f"no content for {self.options.idle_timeout} seconds (idle_timeout)"
        else:
            message = f"the reply took longer than {self.options.total_timeout} seconds (total_timeout)"
        response = self.attempt.response.http_response
        self._record_failure(StreamTimeoutError(message, clock=clock, response=response))

    def judge(self) -> None:
        """Decide whether the body, which ended cleanly, held a complete message."""
        if self.attempt.is_complete:
            self._release_held_events()
            self.phase = COMPLETE
        else:
            stream_began = self.attempt.builder.envelope is not None
            self._record_failure(self.attempt.response.truncation_error(stream_began=stream_began))

    # What the driver asks.

    def next_item(self) -> Any:
        """Return the next item for the consumer; `None` if there is none before something else is done."""
        frames, attempt = self.frames, self.attempt
        try:
            while not self.cancelled:
                if self.released_items:
                    return self.released_items.popleft()
                if not frames or self.phase not in (STREAMING, BODY_ENDED):
                    return None
                frame = frames.popleft()
                text = attempt.matcher.match_frame(frame) if self._follows_text else None
                if text is not None and self._takes_text_alone:
                    item = self._apply_text(text)
                else:
                    index = attempt.matcher.index
                    event = attempt.decoder.parse(frame) if text is None else text_delta_event(index, text)
                    item = None if event is None else self._apply(event, frame)
                if item is not None:
                    return item
        except ProtocolViolation as error:
            self._record_failure(self.attempt.response.to_stream_error(error))
            return self.released_items.popleft() if self.released_items else None
        return None

    def flush(self, *, to_sinks: bool = True) -> None:
        """Process the remaining complete events, for the message and, unless told otherwise, for the sinks."""
        if not to_sinks:
            self.sinks.mute()
        # Detach the queue first: resuming after an interruption would leave the sinks with a gap.
        frames, self.frames = self.frames, deque[Any]()
        with suppress(ProtocolViolation):
            while frames and self.phase not in (MESSAGE_ENDED, OVER) and self.failure is None:
                frame = frames.popleft()
                event = self.attempt.decoder.parse(frame)
                if event is None:
                    continue
                if event["type"] == "message_stop":  # who leaves before it has not read the reply to its end
                    break
                self._apply(event, frame)

    @property
    def status(self) -> Status:
        """The status of the stream."""
        if self._final is not None:
            return self._final.status
        return "streaming" if self.attempts else "pending"

    @property
    def total_deadline(self) -> float:
        """When `total_timeout` expires."""
        start, seconds = self.stopwatch.started_at, self.options.total_timeout
        return NO_DEADLINE if start is None or seconds is None else start + seconds

    def idle_deadline(self, now: float) -> float:
        """Return when `idle_timeout` expires for a reader that starts, or continues, to wait at `now`."""
        seconds = self.options.idle_timeout
        # The SDK's iterator drops pings: only bytes can tell a silent server from one that is at work.
        if seconds is None or (not self.attempt.response.by_bytes and self.attempt.builder.may_be_silent):
            return NO_DEADLINE
        stopwatch = self.stopwatch
        if stopwatch.idle_since is None:
            stopwatch.idle_since = now
        else:  # leave out the time that the consumer took since the last chunk
            stopwatch.idle_since += now - stopwatch.last_chunk_at
        return stopwatch.idle_since + seconds

    def finish(self, status: Status, error: BaseException | None, now: float) -> StreamResult[Any, Any]:
        """Make the result final, and return it. Idempotent: the first call decides."""
        if self._final is None:
            if status == "interrupted" and self.attempt.builder.saw_message_stop:  # too late: the message is complete
                status, error = "complete", None
            if self.phase is OPENING:
                self.attempt.response.note_refusal(error)
            self._final = self.build_result(status, error, now)
            if self.failure is not None and error is self.failure:  # not the error of another stream, from a sink
                self.failure.result = self._final
        self.phase = OVER
        self.sinks.mute()
        # What was not delivered by now is dropped, also under a consumer that is iterating.
        self.frames.clear()
        self.released_items.clear()
        self.sinks.pending_calls.clear()
        return self._final

    def result(self, now: float) -> StreamResult[Any, Any]:
        """Return the final result, or the result so far."""
        return self._final or self.build_result(self.status, None, now)

    def status_for(self, error: BaseException) -> Status:
        """Return the status of a stream that `error` ends."""
        if error is self.foreign_error or is_interruption(error):
            return "interrupted"
        if error is self.sink_error:
            return "failed"
        if not isinstance(error, Exception):
            return "interrupted"
        return status_of(error) if self.phase is OPENING or error is self.failure else "failed"

    # Inside.

    def _apply_text(self, text: str) -> str | None:
        """Take a text delta of which nobody needs the event: `_apply` in fewer steps."""
        attempt, stopwatch = self.attempt, self.stopwatch
        text = attempt.builder.add_text(attempt.matcher.index, text)
        if stopwatch.last_chunk_at - stopwatch.last_content_at > stopwatch.longest_gap:
            stopwatch.content_arrived()
        else:  # the same without the call
            stopwatch.last_content_at, stopwatch.idle_since = stopwatch.last_chunk_at, None
        if text and self.sinks.text:
            writers = iter(self.sinks.text)
            try:
                for write in writers:
                    write(text)
            except BaseException as error:  # noqa: BLE001 - raised again, unless it is as a `cancel()`
                self._sink_raised(error, writers, text)
        return text or None

    def _apply(self, event: JSONObject, frame: object) -> Any:
        attempt = self.attempt
        text, thinking = attempt.builder.apply(event)
        self._follows_text = bool(text)
        kind = event["type"]
        if text or thinking or (kind in _CONTENT and attempt.builder.blocks):  # a stray end of a block is not content
            self.stopwatch.content_arrived()
            if attempt.held_events is not None:
                self._release_held_events()
        elif kind == "ping":
            if attempt.builder.may_be_silent:
                self.stopwatch.idle_since = None
        elif kind == "message_stop":
            self._release_held_events()
            self.phase = MESSAGE_ENDED
        elif kind == "error":
            self._record_failure(attempt.response.error_from_event(event))
            return None
        item: Any = None
        if not self._takes_text_alone and kind != "ping":
            item = attempt.response.to_sdk_event(event, frame)
            if attempt.held_events is not None:
                attempt.held_events.append(item)
                return None
            if self.sinks.event:
                self._call_sinks(self.sinks.event, item)
        if text and self.sinks.text:
            self._call_sinks(self.sinks.text, text)
        if thinking and self.sinks.thinking:
            self._call_sinks(self.sinks.thinking, thinking)
        if kind == "content_block_delta" and self.sinks.tool_input:
            tool_input = attempt.tool_input(event)
            if tool_input is not None:
                self._call_sinks(self.sinks.tool_input, *tool_input)
        if not self._yields_events:
            item = text or None
        if item is not None and self.released_items:  # keep the order
            self.released_items.append(item)
            return self.released_items.popleft()
        return item

    def _call_sinks(self, listeners: Iterable[Listener], *items: object) -> None:
        remaining = iter(listeners)
        try:
            for listener in remaining:
                listener(*items)
        except BaseException as error:  # noqa: BLE001 - raised again, unless it is as a `cancel()`
            self._sink_raised(error, remaining, *items)

    def _sink_raised(self, error: BaseException, remaining: Iterable[Listener], *items: object) -> None:
        """Take a closed output as `cancel()`, after the call of the other sinks. Raises any other error."""
        if not isinstance(error, OutputClosedError):
            self.sink_error = error
            raise error
        self.cancelled = True
        self._call_sinks(remaining, *items)

    def _release_held_events(self) -> None:
        held, self.attempt.held_events = self.attempt.held_events, None
        for item in held or ():
            self._call_sinks(self.sinks.event, item)
            if self._yields_events:
                self.released_items.append(item)

    def _record_failure(self, error: StreamError) -> None:
        self.failure = error
        may_retry = (
            error.retryable
            and self.stopwatch.first_content_at is None
            and self.attempts <= self._max_retries
            and not self.cancelled
            and getattr(error, "clock", None) != "total"
        )
        self.phase = RETRYING if may_retry else FAILED
        if not may_retry:
            self._release_held_events()

    def build_result(self, status: Status, error: BaseException | None, now: float) -> StreamResult[Any, Any]:
        """Return a result of what has arrived so far."""
        contents = self.attempt.contents()
        parsed, parse_error = None, None
        if self._output_format is not None and status not in ("pending", "streaming"):
            parsed, parse_error = parse_output(self._output_format, contents["message"], contents["stop_reason"])
        return StreamResult(
            **contents,
            status=status,
            error=error,
            parsed_output=parsed,
            parse_error=parse_error,
            timing=self.stopwatch.timing(now),
            attempts=self.attempts,
            failed_attempts=self._failed_attempts,
        )
