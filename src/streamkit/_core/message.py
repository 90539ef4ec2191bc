"""Event dicts to a message: text, blocks and usage, accumulated without I/O.

The message equals that of the newest SDK's `get_final_message()` for the same events; `docs/design.md` lists the few
exceptions.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import jiter

from streamkit._history import LIMITS

from .sse import JSONObject, ProtocolViolation, parse_json
from .text_buffer import TextBuffer

PartialMode: TypeAlias = bool | Literal["trailing-strings"]
"""The mode in which `jiter` parses incomplete tool input."""

# Blocks whose input arrives as deltas of JSON.
_TOOL_USES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_SERVER_TOOL_USES = frozenset({"server_tool_use", "mcp_tool_use"})
_SILENT = frozenset({"redacted_thinking", "compaction"})  # the API sends these whole, after a while
# Counts in a `message_delta` are totals: they overwrite, and a count that a delta leaves out keeps its value.
_USAGE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "server_tool_use",
    "output_tokens_details",
)
_BETA_USAGE = (*_USAGE, "iterations", "fallback_credit")
_BETA_FIELDS = ("context_management", "input_transformations")
_NON_TEXT_KINDS = _TOOL_USES | {"thinking"}
_COMPACT_AT = 256  # deltas that are joined into one string


class ContentBlock:
    """One content block while it arrives."""

    __slots__ = ("closed", "data", "deltas", "has_text", "invalid_input", "kind")

    def __init__(self, data: JSONObject, *, closed: bool = False) -> None:
        self.data = data
        self.kind = str(data.get("type", ""))
        self.deltas = TextBuffer()  # text, thinking or JSON, by kind
        self.closed = closed
        # True once the block has produced text; a separator precedes only the first piece.
        self.has_text = False
        self.invalid_input: str | None = None  # the input as it arrived, if it does not parse
        if self.kind in ("text", "thinking"):
            _require_str(data.get(self.kind) or "")

    def snapshot(self, partial_mode: PartialMode = True) -> JSONObject:
        """Return the block in the API's form, as far as it has arrived."""
        closed, data = self.closed, dict(self.data)  # in this order: `close`, in another thread, sets them in the other
        if not self.deltas:
            return data
        added = str(self.deltas)
        if self.kind == "thinking":
            data["thinking"] = (data.get("thinking") or "") + added
        elif self.kind in _TOOL_USES:
            if not closed:
                data["input"] = _parse_input(added, partial_mode)[0]
        else:
            before = data.get("text")  # of a block of an unknown kind it may be anything
            data["text"] = before + added if isinstance(before, str) else added
        return data

    def close(self, partial_mode: PartialMode = True) -> None:
        """Mark the block as complete. Joins and parses tool input, once."""
        if self.kind in _TOOL_USES and self.deltas:
            added = str(self.deltas)
            value, complete = _parse_input(added, partial_mode)
            self.invalid_input = None if complete else added
            self.data["input"] = value
        self.closed = True  # last, as another thread may read at any moment

    def mark_cut(self) -> None:
        """Mark that a limit ended the message in this block: a tool use without input is invalid then."""
        if self.kind in _TOOL_USES and not self.deltas and not self.data.get("input"):
            self.invalid_input = ""


