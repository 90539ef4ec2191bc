"""Events of the API as dicts, and their framing as server-sent events."""

from __future__ import annotations

import json
from typing import Any

MESSAGE_STOP = {"type": "message_stop"}
PING = {"type": "ping"}


def sse(*events: Any) -> bytes:
    """Frame events as the API does: a dict as an event of its type, bytes as they are."""
    return b"".join(
        event if isinstance(event, bytes) else f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        for event in events
    )


def message_start(*content: dict[str, Any], usage: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5"}
    message |= {"content": list(content), "stop_reason": None, "stop_sequence": None, **fields}
    return {"type": "message_start", "message": message | {"usage": usage or {"input_tokens": 3, "output_tokens": 1}}}


def block_start(index: int = 0, kind: str = "text", **fields: Any) -> dict[str, Any]:
    """A `content_block_start`; of an empty text block by default."""
    block = {"type": kind, **({"text": ""} if kind == "text" else {}), **fields}
    return {"type": "content_block_start", "index": index, "content_block": block}


def tool_use_start(index: int = 0, name: str = "get_tide", kind: str = "tool_use") -> dict[str, Any]:
    """A `content_block_start` of a tool use, without input so far."""
    return block_start(index, kind, id=f"toolu_{index}", name=name, input={})


def block_delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    """A `content_block_delta`."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def text_delta(text: str, index: int = 0) -> dict[str, Any]:
    """A `content_block_delta` with text."""
    return block_delta(index, "text_delta", text=text)


def input_delta(partial_json: str, index: int = 0) -> dict[str, Any]:
    """A `content_block_delta` with a piece of tool input."""
    return block_delta(index, "input_json_delta", partial_json=partial_json)


def block_stop(index: int = 0) -> dict[str, Any]:
    """A `content_block_stop`."""
    return {"type": "content_block_stop", "index": index}


def message_delta(stop_reason: str | None = "end_turn", output_tokens: int = 7, **usage: Any) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": None},
        "usage": {"output_tokens": output_tokens, **usage},
    }
