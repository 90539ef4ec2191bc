"""From event dicts to a message: text, blocks and usage, accumulated without I/O.

What the accumulated message holds is what the newest SDK's `get_final_message()` holds for the same events; the few
places where that is not so are listed in `docs/design.md`.
"""

from __future__ import annotations

from typing import Any

import jiter

from streamkit._history import LIMITS

from .sse import WireError, parse_json

# Blocks whose input arrives as pieces of JSON.
_TOOL_USES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_SERVER_TOOL_USES = frozenset({"server_tool_use", "mcp_tool_use"})
_SILENT = frozenset({"redacted_thinking", "compaction"})  # blocks that come whole, after a while
# Counts in a `message_delta` are totals: they overwrite, and what a delta leaves out keeps its value.
_USAGE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "server_tool_use",
    "output_tokens_details",
)
_BETA_USAGE = (*_USAGE, "iterations", "fallback_credit")
_BETA_FIELDS = ("context_management", "input_transformations")
_STRUCTURED = _TOOL_USES | {"thinking"}
_FOLD = 256  # pieces that are joined into one


class TextBuffer:
    """Text that grows at its end. Adding a piece and reading the whole cost what is new, not what is there.

    One thread adds, by appending to `short` and calling `fold` when that gets long; any thread may read at any time.
    """

    __slots__ = ("_cache", "_parts", "short")

    def __init__(self) -> None:
        self.short: list[str] = []
        # Long pieces, each joined from many short ones, how many of them count, the short ones since, and how many
        # short ones were joined: replaced as one, so that a reader in another thread never sees half of a change.
        self._parts: tuple[list[str], int, list[str], int] = ([], 0, self.short, 0)
        self._cache: list[tuple[str, int, int]] = []  # the whole so far, the long pieces in it, characters of the rest

    def fold(self) -> None:
        """Join the short pieces into a long one: a list of short strings takes many times the memory of one long."""
        if self.short:
            long, _, short, joined = self._parts
            long.append("".join(short))
            self._parts = (long, len(long), [], joined + len(short))
            self.short = self._parts[2]

    def __len__(self) -> int:
        """How many pieces were added."""
        _, _, short, joined = self._parts
        return joined + len(short)

    def __str__(self) -> str:
        _, count, short, _ = self._parts
        if not count:
            return "".join(short)
        try:
            # Taken out, so that this is the only reference to the string and CPython extends it in place.
            text, folded, rest = self._cache.pop()
        except IndexError:  # the first time, or another thread has it
            text, folded, rest = "", 0, 0
        long, count, short, _ = self._parts  # again: now they are no older than what was taken
        start = len(text) - rest
        tail = "".join(long[folded:count])
        text += tail[rest:] if folded < count else ""
        start += len(tail)
        text += "".join(short)[len(text) - start :]
        self._cache = [(text, count, len(text) - start)]
        return text


class Block:
    """One content block while it arrives."""

    __slots__ = ("closed", "data", "kind", "pieces", "raw", "speaks")

    def __init__(self, data: dict[str, Any], *, closed: bool = False) -> None:
        self.data = data
        self.kind = str(data.get("type", ""))
        self.pieces = TextBuffer()  # what deltas added: text, thinking or JSON, by kind
        self.closed = closed
        self.speaks = False  # it gave text before, so that no separator is due
        self.raw: str | None = None  # the input as it arrived, if it does not parse
        if self.kind in ("text", "thinking"):
            _string(data.get(self.kind) or "")

    def snapshot(self, partial_mode: Any = True) -> dict[str, Any]:
        """The block in the API's form, as far as it arrived."""
        closed, data = self.closed, dict(self.data)  # in this order: `close` sets them in the other
        if not self.pieces:
            return data
        added = str(self.pieces)
        if self.kind == "thinking":
            data["thinking"] = (data.get("thinking") or "") + added
        elif self.kind in _TOOL_USES:
            if not closed:
                data["input"] = _parse_input(added, partial_mode)[0]
        else:
            before = data.get("text")  # of a block of an unknown kind it may be anything
            data["text"] = before + added if isinstance(before, str) else added
        return data

    def close(self, partial_mode: Any = True) -> None:
        """The block is whole: join and parse its input, once."""
        if self.kind in _TOOL_USES and self.pieces:
            added = str(self.pieces)
            value, whole = _parse_input(added, partial_mode)
            self.raw = None if whole else added
            self.data["input"] = value
        self.closed = True  # last: another thread may look at any moment

    def cut(self) -> None:
        """A limit cut the message here: a tool use without any input was to have some."""
        if self.kind in _TOOL_USES and not self.pieces and not self.data.get("input"):
            self.raw = ""


