"""What the four stream classes share: their state, readable at any moment and from any thread."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Generic

import jiter
from anthropic.types import Usage

from streamkit._core.dispatch import SinkDispatcher
from streamkit._core.phase import OVER
from streamkit._core.recording import RecordingState
from streamkit._core.state import StreamState
from streamkit._core.timing import retry_delay
from streamkit._options import Options
from streamkit._result import MessageT, OutputT, Status, StreamResult
from streamkit._sdk.response import NoResponse
from streamkit._sdk.sources import Source

from .interrupt import Interrupter
from .lifetime import open_streams

_logger = logging.getLogger("streamkit")

DRAIN_SECONDS = 0.2  # how long the end of the body may take once the message is complete
TWO_READERS_MESSAGE = "this stream is already being read: only one reader at a time; use a sink to pass the text on"
AT_EXIT_MESSAGE = "was still open when the program ended: use `with`, read it to its end, or close it"
DROPPED_MESSAGE = "was dropped without being closed: use `with`, read it to its end, or call close()"


class BaseStream(Generic[MessageT, OutputT]):
    """A stream of either kind. Making one sends nothing."""

    _yields_events = False

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        # The SDK's stream from the moment it is open; emptied when it is closed.
        self._open_streams: list[Any] = []
        self._body: Any = None
        self._reading = False  # by a reader, or by the one that ends the stream
        self._closed = False  # by the user
        self._inherited: list[Any] | None = None  # in the child of a fork: the SDK's stream, which is the parent's
        self._has_deadlines = options.idle_timeout is not None or options.total_timeout is not None
        self._finish_error: Exception | None = None  # what a sink raised in `finish`, behind another error
        self._interrupter = Interrupter()
        sinks = SinkDispatcher(options.sinks, is_async=source.is_async)
        self._state = (RecordingState if sinks.recorders else StreamState)(
            options,
            sinks,
            NoResponse(),
            max_retries=(source.max_retries or 0) if options.retries is None else options.retries,
            output_format=source.output_format,
            yields_events=self._yields_events,
        )

    @property
    def text(self) -> str:
        """All text so far: what was yielded and what the sinks got. After an early end, all that had arrived."""
        return str(self._state.attempt.builder.text)

    @property
    def usage(self) -> Usage:
        """Usage in tokens so far; zeros before the API has sent any. See `StreamResult.usage_final`."""
        attempt = self._state.attempt
        return attempt.response.build_usage(attempt.builder.usage)  # type: ignore[no-any-return]

    @property
    def message(self) -> MessageT | None:
        """The message so far; `None` before `message_start`."""
        attempt = self._state.attempt
        message = attempt.builder.message()
        return None if message is None else attempt.response.build_message(message)

    @property
    def status(self) -> Status:
        """The status of the stream."""
        return self._state.status

    @property
    def result(self) -> StreamResult[MessageT, OutputT]:
        """All that is known so far, and the final result once the stream is over."""
        return self._state.result(time.monotonic())

    @property
    def partial_output(self) -> Any:
        """The `output_format` value as far as it arrived, not validated: plain JSON types, `None` before there is any.

        Parsed each time it is read. Also `None` without `output_format`.
        """
        if self._source.output_format is None:
            return None
        blocks = [block for block in self._state.attempt.builder.blocks if block.kind == "text"]
        # A closed block counts if it is complete, as in `parsed_output`; so does, last, all text together.
        texts = [(block.closed, str(block.snapshot().get("text") or "")) for block in blocks]
        for closed, text in (*texts, (False, "".join(text for _, text in texts))):
            with suppress(ValueError):
                data = text.encode("utf-8", "surrogatepass")
                return jiter.from_json(data, partial_mode=False if closed else "trailing-strings")
        return None

    @property
    def request_id(self) -> str | None:
        """The API's id of the request, from the response's headers; `None` before they arrive."""
        return self._state.attempt.response.request_id

    @property
    def response_headers(self) -> Mapping[str, str]:
        """The response's headers (rate limits, ids), by names of any case; empty before they arrive."""
        return self._state.attempt.response.headers

    def cancel(self) -> None:
        """End the stream, from any thread, task or signal handler. Harmless when repeated or late.

        Allowed before `open`, and from then on at any moment: also while the response is waited for, or a retry. No
        further request is sent. A reader that is blocked on the network wakes at once (a sync reader of HTTP/2 at the
        next event). Its loop ends quietly, and the status is `"interrupted"`.
        """
        self._interrupter.interrupt("cancel")
        if self._interrupter.reason == "cancel":
            self._state.cancelled = True

    def _finish(self, status: Status, error: BaseException | None) -> StreamResult[Any, Any]:
        """Make the result final, and log how the stream ended."""
        self._interrupter.disarm()
        was_over = self._state.phase is OVER
        result = self._state.finish(status, error, time.monotonic())
        if not was_over:
            _logger.debug("end: %s", result.status)
        return result

    def _schedule_first_attempt(self) -> None:
        open_streams.add(self)  # first: from now on there are sinks to finish
        self._state.attempt_scheduled(time.monotonic())

    def _schedule_retry(self) -> None:
        state = self._state
        delay = retry_delay(state.attempts, state.attempt.response.header("retry-after"))
        _logger.info("retry after attempt %d: %s, in %.2f s", state.attempts, type(state.failure).__name__, delay)
        state.attempt_scheduled(time.monotonic(), delay)

    def _begin_attempt(self) -> None:
        state = self._state
        state.attempt_started()
        _logger.debug("open: attempt %d", state.attempts)
        self._interrupter.total_deadline = state.total_deadline

    def _warn(self, words: str, *, stacklevel: int = 2) -> None:
        warnings.warn(f"{self!r} {words}", ResourceWarning, stacklevel=stacklevel + 1, source=self)

    def _leave_to_parent(self) -> None:  # pragma: no cover - in child processes, by the tests of forks
        """Leave the stream to the parent process: neither close its connection nor finish its sinks."""
        self._inherited, self._open_streams = self._open_streams, []
        self._interrupter.leave_to_parent()
        self._state.sinks.forget()
        self._state.finish("interrupted", None, time.monotonic())

    def _chain_finish_error(self, error: BaseException, finish_error: Exception) -> None:
        """Keep the exception of a sink's `finish` behind `error`, which is on its way to the caller."""
        if finish_error is not error:
            error.__context__ = error.__context__ or finish_error
            self._finish_error = finish_error

    def _result_or_raise(self, error: BaseException) -> StreamResult[MessageT, OutputT]:
        """Return the result instead of the error that ended the stream. Raises what a sink raised."""
        if isinstance(error, Exception) and (error is self._state.sink_error or error is not self.result.error):
            raise error
        if self._finish_error is not None:
            raise self._finish_error
        return self.result

    def _check_readable(self) -> None:
        """Raise `RuntimeError` unless the stream ended normally or was cancelled."""
        if self._state.cancelled:
            return
        status = self._state.status
        if self._closed and status == "complete":
            raise RuntimeError("this stream was already read to its end: its text and message are in stream.result")
        if self._closed:
            raise RuntimeError("this stream is closed: read it before closing it or leaving its with block")
        if status != "complete":
            raise RuntimeError(f"this stream has ended ({status}): make a new one to send the request again")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.status}, {len(self.text)} characters>"
