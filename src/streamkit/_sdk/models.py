"""The SDK's objects from the API's dicts, and the dicts from the objects."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

import anthropic
import pydantic
from anthropic.types import Message, RawMessageStreamEvent, Usage
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent, BetaUsage

from streamkit._core.message import text_delta
from streamkit._core.sse import WireError

# What a helper stream adds to the API's own events.
_DERIVED = frozenset({"text", "citation", "thinking", "signature", "input_json", "compaction"})


class SDKEvents:
    """The counterpart of `EventDecoder` for a stream that is read from the SDK's own iterator."""

    unstreamed = False
    __slots__ = ("_beta", "_helper", "_last", "foreign", "index", "waiting")

    def __init__(self, beta: bool, *, helper: bool) -> None:
        self.waiting: deque[Any] = deque()
        self.foreign = b""
        self._beta = beta
        self._helper = helper
        self._last: Any = None
        self.index: Any = None

    def feed(self, event: Any) -> None:
        """Take the next event object."""
        self.waiting.append(event)

    def end(self) -> None:
        """The iterator ended."""

    def parse(self, event: Any) -> dict[str, Any] | None:
        """The event as a dict; `None` for what the SDK's helpers add."""
        self._last = event
        made = as_dict(event)
        if made is not None and "delta" in made:
            self.index = made.get("index")
        return made

    def text_of(self, event: Any) -> str | None:
        """The text of a text delta for the same block as the delta before; any other event has to be fed."""
        try:
            if event.type == "content_block_delta" and event.delta.type == "text_delta" and event.index == self.index:
                self._last, text = event, event.delta.text
                return text if type(text) is str else None
        except AttributeError:
            pass
        return None

    def to_object(self, event: dict[str, Any]) -> Any:
        """The SDK's object for the event that came last; a stop event of a helper as the raw one."""
        if self._helper and event["type"] in ("content_block_stop", "message_stop"):
            return event_maker(self._beta)(event)
        return self._last


def as_dict(event: Any) -> dict[str, Any] | None:
    """The API's own form of an event of the SDK's iterators; `None` for what its helpers add."""
    kind = getattr(event, "type", None)
    if not isinstance(kind, str):
        raise WireError(f"the stream gave {event!r}, no event")
    try:
        if kind == "content_block_delta":
            delta = event.delta
            if delta.type == "text_delta":
                return text_delta(event.index, delta.text)
            return {"type": kind, "index": event.index, "delta": delta.to_dict(warnings=False)}
        if kind == "content_block_stop":
            return {"type": kind, "index": event.index}
        if kind == "message_stop":
            return {"type": kind}
        return None if kind in _DERIVED else dict(event.to_dict(warnings=False))
    except (AttributeError, TypeError) as error:
        raise WireError(f"a malformed {kind!r} event ({error})") from error


@cache
def event_maker(beta: bool) -> Callable[[dict[str, Any]], Any]:
    """A function that makes, of an event dict, the object that the SDK's raw iterator yields for it."""
    union: Any = BetaRawMessageStreamEvent if beta else RawMessageStreamEvent
    members = _members(union)
    validate = {kind: member.model_validate for kind, member in members.items()}
    delta_of: Any = members["content_block_delta"].model_fields["delta"]
    # Made first: by itself the outer model takes three times as long to find out which kind of delta it is.
    validate_delta = {kind: member.model_validate for kind, member in _members(delta_of.annotation).items()}

    # A model of one field: its `construct` treats the value as the SDK treats an event, valid or not.
    holder: Any = pydantic.create_model("Holder", __base__=anthropic.BaseModel, event=(union, ...))

    def make(event: dict[str, Any]) -> Any:
        try:
            kind, given = event["type"], event
            if kind == "content_block_delta":
                delta = event["delta"]
                given = {**event, "delta": validate_delta[delta["type"]](delta)}
            return validate[kind](given)
        except (KeyError, TypeError, pydantic.ValidationError):
            return holder.construct(event=event).event

    return make


def _members(union: Any) -> dict[str, Any]:
    """The models of one of the SDK's unions, by their `type`."""
    models = get_args(union)
    models = get_args(models[0]) or models  # within `Annotated`
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in models}


def make_message(message: dict[str, Any], *, beta: bool) -> Any:
    """The SDK's message, as lenient as the SDK itself."""
    return (BetaMessage if beta else Message).construct(**message)


def make_usage(usage: dict[str, Any], *, beta: bool) -> Any:
    """The SDK's usage; zeros for what has not arrived."""
    known: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, **usage}
    return (BetaUsage if beta else Usage).construct(**known)
