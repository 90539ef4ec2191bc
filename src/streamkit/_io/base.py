"""What the four stream classes share: how a stream stands, readable at any moment and from any thread."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic

import jiter
from anthropic.types import Usage

from streamkit._core.state import StreamState
from streamkit._options import Options
from streamkit._result import MessageT, OutputT, Status, StreamResult
from streamkit._sdk.models import make_message, make_usage
from streamkit._sdk.sources import Source


class BaseStream(Generic[MessageT, OutputT]):
    """A stream of either kind. Making one sends nothing."""

    _yields_events = False

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        # The SDK's stream from the moment it is open; emptied when it is closed.
        self._slot: list[Any] = []
        self._body: Any = None
        self._reading = False  # by a reader, or by whoever ends the stream
        self._closed = False  # by the user
        self._inherited: list[Any] | None = None  # the SDK's stream in the child of a fork: it is the parent's
        self._timed = options.idle_timeout is not None or options.total_timeout is not None
        self._finish_error: Exception | None = None  # what a sink raised at its end, behind another error
        self._state = StreamState(source, options, yields_events=self._yields_events)

    @property
    def text(self) -> str:
        """All text so far: what was yielded and what the sinks got. After an early end, all that had arrived."""
        return str(self._state.builder.text)

    @property
    def usage(self) -> Usage:
        """Usage in tokens so far; zeros before the API has sent any. See `StreamResult.usage_final`."""
        return make_usage(self._state.builder.usage, beta=self._beta)  # type: ignore[no-any-return]

    @property
    def message(self) -> MessageT | None:
        """The message so far; `None` before `message_start`."""
        message = self._state.builder.message()
        return None if message is None else make_message(message, beta=self._beta)

    @property
    def status(self) -> Status:
        """How the stream stands."""
        return self._state.status

    @property
    def result(self) -> StreamResult[MessageT, OutputT]:
        """All that is known so far, and the final result once the stream is over."""
        return self._state.result(time.monotonic())

    @property
    def partial_output(self) -> Any:
        """The `output_format` value as far as it arrived, not validated: plain JSON types, `None` before there is any.

        Parsed each time it is asked for. Also `None` without `output_format`.
        """
        if self._source.output_format is None:
            return None
        blocks = [block for block in self._state.builder.blocks if block.kind == "text"]
        # A block that is at its end counts if it is whole, as in `parsed_output`; so does, last, all text together.
        texts = [(block.closed, str(block.snapshot().get("text") or "")) for block in blocks]
        for whole, text in (*texts, (False, "".join(text for _, text in texts))):
            with suppress(ValueError):
                data = text.encode("utf-8", "surrogatepass")
                return jiter.from_json(data, partial_mode=False if whole else "trailing-strings")
        return None

    @property
    def request_id(self) -> str | None:
        """The API's id of the request, from the response's headers; `None` before they are there."""
        reading = self._state.reading
        return None if reading is None else reading.request_id

    def cancel(self) -> None:
        """End the stream, from any thread, task or signal handler. Harmless when repeated or late.

        Allowed before `open`, and from then on at any moment: also while the response is waited for, or a retry. No
        further request is sent. A reader that is blocked on the network wakes at once (a sync reader of HTTP/2 at the
        next event). Its loop ends quietly, and the status is `"interrupted"`.
        """
        state = self._state
        state.waker.wake("cancel")
        if state.waker.cancelled:
            state.halted = True

    def _inherit(self) -> None:  # pragma: no cover - in child processes, by the tests of forks
        """Leave the stream to the parent process: neither close its connection nor finish its sinks."""
        self._inherited, self._slot = self._slot, []
        self._state.waker.inherit()
        self._state.sinks.forget()
        self._state.finish("interrupted", None, time.monotonic())

    def _end_at_exit(self) -> None:  # pragma: no cover - of the subclasses
        """End the stream, as the program ends."""
        raise NotImplementedError

    def _first_goes_on(self, error: BaseException, second: Exception) -> None:
        """An error is on its way to the caller: what a sink raised at its end goes along behind it."""
        if second is not error:
            error.__context__ = error.__context__ or second
            self._finish_error = second

    def _in_place_of(self, error: BaseException) -> StreamResult[MessageT, OutputT]:
        """The result in place of the error that ended the stream; but what a sink raised is raised."""
        if isinstance(error, Exception) and (error is self._state.sink_error or error is not self.result.error):
            raise error
        if self._finish_error is not None:
            raise self._finish_error
        return self.result

    @property
    def _beta(self) -> bool:
        reading = self._state.reading
        return reading is not None and reading.beta

    def _refuse_reading(self) -> bool:
        """Whether there is nothing to read because the stream ended as it should.

        Raises `RuntimeError` where reading on is a mistake.
        """
        if self._state.waker.cancelled:
            return True
        if self._closed:
            raise RuntimeError("this stream is closed: read it before closing it or leaving its with block")
        status = self._state.status
        if status != "complete":
            raise RuntimeError(f"this stream has ended ({status}): make a new one to send the request again")
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.status}, {len(self.text)} characters>"


READ_ON = 0.2  # seconds that the end of the body may take once the message is complete
TWO_READERS = "this stream is being read already: one reader at a time; hand the text on with a sink"
AT_EXIT = "was still open when the program ended: use `with`, read it to its end, or close it"
DROPPED = "was dropped without being closed: use `with`, read it to its end, or call close()"


def thrown(typ: Any, val: Any, tb: TracebackType | None) -> BaseException:
    """The exception that the arguments of `throw` or `athrow` name: an exception, or its class with what it takes."""
    if isinstance(val, BaseException):
        error = val
    elif isinstance(typ, BaseException):
        error = typ
    else:
        error = typ() if val is None else typ(val)
    return error if tb is None else error.with_traceback(tb)
