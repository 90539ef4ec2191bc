"""The reply of the server of `streamkit.testing` to a request that does not ask for a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ._frames import ERROR_TYPES, parse_event
from ._reply import Reply

_APPENDING_DELTAS = ("text_delta", "thinking_delta", "signature_delta", "input_json_delta", "compaction_delta")


def _apply_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if delta["type"] == "citations_delta":
        block.setdefault("citations", []).append(delta["citation"])
    elif delta["type"] in _APPENDING_DELTAS:
        for key in delta.keys() - {"type"}:
            block[key] = (block.get(key) or "") + (delta[key] or "")


def _accumulate_message(reply: Reply) -> dict[str, Any]:
    """Return the message that the events of a reply add up to, or the first error among the events."""
    message, blocks = dict[str, Any](), dict[int, dict[str, Any]]()
    for frame in reply.frames:
        event = parse_event(frame, reply.content_type)  # empty for half an event, or garbage
        kind = event.get("type")
        if kind == "error":
            return event
        if kind == "message_start":
            message = event["message"]
        elif kind == "content_block_start":
            blocks[event["index"]] = event["content_block"]
        elif kind == "content_block_delta":
            _apply_delta(blocks[event["index"]], event["delta"])
        elif kind == "message_delta":
            message = {**message, **event["delta"], "usage": {**message.get("usage", {}), **event["usage"]}}
    for block in blocks.values():
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json") or "{}")
    return {**message, "content": list(blocks.values())}


def as_json_reply(reply: Reply) -> Reply:
    """Return the reply to a request without `stream=True`: the same message as one JSON object."""
    if not reply.content_type.startswith("text/event-stream"):
        return reply
    try:
        message, status = _accumulate_message(reply), reply.status
        if message.get("type") == "error":
            status = {kind: status for status, kind in ERROR_TYPES.items()}.get(message["error"]["type"], 500)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Reply.http_error(400, message=f"expected the events of a complete message, got {error!r}")
    body = json.dumps(message).encode()
    return replace(
        reply, frames=(body,), status=status, content_type="application/json", chunk_sizes=(), splits_utf8=False
    )
