"""The replies of the server of `streamkit.testing`: the `Reply` class and its faults."""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ._describe import describe, excerpt
from ._frames import (
    AWS_CONTENT_TYPE,
    ERROR_TYPES,
    PING,
    MessageOptions,
    aws_frame,
    error_event,
    event_text,
    message_frames,
    parse_event,
    split_frames,
    sse_frame,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MULTIBYTE_CHARACTER = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
# A socket has its timeout in milliseconds, which have to fit into an int of C.
_MAX_SECONDS = min(threading.TIMEOUT_MAX, 2_000_000)


class _TransportOptions(TypedDict, total=False):
    delay: float
    header_delay: float
    headers: Mapping[str, str]
    chunk_size: int
    status: int
    content_type: str


class _ReplyOptions(_TransportOptions, MessageOptions, total=False):
    pass


def _check_int(name: str, value: object, low: int, high: float = float("inf")) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an int for {name}, got {value!r}")
    if not low <= value <= high:
        bounds = f"at least {low}" + (f" and at most {high}" if high != float("inf") else "")
        raise ValueError(f"expected {bounds} for {name}, got {value!r}")


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"expected a number of seconds for {name}, got {value!r}")
    if not 0 <= value <= _MAX_SECONDS:
        raise ValueError(f"expected 0 to {_MAX_SECONDS} seconds for {name}, got {value!r}")


def _check_one_of(**positions: object) -> None:
    given = [name for name, value in positions.items() if value is not None]
    if len(given) != 1:
        raise TypeError(f"expected exactly one of {', '.join(positions)}, got {' and '.join(given) or 'none'}")


