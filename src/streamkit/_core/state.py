"""One stream's life, without I/O: the verdict, the timing, the sinks, and whether to try again.

A driver opens, reads and closes; all that it learns goes in here (`begin`, `connected`, `feed`, `end_of_body`,
`broke`), and items for the consumer come out of `pull`. Times are handed in, in seconds on a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import anthropic

from streamkit._io.interrupt import NEVER, Waker
from streamkit._options import Options
from streamkit._output import parse_output
from streamkit._result import InvalidToolInput, Status, StreamResult, Timing
from streamkit._sdk.failures import api_error, explain, is_interruption, raised_elsewhere, timed_out, truncated
from streamkit._sdk.models import make_message, make_usage
from streamkit._sdk.response import Reading
from streamkit._sdk.sources import Source
from streamkit.errors import StreamError

from .dispatch import SinkSet
from .message import MessageBuilder, text_delta
from .sse import WireError

_CONTENT = frozenset({"content_block_delta", "content_block_start", "content_block_stop"})


class StreamState:
    """Everything that is known of one stream. `yields_events` says what `pull` gives: the SDK's events, or text."""

    def __init__(self, source: Source, options: Options, *, yields_events: bool) -> None:
        self.source = source
        self.options = options
        self.sinks = SinkSet(options.sinks, is_async=source.is_async)
        self.waker = Waker()
        self.builder = MessageBuilder()
        self.reading: Reading | None = None
        self.attempts = 0
        self._opening = False  # a request is on its way, whose errors are the SDK's
        self.sink_error: BaseException | None = None  # what a sink raised
        self.outsider: Exception | None = None  # what a signal handler raised while the reader waited
        # The reader has something else to do than to read on: to open, retry, raise, or end.
        self.halted = True
        self.failure: StreamError | None = None
        self._failed_attempts: tuple[StreamError, ...] = ()  # the errors of the attempts before this one
        self.retrying = False  # what to do about the failure
        # Calls of sinks that the driver has to await.
        self.calls: deque[tuple[Callable[[Any], Any], Any]] = self.sinks.calls
        self._yields_events = yields_events
        self._wants_objects = yields_events or bool(self.sinks.event)
        self._retries = 0 if source.retries is None else source.retries if options.retries is None else options.retries
        self.waiting: deque[Any] = deque()  # what arrived whole and was not looked at yet: the decoder's
        self._decoder: Any = None
        self._rests_on_silence = False  # the SDK's own iterator drops pings
        self.ready: deque[Any] = deque()  # items for the consumer that were held back
        self._held: list[Any] | None = None  # events before the first content, while a retry may replace them
        self._final: StreamResult[Any, Any] | None = None
        self._began: float | None = None
        self._response_at: float | None = None
        self._now = 0.0  # when the last chunk arrived
        self._first_content: float | None = None
        self._content_at = -NEVER
        self._longest_gap = 0.0
        self._ended_at: float | None = None  # when the message was complete
        self.waiting_since: float | None = None  # since when the reader waits for content

    # What the driver reports.

    def begin(self, now: float) -> None:
        """A request is about to be sent, the first one or another."""
        if self._began is None:
            self._began = now
            self.sinks.claim()
            if self.options.total_timeout is not None:
                self.waker.total_at = now + self.options.total_timeout
        if self.failure is not None:  # the attempt before this one is over: what it gave goes with its error
            self.failure.result = self.snapshot(self.status_for(self.failure), self.failure, now)
            self._failed_attempts += (self.failure,)
            self.builder = MessageBuilder()
        self.attempts += 1
        self._opening = True
        self.failure = None
        self.waiting_since = None
        self._held = [] if self.attempts <= self._retries else None
        self.ready.clear()
        self.waiting.clear()  # what an attempt that failed had left

    def connected(self, reading: Reading, now: float) -> None:
        """The response is there, and reading begins."""
        self.reading = reading
        self._opening = False
        separator = "" if self.source.output_format is not None else self.options.separator
        self.builder = MessageBuilder(separator=separator, beta=reading.beta, partial_mode=reading.partial_mode)
        decoder = reading.decoder
        self._decoder, self.waiting = decoder, decoder.waiting
        self._rests_on_silence = not reading.by_bytes
        self._response_at = self._now = now
        for keep in self.sinks.bodies:
            keep(None)
        self.halted = False
        if self.waker.reason is not None:  # while the request was on its way
            self.broke(None, now)
        elif now >= self.waker.total_at:
            self.timed_out("total")

    def give_up_opening(self) -> None:
        """The waker ended the wait for the response."""
        self._opening = False
        reason = self.waker.reason
        if reason is not None and reason != "cancel":
            self.timed_out(reason)

    def feed(self, chunk: Any, now: float) -> Any:
        """A chunk of the body arrived, or an event where the SDK's events are read. Returns what `pull` does.

        What arrived counts, also when a clock ran out at that moment: that is noticed before the next chunk.
        """
        self._now = now
        for keep in self.sinks.bodies:
            keep(self.reading.frame(chunk))  # type: ignore[union-attr]
        try:
            text = None if self.halted else self._decoder.text_of(chunk)
            if text is not None:  # nearly every chunk
                index = self._decoder.index
                if self._wants_objects:
                    return self._take(text_delta(index, text))
                text = self.builder.say(index, text)
                self._note_content()
                try:
                    for tell in self.sinks.text if text else ():
                        tell(text)
                except BaseException as error:
                    self.sink_error = error
                    raise
                return text or None
            self._decoder.feed(chunk)
        except WireError as error:
            self._fail(explain(error, self.reading))  # type: ignore[arg-type]
        return self.pull()

    def end_of_body(self) -> Any:
        """The body ended cleanly. Returns what `pull` does."""
        self.waker.idle_at = NEVER
        if self.waker.reason is not None:
            return self.broke(None, self._now)
        self._decoder.end()
        self.halted = True
        return self.pull()

    def broke(self, error: Exception | None, now: float) -> Any:
        """Reading failed with `error`, or was ended by the waker. Returns what `pull` does.

        Raises the exception that somebody else raised while the reader waited, such as a signal handler.
        """
        self.waker.idle_at = NEVER
        outsider = None if error is None else raised_elsewhere(error, self.reading)  # type: ignore[arg-type]
        if outsider is not None:
            self.outsider = outsider
            raise outsider
        reason = self.waker.reason or ("total" if now >= self.waker.total_at else None)
        if reason == "cancel":
            self.halted = True
        elif reason is not None:
            self.timed_out(reason)
        else:
            self._fail(explain(error or EOFError(), self.reading))  # type: ignore[arg-type]
        return self.pull()

    def timed_out(self, clock: Literal["idle", "total"]) -> None:
        """A timeout expired."""
        seconds = self.options.idle_timeout if clock == "idle" else self.options.total_timeout
        self._fail(timed_out(clock, seconds, self.reading))

    def message_ended(self, now: float) -> None:
        """`message_stop` arrived. What the rest of the body takes is not part of the reply's time."""
        self._ended_at = now

    def judge(self) -> bool:
        """Whether the body, which ended cleanly, held a complete message. If not, that is a failure."""
        ended = self.builder.stopped or self.builder.stop_reason is not None
        if ended and not self._decoder.unstreamed:
            self._release_held()
            return True
        self._fail(truncated(self.reading, stream_began=self.builder.head is not None))  # type: ignore[arg-type]
        return False

    # What the driver asks.

    def pull(self) -> Any:
        """The next item for the consumer, or `None` when there is none before more is read."""
        waiting, decoder = self.waiting, self._decoder
        try:
            while True:
                if self.halted:
                    if self.waker.cancelled:
                        return None
                    if not self.ready and (self.failure is not None or self.builder.stopped):
                        return None
                if self.ready:
                    return self.ready.popleft()
                if not waiting:
                    return None
                event = decoder.parse(waiting.popleft())
                if event is None:
                    continue
                item = self._take(event)
                if item is not None:
                    return item
        except WireError as error:
            self._fail(explain(error, self.reading))  # type: ignore[arg-type]
            return self.ready.popleft() if self.ready else None

    def take_rest(self) -> None:
        """The consumer leaves: what has arrived whole goes into the message and to the sinks all the same."""
        # Only once, whatever comes in between: what is told to the sinks must have no gap.
        waiting, self.waiting = self.waiting, deque()
        with suppress(WireError):
            while waiting and self.failure is None and self._final is None:  # a sink may close the stream
                event = self._decoder.parse(waiting.popleft())
                if event is None:
                    continue
                if event["type"] == "message_stop":  # who left before it is not told that the reply was read
                    break
                self._take(event)

    def absorb(self) -> None:
        """A sink or a cancellation ends the stream: what has arrived whole goes into the message, and to no sink."""
        self.sinks.silence()
        self.take_rest()

    @property
    def status(self) -> Status:
        """How the stream stands."""
        return "streaming" if self._final is None else self._final.status

    @property
    def over(self) -> bool:
        """Whether the stream has its verdict."""
        return self._final is not None

    def idle_deadline(self, now: float) -> float:
        """When the idle clock runs out for a reader that begins, or goes on, to wait at `now`."""
        idle = self.options.idle_timeout
        if idle is None or (self._rests_on_silence and self.builder.may_be_silent):
            return NEVER
        if self.waiting_since is None:
            self.waiting_since = now
        else:  # only the wait counts, not what the consumer did since the last chunk
            self.waiting_since += now - self._now
        return self.waiting_since + idle

    def finish(self, status: Status, error: BaseException | None, now: float) -> StreamResult[Any, Any]:
        """Give the verdict. The first one stands."""
        if self._final is None:
            self.waker.retire()
            if status == "interrupted" and self.builder.stopped:  # too late: the message is complete
                status, error = "complete", None
            self._final = self.snapshot(status, error, now)
            if self.failure is not None and error is self.failure:  # not that of another stream, from a sink
                self.failure.result = self._final
        self.halted = True
        self.sinks.silence()
        # Nobody gets what was not handed over by now, also not who is looking through it.
        self.waiting.clear()
        self.ready.clear()
        self.calls.clear()
        return self._final

    def result(self, now: float) -> StreamResult[Any, Any]:
        """All that is known: the verdict's result, or how things stand."""
        return self._final or self.snapshot("streaming", None, now)

    def status_for(self, error: BaseException) -> Status:
        """The status of a stream that `error` ended."""
        if error is self.outsider or is_interruption(error):
            return "interrupted"
        if error is self.sink_error or not isinstance(error, Exception):
            return "failed" if error is self.sink_error else "interrupted"
        if not self._opening and error is not self.failure:
            return "failed"
        if isinstance(error, anthropic.APITimeoutError):
            return "timed_out"
        return "disconnected" if isinstance(error, anthropic.APIConnectionError) else "failed"

    # Inside.

    def _take(self, event: dict[str, Any]) -> Any:
        text, thinking = self.builder.apply(event)
        kind = event["type"]
        if text or thinking or (kind in _CONTENT and self.builder.blocks):  # a stray end of a block is no content
            self._note_content()
        elif kind == "ping":
            if self.builder.may_be_silent:
                self.waiting_since = None
        elif kind == "message_stop":
            self._release_held()
            self.halted = True
        elif kind == "error":
            self._fail(api_error(event, self.reading))  # type: ignore[arg-type]
            return None
        item: Any = None
        if self._wants_objects and kind != "ping":
            item = self.reading.to_object(event)  # type: ignore[union-attr]
            if self._held is not None:
                self._held.append(item)
                return None
            if self.sinks.event:
                self._tell(self.sinks.event, item)
        if text and self.sinks.text:
            self._tell(self.sinks.text, text)
        if thinking and self.sinks.thinking:
            self._tell(self.sinks.thinking, thinking)
        if not self._yields_events:
            item = text or None
        if item is not None and self.ready:  # not before what was held back
            self.ready.append(item)
            return self.ready.popleft()
        return item

    def _tell(self, listeners: list[Callable[[Any], Any]], item: Any) -> None:
        try:
            for tell in listeners:
                tell(item)
        except BaseException as error:
            self.sink_error = error
            raise

    def _note_content(self) -> None:
        now = self._now
        if now - self._content_at > self._longest_gap:
            if self._first_content is None:
                self._first_content = now
                self._release_held()
            else:
                self._longest_gap = now - self._content_at
        self._content_at = now
        self.waiting_since = None

    def _release_held(self) -> None:
        held, self._held = self._held, None
        for item in held or ():
            self._tell(self.sinks.event, item)
            if self._yields_events:
                self.ready.append(item)

    def _fail(self, error: StreamError) -> None:
        self.failure = error
        self.halted = True
        self.retrying = (
            error.retryable
            and self._first_content is None
            and self.attempts <= self._retries
            and self.waker.reason not in ("cancel", "total")
            and getattr(error, "clock", None) != "total"
        )
        if not self.retrying:
            self._release_held()

    def snapshot(self, status: Status, error: BaseException | None, now: float) -> StreamResult[Any, Any]:
        """A result of what has arrived so far."""
        builder, reading = self.builder, self.reading
        beta = reading is not None and reading.beta
        # Before the message: a block that ends in between, in another thread, may be in it with half of its input.
        stop_reason = builder.stop_reason
        looks = [(block.kind, block.closed, block.raw) for block in builder.blocks]
        message = builder.message()
        made: Any = None if message is None else make_message(message, beta=beta)
        pairs = [] if made is None else list(zip(looks, made.content, strict=False))
        parsed, parse_error = None, None
        if self.source.output_format is not None and status != "streaming":
            parsed, parse_error = parse_output(self.source.output_format, made, stop_reason)
        return StreamResult(
            text=str(builder.text),
            thinking=str(builder.thinking),
            tool_uses=tuple(
                item for (kind, closed, raw), item in pairs if kind == "tool_use" and closed and raw is None
            ),
            message=made,
            usage=make_usage(builder.usage, beta=beta),
            usage_final=builder.usage_final,
            stop_reason=stop_reason,
            stop_details=getattr(made, "stop_details", None),
            status=status,
            error=error,
            parsed_output=parsed,
            parse_error=parse_error,
            invalid_tool_input=tuple(InvalidToolInput(item, raw) for (_, _, raw), item in pairs if raw is not None),
            timing=self._timing(now),
            attempts=self.attempts,
            request_id=reading.request_id if reading is not None else None,
            failed_attempts=self._failed_attempts,
            _open=frozenset(range(len(builder.blocks))) - {at for at, (_, closed, _) in enumerate(looks) if closed},
            _deltas=builder.delta_count(),
        )

    def _timing(self, now: float) -> Timing:
        began = self._began
        if began is None:
            return Timing(None, None, 0.0, 0.0)
        return Timing(
            None if self._response_at is None else self._response_at - began,
            None if self._first_content is None else self._first_content - began,
            (now if self._ended_at is None else self._ended_at) - began,
            self._longest_gap,
        )
