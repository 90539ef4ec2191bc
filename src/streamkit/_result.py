"""The result of a stream, valid however the stream ended."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, overload

import anthropic
from anthropic.types import Message, MessageParam, RawMessageStreamEvent, ToolUseBlock, Usage
from anthropic.types.beta import BetaMessage, BetaMessageParam
from typing_extensions import TypeVar

from ._continuation import continue_reply
from ._history import LIMITS, resendable_blocks
from ._pickling import flatten, unflatten
from .errors import StreamError

Status: TypeAlias = Literal["pending", "streaming", "complete", "interrupted", "disconnected", "timed_out", "failed"]
"""The status of a stream: `"pending"` (nothing was sent yet), `"streaming"`, or how it ended."""

MessageT = TypeVar("MessageT", bound="Message | BetaMessage", default=Message)
OutputT = TypeVar("OutputT", default=None)
ItemT = TypeVar("ItemT")  # an item that a stream yields
EventT = TypeVar("EventT", default=RawMessageStreamEvent)

_PAUSED = frozenset({"pause_turn", "compaction"})
_FINISHED = frozenset({"end_turn", "stop_sequence"})


class Timing(NamedTuple):
    """The times of a stream, in seconds since `open`; `None` for an event that has not happened."""

    response: float | None
    """The time to the response's headers; of the last request if there were several."""
    first_content: float | None
    """The time to the first text, thinking or other content."""
    total: float
    """The time to the end of the message, or until now while the stream is running."""
    longest_gap: float
    """The longest time between two arrivals of content."""


class InvalidToolInput(NamedTuple):
    """A tool use whose input did not parse."""

    block: Any
    """The SDK's block; its `input` holds the part that parsed."""
    raw: str
    """The input as it arrived."""