@dataclass(frozen=True, repr=False)
class Reply:
    """An answer of the server to one request. Immutable: class methods make one, fault methods return a changed copy.

    Options of `text`, `thinking`, `tool_use`, `blocks`, `events` and `recorded`:

    - `delay`: seconds between two events (between two HTTP chunks, if the chunks have sizes of their own).
    - `header_delay`: seconds before the status line. A client that disconnects ends the delay.
    - `headers`: additional response headers; a header replaces the server's own of the same name.
    - `chunk_size`: bytes per HTTP chunk, instead of one event per chunk. `recorded` has `chunk_sizes`.
    - `status`, `content_type`: of the response; 200 and `text/event-stream; charset=utf-8` by default.

    Options of the first four only:

    - `pings`: true (the default) for a ping after `message_start`.
    - `usage`: counts that replace the default ones (10 input tokens, one output token per delta). As with the API,
      `message_start` reports 1 output token and `message_delta` the final count.
    - `stop_reason`, `stop_sequence`, `model`, `message_id`: of the message. The model is `"claude-test"` by default,
      whatever the request asks for.

    All methods raise `TypeError` or `ValueError` at once for invalid arguments.
    """

    frames: tuple[bytes, ...]
    """The body, event by event."""
    status: int = 200
    content_type: str = "text/event-stream; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    chunk_sizes: tuple[int, ...] = ()
    """The sizes of the HTTP chunks in bytes, used in turn; one chunk per event if empty."""
    splits_utf8: bool = False
    ending: Literal["end", "reset", "stall"] = "end"
    stall_pings: float | None = None
    header_delay: float = 0.0

    def __post_init__(self) -> None:
        """Validate the options."""
        _check_seconds("delay", self.delay)
        _check_seconds("header_delay", self.header_delay)
        _check_int("status", self.status, 200, 599)
        for size in self.chunk_sizes:
            _check_int("a chunk size", size, 1)
        for name, value in (*self.headers, ("content-type", self.content_type)):
            if not re.fullmatch(r"[!-9;-~]+", name) or not re.fullmatch(r"[ -~\t]*", value):
                raise ValueError(f"expected a valid HTTP header, got {name!r}: {value!r}")

    def __repr__(self) -> str:
        return describe(self)

    @classmethod
    def _from_frames(
        cls, frames: Iterable[bytes], options: _TransportOptions, allowed: type = _TransportOptions
    ) -> Reply:
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
            header_delay=options.get("header_delay", 0.0),
            chunk_sizes=() if size is None else (size,),
        )

    @classmethod
    def text(cls, text: str | Iterable[str], **options: Unpack[_ReplyOptions]) -> Reply:
        """Make a reply of one text block, from a str (one delta for about each word) or from its deltas."""
        deltas = None if isinstance(text, str) else list(text)
        if deltas and not all(isinstance(t, str) for t in deltas):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected a str or an iterable of str, got {deltas!r}")
        block = {"type": "text", "text": text if isinstance(text, str) else ""}
        return cls._from_frames(message_frames([(block, deltas)], options), options, _ReplyOptions)

    @classmethod
    def thinking(
        cls, thinking: str, text: str, *, signature: str = "c2lnbmF0dXJl", **options: Unpack[_ReplyOptions]
    ) -> Reply:
        """Make a reply of a thinking block, which ends with its signature, and a text block."""
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
        **options: Unpack[_ReplyOptions],
    ) -> Reply:
        """Make a reply of a text block, if there is `text`, and a `tool_use` block with `input` in small JSON deltas.

        `id` is that of the tool use; by default it is derived from the name and the input, the same in each run.
        """
        source = f"{name}{json.dumps(input, sort_keys=True)}".encode()
        block = {"type": "tool_use", "id": id or f"toolu_{zlib.crc32(source):08x}", "name": name, "input": dict(input)}
        return cls.blocks(*([{"type": "text", "text": text}] if text is not None else []), block, **options)

    @classmethod
    def blocks(cls, *blocks: Mapping[str, Any], **options: Unpack[_ReplyOptions]) -> Reply:
        """Make a reply of content blocks in the form of a finished message, streamed as the API streams them.

        Text, citations, thinking, tool inputs and compactions are sent as deltas, all other blocks in one event.
        """
        frames = message_frames([(block, None) for block in blocks], options)
        return cls._from_frames(frames, options, _ReplyOptions)

    @classmethod
    def events(cls, *events: Mapping[str, Any], **options: Unpack[_TransportOptions]) -> Reply:
        """Make a reply of exactly these events, valid or not."""
        return cls._from_frames([sse_frame(event) for event in events], options)

    @classmethod
    def recorded(
        cls,
        path_or_bytes: str | os.PathLike[str] | bytes,
        chunk_sizes: Iterable[int] | None = None,
        **options: Unpack[_TransportOptions],
    ) -> Reply:
        """Make a reply of a recorded body, from a file (see `record`) or from bytes.

        The body is sent event by event, or in chunks of `chunk_sizes` bytes, used in turn.
        """
        if chunk_sizes is not None and "chunk_size" in options:
            raise TypeError("expected chunk_size or chunk_sizes, not both")
        body = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).read_bytes()
        reply = cls._from_frames(split_frames(body), options)
        return reply if chunk_sizes is None else replace(reply, chunk_sizes=tuple(chunk_sizes))

    @classmethod
    def http_error(
        cls,
        status: int,
        type: str | None = None,  # noqa: A002 - the API's name
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
        header_delay: float = 0.0,
    ) -> Reply:
        """Make the reply to a refused request: an HTTP `status` (400 to 599) and the API's JSON error of this `type`.

        By default the type follows from the status. The SDK retries some statuses: see its `max_retries`.
        """
        _check_int("status", status, 400, 599)
        kind = type or ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        body = json.dumps(error_event(kind, message)).encode()
        options: _TransportOptions = {"status": status, "headers": headers or {}, "content_type": "application/json"}
        return cls._from_frames([body], {**options, "header_delay": header_delay})

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.frames)

    @cached_property
    def chunks(self) -> tuple[bytes, ...]:
        """The HTTP chunks of the body, each of which is sent at once."""
        if not self.splits_utf8 and not self.chunk_sizes:
            return tuple(frame for frame in self.frames if frame)
        body, ends = self.body, list[int]()
        if self.splits_utf8:
            # After 1, 2 and 3 bytes of a character in turn, as far as it has so many.
            characters = enumerate(_MULTIBYTE_CHARACTER.finditer(body))
            ends = [match.start() + 1 + i % (len(match[0]) - 1) for i, match in characters]
        else:
            end = 0
            while end < len(body):
                end += self.chunk_sizes[len(ends) % len(self.chunk_sizes)]
                ends.append(min(end, len(body)))
        return tuple(body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True) if a < b)

    def _count_events(self, after_events: int | None, after_text: str | None) -> int:
        """Return the number of events before a fault."""
        _check_one_of(after_events=after_events, after_text=after_text)
        if after_events is not None:
            _check_int("after_events", after_events, 0, len(self.frames))
            return after_events
        if not isinstance(after_text, str):
            raise TypeError(f"expected a str for after_text, got {after_text!r}")
        if not after_text:
            raise ValueError("expected some text for after_text, got ''")
        text = ""
        for count, frame in enumerate(self.frames, 1):
            searched, text = len(text), text + event_text(parse_event(frame, self.content_type))
            if text.find(after_text, max(0, searched - len(after_text))) >= 0:
                return count
        raise ValueError(f"expected part of the text {excerpt(text)} for after_text, got {after_text!r}")

    def _frames_until(
        self, after_events: int | None, after_bytes: int | None, after_text: str | None
    ) -> tuple[bytes, ...]:
        _check_one_of(after_events=after_events, after_bytes=after_bytes, after_text=after_text)
        if after_bytes is None:
            return self.frames[: self._count_events(after_events, after_text)]
        _check_int("after_bytes", after_bytes, 0, len(self.body))
        kept, left = list[bytes](), after_bytes
        for frame in self.frames:
            kept.append(frame[:left])
            left -= len(kept[-1])
        return tuple(frame for frame in kept if frame)

    def cut(
        self, *, after_events: int | None = None, after_bytes: int | None = None, after_text: str | None = None
    ) -> Reply:
        """End the body cleanly there, as a proxy does.

        The place of a fault is after so many events or bytes, or after the first event that completes `after_text`: the
        text of the reply up to and with this event contains that string.
        """
        return replace(self, frames=self._frames_until(after_events, after_bytes, after_text), ending="end")

    def reset(
        self, *, after_events: int | None = None, after_bytes: int | None = None, after_text: str | None = None
    ) -> Reply:
        """Reset the connection (TCP RST) there, once the client's system has received the bytes before.

        A client on Linux can still read all of these bytes. Other systems may discard those that it has not read yet;
        on these systems the server waits 0.05 seconds before the reset.
        """
        return replace(self, frames=self._frames_until(after_events, after_bytes, after_text), ending="reset")

    def stall(
        self,
        *,
        after_events: int | None = None,
        after_bytes: int | None = None,
        after_text: str | None = None,
        pings: float | None = None,
    ) -> Reply:
        """Send nothing more from there on, or a ping every `pings` seconds, until either side closes the connection."""
        if pings is not None:
            _check_seconds("pings", pings)
            if not pings:
                raise ValueError(f"expected more than 0 seconds for pings, got {pings!r}")
        frames = self._frames_until(after_events, after_bytes, after_text)
        return replace(self, frames=frames, ending="stall", stall_pings=pings)

    def error(
        self,
        type: str,  # noqa: A002 - the API's name
        *,
        after_events: int | None = None,
        after_text: str | None = None,
        message: str | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Send an `error` event of this API error type there, then end the body cleanly.

        `body` replaces the JSON data of the event by any bytes.
        """
        data = json.dumps(error_event(type, message)).encode() if body is None else body
        frame = frame_for(self, b"event: error\ndata: " + data + b"\n\n")
        count = self._count_events(after_events, after_text)
        return replace(self, frames=(*self.frames[:count], frame), ending="end")

    def garbage(self, data: bytes, *, after_events: int | None = None, after_text: str | None = None) -> Reply:
        """Insert bytes, unchanged, there; the other events follow. The bytes count as one event."""
        if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected bytes for data, got {data!r}")
        count = self._count_events(after_events, after_text)
        return replace(self, frames=(*self.frames[:count], data, *self.frames[count:]))

    def split_utf8(self) -> Reply:
        """Split each character of more than one byte between two HTTP chunks."""
        return replace(self, splits_utf8=True)

    def aws(self) -> Reply:
        """Encode the body in the event stream framing of AWS, in which Bedrock answers.

        The server does so by itself for a request to Bedrock. Call `aws` for a fault that counts the bytes of that
        framing: `reply.aws().cut(after_bytes=100)`. An `error` event becomes an exception, of Bedrock's type for it.
        """
        if not self.content_type.startswith("text/event-stream"):
            return self
        # This framing is ASCII: no character has more than one byte.
        frames = tuple(map(aws_frame, self.frames))
        return replace(self, frames=frames, content_type=AWS_CONTENT_TYPE, splits_utf8=False)


def frame_for(reply: Reply, frame: bytes = PING) -> bytes:
    """Return a frame in the framing of a reply."""
    return aws_frame(frame) if reply.content_type == AWS_CONTENT_TYPE else frame
