"""The parts of a reply, from the events of the API: what the encoders of all protocols share."""

from __future__ import annotations

import abc
import json
from typing import Any

from streamkit import StreamResult

from ._endings import Ending, ending_of
from ._protocol import Encoder
from ._safe import cleaned, encode, safe_url, to_frame

INCOMPLETE_INPUT = "The input of this tool is not complete."
FAILED_TOOL = "This tool failed."
UNANSWERED_TOOL = "This tool did not finish."
_SERVER_TOOL_USES = frozenset({"server_tool_use", "mcp_tool_use"})
_LIMITS = frozenset({"max_tokens", "model_context_window_exceeded"})
# The media type of the document that a citation of each type is from
# (platform.claude.com/docs/en/build-with-claude/citations).
_DOCUMENTS = {
    "char_location": "text/plain",
    "page_location": "application/pdf",
    "content_block_location": "text/plain",
    "search_result_location": "text/plain",
}


class Part:
    """A run of text or of thinking, which one or more content blocks make up."""

    __slots__ = ("blocks", "id", "is_open", "prefix", "sealed")

    def __init__(self, id: str) -> None:  # noqa: A002 - the protocols' name
        self.id = id
        self.is_open = True
        self.prefix = ""  # a delta frame up to the text, as JSON
        self.blocks = 0  # the number of its content blocks that are open
        self.sealed = False  # another kind of block has begun: no further text block joins this part


class Tool:
    """A tool use."""

    __slots__ = ("awaits_answer", "id", "input", "is_dynamic", "is_open", "name", "on_server", "pieces", "prefix")

    def __init__(self, block: Any, kind: str) -> None:
        self.id: str = block.id
        self.name = str(block.name)
        self.input: Any = getattr(block, "input", None) or {}
        self.on_server = kind in _SERVER_TOOL_USES
        self.is_dynamic = kind == "mcp_tool_use"
        self.pieces: list[str] = []
        self.is_open = True
        self.awaits_answer = False  # it runs on the API's servers, and its result has not arrived
        self.prefix = ""  # a delta frame up to the JSON text, as JSON


