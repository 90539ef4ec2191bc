"""What a stream gave: the result, valid whatever ended it."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, overload

import anthropic
from anthropic.types import Message, MessageParam, ToolUseBlock, Usage
from anthropic.types.beta import BetaMessage, BetaMessageParam
from typing_extensions import TypeVar

from ._history import LIMITS, acceptable
from ._pickling import flatten, unflatten
from .errors import StreamError

Status: TypeAlias = Literal["streaming", "complete", "interrupted", "disconnected", "timed_out", "failed"]
"""How a stream stands: still `"streaming"`, or what ended it."""

MessageT = TypeVar("MessageT", bound="Message | BetaMessage", default=Message)
OutputT = TypeVar("OutputT", default=None)

_PAUSED = frozenset({"pause_turn", "compaction"})


class Timing(NamedTuple):
    """When things arrived: seconds since `open`, on a monotonic clock; `None` for what has not happened."""

    response: float | None
    """To the response's headers, of the last request if there were several."""
    first_content: float | None
    """To the first text, thinking or other content."""
    total: float
    """To the end, or until now while the stream is running."""
    longest_gap: float
    """The longest time between two arrivals of content."""


class InvalidToolInput(NamedTuple):
    """A tool use whose input did not parse."""

    block: Any
    """The SDK's block; its `input` holds what parsed."""
    raw: str
    """The input as it arrived."""


@dataclass(frozen=True, repr=False)
class StreamResult(Generic[MessageT, OutputT]):
    """All that a stream gave, whatever ended it. Picklable; a pickle never holds the request."""

    text: str
    """All text that arrived, as it was yielded and as the sinks got it.

    After an early end that may be more than the consumer had asked for: at most one chunk of the body."""
    thinking: str
    """All thinking."""
    tool_uses: tuple[ToolUseBlock, ...]
    """The tool-use blocks that are complete (`BetaToolUseBlock` for beta)."""
    message: MessageT | None
    """The SDK's message, partial when the stream was; `None` before `message_start`."""
    usage: Usage
    """Usage in tokens (`BetaUsage` for beta); zeros before `message_start`."""
    usage_final: bool
    """Whether the API has sent the final counts. If not, see `min_output_tokens`."""
    stop_reason: str | None
    """Why the model stopped, in the API's words."""
    stop_details: Any
    """What the API adds to the stop reason, if anything."""
    status: Status
    """How the stream stands."""
    error: BaseException | None
    """The exception that ended it."""
    parsed_output: OutputT | None
    """The value of `output_format`."""
    parse_error: Exception | None
    """Why there is no `parsed_output` although `output_format` was given and the stream is over."""
    invalid_tool_input: tuple[InvalidToolInput, ...]
    """The tool uses whose input did not parse."""
    timing: Timing
    """When things arrived, in seconds."""
    attempts: int
    """How many requests were sent."""
    request_id: str | None
    """The API's id of the request, from the response's headers."""
    failed_attempts: tuple[StreamError, ...] = ()
    """The errors of the attempts before the last one, in their order.

    The `result` of each is that of its attempt: no text, as nothing is sent again after the first content, but the
    usage that the API had named."""
    _open: frozenset[int] | None = None
    """Where in the message the blocks stand whose end had not arrived; `None` for the last one."""
    _deltas: int = 0
    """How many deltas arrived that hold at least one token each."""

    @property
    def ok(self) -> bool:
        """Whether the reply is complete, and neither cut by a limit, nor refused, nor paused.

        False also where `output_format` was given and the reply holds no value of it.
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
        """How many tokens the model wrote at least: the API's count where it is final.

        Before that, the larger of the API's count so far and the number of deltas of text, thinking and tool input
        that arrived, as each of them holds at least one token.
        """
        given: Any = getattr(self.usage, "output_tokens", None)
        count: int = given if isinstance(given, int) else 0  # a broken server may have sent anything in its place
        return count if self.usage_final else max(count, self._deltas)

    @overload
    def new_messages(self: StreamResult[Message, Any]) -> list[MessageParam]: ...
    @overload
    def new_messages(self: StreamResult[BetaMessage, Any]) -> list[BetaMessageParam]: ...
    @overload
    def new_messages(self) -> list[MessageParam] | list[BetaMessageParam]: ...
    def new_messages(self) -> Any:
        """What to append to the history: a list of at most one message, in a form that the API accepts.

        A whole reply comes as it is: a tool use waits for its result, a paused turn for its continuation. Of an
        unfinished one come the whole blocks and the unfinished text. Left out is what the API would refuse: unfinished
        or unanswerable tool uses, server tool uses without their result, thinking without its signature, at the end, or
        before other thinking that it did not stand beside, blank text, and fields that a request does not have.
        Surrogates that make a pair are joined, others become U+FFFD. A refusal gives nothing. Never raises.
        """
        if self.message is None or self.stop_reason == "refusal":
            return []
        content = acceptable(
            list(self.message.content),
            beta=isinstance(self.message, BetaMessage),
            unparsed=[getattr(item.block, "id", None) for item in self.invalid_tool_input],
            unfinished={len(self.message.content) - 1} if self._open is None else self._open,
            whole=self.status == "complete",
            goes_on=self.stop_reason in _PAUSED or self.stop_reason == "tool_use",
        )
        return [{"role": "assistant", "content": content}] if content else []

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

    def __getstate__(self) -> dict[str, Any]:
        # What the server sent as JSON goes into one flat list, as it may be nested deeper than `pickle` can go.
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        uses, invalid = list(state.pop("tool_uses")), [list(item) for item in state.pop("invalid_tool_input")]
        json = [state.pop("message"), state.pop("usage"), state.pop("stop_details"), uses, invalid]
        error = state["error"]
        if not (isinstance(error, StreamError) and getattr(error, "result", None) is self):
            state["error"] = _picklable(error)
        return {**state, "json": flatten(json)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        message, usage, stop_details, uses, invalid = unflatten(state["json"])
        self.__dict__.update(
            {name: value for name, value in state.items() if name != "json"},
            message=message,
            usage=usage,
            stop_details=stop_details,
            tool_uses=tuple(uses),
            invalid_tool_input=tuple(InvalidToolInput(*item) for item in invalid),
        )


def _picklable(error: BaseException | None) -> BaseException | None:
    """The error itself where it can go into a pickle and holds no request, else a `StreamError` with its words."""
    import pickle  # noqa: PLC0415 - 4 ms that only those who pickle need to spend

    class Careful(pickle.Pickler):
        """Refuses the SDK's own errors, and requests, at any depth: they hold the key."""

        def persistent_id(self, obj: Any) -> None:
            module = type(obj).__module__.partition(".")[0]
            if module in ("anthropic", "httpx", "httpx2"):
                raise TypeError(f"{type(obj).__name__} stays out of every pickle")

    if error is None:
        return None
    if not isinstance(error, anthropic.APIError):  # the SDK's own hold the request, and so the key
        try:
            Careful(file := io.BytesIO()).dump(error)
            pickle.loads(file.getvalue())  # noqa: S301 - what was pickled in this line
        except Exception:  # noqa: BLE001, S110 - whatever a foreign class raises, it cannot be pickled
            pass
        else:
            return error
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - its own doing
        said = "(it cannot be shown)"
    return StreamError(f"{type(error).__name__}: {said}")
