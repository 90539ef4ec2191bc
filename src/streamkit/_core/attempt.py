"""One attempt at a reply: the protocols of a response and its decoder, and the message built from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamkit.errors import StreamError

from .message import ContentBlock, MessageBuilder, PartialMode
from .sse import JSONObject


class Matcher(Protocol):
    """A shortcut for chunks that are one text delta, for the block at `index`: `text_delta.TextDeltaMatcher`."""

    @property
    def index(self) -> Any: ...
    def match(self, chunk: Any, /) -> str | None: ...


class Decoder(Protocol):
    """Splits a body into frames, and parses frames into events: `sse.SSEDecoder`."""

    @property
    def frames(self) -> deque[Any]: ...
    @property
    def matcher(self) -> Matcher: ...
    @property
    def unstreamed(self) -> bool: ...
    def feed(self, chunk: Any, /) -> None: ...
    def end(self) -> None: ...
    def parse(self, frame: Any, /) -> JSONObject | None: ...


class Response(Protocol):
    """A response of the SDK: its decoder, its objects and its errors. `http_response` is the HTTP library's."""

    beta: bool
    by_bytes: bool
    partial_mode: PartialMode

    @property
    def http_response(self) -> Any: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def decoder(self) -> Decoder: ...
    @property
    def to_sdk_event(self) -> Callable[[JSONObject, object], Any]: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def header(self, name: str) -> str | None: ...
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

    @property
    def is_complete(self) -> bool:
        """True if a body that ends here holds a complete message."""
        ended = self.builder.saw_message_stop or self.builder.stop_reason is not None
        return ended and not self.decoder.unstreamed
