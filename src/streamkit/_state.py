"""One stream's life, without I/O: the verdict, the timing, the sinks, and whether to try again.

A driver opens, reads and closes; all that it learns goes in here (`begin`, `connected`, `feed`, `end_of_body`,
`broke`), and items for the consumer come out of `pull`. Times are handed in, in seconds on a monotonic clock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import anthropic
import pydantic

from ._message import MessageBuilder, text_delta
from ._result import InvalidToolInput, Status, StreamResult, Timing
from ._sinks import SinkSet
from ._source import Reading, Source, api_error, explain, make_message, make_usage, truncated
from ._wake import NEVER, Waker
from ._wire import WireError
from .errors import StreamError, StreamTimeoutError


class Options:
    """The options of one stream, checked. Raises `TypeError` or `ValueError` for a wrong one."""

    # No dataclass: making one takes a millisecond of everybody's import.
    __slots__ = ("idle_timeout", "retries", "separator", "sinks", "total_timeout")

    def __init__(
        self,
        sinks: Any = None,
        retries: Any = None,
        idle_timeout: Any = None,
        total_timeout: Any = None,
        separator: Any = "\n\n",
    ) -> None:
        if retries is not None and (not isinstance(retries, int) or isinstance(retries, bool)):
            raise TypeError(f"retries= takes a whole number, not {retries!r}")
        if retries is not None and retries < 0:
            raise ValueError(f"retries= takes 0 or more, not {retries!r}")
        for name, seconds in (("idle_timeout", idle_timeout), ("total_timeout", total_timeout)):
            if seconds is None:
                continue
            if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
                raise TypeError(f"{name}= takes seconds, not {seconds!r}")
            if not seconds > 0:
                raise ValueError(f"{name}= takes seconds above 0, not {seconds!r}")
        if not isinstance(separator, str):
            raise TypeError(f'separator= takes a str ("" for none), not {separator!r}')
        self.sinks: Any = sinks
        self.retries: int | None = retries
        self.idle_timeout: float | None = idle_timeout
        self.total_timeout: float | None = total_timeout
        self.separator: str = separator


_CONTENT = frozenset({"content_block_delta", "content_block_start", "content_block_stop"})
# Pauses before a request is sent again, in seconds: doubled each time, as the SDK does between its own retries.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_ASKED = 0.5, 8.0, 60.0


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
        self.ready: deque[Any] = deque()  # items for the consumer that were held back
        self._held: list[Any] | None = None  # events before the first content, while a retry may replace them
        self._final: StreamResult[Any, Any] | None = None
        self._began: float | None = None
        self._response_at: float | None = None
        self._now = 0.0  # when the last chunk arrived
        self._first_content: float | None = None
        self._content_at = -NEVER
        self._longest_gap = 0.0
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
        self._response_at = self._now = now
        for keep in self.sinks.bodies:
            keep(None)
        self.waker.attach(reading.response)
        self.halted = False
        if self.waker.reason is not None:  # while the request was on its way
            self.broke(None, now)
        elif now >= self.waker.total_at:
            self.timed_out("total")

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
                for tell in self.sinks.text if text else ():
                    tell(text)
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
        """Reading failed with `error`, or was ended by the waker. Returns what `pull` does."""
        self.waker.idle_at = NEVER
        reason = self.waker.reason or ("total" if now >= self.waker.total_at else None)
        if reason == "cancel":
            self.halted = True
        elif reason is not None:
            self.timed_out(reason)
        else:
            self._fail(explain(error or EOFError(), self.reading))  # type: ignore[arg-type]
        return self.pull()

    def timed_out(self, clock: Literal["idle", "total"], cause: Exception | None = None) -> None:
        """A clock ran out."""
        if clock == "idle":
            said = f"no content for {self.options.idle_timeout} seconds (idle_timeout)"
        else:
            said = f"the reply took longer than {self.options.total_timeout} seconds (total_timeout)"
        error = StreamTimeoutError(said, clock=clock, response=self.reading and self.reading.response)
        if cause is not None:
            error.__cause__ = cause
        self._fail(error)

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
                    if self.waker.reason == "cancel":
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
        if idle is None:
            return NEVER
        if self.waiting_since is None:
            self.waiting_since = now
        else:  # only the wait counts, not what the consumer did since the last chunk
            self.waiting_since += now - self._now
        return self.waiting_since + idle

    def pause(self) -> float:
        """How long to wait before the request is sent again, in seconds."""
        asked = self.reading.header("retry-after") if self.reading is not None else None
        try:
            seconds = float(asked or 0)
        except ValueError:  # a date: the API sends seconds
            seconds = 0.0
        if 0 < seconds <= _LONGEST_ASKED:
            return seconds
        longest = min(_FIRST_PAUSE * 2.0 ** (self.attempts - 1), _LONGEST_PAUSE)
        return longest * (1 - 0.25 * random.random())  # noqa: S311 - jitter, no secret

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
        if not isinstance(error, Exception):
            return "interrupted"
        if not self._opening and error is not self.failure:
            return "failed"  # a sink's own, whatever its class
        if isinstance(error, anthropic.APITimeoutError):
            return "timed_out"
        return "disconnected" if isinstance(error, anthropic.APIConnectionError) else "failed"

    # Inside.

    def _take(self, event: dict[str, Any]) -> Any:
        text, thinking = self.builder.apply(event)
        kind = event["type"]
        if text or thinking or (kind in _CONTENT and self.builder.blocks):  # a stray end of a block is no content
            self._note_content()
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
            for tell in self.sinks.event:
                tell(item)
        if text:
            for tell in self.sinks.text:
                tell(text)
        if thinking:
            for tell in self.sinks.thinking:
                tell(thinking)
        if not self._yields_events:
            item = text or None
        if item is not None and self.ready:  # not before what was held back
            self.ready.append(item)
            return self.ready.popleft()
        return item

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
            for tell in self.sinks.event:
                tell(item)
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
            now - began,
            self._longest_gap,
        )


def parse_output(output_format: Any, message: Any, stop_reason: str | None) -> tuple[Any, Exception | None]:
    """The value of `output_format`, or why there is none.

    The first text block that holds one counts: other text may stand before it. If none does, all text together may: a
    model that takes over from another goes on in the middle of the value.
    """
    texts = [] if message is None else [block.text for block in message.content if block.type == "text"]
    if not texts:
        return None, ValueError(f"the reply holds no text to parse (stop reason: {stop_reason})")
    errors: list[Exception] = []
    adapter: pydantic.TypeAdapter[Any] | None = None
    for text in texts if len(texts) == 1 else [*texts, "".join(texts)]:
        try:
            adapter = adapter or pydantic.TypeAdapter(output_format)
            return adapter.validate_json(text), None
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise anything
            errors.append(error)
    wrong = errors[len(texts) - 1]  # what is wrong with the last block: the answer comes at the end
    if stop_reason in ("end_turn", "stop_sequence", "tool_use"):
        return None, wrong
    ended = "the stream ended early" if stop_reason is None else f"the reply ended with {stop_reason!r}"
    explained = ValueError(f"{ended}, and its text is no whole value")
    explained.__cause__ = wrong
    return None, explained