class ResponseHeaders(Mapping[str, str]):
    """Headers by name, in any case. Picklable, unlike those of the HTTP library, and equal to a dict of the same."""

    def __init__(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        self._headers: dict[str, str] = {name.lower(): value for name, value in headers}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"ResponseHeaders({self._headers!r})"


@dataclass(frozen=True, repr=False)
class StreamResult(Generic[MessageT, OutputT]):
    """The reply and how the stream ended. Picklable; a pickle never holds the request."""

    text: str
    """All text that arrived, as it was yielded and passed to the sinks.

    After an early end this may be more than the consumer had read, by at most one chunk of the body."""
    thinking: str
    """All thinking."""
    tool_uses: tuple[ToolUseBlock, ...]
    """The tool-use blocks that are complete (`BetaToolUseBlock` for beta).

    A tool use that a limit cut before its first input is not complete."""
    message: MessageT | None
    """The SDK's message, partial if the stream ended early; `None` before `message_start`."""
    usage: Usage
    """Usage in tokens (`BetaUsage` for beta); zeros before `message_start`."""
    usage_final: bool
    """True once the API has sent the final counts. Until then, see `min_output_tokens`."""
    stop_reason: str | None
    """Why the model stopped, in the API's words."""
    stop_details: Any
    """The API's details of the stop reason, if any."""
    status: Status
    """The status of the stream."""
    error: BaseException | None
    """The exception that ended the stream, if any."""
    parsed_output: OutputT | None
    """The reply as a value of `output_format`."""
    parse_error: Exception | None
    """The reason for a missing `parsed_output`, if `output_format` was given and the stream is over."""
    invalid_tool_input: tuple[InvalidToolInput, ...]
    """The tool uses whose input did not parse, or was cut by a limit before it began."""
    timing: Timing
    """The times of the stream, in seconds."""
    attempts: int
    """The number of requests that were sent, without the SDK's own retries inside each."""
    request_id: str | None
    """The API's id of the request, from the response's headers."""
    failed_attempts: tuple[StreamError, ...] = ()
    """The errors of the attempts before the last one, in order.

    The `result` of each error belongs to that attempt. It holds no text, as an attempt with content is not retried, but
    the usage that the API had reported."""
    response_headers: Mapping[str, str] = field(default_factory=ResponseHeaders)
    """The headers of the last response, by names of any case; empty before they arrived."""
    _unclosed_blocks: frozenset[int] | None = None
    """The positions, in the message, of the blocks whose end had not arrived; `None` means the last block."""
    _deltas: int = 0
    """The number of deltas that hold at least one token each."""

    @property
    def ok(self) -> bool:
        """True if the reply is complete, and was neither cut by a limit, nor refused, nor paused.

        False as well if `output_format` was given and the reply does not hold a value of it.
        """
        return (
            self.status == "complete"
            and self.stop_reason not in LIMITS
            and self.stop_reason not in _PAUSED
            and self.stop_reason != "refusal"
            and self.parse_error is None
        )

    @property
    def min_output_tokens(self) -> int:
        """The number of tokens that the model wrote, if the API's count is final; else a lower bound.

        The bound is the larger of the API's count so far and the number of deltas of text, thinking and tool input:
        each delta holds at least one token.
        """
        reported: Any = getattr(self.usage, "output_tokens", None)
        count: int = reported if isinstance(reported, int) else 0  # a broken server may send any JSON value
        return count if self.usage_final else max(count, self._deltas)

    @overload
    def new_messages(self: StreamResult[Message, Any]) -> list[MessageParam]: ...
    @overload
    def new_messages(self: StreamResult[BetaMessage, Any]) -> list[BetaMessageParam]: ...
    @overload
    def new_messages(self) -> list[MessageParam] | list[BetaMessageParam]: ...
    def new_messages(self) -> Any:
        """Return the messages to append to the history: at most one, in a form that the API accepts.

        A complete reply is returned as it is: a tool use waits for its result, a paused turn for its continuation. Of
        an unfinished reply, the complete blocks and the unfinished text are returned. Content that the API would refuse
        is left out: unfinished or unanswerable tool uses, server tool uses without their result, blank text, fields
        that a request does not have, and thinking that lacks its signature, ends the message or would become the
        neighbour of other thinking. A pair of surrogates is joined, a single one becomes U+FFFD. For a refusal the list
        is empty. Never raises.
        """
        content = self._resendable_content()
        return [{"role": "assistant", "content": content}] if content else []

    def _resendable_content(self) -> list[dict[str, Any]]:
        if self.message is None or self.stop_reason == "refusal":
            return []
        return resendable_blocks(
            list(self.message.content),
            beta=isinstance(self.message, BetaMessage),
            unparsed=[getattr(item.block, "id", None) for item in self.invalid_tool_input],
            unfinished={len(self.message.content) - 1} if self._unclosed_blocks is None else self._unclosed_blocks,
            is_complete=self.status == "complete",
            awaits_continuation=self.stop_reason in _PAUSED or self.stop_reason == "tool_use",
        )

    @overload
    def continuation(
        self: StreamResult[Message, Any], instruction: str | None = None, *, prefill: bool = False
    ) -> list[MessageParam]: ...
    @overload
    def continuation(
        self: StreamResult[BetaMessage, Any], instruction: str | None = None, *, prefill: bool = False
    ) -> list[BetaMessageParam]: ...
    @overload
    def continuation(
        self, instruction: str | None = None, *, prefill: bool = False
    ) -> list[MessageParam] | list[BetaMessageParam]: ...
    def continuation(self, instruction: str | None = None, *, prefill: bool = False) -> Any:
        """Return the messages to append to the history so that the model continues an unfinished reply.

        The first message is the reply so far, as `new_messages()` gives it, without white space at its end. The second
        is a user turn with the instruction. The default instruction quotes the end of `text` and asks for the last word
        again (of a word longer than 40 characters, for the last 40), so that the two texts can be joined at that word.
        Your own instruction is sent as it is.

        - **Cut by a limit** (`max_tokens`, `model_context_window_exceeded`), interrupted, disconnected, timed out or
          failed, an error of the API included: both messages. After `model_context_window_exceeded`, shorten the
          history first. A continuation that is cut, too, has a continuation of its own: extend the history each time.
        - **Paused** (`pause_turn`, `compaction`): the reply alone, whatever the arguments, as the API continues a
          paused turn without an instruction.
        - **A tool use waits for its result**: nothing. Append `new_messages()` and the result, even if a limit cut the
          reply after the tool use.
        - **Nothing to continue**: nothing for a reply whose end arrived, for a refusal, and where `new_messages()` is
          empty. An empty list does not mean success; `ok` does.

        Signed thinking before other content stays. With `output_format`, the model would begin a new value; ask for
        the rest without it.

        `prefill=True` is for models up to Claude 4.5, which continue the text of a last assistant message itself. It
        returns the reply alone, and without thinking: the API refuses a prefill with `thinking` enabled, and thinking
        in a prefill without it. Newer models refuse a prefill. Never raises.
        """
        is_paused = self.status == "complete" and self.stop_reason in _PAUSED
        is_cut = self.stop_reason in LIMITS if self.status == "complete" else self.stop_reason not in _FINISHED
        if not is_paused and not is_cut:
            return []
        return continue_reply(
            self._resendable_content(), self.text, instruction=instruction, prefill=prefill, is_paused=is_paused
        )

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        bound = "" if self.usage_final else "at least "
        parts = [
            f"status={self.status!r}",
            f"stop_reason={self.stop_reason!r}",
            f"text={text!r} ({len(self.text)} characters)",
            f"usage={self.usage.input_tokens} in, {bound}{self.min_output_tokens} out",
            f"seconds={self.timing.total:.2f}",
        ]
        if self.error is not None:
            parts.append(f"error={self.error!r}")
        return f"StreamResult({', '.join(parts)})"

    def __getstate__(self) -> list[Any]:
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        if not (isinstance(self.error, StreamError) and getattr(self.error, "result", None) is self):
            state["error"] = _picklable_or_summary(self.error)
        # Lists, as `flatten` leaves tuples to `pickle`: the JSON that the server sent may be nested too deeply for it.
        state["tool_uses"] = list(self.tool_uses)
        state["invalid_tool_input"] = [list(item) for item in self.invalid_tool_input]
        return flatten(state)

    def __setstate__(self, flat: list[Any]) -> None:
        state = unflatten(flat)
        state["tool_uses"] = tuple(state["tool_uses"])
        state["invalid_tool_input"] = tuple(InvalidToolInput(*item) for item in state["invalid_tool_input"])
        self.__dict__.update(state)


def _picklable_or_summary(error: BaseException | None) -> BaseException | None:
    """Return the error if it can be pickled and does not hold the request, else a `StreamError` with its message."""
    import pickle  # noqa: PLC0415 - takes 4 ms, and only pickling needs it

    class SecretRefusingPickler(pickle.Pickler):
        """A pickler that refuses the SDK's errors and any request, at any depth: they hold the API key."""

        def persistent_id(self, obj: Any) -> None:
            module = type(obj).__module__.partition(".")[0]
            if module in ("anthropic", "httpx", "httpx2"):
                raise TypeError(f"{type(obj).__name__} may hold the API key and is not pickled")

    if error is None:
        return None
    if not isinstance(error, anthropic.APIError):  # the SDK's own errors hold the request, and so the API key
        with suppress(Exception):  # pickling a foreign class may raise anything
            SecretRefusingPickler(file := io.BytesIO()).dump(error)
            pickle.loads(file.getvalue())  # noqa: S301 - pickled in the line above
            return error
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the `__str__` of a foreign class may raise anything
        message = "(its message cannot be shown)"
    return StreamError(f"{type(error).__name__}: {message}")
