"""What the server of `streamkit.testing` answers: the `Reply` class, its faults, and the frames of a stream."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from streamkit.errors import dig

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ERROR_TYPES = {
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
# The types of exception that a stream of Bedrock can end with, beside the API's own for the same thing.
_AWS_EXCEPTIONS = {
    "api_error": "internalServerException",
    "invalid_request_error": "validationException",
    "overloaded_error": "serviceUnavailableException",
    "rate_limit_error": "throttlingException",
    "timeout_error": "modelTimeoutException",
}
_AWS_FRAMING = "application/vnd.amazon.eventstream"
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2,}")
_CHARACTER = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_WORD = re.compile(r"\S{1,12}\s*|\s+")
_GROWING = ("text_delta", "thinking_delta", "signature_delta", "input_json_delta", "compaction_delta")


class _Transport(TypedDict, total=False):
    delay: float
    headers: Mapping[str, str]
    chunk_size: int
    status: int
    content_type: str


class _Options(_Transport, total=False):
    pings: bool
    usage: Mapping[str, Any]
    stop_reason: str
    stop_sequence: str
    model: str
    message_id: str


def _frame(event: Mapping[str, Any]) -> bytes:
    # backslashreplace writes a lone surrogate as the escape that JSON has for it.
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    kind = event.get("type")
    return (f"event: {kind}\n".encode() if isinstance(kind, str) else b"") + b"data: " + data + b"\n\n"


PING = _frame({"type": "ping"})


def _error(kind: str, message: str | None) -> dict[str, Any]:
    text = message if message is not None else kind.removesuffix("_error").replace("_", " ").capitalize()
    return {"type": "error", "error": {"type": kind, "message": text}}


def _aws_frame(frame: bytes) -> bytes:
    """The same event as a message of the AWS event stream: half of it if it is cut, and what is no event as it is."""
    lines = [line[5:] for line in frame.splitlines() if line.startswith(b"data:")]
    if not lines:
        return b"" if frame.startswith((b":", b"event:")) else frame  # a comment, or the beginning of an event
    event: Any = None
    with contextlib.suppress(ValueError):
        event = json.loads(b"".join(lines))
    kind = dig(event, "error", "type")
    if dig(event, "type") == "error" and isinstance(kind, str):
        names = {":exception-type": _AWS_EXCEPTIONS.get(kind, kind), ":message-type": "exception"}
        payload = {"message": dig(event, "error", "message")}
    else:
        names = {":event-type": "chunk", ":message-type": "event"}
        payload = {"bytes": base64.b64encode(b"\n".join(lines).strip()).decode()}
    message = _aws_message({**names, ":content-type": "application/json"}, json.dumps(payload).encode())
    return message if event is not None or frame.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")) else message[:-4]


def _aws_message(names: Mapping[str, str], payload: bytes) -> bytes:
    headers = b""
    for name, value in names.items():
        said = value.encode()
        headers += struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(said)) + said  # 7: a string
    prelude = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _split_frames(body: bytes) -> tuple[bytes, ...]:
    ends = [match.end() for match in _BLANK_LINE.finditer(body)]
    return tuple(body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True) if a < b)


def _pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def _deltas(block: Mapping[str, Any], texts: Iterable[str] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Split a finished block into what `content_block_start` holds and the deltas that complete it."""
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
        deltas += [{"type": "input_json_delta", "partial_json": p} for p in ["", *_pieces(source, 10)]]
    elif kind == "compaction":
        summary = {key: block[key] for key in ("content", "encrypted_content") if key in block}
        start.update(dict.fromkeys(summary))
        deltas.append({"type": "compaction_delta", **summary})
    return start, deltas