class MessageBuilder:
    """Takes event dicts in their order; keeps the message, all text and all thinking."""

    def __init__(self, *, separator: str = "\n\n", beta: bool = False, partial_mode: Any = True) -> None:
        self.text = TextBuffer()
        self.thinking = TextBuffer()
        self.blocks: list[Block] = []  # in the order in which they were opened
        self.head: dict[str, Any] | None = None  # the message without its content
        self.usage: dict[str, Any] = {}
        self.usage_final = False
        self.stop_reason: str | None = None
        self.stopped = False  # `message_stop` arrived
        self._by_index: dict[int, Block] = {}
        self._unclosed: dict[Block, None] = {}  # a set in order, so that the end of the message visits no block twice
        self._fold_at = _FOLD
        self._separator = separator
        self._beta = beta
        self._partial_mode = partial_mode  # how the SDK reads tool input that was cut
        self._separate = False  # a block of another kind stood since the last text

    @property
    def may_be_silent(self) -> bool:
        """True while the API has nothing to send but pings: it thinks without showing it, or runs a server tool."""
        block = self.blocks[-1] if self.blocks else None
        if block is None or self.stop_reason is not None:
            return False
        if block.kind in _SERVER_TOOL_USES:  # until its result comes, as a block of its own
            return True
        shown = block.pieces or block.data.get("thinking")
        return not block.closed and (block.kind in _SILENT or (block.kind == "thinking" and not shown))

    def apply(self, event: dict[str, Any]) -> tuple[str, str]:
        """Take the next event. Returns the new text and the new thinking, usually one of them or both empty.

        Raises `WireError` for an event that is out of order or malformed.
        """
        kind = event["type"]
        try:
            if kind == "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    return self.say(event["index"], _string(delta["text"])), ""
                return self._delta(self._by_index[event["index"]], delta)
            if kind == "content_block_start":
                return self._open(event["index"], event["content_block"])
            if kind == "content_block_stop":
                block = self._by_index.get(event["index"])
                if block is not None:  # a stray one ends nothing, and does no harm
                    block.close(self._partial_mode)
                    self._unclosed.pop(block, None)
            elif kind == "message_start":
                return self._start(event["message"])
            elif kind == "message_delta":
                self._message_delta(event)
            elif kind == "message_stop":
                self._need_start()
                # Of a reply that came whole in `message_start`, the reason stands there.
                self._end(self.stop_reason or _string_or_none(self.head.get("stop_reason")))  # type: ignore[union-attr]
                self.stopped = True
        except KeyError as error:
            raise WireError(self._out_of_order(kind, event, error)) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise WireError(f"a malformed {kind!r} event ({error})") from error
        return "", ""

    def say(self, index: int, text: str) -> str:
        """Take a text delta, as nearly every event is one. Returns the new text.

        Raises `KeyError` where no block was opened.
        """
        block = self._by_index[index]
        if not text:
            return ""
        if block.kind not in _STRUCTURED:  # text for a block that has none is still text that arrived
            block.pieces.short.append(text)
        if not block.speaks:
            text = self._first_text(block, text)
        short = self.text.short
        short.append(text)
        if len(short) >= self._fold_at:
            self._fold()
        return text

    def message(self) -> dict[str, Any] | None:
        """The message in the API's form, as far as it arrived; `None` before `message_start`."""
        if self.head is None:
            return None
        blocks = [block.snapshot(self._partial_mode) for block in self.blocks]
        return {**self.head, "content": blocks, "usage": dict(self.usage)}

    def delta_count(self) -> int:
        """How many deltas of text, thinking and tool input arrived that were not empty: each holds at least a token.

        Counted when asked for. A compaction is not in: the API counts its tokens apart.
        """
        return sum(len(block.pieces) for block in self.blocks)

    def _delta(self, block: Block, delta: dict[str, Any]) -> tuple[str, str]:
        kind = delta["type"]
        if kind == "input_json_delta":
            if block.kind in _TOOL_USES and (piece := _string(delta["partial_json"])):
                self._grow(block.pieces, piece)
        elif kind == "thinking_delta":
            thinking = _string(delta["thinking"])
            if thinking and block.kind == "thinking":
                self._grow(block.pieces, thinking)
                self._grow(self.thinking, thinking)
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

    def _open(self, index: int, data: dict[str, Any]) -> tuple[str, str]:
        self._need_start()
        block = Block(dict(data))
        if block.data.get("citations"):
            block.data["citations"] = list(block.data["citations"])  # grows; the event's own stays as it is
        self.blocks.append(block)
        self._by_index[index] = block
        self._unclosed[block] = None
        return self._first_words(block)

    def _start(self, message: dict[str, Any]) -> tuple[str, str]:
        if self.head is not None:
            raise WireError("a second 'message_start' before the end of the message")
        head = {**message}
        content: list[dict[str, Any]] = head.pop("content", None) or []
        blocks = [Block(dict(data), closed=True) for data in content]
        self.usage = dict(head.pop("usage", None) or {})
        self.head = head
        text = thinking = ""
        for index, block in enumerate(blocks):
            self._by_index[index] = block
            self.blocks.append(block)
            spoken, thought = self._first_words(block)
            text, thinking = text + spoken, thinking + thought
        return text, thinking

    def _first_words(self, block: Block) -> tuple[str, str]:
        """What a block brings along when it is opened."""
        text = thinking = ""
        if block.kind == "text":
            text = block.data.get("text") or ""
            if text:
                text = self._first_text(block, text)
                self.text.short.append(text)
        else:
            self._separate = bool(self.text)
            if block.kind == "thinking":
                thinking = block.data.get("thinking") or ""
                if thinking:
                    self.thinking.short.append(thinking)
            elif block.kind == "fallback" and self._beta and self.head is not None:
                # Another model took over; the message names the one that answered.
                self.head["model"] = block.data["to"]["model"]
        return text, thinking

    def _grow(self, buffer: TextBuffer, piece: str) -> None:
        buffer.short.append(piece)
        if len(buffer.short) >= _FOLD:
            buffer.fold()

    def _fold(self) -> None:
        self.text.fold()
        for block in self._by_index.values():
            block.pieces.fold()
        # All blocks were visited: with many of them, the next time is after as many pieces.
        self._fold_at = max(_FOLD, len(self._by_index))

    def _first_text(self, block: Block, text: str) -> str:
        block.speaks = block.kind not in _STRUCTURED
        if self._separate and self._separator:
            text = self._separator + text
        self._separate = False
        return text

    def _message_delta(self, event: dict[str, Any]) -> None:
        self._need_start()
        head: dict[str, Any] = self.head  # type: ignore[assignment]
        delta = event["delta"]
        for name in ("stop_reason", "stop_sequence", "stop_details"):
            head[name] = delta.get(name, head.get(name))
        reason = _string_or_none(head["stop_reason"])
        if reason is None:
            self.stop_reason = None
        else:
            self._end(reason)
        if delta.get("container") is not None:
            head["container"] = delta["container"]
        usage: dict[str, Any] = event.get("usage") or {}
        if "output_tokens" in usage:
            self.usage["output_tokens"] = usage["output_tokens"]
            self.usage_final = self.stop_reason is not None
        for name in _BETA_USAGE if self._beta else _USAGE:
            if usage.get(name) is not None:
                self.usage[name] = usage[name]
        if self._beta:
            for name in _BETA_FIELDS:
                if event.get(name) is not None:
                    head[name] = event[name]

    def _end(self, reason: str | None) -> None:
        """The message is at its end, and so is each block, also where its own end never came."""
        if reason in LIMITS:
            # The limit cut the last block, or one that is still open: what ended before another one began is whole.
            for block in (*self._unclosed, *self.blocks[-1:]):
                block.cut()
        for block in self._unclosed:
            block.close(self._partial_mode)
        self._unclosed.clear()
        self.stop_reason = reason  # last: who sees it in another thread sees what was cut

    def _need_start(self) -> None:
        if self.head is None:
            raise WireError("an event came before 'message_start'")

    def _out_of_order(self, kind: str, event: dict[str, Any], error: KeyError) -> str:
        if self.head is None:
            return f"{kind!r} came before 'message_start'"
        if error.args == (event.get("index"),):
            return f"{kind!r} for a block that was never opened (index {event['index']!r})"
        return f"a malformed {kind!r} event (no {error})"


def text_delta(index: int, text: str) -> dict[str, Any]:
    """The event that adds text to a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def _string(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r} where text belongs")
    return value


def _string_or_none(value: Any) -> str | None:
    return None if value is None else _string(value)


def _parse_input(raw: str, partial_mode: Any) -> tuple[Any, bool]:
    """Tool input as far as it parses, and whether it is whole."""
    try:
        return parse_json(raw), True
    except ValueError:
        pass
    data = raw.encode("utf-8", "surrogatepass")
    # `jiter` says where it stopped: what stands before may parse as the start of a value.
    for _ in range(2):
        try:
            return jiter.from_json(data, partial_mode=partial_mode), False
        except ValueError as error:
            data = data[: _stopped_at(data, str(error))]
    return {}, False


def _stopped_at(data: bytes, message: str) -> int:
    """The byte offset in a `jiter` message that ends in "at line L column C"; 0 if it names none."""
    words = message.split()
    if len(words) < 4 or words[-4:-3] != ["line"]:
        return 0
    line, column = int(words[-3]), int(words[-1])
    start = 0
    for _ in range(line - 1):
        start = data.index(b"\n", start) + 1
    return max(start + column - 1, 0)
