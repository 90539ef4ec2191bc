"""One attempt at a reply: the protocols of a response and its decoder, and the message built from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamkit._result import InvalidToolInput
from streamkit.errors import StreamError

from .message import ContentBlock, MessageBuilder, PartialMode
from .sse import JSONObject


class Matcher(Protocol):
    """A shortcut for text deltas, for the block at `index`: `text_delta.TextDeltaMatcher`."""

    index: Any

    def match(self, chunk: Any, /) -> str | None: ...
    def match_frame(self, frame: Any, /) -> str | None: ...


class Decoder(Protocol):
    """Splits a body into frames, and parses frames into events: `sse.SSEDecoder`."""

    frames: deque[Any]
    unstreamed: bool

    @property
    def matcher(self) -> Matcher: ...
    def feed(self, chunk: Any, /) -> None: ...
    def end(self) -> None: ...
    def parse(self, frame: Any, /) -> JSONObject | None: ...


class Response(Protocol):
    """A response of the SDK: its decoder, its objects and its errors. `http_response` is the HTTP library's."""

    beta: bool
    by_bytes: bool
    partial_mode: PartialMode
    http_response: Any
    decoder: Decoder
    to_sdk_event: Callable[[JSONObject, object], Any]

    @property
    def request_id(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def header(self, name: str) -> str | None: ...
    def note_refusal(self, error: BaseException | None, /) -> None: ...
    def as_frame(self, chunk: object, /) -> bytes: ...
    def build_message(self, message: JSONObject) -> Any: ...
    def build_usage(self, usage: JSONObject) -> Any: ...
    def foreign_exception(self, error: Exception) -> Exception | None: ...
    def to_stream_error(self, error: Exception) -> StreamError: ...
    def error_from_event(self, event: JSONObject) -> StreamError: ...
    def truncation_error(self, *, stream_began: bool) -> StreamError: ...


class Attempt:
    """One response and the message that is built from it. A retry gets a new one."""

    __slots__ = ("_tool_blocks", "builder", "decoder", "held_events", "matcher", "response")

    def __init__(self, response: Response, *, separator: str, holds_events: bool) -> None:
        self.response = response
        self.decoder = response.decoder
        self.matcher = response.decoder.matcher
        self.builder = MessageBuilder(separator=separator, beta=response.beta, partial_mode=response.partial_mode)
        # Events before the first content, while a retry may still replace them; `None` once they are released.
        self.held_events: list[Any] | None = [] if holds_events else None
        self._tool_blocks: dict[ContentBlock, Any] = {}  # the SDK's objects, for sinks that take tool input

    def tool_input(self, event: JSONObject) -> tuple[Any, str] | None:
        """Return the SDK's block and the JSON text of a delta of tool input; `None` for any other delta."""
        piece: str = event["delta"].get("partial_json")
        block = self.builder.tool_use(event["index"])
        if not piece or block is None:
            return None
        if block not in self._tool_blocks:
            message: JSONObject = {**(self.builder.envelope or {}), "content": [dict(block.data)], "usage": {}}
            self._tool_blocks[block] = self.response.build_message(message).content[0]
        return self._tool_blocks[block], piece

    def contents(self) -> dict[str, Any]:
        """Return the fields of `StreamResult` that come from the response, as far as it has arrived."""
        builder, response = self.builder, self.response
        # Before the message: a block that another thread closes meanwhile may be in the message with half its input.
        stop_reason = builder.stop_reason
        looks = [(block.kind, block.closed, block.invalid_input) for block in builder.blocks]
        message = builder.message()
        sdk_message: Any = None if message is None else response.build_message(message)
        pairs = [] if sdk_message is None else list(zip(looks, sdk_message.content, strict=False))
        return {
            "text": str(builder.text),
            "thinking": str(builder.thinking),
            "tool_uses": tuple(
                item for (kind, closed, raw), item in pairs if kind == "tool_use" and closed and raw is None
            ),
            "invalid_tool_input": tuple(InvalidToolInput(item, raw) for (_, _, raw), item in pairs if raw is not None),
            "message": sdk_message,
            "usage": response.build_usage(builder.usage),
            "usage_final": builder.usage_final,
            "stop_reason": stop_reason,
            "stop_details": getattr(sdk_message, "stop_details", None),
            "request_id": response.request_id,
            "response_headers": response.headers,
            # Of all blocks by now: the message may hold one that was opened meanwhile.
            "_unclosed_blocks": frozenset(range(len(builder.blocks)))
            - {at for at, (_, closed, _) in enumerate(looks) if closed},
            "_deltas": builder.delta_count(),
        }

    @property
    def is_complete(self) -> bool:
        """True if a body that ends here holds a complete message."""
        ended = self.builder.saw_message_stop or self.builder.stop_reason is not None
        return ended and not self.decoder.unstreamed
