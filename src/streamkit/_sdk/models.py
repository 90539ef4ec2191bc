"""The SDK's objects from the API's dicts, and dicts from the SDK's objects."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

import anthropic
import pydantic
from anthropic.types import RawMessageStreamEvent
from anthropic.types.beta import BetaRawMessageStreamEvent

from streamkit._core.message import text_delta_event
from streamkit._core.sse import ProtocolViolation
from streamkit._result import StreamResult

# The events that a helper stream adds to the API's own.
_HELPER_EVENTS = frozenset({"text", "citation", "thinking", "signature", "input_json", "compaction"})


class SDKTextDeltaMatcher:
    """The counterpart of `TextDeltaMatcher` for the SDK's event objects."""

    __slots__ = ("index",)

    def __init__(self) -> None:
        self.index: Any = None  # the block of the last delta; no text delta is matched before the first one

    def match(self, event: Any) -> str | None:
        """Return the text of a text delta for the block at `index`; `None` for any other event."""
        try:
            if event.type == "content_block_delta" and event.delta.type == "text_delta" and event.index == self.index:
                text = event.delta.text
                return text if type(text) is str else None
        except AttributeError:
            pass
        return None

    match_frame = match


class SDKEventDecoder:
    """The counterpart of `SSEDecoder` for the SDK's event objects: each is a chunk and a frame."""

    unstreamed = False
    __slots__ = ("_beta", "_helper", "frames", "matcher")

    def __init__(self, beta: bool, *, helper: bool) -> None:
        self._beta = beta
        self._helper = helper
        self.frames: deque[Any] = deque()
        self.matcher = SDKTextDeltaMatcher()

    def feed(self, event: Any) -> None:
        """Take the next event object."""
        self.frames.append(event)

    def end(self) -> None:
        """Do nothing: an iterator ends between two events."""

    def parse(self, event: Any) -> dict[str, Any] | None:
        """Return the event as a dict; `None` for an event that the SDK's helpers add."""
        parsed = event_to_dict(event)
        if parsed is not None and "delta" in parsed:
            self.matcher.index = parsed.get("index")
        return parsed

    def to_sdk_event(self, event: dict[str, Any], frame: Any) -> Any:
        """Return the SDK's object for an event, which is the frame; a stop event of a helper as the raw one."""
        if self._helper and event["type"] in ("content_block_stop", "message_stop"):
            return event_factory(self._beta)(event)
        return frame


def event_to_dict(event: Any) -> dict[str, Any] | None:
    """Return an event of the SDK's iterators in the API's own form; `None` for an event that its helpers add.

    Raises `ProtocolViolation` for an object that is not an event.
    """
    kind = getattr(event, "type", None)
    if not isinstance(kind, str):
        raise ProtocolViolation(f"expected an event, got {event!r}")
    try:
        if kind == "content_block_delta":
            delta = event.delta
            if delta.type == "text_delta":
                return text_delta_event(event.index, delta.text)
            return {"type": kind, "index": event.index, "delta": delta.to_dict(warnings=False)}
        if kind == "content_block_stop":
            return {"type": kind, "index": event.index}
        if kind == "message_stop":
            return {"type": kind}
        return None if kind in _HELPER_EVENTS else dict(event.to_dict(warnings=False))
    except (AttributeError, TypeError) as error:
        raise ProtocolViolation(f"a malformed {kind!r} event ({error})") from error


@cache
def event_factory(beta: bool) -> Callable[..., Any]:
    """Return a function that turns an event dict into the object that the SDK's raw iterator yields for it."""
    union: Any = BetaRawMessageStreamEvent if beta else RawMessageStreamEvent
    models = _models_by_type(union)
    validate = {kind: _validator(model) for kind, model in models.items()}
    delta_field: Any = models["content_block_delta"].model_fields["delta"]
    # Validated first: the outer model alone takes three times as long to find the right kind of delta.
    validate_delta = {kind: _validator(model) for kind, model in _models_by_type(delta_field.annotation).items()}

    # A model with one field: its `construct` treats the value as the SDK treats an event, valid or not.
    lenient_model: Any = pydantic.create_model("LenientEvent", __base__=anthropic.BaseModel, event=(union, ...))

    def make(event: dict[str, Any], _frame: object = None) -> Any:
        try:
            kind, data = event["type"], event
            if kind == "content_block_delta":
                delta = event["delta"]
                data = {**event, "delta": validate_delta[delta["type"]](delta)}
            return validate[kind](data)
        except (KeyError, TypeError, pydantic.ValidationError):
            return lenient_model.construct(event=event).event

    return make


def _validator(model: Any) -> Callable[[object], Any]:
    """Return `model_validate` of a model without the layer in Python around it, which takes as long again."""
    model.model_rebuild()  # the SDK defers it to the first use
    return model.__pydantic_validator__.validate_python  # type: ignore[no-any-return]


def with_response_ids(result: StreamResult[Any, Any]) -> Any:
    """Return the message of a result with the ids that the SDK sets on what `create` returns.

    The SDK documents both as public, in spite of their names; they come from the headers of the response.
    """
    message: Any = result.message
    message._request_id = result.request_id  # noqa: SLF001 - public, as the SDK says
    message._workspace_id = result.response_headers.get("anthropic-workspace-id")  # noqa: SLF001
    return message


def _models_by_type(union: Any) -> dict[str, Any]:
    """Return the models of one of the SDK's unions, by their `type`."""
    models = get_args(union)
    models = get_args(models[0]) or models  # inside `Annotated`
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in models}