class MessageBuilder:
    """Accumulates event dicts into a message; keeps all text and all thinking beside it."""

    def __init__(self, *, separator: str = "\n\n", beta: bool = False, partial_mode: PartialMode = True) -> None:
        self.text = TextBuffer()
        self.thinking = TextBuffer()
        self.blocks: list[ContentBlock] = []  # in the order in which they were opened
        self.envelope: JSONObject | None = None  # the message without content and usage
        self.usage: JSONObject = {}
        self.usage_final = False
        self.stop_reason: str | None = None
        self.saw_message_stop = False
        self._by_index: dict[int, ContentBlock] = {}
        # An ordered set, so that the end of the message costs each block once.
        self._unclosed: dict[ContentBlock, None] = {}
        self._compact_at = _COMPACT_AT
        self._separator = separator
        self._beta = beta
        self._partial_mode: PartialMode = partial_mode  # how the SDK parses incomplete tool input
        self._separator_due = False  # a block of another kind came since the last text

    @property
    def may_be_silent(self) -> bool:
        """True while the API may send nothing but pings: it thinks without showing it, or runs a server tool."""
        block = self.blocks[-1] if self.blocks else None
        if block is None or self.stop_reason is not None:
            return False
        if block.kind in _SERVER_TOOL_USES:  # until its result arrives, in a block of its own
            return True
        shown = block.deltas or block.data.get("thinking")
        return not block.closed and (block.kind in _SILENT or (block.kind == "thinking" and not shown))

    def apply(self, event: JSONObject) -> tuple[str, str]:
        """Take the next event. Returns its text and its thinking, at least one of them usually empty.

        Raises `ProtocolViolation` for an event that is out of order or malformed.
        """
        kind = event["type"]
        try:
            if kind == "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    return self.add_text(event["index"], _require_str(delta["text"])), ""
                return self._on_block_delta(self._by_index[event["index"]], delta)
            if kind == "content_block_start":
                return self._on_block_start(event["index"], event["content_block"])
            if kind == "content_block_stop":
                block = self._by_index.get(event["index"])
                if block is not None:  # a stray one is ignored
                    block.close(self._partial_mode)
                    self._unclosed.pop(block, None)
            elif kind == "message_start":
                return self._on_message_start(event["message"])
            elif kind == "message_delta":
                self._on_message_delta(event)
            elif kind == "message_stop":
                self._require_started()
                # A reply that came whole in `message_start` has its stop reason there.
                self._end_message(self.stop_reason or _require_optional_str(self.envelope.get("stop_reason")))  # type: ignore[union-attr]
                self.saw_message_stop = True
        except KeyError as error:
            raise ProtocolViolation(self._order_error(kind, event, error)) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ProtocolViolation(f"a malformed {kind!r} event ({error})") from error
        return "", ""

    def add_text(self, index: int, text: str) -> str:
        """Append a text delta and return the text to emit. Separate from `apply` because nearly every event is one.

        Raises `KeyError` if the block was never opened.
        """
        block = self._by_index[index]
        if not text:
            return ""
        if block.kind not in _NON_TEXT_KINDS:  # text for a tool use is emitted, but has no place in the block
            block.deltas.recent.append(text)
        if not block.has_text:
            text = self._with_separator(block, text)
        recent = self.text.recent
        recent.append(text)
        if len(recent) >= self._compact_at:
            self._compact()
        return text

    def tool_use(self, index: Any) -> ContentBlock | None:
        """Return the block at `index` if it is a tool use."""
        block = self._by_index[index]
        return block if block.kind in _TOOL_USES else None

    def message(self) -> JSONObject | None:
        """Return the message in the API's form, as far as it has arrived; `None` before `message_start`."""
        if self.envelope is None:
            return None
        blocks = [block.snapshot(self._partial_mode) for block in self.blocks]
        return {**self.envelope, "content": blocks, "usage": dict(self.usage)}

    def delta_count(self) -> int:
        """Count the non-empty deltas of text, thinking and tool input: each holds at least one token.

        Compactions are left out, as the API counts their tokens apart.
        """
        return sum(len(block.deltas) for block in self.blocks)

    def _on_block_delta(self, block: ContentBlock, delta: JSONObject) -> tuple[str, str]:
        kind = delta["type"]
        if kind == "input_json_delta":
            if block.kind in _TOOL_USES and (piece := _require_str(delta["partial_json"])):
                self._append(block.deltas, piece)
        elif kind == "thinking_delta":
            thinking = _require_str(delta["thinking"])
            if thinking and block.kind == "thinking":
                self._append(block.deltas, thinking)
                self._append(self.thinking, thinking)
                return "", thinking
        elif kind == "signature_delta":
            if block.kind == "thinking":
                block.data["signature"] = delta["signature"]
        elif kind == "citations_delta":
            if block.kind == "text":
                citations: list[Any] = block.data.get("citations") or []
                citations.append(delta["citation"])
                block.data["citations"] = citations
        elif kind == "compaction_delta" and block.kind == "compaction":
            block.data["content"] = delta.get("content")
            block.data["encrypted_content"] = delta.get("encrypted_content")
        return "", ""

    def _on_block_start(self, index: int, data: JSONObject) -> tuple[str, str]:
        self._require_started()
        block = ContentBlock(dict(data))
        if block.data.get("citations"):
            block.data["citations"] = list(block.data["citations"])  # the event must not change
        self.blocks.append(block)
        self._by_index[index] = block
        self._unclosed[block] = None
        return self._initial_content(block)

    def _on_message_start(self, message: JSONObject) -> tuple[str, str]:
        if self.envelope is not None:
            raise ProtocolViolation("a second 'message_start' before the end of the message")
        envelope = {**message}
        content: list[JSONObject] = envelope.pop("content", None) or []
        blocks = [ContentBlock(dict(data), closed=True) for data in content]
        self.usage = dict(envelope.pop("usage", None) or {})
        self.envelope = envelope
        text = thinking = ""
        for index, block in enumerate(blocks):
            self._by_index[index] = block
            self.blocks.append(block)
            block_text, block_thinking = self._initial_content(block)
            text, thinking = text + block_text, thinking + block_thinking
        return text, thinking

    def _initial_content(self, block: ContentBlock) -> tuple[str, str]:
        """Return the text and the thinking that a block holds when it is opened."""
        text = thinking = ""
        if block.kind == "text":
            text = block.data.get("text") or ""
            if text:
                text = self._with_separator(block, text)
                self.text.recent.append(text)
        else:
            self._separator_due = bool(self.text)
            if block.kind == "thinking":
                thinking = block.data.get("thinking") or ""
                if thinking:
                    self.thinking.recent.append(thinking)
            elif block.kind == "fallback" and self._beta and self.envelope is not None:
                # Another model took over: the message names the model that answered.
                self.envelope["model"] = block.data["to"]["model"]
        return text, thinking

    def _append(self, buffer: TextBuffer, piece: str) -> None:
        buffer.recent.append(piece)
        if len(buffer.recent) >= _COMPACT_AT:
            buffer.compact()

    def _compact(self) -> None:
        self.text.compact()
        for block in self._by_index.values():
            block.deltas.compact()
        # Visiting all blocks costs their number: with many blocks, wait for as many deltas.
        self._compact_at = max(_COMPACT_AT, len(self._by_index))

    def _with_separator(self, block: ContentBlock, text: str) -> str:
        block.has_text = block.kind not in _NON_TEXT_KINDS
        if self._separator_due and self._separator:
            text = self._separator + text
        self._separator_due = False
        return text

    def _on_message_delta(self, event: JSONObject) -> None:
        self._require_started()
        envelope: JSONObject = self.envelope  # type: ignore[assignment]
        delta = event["delta"]
        for name in ("stop_reason", "stop_sequence", "stop_details"):
            envelope[name] = delta.get(name, envelope.get(name))
        reason = _require_optional_str(envelope["stop_reason"])
        if reason is None:
            self.stop_reason = None
        else:
            self._end_message(reason)
        if delta.get("container") is not None:
            envelope["container"] = delta["container"]
        usage: JSONObject = event.get("usage") or {}
        if "output_tokens" in usage:
            self.usage["output_tokens"] = usage["output_tokens"]
            self.usage_final = self.stop_reason is not None
        for name in _BETA_USAGE if self._beta else _USAGE:
            if usage.get(name) is not None:
                self.usage[name] = usage[name]
        if self._beta:
            for name in _BETA_FIELDS:
                if event.get(name) is not None:
                    envelope[name] = event[name]

    def _end_message(self, reason: str | None) -> None:
        """Record the stop reason and close all blocks, also those whose own end never came."""
        if reason in LIMITS:
            # A limit cuts the last block, and those still open. A block that ended before another began is complete.
            for block in (*self._unclosed, *self.blocks[-1:]):
                block.mark_cut()
        for block in self._unclosed:
            block.close(self._partial_mode)
        self._unclosed.clear()
        self.stop_reason = reason  # last: a thread that sees the reason sees the cut blocks, too

    def _require_started(self) -> None:
        if self.envelope is None:
            raise ProtocolViolation("an event came before 'message_start'")

    def _order_error(self, kind: str, event: JSONObject, error: KeyError) -> str:
        if self.envelope is None:
            return f"{kind!r} came before 'message_start'"
        if error.args == (event.get("index"),):
            return f"{kind!r} for a block that was never opened (index {event['index']!r})"
        return f"a malformed {kind!r} event (no {error})"


def text_delta_event(index: int, text: str) -> JSONObject:
    """Return the event that appends text to a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def _require_str(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"expected a string, got {value!r}")
    return value


def _require_optional_str(value: object) -> str | None:
    return None if value is None else _require_str(value)


def _parse_input(raw: str, partial_mode: PartialMode) -> tuple[Any, bool]:
    """Return tool input as far as it parses, and `True` if it parsed completely."""
    with suppress(ValueError):
        return parse_json(raw), True
    data = raw.encode("utf-8", "surrogatepass")
    # `jiter` names the offset of the error: the bytes before may parse as the start of a value.
    for _ in range(2):
        try:
            return jiter.from_json(data, partial_mode=partial_mode), False
        except ValueError as error:
            data = data[: _jiter_error_offset(data, str(error))]
    return {}, False


def _jiter_error_offset(data: bytes, message: str) -> int:
    """Return the byte offset in a `jiter` message that ends in "at line L column C"; 0 if it names none."""
    place = re.search(r"line (\d+) column (\d+)$", message)
    if place is None:
        return 0
    line, column = int(place[1]), int(place[2])
    start = sum(len(part) + 1 for part in data.split(b"\n")[: line - 1])
    return max(start + column - 1, 0)
