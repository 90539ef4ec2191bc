"""The frames of a reply: server-sent events, and the event stream framing of AWS."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, cast

from streamkit.errors import get_nested

AWS_CONTENT_TYPE = "application/vnd.amazon.eventstream"
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Bedrock ends a stream with an exception: its type, by the API's type for the same error.
_AWS_EXCEPTIONS = {
    "api_error": "internalServerException",
    "invalid_request_error": "validationException",
    "overloaded_error": "serviceUnavailableException",
    "rate_limit_error": "throttlingException",
    "timeout_error": "modelTimeoutException",
}
_AWS_STRING = 7  # the type of a header whose value is a string
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2,}")
_WORD = re.compile(r"\S{1,12}\s*|\s+")


class MessageOptions(TypedDict, total=False):
    """The options of a message."""

    pings: bool
    usage: Mapping[str, Any]
    stop_reason: str
    stop_sequence: str
    model: str
    message_id: str


def sse_frame(event: Mapping[str, Any]) -> bytes:
    """Encode an event as a server-sent event."""
    # backslashreplace writes a lone surrogate as its JSON escape.
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    kind = event.get("type")
    return (f"event: {kind}\n".encode() if isinstance(kind, str) else b"") + b"data: " + data + b"\n\n"


PING = sse_frame({"type": "ping"})


def split_frames(body: bytes) -> tuple[bytes, ...]:
    """Split a body after each blank line."""
    ends = [match.end() for match in _BLANK_LINE.finditer(body)]
    return tuple(body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True) if a < b)


def event_data(frame: bytes) -> Any:
    """Parse the data of a frame. Raises `ValueError` for a frame without complete data."""
    return json.loads(b"".join(_data_lines(frame)))


def parse_event(frame: bytes, content_type: str) -> dict[str, Any]:
    """Parse a frame in the framing of `content_type`. Returns an empty dict for anything but a complete event."""
    try:
        event = _aws_event(frame) if content_type == AWS_CONTENT_TYPE else event_data(frame)
    except (ValueError, RecursionError, struct.error):
        return {}
    return cast("dict[str, Any]", event) if isinstance(event, dict) else {}


def _aws_event(message: bytes) -> Any:
    """Parse the event in a message of the AWS event stream; an exception is an `error` event."""
    (header_size,) = struct.unpack_from(">I", message, 4)
    payload = json.loads(message[12 + header_size : -4])
    encoded = get_nested(payload, "bytes")
    return json.loads(base64.b64decode(encoded)) if isinstance(encoded, str) else {"type": "error", "error": payload}


def event_text(event: Mapping[str, Any]) -> str:
    """Return the text of an event: of a delta, or of the start of a block or a message."""
    content = get_nested(event, "message", "content")
    parts: list[Any] = [event.get("delta"), event.get("content_block")]
    parts += cast("Iterable[Any]", content) if isinstance(content, list) else []
    texts = [get_nested(part, "text") for part in parts if get_nested(part, "type") in ("text_delta", "text")]
    return "".join(text for text in texts if isinstance(text, str))


def _data_lines(frame: bytes) -> list[bytes]:
    return [line[5:] for line in frame.splitlines() if line.startswith(b"data:")]


def error_event(kind: str, message: str | None) -> dict[str, Any]:
    """Return an `error` event; the default message is made from its type."""
    text = message if message is not None else kind.removesuffix("_error").replace("_", " ").capitalize()
    return {"type": "error", "error": {"type": kind, "message": text}}


def message_frames(
    blocks: Iterable[tuple[Mapping[str, Any], Iterable[str] | None]], options: MessageOptions
) -> list[bytes]:
    """Return all frames of a message with these pairs of a content block and its text deltas or `None`."""
    body, count, reason = list[bytes](), 0, "end_turn"
    for index, (block, texts) in enumerate(blocks):
        if not isinstance(block.get("type"), str):
            raise TypeError(f"expected a content block with a 'type', got {block!r}")
        try:
            start, deltas = _split_block(block, texts)
        except KeyError as error:
            raise ValueError(
                f"expected a {error} in a content block of type {block['type']!r}, got {block!r}"
            ) from None
        body.append(sse_frame({"type": "content_block_start", "index": index, "content_block": start}))
        body += [sse_frame({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        body.append(sse_frame({"type": "content_block_stop", "index": index}))
        count += len(deltas)
        reason = "tool_use" if block["type"] == "tool_use" else reason
    sequence = options.get("stop_sequence")
    reason = options.get("stop_reason", "stop_sequence" if sequence is not None else reason)
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    usage = {"input_tokens": 10, **cache, "output_tokens": max(count, 1), **options.get("usage", {})}
    message: dict[str, Any] = {
        "id": options.get("message_id", "msg_test"),
        "type": "message",
        "role": "assistant",
        "model": options.get("model", "claude-test"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        # Like the API: a placeholder here, the final count in `message_delta`.
        "usage": {**{key: value for key, value in usage.items() if key != "server_tool_use"}, "output_tokens": 1},
    }
    final = {
        key: value for key, value in usage.items() if key not in ("cache_creation", "service_tier", "inference_geo")
    }
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return [
        sse_frame({"type": "message_start", "message": message}),
        *([PING] if options.get("pings", True) else []),
        *body,
        sse_frame({"type": "message_delta", "delta": delta, "usage": final}),
        sse_frame({"type": "message_stop"}),
    ]


def _split_block(block: Mapping[str, Any], texts: Iterable[str] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Split a finished block into the block of `content_block_start` and the deltas that complete it."""
    kind = block.get("type")
    start, deltas = dict(block), list[dict[str, Any]]()
    if kind == "text":
        start["text"] = ""
        if block.get("citations"):
            start["citations"] = []
            deltas += [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
        deltas += [
            {"type": "text_delta", "text": t} for t in (_WORD.findall(block["text"]) if texts is None else texts)
        ]
    elif kind == "thinking":
        start.update(thinking="", signature="")
        deltas += [{"type": "thinking_delta", "thinking": t} for t in _WORD.findall(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block.get("signature", "")})
    elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        start["input"] = {}
        source = json.dumps(block["input"], ensure_ascii=False)
        parts = ["", *(source[i : i + 10] for i in range(0, len(source), 10))]
        deltas += [{"type": "input_json_delta", "partial_json": part} for part in parts]
    elif kind == "compaction":
        summary = {key: block[key] for key in ("content", "encrypted_content") if key in block}
        start.update(dict.fromkeys(summary))
        deltas.append({"type": "compaction_delta", **summary})
    return start, deltas


def aws_frame(frame: bytes) -> bytes:
    """Encode a server-sent event in the event stream framing of AWS.

    A frame that is cut becomes a message that is cut. A frame without data stays as it is; a comment becomes empty.
    """
    lines = _data_lines(frame)
    if not lines:
        return b"" if frame.startswith((b":", b"event:")) else frame  # a comment, or the start of an event
    event: Any = None
    with contextlib.suppress(ValueError):
        event = event_data(frame)
    kind = get_nested(event, "error", "type")
    if get_nested(event, "type") == "error" and isinstance(kind, str):
        headers = {":exception-type": _AWS_EXCEPTIONS.get(kind, kind), ":message-type": "exception"}
        payload = {"message": get_nested(event, "error", "message")}
    else:
        headers = {":event-type": "chunk", ":message-type": "event"}
        payload = {"bytes": base64.b64encode(b"\n".join(lines).strip()).decode()}
    message = aws_message({**headers, ":content-type": "application/json"}, json.dumps(payload).encode())
    return message if event is not None or frame.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")) else message[:-4]


def aws_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Encode one message of the AWS event stream: lengths, headers, payload and checksums."""
    encoded = b""
    for name, value in headers.items():
        data = value.encode()
        encoded += struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _AWS_STRING, len(data)) + data
    prelude = struct.pack(">II", len(encoded) + len(payload) + 16, len(encoded))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + encoded + payload
    return message + struct.pack(">I", zlib.crc32(message))
