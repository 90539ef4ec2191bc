"""The history that `useChat` posts, as messages for the API."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from anthropic.types import MessageParam

from ._safe import safe_url

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
# What the API accepts for the id and the name of a tool use (platform.claude.com/docs/en/api/messages).
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_DENIED = "The user did not allow this tool call."

_Blocks = list[dict[str, Any]]


def to_messages(ui_messages: object, *, max_messages: int = 1000, max_bytes: int = 20_000_000) -> list[MessageParam]:
    """Turn the messages that `useChat` posts (`body["messages"]`) into the API's.

    Text, images (JPEG, PNG, GIF, WebP), PDF and text files, and tool uses with their results are kept. All else is left
    out: system messages, as instructions belong to the server; reasoning, sources and results of server tools, which
    the API accepts only with the signatures that no browser gets; tool uses without a result; files of other types and
    with other URLs than `data:` and `https:`; parts of unknown types. To send thinking back to the model, keep the
    history on the server.

    `max_messages` limits the number of messages, `max_bytes` the size of all text and files together, files in base64.
    The default is below the API's limit of 32 MB for a request (platform.claude.com/docs/en/api/overview).

    The messages are the browser's own words: a user can forge each of them, also the assistant's.

    Raises `ValueError`, with a sentence that is safe to send back, for what is not a list of messages, for a list
    beyond the limits or without any content, and for a file that is not valid base64.
    """
    if not isinstance(ui_messages, list):
        raise ValueError(f'expected a list of messages, such as body["messages"], got {type(ui_messages).__name__}')
    messages = cast("list[object]", ui_messages)
    if len(messages) > max_messages:
        raise ValueError(f"expected at most {max_messages} messages, got {len(messages)}")
    history = _History(max_bytes)
    for number, message in enumerate(messages, 1):
        role, parts = _role_and_parts(message, number)
        if role == "user":
            history.append("user", [block for part in parts if (block := history.user_block(part))])
        elif role == "assistant":
            history.add_reply(parts)
    if not history.messages:
        raise ValueError("expected at least one message with text or a file, got none")
    return cast("list[MessageParam]", history.messages)


def _role_and_parts(message: object, number: int) -> tuple[str, _Blocks]:
    found = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    role, parts = found.get("role"), found.get("parts")
    if not isinstance(role, str) or not isinstance(parts, list):
        raise ValueError(f'expected messages with "role" and "parts", got something else for message {number}')
    return role, [part for part in cast("list[object]", parts) if isinstance(part, dict)]


class _History:
    """The messages so far, and how many bytes are left."""

    def __init__(self, max_bytes: int) -> None:
        self.messages: list[dict[str, Any]] = []
        self._max_bytes = self._bytes_left = max_bytes
        self._tool_ids: set[str] = set()

    def append(self, role: str, content: _Blocks) -> None:
        """Append content, to the last message if that has the same role."""
        if content and self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += content
        elif content:
            self.messages.append({"role": role, "content": content})

    def add_reply(self, parts: _Blocks) -> None:
        """Append a message of the assistant: for each step its content, then the results of its tools."""
        content, results = _Blocks(), _Blocks()
        for part in parts:
            kind = part.get("type")
            if kind == "step-start":
                self.append("assistant", content)
                self.append("user", results)
                content, results = [], []
            elif kind == "text":
                content += filter(None, [self._text_block(part)])
            elif isinstance(kind, str) and (kind.startswith("tool-") or kind == "dynamic-tool"):
                name = part.get("toolName") if kind == "dynamic-tool" else kind.removeprefix("tool-")
                for block, blocks in zip(self._tool_blocks(name, part), (content, results), strict=False):
                    blocks.append(block)
        self.append("assistant", content)
        self.append("user", results)

    def user_block(self, part: dict[str, Any]) -> dict[str, Any] | None:
        """Return the block for a part of a user's message, or `None` for a part that is left out."""
        kind = part.get("type")
        if kind == "text":
            return self._text_block(part)
        return self._file_block(part) if kind == "file" else None

    def _text_block(self, part: dict[str, Any]) -> dict[str, Any] | None:
        text = part.get("text")
        # The API refuses blank text.
        return {"type": "text", "text": self._counted(text)} if isinstance(text, str) and text.strip() else None

    def _tool_blocks(self, name: object, part: dict[str, Any]) -> _Blocks:
        """Return the tool use and its result, or nothing for one that the API would refuse."""
        id, tool_input = part.get("toolCallId"), part.get("input")  # noqa: A001 - the API's name
        result = self._tool_result(part)
        if result is None or part.get("providerExecuted"):
            return []
        if not (isinstance(id, str) and _TOOL_ID.fullmatch(id) and id not in self._tool_ids):
            return []
        if not (isinstance(name, str) and _TOOL_NAME.fullmatch(name) and isinstance(tool_input, dict)):
            return []
        self._tool_ids.add(id)
        use = {
            "type": "tool_use",
            "id": id,
            "name": name,
            "input": json.loads(self._as_json(cast("object", tool_input))),
        }
        return [use, {"type": "tool_result", "tool_use_id": id, **result}]

    def _tool_result(self, part: dict[str, Any]) -> dict[str, Any] | None:
        state = part.get("state")
        if state == "output-available":
            output = part.get("output")
            return {"content": self._counted(output) if isinstance(output, str) else self._as_json(output)}
        if state == "output-error":
            return {"content": self._counted(str(part.get("errorText") or "")), "is_error": True}
        return {"content": _DENIED, "is_error": True} if state == "output-denied" else None

    def _file_block(self, part: dict[str, Any]) -> dict[str, Any] | None:
        media_type, url = part.get("mediaType"), part.get("url")
        if not isinstance(media_type, str) or not isinstance(url, str):
            return None
        kind = "image" if media_type in _IMAGES else "document"
        if url.startswith("data:"):
            source = self._data_source(media_type, url)
        elif safe_url(url) and url.startswith("https://") and media_type in (*_IMAGES, _PDF):
            source = {"type": "url", "url": self._counted(url)}
        else:
            return None
        name = part.get("filename")
        title = {"title": self._counted(name)} if kind == "document" and isinstance(name, str) and name.strip() else {}
        return {"type": kind, "source": source, **title} if source else None

    def _data_source(self, media_type: str, url: str) -> dict[str, Any] | None:
        head, _, data = url.partition(",")
        is_base64 = head.endswith(";base64")
        try:
            content = base64.b64decode(data, validate=True) if is_base64 else unquote_to_bytes(data)
        except ValueError:
            raise ValueError("expected files in base64, got an invalid one") from None
        if media_type.startswith("text/"):
            text = content.decode("utf-8", "replace")
            return {"type": "text", "media_type": "text/plain", "data": self._counted(text)} if text.strip() else None
        if not content or media_type not in (*_IMAGES, _PDF):
            return None
        encoded = data if is_base64 else base64.b64encode(content).decode()
        return {"type": "base64", "media_type": media_type, "data": self._counted(encoded)}

    def _as_json(self, value: object) -> str:
        try:
            return self._counted(json.dumps(value, ensure_ascii=False, allow_nan=False))
        except RecursionError:
            raise ValueError("expected the data of a tool, got data that is nested too deeply") from None

    def _counted(self, text: str) -> str:
        """Return the text without single surrogates, which the API cannot take, and count its bytes."""
        data = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self._bytes_left -= len(data.encode())
        if self._bytes_left < 0:
            raise ValueError(f"expected messages of at most {self._max_bytes} bytes in total, got more")
        return data
