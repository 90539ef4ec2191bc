"""Bytes to event dicts: server-sent events, decoded without I/O.

The chunks may have any size: how a body is chunked never changes what comes out. The framing is that of the WHATWG HTML
standard, section "Server-sent events", "Interpreting an event stream".
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from typing import Any, TypeAlias

from jiter import from_json

from streamkit.errors import get_nested

from .text_delta import TextDeltaMatcher

MAX_EVENT_BYTES = 15 * 2**20
"""The largest event that is accepted, in bytes: a body without line ends must not fill the memory."""

JSONObject: TypeAlias = dict[str, Any]

_E, _CR = b"e\r"  # as numbers: `in` takes an eighth of the time that it takes for bytes
_FIELDS = (b":", b"event:", b"data:", b"id:", b"retry:")
_BOM = b"\xef\xbb\xbf"


class ProtocolViolation(Exception):  # noqa: N818 - internal; users see `StreamProtocolError`
    """The server sent something other than a stream of Messages events."""


class SSEDecoder:
    """Splits a body into frames and parses frames into event dicts.

    `feed` takes a chunk of the body, `end` its clean end. Complete frames wait in `frames`, in order; `parse` turns one
    into an event. `matcher` is the shortcut for chunks that are one text delta; use it only while `frames` is empty.
    """

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.matcher = TextDeltaMatcher(MAX_EVENT_BYTES)
        self._buffer = bytearray()  # the start of a frame that is incomplete
        self._search_from = 0  # the buffer up to here holds no end of a frame
        self._pending_lf = False  # the last chunk ended in CR: an LF that follows belongs to the same line end
        self._bom_checked = False
        self.non_sse_prefix = b""
        """The first frame that is not an event: tells what a body without any event is."""
        self.unstreamed = False
        """True if the body was one whole message as JSON, which `end` turned into events."""

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk of the body. Raises `ProtocolViolation` if an event grows beyond `MAX_EVENT_BYTES`."""
        if not self._bom_checked:
            chunk = self._strip_bom(chunk)
        if self._pending_lf or _CR in chunk:
            chunk = self._normalize_newlines(chunk)
        if self._buffer or not chunk.endswith(b"\n\n"):
            self._feed_incomplete(chunk)
        else:
            self.frames.extend(chunk[:-2].split(b"\n\n"))
        self.matcher.between_frames = not self._buffer and not self._pending_lf

    def _feed_incomplete(self, chunk: bytes) -> None:
        if not self._buffer:
            self._search_from = 0
        self._buffer += chunk
        # The separator may have begun with the last byte of the chunk before.
        if self._buffer.find(b"\n\n", max(self._search_from - 1, 0)) < 0:
            self._search_from = len(self._buffer)
            if self._search_from > MAX_EVENT_BYTES:
                raise _too_large_error()
            return
        *frames, rest = bytes(self._buffer).split(b"\n\n")
        self._buffer = bytearray(rest)
        self._search_from = len(rest)
        self.frames.extend(frames)

    def end(self) -> None:
        """Take note that the body ended cleanly.

        A last event without its blank line counts if its data is complete JSON. So does a body that is one JSON object
        (a message or an error) from a server that does not stream.
        """
        if self._buffer:
            rest = bytes(self._buffer)
            self._buffer = bytearray()
            data, _ = _fields(rest)
            try:
                parse_json(data)
            except ValueError:
                self._note_non_sse(rest)
            else:
                self.frames.append(rest)
        if self.non_sse_prefix.startswith(b"{"):
            with suppress(ValueError):
                self._take_unstreamed(parse_json(self.non_sse_prefix))

    def _take_unstreamed(self, value: JSONObject) -> None:
        data = self.non_sse_prefix.replace(b"\n", b" ")  # JSON has line ends only between two values
        if value.get("type") == "error":
            self.frames.append(b"data: " + data)
        elif value.get("type") == "message":
            self.unstreamed = True
            tokens: Any = get_nested(value, "usage", "output_tokens")
            count = b'{"output_tokens": %d}' % tokens if isinstance(tokens, int) else b"{}"
            self.frames.append(b'data: {"type": "message_start", "message": ' + data + b"}")
            # Marks stop reason and usage as final. What this event leaves out keeps its value from the start.
            self.frames.append(b'data: {"type": "message_delta", "delta": {}, "usage": ' + count + b"}")

    def parse(self, frame: bytes) -> JSONObject | None:
        """Parse a frame into an event, a dict with a `type`; return `None` for a frame without data.

        Raises `ProtocolViolation` if the data is not a JSON object, or if the event came in one chunk and is too large.
        """
        if len(frame) >= MAX_EVENT_BYTES:  # in smaller chunks, `feed` counts the line end, too
            raise _too_large_error()
        # The usual frame is an `event:` line and a `data:` line, and the data says all that is needed.
        start = frame.find(b"\ndata: ")
        usual = start > 0 and frame[0] == _E and frame.count(b"\n") == 1
        data = frame[start + 7 :] if usual else _fields(frame)[0]
        if not data:
            self._note_non_sse(frame)
            return None
        try:
            event: JSONObject = from_json(data)
        except ValueError:
            event = _parse_or_raise(data, _fields(frame)[1])
        if type(event) is not dict:
            raise ProtocolViolation(f"an event is not a JSON object: {_excerpt(data)}")
        if type(event.get("type")) is not str:
            if "type" in event:
                raise ProtocolViolation(f"the type of an event is not a string: {_excerpt(data)}")
            event["type"] = _fields(frame)[1].decode("utf-8", "replace")
        elif event["type"] == "content_block_delta":
            self.matcher.learn(frame, event)
        return event

    def _strip_bom(self, chunk: bytes) -> bytes:
        """Remove a byte-order mark at the start of the body, also one that arrives in parts."""
        chunk = bytes(self._buffer) + chunk
        self._buffer = bytearray()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._buffer += chunk
            return b""
        self._bom_checked = True
        return chunk.removeprefix(_BOM)

    def _normalize_newlines(self, chunk: bytes) -> bytes:
        if self._pending_lf and chunk:
            self._pending_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if chunk.endswith(b"\r"):
            self._pending_lf = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _note_non_sse(self, frame: bytes) -> None:
        line = frame.lstrip(b"\n").partition(b"\n")[0]
        # A body may also be cut inside the name of a field.
        if line and not any(line.startswith(field) or field.startswith(line) for field in _FIELDS):
            self.non_sse_prefix = self.non_sse_prefix or frame.strip()