class ReplyEncoder(Encoder):
    """An encoder that follows the parts of a reply. A protocol implements what a part looks like.

    Text blocks next to each other, as citations make them, become one part, as in `StreamResult.text`.
    """

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._blocks: dict[Any, Part | Tool] = {}  # by the index of the content block
        self._text: Part | None = None  # the last text part
        self._reasoning: list[Part] = []  # those that are open
        self._tools: dict[str, Tool] = {}
        self._held: Tool | None = None  # ended without any input, which a limit may have cut off
        self._sources: set[str] = set()
        self._part_count = 0

    def event(self, event: Any) -> list[bytes]:
        """Return the frames for an event."""
        kind = event.type
        if kind == "content_block_delta":
            delta = event.delta
            if delta.type == "text_delta":  # nearly every event is one
                part = self._blocks.get(event.index)
                text = delta.text
                if type(part) is Part and part is self._text and part.is_open and text:
                    return [to_frame(f"{part.prefix}{encode(text)}}}")]
                self._add_text(text)
            else:
                self._on_delta(event.index, delta)
        elif kind == "content_block_start":
            self._on_block_start(event.index, event.content_block)
        elif kind == "content_block_stop":
            self._on_block_stop(event.index)
        elif kind == "message_start":
            self._on_message_start(event.message)
        elif kind == "message_delta":
            reason = getattr(event.delta, "stop_reason", None)
            if reason is not None:
                self._on_message_end(reason)
        return self._taken()

    def finish(self, result: StreamResult[Any, Any], error: BaseException | None = None) -> list[bytes]:
        """Close what is open, and return the frames that tell how the reply ended."""
        if result.status == "complete":
            self._on_message_end(result.stop_reason)
        self._release_held()
        self._close_text()
        for part in self._reasoning:
            self._part_ended(part, reasoning=True)
        for tool in self._tools.values():
            if tool.is_open:  # its input is not complete
                self._fail_tool(tool)
            elif tool.awaits_answer:
                self._tool_answered(tool, None, error=UNANSWERED_TOOL)
        self._ended(ending_of(result, error))
        return self._taken()

    def _taken(self) -> list[bytes]:
        frames, self._frames = self._frames, []
        return frames

    def _emit(self, **fields: Any) -> None:
        self._frames.append(to_frame(encode(fields)))

    # The events.

    def _on_message_start(self, message: Any) -> None:
        self._message_started(message)
        for index, block in enumerate(message.content or ()):
            self._on_block_start(index, block)
            self._on_block_stop(index)

    def _on_block_start(self, index: Any, block: Any) -> None:
        kind = str(getattr(block, "type", ""))
        self._release_held()
        if kind == "text":
            part = self._joined_text()
            part.blocks += 1
            self._blocks[index] = part
            self._add_text(getattr(block, "text", None))
            for citation in getattr(block, "citations", None) or ():
                self._cite(citation)
            return
        self._seal_text()
        if kind == "thinking":
            part = self._blocks[index] = self._new_part()
            self._reasoning.append(part)
            self._part_started(part, reasoning=True)
            self._add_reasoning(part, getattr(block, "thinking", None))
        elif kind.endswith("tool_use"):
            self._start_tool(index, block, kind)
        elif kind.endswith("tool_result"):
            self._answer_tool(block)

    def _on_delta(self, index: Any, delta: Any) -> None:
        kind, part = delta.type, self._blocks.get(index)
        if kind == "input_json_delta":
            piece = delta.partial_json
            if type(part) is Tool and part.is_open and piece:
                part.pieces.append(piece)
                self._frames.append(to_frame(f"{part.prefix}{encode(piece)}}}"))
        elif kind == "thinking_delta":
            if type(part) is Part and part in self._reasoning:
                self._add_reasoning(part, delta.thinking)
        elif kind == "citations_delta":
            self._cite(delta.citation)

    def _on_block_stop(self, index: Any) -> None:
        part = self._blocks.get(index)
        if type(part) is Tool:
            self._stop_tool(part)
        elif part in self._reasoning:
            self._reasoning.remove(part)
            self._part_ended(part, reasoning=True)
        elif type(part) is Part and part.blocks:
            part.blocks -= 1
            if part.sealed and not part.blocks and part is self._text:
                self._close_text()

    def _on_message_end(self, stop_reason: str | None) -> None:
        """Close the tools once the stop reason is known: a limit cuts a tool that has no input."""
        if stop_reason in _LIMITS and self._held is not None:
            self._fail_tool(self._held)
            self._held = None
        self._release_held()
        for tool in self._tools.values():
            if tool.is_open:
                cut = stop_reason in _LIMITS and not tool.pieces and not tool.input
                (self._fail_tool if cut else self._end_tool)(tool)

    # Text and thinking.

    def _new_part(self) -> Part:
        part = Part(self._part_id(self._part_count))
        self._part_count += 1
        return part

    def _joined_text(self) -> Part:
        """Return the text part that the next text belongs to."""
        if self._text is not None and not self._text.sealed:
            return self._text
        self._close_text()
        self._text = self._new_part()
        self._part_started(self._text, reasoning=False)
        return self._text

    def _add_text(self, text: Any) -> None:
        if text:
            part = self._joined_text()
            self._frames.append(to_frame(f"{part.prefix}{encode(text)}}}"))

    def _add_reasoning(self, part: Part, text: Any) -> None:
        if text:
            self._frames.append(to_frame(f"{part.prefix}{encode(text)}}}"))

    def _seal_text(self) -> None:
        """Let no further text block join the text part; close the part unless one of its blocks is open."""
        if self._text is not None:
            self._text.sealed = True
            if not self._text.blocks:
                self._close_text()

    def _close_text(self) -> None:
        if self._text is not None:
            self._text.is_open = False
            self._part_ended(self._text, reasoning=False)
            self._text = None

    # Tools and sources.

    def _start_tool(self, index: Any, block: Any, kind: str) -> None:
        id = getattr(block, "id", None)  # noqa: A001 - the API's name
        if isinstance(id, str) and id not in self._tools:
            tool = self._tools[id] = self._blocks[index] = Tool(block, kind)
            self._tool_started(tool)

    def _stop_tool(self, tool: Tool) -> None:
        if not tool.is_open or tool is self._held:
            return
        if tool.pieces or tool.input:
            self._end_tool(tool)
        else:
            self._held = tool

    def _release_held(self) -> None:
        if self._held is not None:
            self._end_tool(self._held)
            self._held = None

    def _end_tool(self, tool: Tool) -> None:
        """End the input of a tool. Input that is not JSON as browsers know it makes the tool fail."""
        try:
            if tool.pieces:
                tool.input = json.loads("".join(tool.pieces))
            encode(tool.input)
        except (ValueError, TypeError, RecursionError):
            self._fail_tool(tool)
        else:
            tool.is_open = False
            tool.awaits_answer = tool.on_server
            self._tool_ended(tool)

    def _fail_tool(self, tool: Tool) -> None:
        tool.is_open = False
        tool.input = {}
        self._tool_failed(tool)

    def _answer_tool(self, block: Any) -> None:
        tool = self._tools.get(getattr(block, "tool_use_id", None) or "")
        if tool is None:
            return
        if tool.is_open:
            self._end_tool(tool)
        tool.awaits_answer = False
        data = block.to_dict(mode="json", warnings=False)
        content = data.get("content")
        failed = data.get("is_error") or (isinstance(content, dict) and "error_code" in content)
        self._tool_answered(tool, None if failed else cleaned(content), error=FAILED_TOOL if failed else None)

    def _cite(self, citation: Any) -> None:
        """Emit the source of a citation, once for each source."""
        kind = getattr(citation, "type", "")
        url = safe_url(getattr(citation, "url", None) or getattr(citation, "source", None))
        title = getattr(citation, "title", None) or getattr(citation, "document_title", None)
        title = title if isinstance(title, str) else None
        if url is None and kind not in _DOCUMENTS:
            return
        if url is None and title is None:
            title = f"Document {_number(citation)}"
        key = url or f"{kind} {_number(citation)} {title}"
        if key not in self._sources:
            self._sources.add(key)
            self._source_found(f"source-{len(self._sources)}", url, title, _DOCUMENTS.get(kind, "text/plain"))

    # What a protocol implements.

    @abc.abstractmethod
    def _part_id(self, number: int) -> str:
        """Return the id for the part of this number."""

    @abc.abstractmethod
    def _message_started(self, message: Any) -> None:
        """Begin the message."""

    @abc.abstractmethod
    def _part_started(self, part: Part, *, reasoning: bool) -> None:
        """Begin a run of text or thinking, and set its `prefix`."""

    @abc.abstractmethod
    def _part_ended(self, part: Part, *, reasoning: bool) -> None:
        """End a run of text or thinking."""

    @abc.abstractmethod
    def _tool_started(self, tool: Tool) -> None:
        """Begin a tool use, and set its `prefix`."""

    @abc.abstractmethod
    def _tool_ended(self, tool: Tool) -> None:
        """End a tool use with its complete input."""

    @abc.abstractmethod
    def _tool_failed(self, tool: Tool) -> None:
        """End a tool use whose input is not complete."""

    @abc.abstractmethod
    def _tool_answered(self, tool: Tool, output: Any, *, error: str | None) -> None:
        """Add the result of a tool that ran on the API's servers, or a sentence that says why there is none."""

    @abc.abstractmethod
    def _source_found(self, id: str, url: str | None, title: str | None, media_type: str) -> None:  # noqa: A002
        """Add a source: a page with a URL, or else a document with a title."""

    @abc.abstractmethod
    def _ended(self, ending: Ending) -> None:
        """End the reply, in which nothing is open any more."""


def _number(citation: Any) -> int:
    for name in ("document_index", "search_result_index"):
        index = getattr(citation, name, None)
        if isinstance(index, int):
            return index + 1
    return 1
