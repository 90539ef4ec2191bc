"""From bytes to events: server-sent events, decoded without I/O.

Bytes go in as they arrive, in chunks of any size; event dicts come out. How a body is chunked never changes what comes
out. The framing is that of the WHATWG HTML standard, "Server-sent events", section "Interpreting an event stream".
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from typing import Any

from jiter import from_json

from streamkit.errors import dig

MAX_EVENT_BYTES = 15 * 2**20
"""The largest event that is accepted, in bytes. A body without line ends must not fill the memory."""

_E = b"e"[0]
_FIELDS = (b":", b"event:", b"data:", b"id:", b"retry:")
# What may follow the text of a text delta: the API pads some with spaces.
_ENDS = frozenset(b"}" + b" " * spaces + b"}\n\n" for spaces in range(64))
_USUAL_END = b'"}}\n\n'
_BOM = b"\xef\xbb\xbf"


class WireError(Exception):
    """The peer sent what is no stream of Messages events."""


class EventDecoder:
    """Bytes in, events out.

    `feed` takes a chunk of the body, and `end` says that the body ended cleanly. `waiting` holds what arrived whole, in
    its order; `parse` makes an event of each. `text_of` is a shorter way for most chunks.
    """

    __slots__ = ("_after_cr", "_buffer", "_head", "_scanned", "_started", "foreign", "index", "unstreamed", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self._buffer = bytearray()  # the start of an event whose end has not arrived
        self._scanned = 0  # how much of the buffer is known to hold no end of an event
        self._after_cr = False  # the last chunk ended in CR: an LF that follows belongs to it
        self._started = False
        self._head = b"none yet"  # how the last text delta began, up to the quote before its text
        self.index = 0
        self.foreign = b""
        """The first frame that is not an event; of interest when there is no event at all."""
        self.unstreamed = False
        """The body was one whole message as JSON, which `end` took apart into events."""

    def text_of(self, chunk: bytes) -> str | None:
        """The text of a chunk that is just one text delta, and like one before but for the text; else `None`.

        For use when nothing waits. The delta is for the block at `index`. Any other chunk has to be fed.
        """
        if not chunk.startswith(self._head) or self._buffer or self._after_cr:
            return None
        if chunk.endswith(_USUAL_END):
            end = len(chunk) - len(_USUAL_END) + 1
        else:
            end = chunk.rfind(b'"') + 1
            if chunk[end:] not in _ENDS:
                return None
        if len(chunk) > MAX_EVENT_BYTES:
            return None
        try:
            # Between the head and the end, and two quotes: if that is a string, the event is as good as the one before.
            return from_json(chunk[len(self._head) - 1 : end])  # type: ignore[no-any-return]
        except ValueError:
            return None

    def _remember(self, frame: bytes, event: dict[str, Any]) -> None:
        """Remember how the text delta of a frame begins, if its text comes last and there is nothing else in it."""
        delta = event.get("delta")
        if type(delta) is not dict or delta.keys() != {"type", "text"} or event.keys() != {"type", "index", "delta"}:
            return
        key = b'"text":"' if b'"text":"' in frame else b'"text": "'
        head, _, rest = frame.partition(key)
        end = rest.rfind(b'"') + 1
        with suppress(ValueError):
            if rest[end:] + b"\n\n" in _ENDS and from_json(b'"' + rest[:end]) == delta["text"]:
                self.index, self._head = event["index"], head + key

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk of the body. Raises `WireError` when an event grows beyond `MAX_EVENT_BYTES`."""
        if not self._started:
            chunk = self._start(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._unify_line_ends(chunk)
        if not self._buffer:
            if chunk.endswith(b"\n\n"):  # whole events
                self.waiting.extend(chunk[:-2].split(b"\n\n"))
                return
            self._scanned = 0
        self._buffer += chunk
        # The separator may have begun with the last byte of what was there before.
        if self._buffer.find(b"\n\n", max(self._scanned - 1, 0)) < 0:
            self._scanned = len(self._buffer)
            if self._scanned > MAX_EVENT_BYTES:
                raise _too_large()
            return
        *frames, rest = bytes(self._buffer).split(b"\n\n")
        self._buffer = bytearray(rest)
        self._scanned = len(rest)
        self.waiting.extend(frames)

    def end(self) -> None:
        """The body ended cleanly. A last event without its blank line counts if its data is whole JSON.

        So does a body that is one JSON object, of a server that does not stream: a message or an error.
        """
        if self._buffer:
            rest = bytes(self._buffer)
            self._buffer = bytearray()
            data, _ = _fields(rest)
            try:
                parse_json(data)
            except ValueError:
                self._note_head(rest)
            else:
                self.waiting.append(rest)
        if self.foreign.startswith(b"{"):
            with suppress(ValueError):
                self._take_whole(parse_json(self.foreign))

    def _take_whole(self, value: dict[str, Any]) -> None:
        data = self.foreign.replace(b"\n", b" ")  # in JSON, a line end stands between two values
        if value.get("type") == "error":
            self.waiting.append(b"data: " + data)
        elif value.get("type") == "message":
            self.unstreamed = True
            tokens: Any = dig(value, "usage", "output_tokens")
            count = b'{"output_tokens": %d}' % tokens if isinstance(tokens, int) else b"{}"
            self.waiting.append(b'data: {"type": "message_start", "message": ' + data + b"}")
            # What it leaves out keeps its value from the start; with it the reason and the count are final.
            self.waiting.append(b'data: {"type": "message_delta", "delta": {}, "usage": ' + count + b"}")

    def parse(self, frame: bytes) -> dict[str, Any] | None:
        """The event of a frame, a dict with a `type`; `None` for a frame without data.

        Raises `WireError` for data that is no JSON object, and for an event that came in one chunk and is too large.
        """
        if len(frame) >= MAX_EVENT_BYTES:  # a line end is what made `feed` refuse it in smaller chunks
            raise _too_large()
        # The usual frame is an `event:` line and a `data:` line, and the data says all that is needed.
        start = frame.find(b"\ndata: ")
        usual = start > 0 and frame[0] == _E and frame.count(b"\n") == 1
        data = frame[start + 7 :] if usual else _fields(frame)[0]
        if not data:
            self._note_head(frame)
            return None
        try:
            event: dict[str, Any] = from_json(data)
        except ValueError:
            event = _parse_or_explain(data, _fields(frame)[1])
        if type(event) is not dict:
            raise WireError(f"an event is no JSON object: {_excerpt(data)}")
        if type(event.get("type")) is not str:
            if "type" in event:
                raise WireError(f"the type of an event is no text: {_excerpt(data)}")
            event["type"] = _fields(frame)[1].decode("utf-8", "replace")
        elif event["type"] == "content_block_delta" and not frame.startswith(self._head):
            self._remember(frame, event)
        return event

    def _start(self, chunk: bytes) -> bytes:
        """Drop the byte-order mark that may open the body, also when it arrives in parts."""
        chunk = bytes(self._buffer) + chunk
        self._buffer = bytearray()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._buffer += chunk
            return b""
        self._started = True
        return chunk.removeprefix(_BOM)

    def _unify_line_ends(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if chunk.endswith(b"\r"):
            self._after_cr = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _note_head(self, frame: bytes) -> None:
        """Remember the start of what is no event, for the error message of a body without any."""
        line = frame.lstrip(b"\n").partition(b"\n")[0]
        # A body may also be cut inside the name of a field.
        if line and not any(line.startswith(field) or field.startswith(line) for field in _FIELDS):
            self.foreign = self.foreign or frame.strip()


def parse_json(data: bytes | str) -> Any:
    """Parse JSON: with `jiter`, and what that refuses (lone surrogates, deep nesting) with `json`.

    Raises `ValueError` when both refuse it.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    try:
        return from_json(raw)
    except ValueError:
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _too_large() -> WireError:
    return WireError(f"an event is larger than {MAX_EVENT_BYTES} bytes")


def _parse_or_explain(data: bytes, name: bytes) -> Any:
    try:
        return parse_json(data)
    except UnicodeDecodeError as error:
        raise WireError(f"an event is not UTF-8: {error}") from error
    except ValueError as error:
        if name == b"error":  # a proxy that speaks of its own failure in plain words
            message = data.decode("utf-8", "replace")
            return {"type": "error", "error": {"type": "api_error", "message": message}}
        raise WireError(f"an event is no JSON ({error}): {_excerpt(data)}") from error


def _fields(frame: bytes) -> tuple[bytes, bytes]:
    """The data and the event name of a frame of any form, by the rules of the standard."""
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