def parse_json(data: bytes | str) -> Any:
    """Parse JSON with `jiter`, and with `json` what `jiter` refuses: lone surrogates and deep nesting.

    Raises `ValueError` if both refuse it.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    try:
        return from_json(raw)
    except ValueError:
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _too_large_error() -> ProtocolViolation:
    return ProtocolViolation(f"an event is larger than {MAX_EVENT_BYTES} bytes")


def _parse_or_raise(data: bytes, name: bytes) -> Any:
    try:
        return parse_json(data)
    except UnicodeDecodeError as error:
        raise ProtocolViolation(f"an event is not UTF-8: {error}") from error
    except ValueError as error:
        if name == b"error":  # a proxy that reports its own failure as plain text
            message = data.decode("utf-8", "replace")
            return {"type": "error", "error": {"type": "api_error", "message": message}}
        raise ProtocolViolation(f"an event is not JSON ({error}): {_excerpt(data)}") from error


def _fields(frame: bytes) -> tuple[bytes, bytes]:
    """Return the data and the event name of any frame, by the rules of the standard."""
    data: list[bytes] = []
    name = b""
    for line in frame.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return b"\n".join(data), name


def _excerpt(data: bytes) -> str:
    text = data[:80].decode("utf-8", "replace")
    return repr(text if len(data) <= 80 else text + "…")