def _message_frames(blocks: Iterable[tuple[Mapping[str, Any], Iterable[str] | None]], options: _Options) -> list[bytes]:
    """All frames of a message with these (content block, text deltas or None) pairs."""
    body, count, reason = list[bytes](), 0, "end_turn"
    for index, (block, texts) in enumerate(blocks):
        if not isinstance(block.get("type"), str):
            raise TypeError(f"a content block needs a 'type': {block!r}")
        try:
            start, deltas = _deltas(block, texts)
        except KeyError as error:
            raise ValueError(f"a content block of type {block['type']!r} needs a {error}: {block!r}") from None
        body.append(_frame({"type": "content_block_start", "index": index, "content_block": start}))
        body += [_frame({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        body.append(_frame({"type": "content_block_stop", "index": index}))
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
        # Like the API: a placeholder here, the truth in message_delta.
        "usage": {**{key: value for key, value in usage.items() if key != "server_tool_use"}, "output_tokens": 1},
    }
    final = {
        key: value for key, value in usage.items() if key not in ("cache_creation", "service_tier", "inference_geo")
    }
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return [
        _frame({"type": "message_start", "message": message}),
        *([PING] if options.get("pings", True) else []),
        *body,
        _frame({"type": "message_delta", "delta": delta, "usage": final}),
        _frame({"type": "message_stop"}),
    ]


def _count(name: str, value: object, low: int, high: float = float("inf")) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be at least {low}" + (f" and at most {high}" if high != float("inf") else ""))


def _seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not 0 <= value <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a number of seconds from 0 on, not {value!r}")


@dataclass(frozen=True)
class Reply:
    """What the server answers to one request. Immutable: make one with a class method, change it with a fault method.

    Options of `text`, `thinking`, `tool_use`, `blocks`, `events` and `recorded`:
        delay: seconds between two events (or chunks, when the body is cut into chunks of its own).
        headers: extra response headers; they replace the server's own of the same name.
        chunk_size: bytes per HTTP chunk, instead of one event per chunk.
        status, content_type: of the response; 200 and `text/event-stream; charset=utf-8` by default.

    Options of the first four only:
        pings: whether a ping follows `message_start`; default True.
        usage: counts that replace the default ones (10 input tokens, one output token per delta). As the API does,
            `message_start` says 1 output token and `message_delta` the true number.
        stop_reason, stop_sequence, model, message_id: of the message.

    Every method raises TypeError or ValueError at once when its arguments make no sense.
    """

    frames: tuple[bytes, ...]
    """The body, event by event."""
    status: int = 200
    content_type: str = "text/event-stream; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    chunk_sizes: tuple[int, ...] = ()
    """Sizes in bytes of the HTTP chunks, used in turn; one chunk per event if empty."""
    splits_utf8: bool = False
    ending: Literal["end", "reset", "stall"] = "end"
    stall_pings: float | None = None

    def __post_init__(self) -> None:
        """Check what the options brought."""
        _seconds("delay", self.delay)
        _count("status", self.status, 200, 599)
        for size in self.chunk_sizes:
            _count("a chunk size", size, 1)
        for name, value in (*self.headers, ("content-type", self.content_type)):
            if not re.fullmatch(r"[!-9;-~]+", name) or not re.fullmatch(r"[ -~\t]*", value):
                raise ValueError(f"not a header that HTTP allows: {name!r}: {value!r}")

    @classmethod
    def _make(cls, frames: Iterable[bytes], options: _Transport, allowed: type = _Transport) -> Reply:
        unknown = options.keys() - allowed.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown option: {', '.join(sorted(unknown))}")
        size = options.get("chunk_size")
        return cls(
            tuple(frames),
            status=options.get("status", 200),
            content_type=options.get("content_type", cls.content_type),
            headers=tuple(dict(options.get("headers", {})).items()),
            delay=options.get("delay", 0.0),
            chunk_sizes=() if size is None else (size,),
        )

    @classmethod
    def text(cls, text: str | Iterable[str], **options: Unpack[_Options]) -> Reply:
        """One text block. A str is split into deltas of about a word; an iterable of str is the deltas as they are."""
        deltas = None if isinstance(text, str) else list(text)
        if deltas and not all(isinstance(t, str) for t in deltas):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("text must be a str or an iterable of str")
        block = {"type": "text", "text": text if isinstance(text, str) else ""}
        return cls._make(_message_frames([(block, deltas)], options), options, _Options)

    @classmethod
    def thinking(
        cls, thinking: str, text: str, *, signature: str = "c2lnbmF0dXJl", **options: Unpack[_Options]
    ) -> Reply:
        """A thinking block, closed by its signature, then a text block."""
        block = {"type": "thinking", "thinking": thinking, "signature": signature}
        return cls.blocks(block, {"type": "text", "text": text}, **options)

    @classmethod
    def tool_use(
        cls,
        name: str,
        input: Mapping[str, Any],  # noqa: A002 - the API's name
        *,
        text: str | None = None,
        id: str | None = None,  # noqa: A002 - the API's name
        **options: Unpack[_Options],
    ) -> Reply:
        """A text block if there is `text`, then a `tool_use` block whose `input` is streamed in small pieces of JSON.

        `id` is the tool use's own; by default it is made from the name and the input, the same on each run.
        """
        source = f"{name}{json.dumps(input, sort_keys=True)}".encode()
        block = {"type": "tool_use", "id": id or f"toolu_{zlib.crc32(source):08x}", "name": name, "input": dict(input)}
        return cls.blocks(*([{"type": "text", "text": text}] if text is not None else []), block, **options)

    @classmethod
    def blocks(cls, *blocks: Mapping[str, Any], **options: Unpack[_Options]) -> Reply:
        """A message of these content blocks, given as they are in a finished message, streamed as the API streams them.

        Text, citations, thinking, tool inputs and compactions come as deltas; every other block comes whole.
        """
        return cls._make(_message_frames([(block, None) for block in blocks], options), options, _Options)

    @classmethod
    def events(cls, *events: Mapping[str, Any], **options: Unpack[_Transport]) -> Reply:
        """Exactly these events, whatever they are."""
        return cls._make([_frame(event) for event in events], options)

    @classmethod
    def recorded(
        cls,
        path_or_bytes: str | os.PathLike[str] | bytes,
        chunk_sizes: Iterable[int] | None = None,
        **options: Unpack[_Transport],
    ) -> Reply:
        """A body as it is, from a file (see `record`) or from bytes.

        It is written event by event, or in chunks of `chunk_sizes` bytes, which start over when they are used up.
        """
        if chunk_sizes is not None and "chunk_size" in options:
            raise TypeError("give chunk_size or chunk_sizes, not both")
        body = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).read_bytes()
        reply = cls._make(_split_frames(body), options)
        return reply if chunk_sizes is None else replace(reply, chunk_sizes=tuple(chunk_sizes))

    @classmethod
    def http_error(
        cls,
        status: int,
        type: str | None = None,  # noqa: A002 - the API's name
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A refused request: an HTTP error `status` (400 to 599) with the API's JSON error of this `type`.

        The type follows from the status by default. The SDK retries some statuses: see its `max_retries`.
        """
        _count("status", status, 400, 599)
        kind = type or _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        body = json.dumps(_error(kind, message)).encode()
        return cls._make([body], {"status": status, "headers": headers or {}, "content_type": "application/json"})

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.frames)

    @cached_property
    def chunks(self) -> tuple[bytes, ...]:
        """The body, as it is cut into HTTP chunks, each of which is written at once."""
        if not self.splits_utf8 and not self.chunk_sizes:
            return tuple(frame for frame in self.frames if frame)
        body, ends = self.body, list[int]()
        if self.splits_utf8:
            # 1, 2 or 3 bytes into the character, whatever it has: each kind of half is met.
            inside = enumerate(_CHARACTER.finditer(body))
            ends = [match.start() + 1 + i % (len(match[0]) - 1) for i, match in inside]
        else:
            end = 0
            while end < len(body):
                end += self.chunk_sizes[len(ends) % len(self.chunk_sizes)]
                ends.append(min(end, len(body)))
        return tuple(body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True) if a < b)

    def _until(self, after_events: int | None, after_bytes: int | None) -> tuple[bytes, ...]:
        if (after_events is None) == (after_bytes is None):
            raise TypeError("give after_events or after_bytes, exactly one of them")
        if after_events is not None:
            _count("after_events", after_events, 0, len(self.frames))
            return self.frames[:after_events]
        _count("after_bytes", after_bytes, 0, len(self.body))
        kept, left = list[bytes](), cast("int", after_bytes)
        for frame in self.frames:
            kept.append(frame[:left])
            left -= len(kept[-1])
        return tuple(frame for frame in kept if frame)

    def cut(self, *, after_events: int | None = None, after_bytes: int | None = None) -> Reply:
        """The body ends cleanly after so many events, or so many bytes, as a proxy makes it end."""
        return replace(self, frames=self._until(after_events, after_bytes), ending="end")

    def reset(self, *, after_events: int | None = None, after_bytes: int | None = None) -> Reply:
        """The connection is reset (TCP RST) there, once the client's system has what was written before.

        A client on Linux can still read all of it. Other systems may throw away what it has not read by then; there the
        server waits 0.05 seconds first.
        """
        return replace(self, frames=self._until(after_events, after_bytes), ending="reset")

    def stall(
        self, *, after_events: int | None = None, after_bytes: int | None = None, pings: float | None = None
    ) -> Reply:
        """Silence from there on, or a ping each `pings` seconds, until the client or the server leaves."""
        if pings is not None:
            _seconds("pings", pings)
            if not pings:
                raise ValueError("pings must be more than 0 seconds")
        return replace(self, frames=self._until(after_events, after_bytes), ending="stall", stall_pings=pings)

    def error(self, type: str, *, after_events: int, message: str | None = None, body: bytes | None = None) -> Reply:  # noqa: A002
        """An `error` event of this API error type after so many events, then a clean end.

        `body` replaces the JSON data of that event by any bytes.
        """
        data = json.dumps(_error(type, message)).encode() if body is None else body
        frame = framed(self, b"event: error\ndata: " + data + b"\n\n")
        return replace(self, frames=(*self._until(after_events, None), frame), ending="end")

    def garbage(self, data: bytes, *, after_events: int) -> Reply:
        """Insert these bytes, as they are, after so many events; the rest follows. They count as one event."""
        if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"data must be bytes, not {data!r}")
        return replace(self, frames=(*self._until(after_events, None), data, *self.frames[after_events:]))

    def split_utf8(self) -> Reply:
        """Cut the body into HTTP chunks such that each character of more than one byte is split between two."""
        return replace(self, splits_utf8=True)

    def aws(self) -> Reply:
        """The body in the event stream framing of AWS, which is what Bedrock answers in.

        The server does this by itself for a request to Bedrock. It is for a fault that counts the bytes of that
        framing: `reply.aws().cut(after_bytes=100)`. An `error` event becomes an exception, of Bedrock's type for it.
        """
        if not self.content_type.startswith("text/event-stream"):
            return self
        # In this framing each character is ASCII.
        frames = tuple(map(_aws_frame, self.frames))
        return replace(self, frames=frames, content_type=_AWS_FRAMING, splits_utf8=False)


def framed(reply: Reply, frame: bytes = PING) -> bytes:
    """Give an event the framing of this reply."""
    return _aws_frame(frame) if reply.content_type == _AWS_FRAMING else frame


def _add_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if delta["type"] == "citations_delta":
        block.setdefault("citations", []).append(delta["citation"])
    elif delta["type"] in _GROWING:
        for key in delta.keys() - {"type"}:
            block[key] = (block.get(key) or "") + (delta[key] or "")


def _whole_message(reply: Reply) -> dict[str, Any]:
    """The message that the events of this reply add up to, or the first error among them."""
    message, blocks = dict[str, Any](), dict[int, dict[str, Any]]()
    for frame in reply.frames:
        data = b"".join(line[5:] for line in frame.splitlines() if line.startswith(b"data:"))
        event: dict[str, Any] = {}
        with contextlib.suppress(ValueError):  # half an event, or garbage
            event = json.loads(data)
        kind = event.get("type")
        if kind == "error":
            return event
        if kind == "message_start":
            message = event["message"]
        elif kind == "content_block_start":
            blocks[event["index"]] = event["content_block"]
        elif kind == "content_block_delta":
            _add_delta(blocks[event["index"]], event["delta"])
        elif kind == "message_delta":
            message = {**message, **event["delta"], "usage": {**message.get("usage", {}), **event["usage"]}}
    for block in blocks.values():
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json") or "{}")
    return {**message, "content": list(blocks.values())}


def unstreamed(reply: Reply) -> Reply:
    """The same reply for a request that did not ask for a stream: one JSON object."""
    if not reply.content_type.startswith("text/event-stream"):
        return reply
    try:
        message, status = _whole_message(reply), reply.status
        if message.get("type") == "error":
            status = {kind: status for status, kind in _ERROR_TYPES.items()}.get(message["error"]["type"], 500)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Reply.http_error(400, message=f"these events make no whole message: {error!r}")
    body = json.dumps(message).encode()
    return replace(
        reply, frames=(body,), status=status, content_type="application/json", chunk_sizes=(), splits_utf8=False
    )
