"""A shortcut for text deltas, which nearly all events of a reply are: parse their text and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from jiter import from_json

# What may follow the text of a text delta: the API pads some with spaces.
_SUFFIXES = frozenset(b"}" + b" " * spaces + b"}" for spaces in range(64))
_SUFFIX, _SUFFIX_OF_CHUNK = b'"}}', b'"}}\n\n'  # the usual ones, with the quote that ends the text
_LF = b"\n"[0]  # as a number: `in` takes an eighth of the time that it takes for bytes


class TextDeltaMatcher:
    """Recognises a chunk, or a frame, that differs from an earlier text delta in its text alone.

    Parsing the whole event instead takes more than twice the time for each chunk (`tests/benchmarks`). `index` is the
    block that the delta belongs to. The decoder sets `between_frames` to `False` while a frame is incomplete: then the
    chunk continues that frame.
    """

    __slots__ = ("_max_bytes", "_prefix", "_text_at", "between_frames", "index")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._prefix = b"no text delta seen yet"  # up to the quote before the text
        self._text_at = 0  # the position of that quote
        self.between_frames = False
        self.index = 0

    def match(self, chunk: bytes) -> str | None:
        """Return the text of a chunk that is one text delta like the one learned; `None` for any other chunk."""
        if not self.between_frames or not chunk.startswith(self._prefix):
            return None
        if not chunk.endswith(_SUFFIX_OF_CHUNK) or len(chunk) > self._max_bytes:
            return self.match_frame(chunk[:-2]) if chunk.endswith(b"\n\n") else None
        text = chunk[self._text_at : -4]
        if _LF in text:  # several events
            return None
        try:
            # If what stands between prefix and suffix is one JSON string, so is the event as a whole well-formed.
            return from_json(text)  # type: ignore[no-any-return]
        except ValueError:
            return None

    def match_frame(self, frame: bytes) -> str | None:
        """Return the text of a frame that is one text delta like the one learned; `None` for any other frame."""
        if not frame.startswith(self._prefix) or len(frame) >= self._max_bytes:
            return None
        end = -2
        if not frame.endswith(_SUFFIX):
            end = frame.rfind(b'"') + 1
            if frame[end:] not in _SUFFIXES:
                return None
        try:
            return from_json(frame[self._text_at : end])  # type: ignore[no-any-return]
        except ValueError:
            return None

    def learn(self, frame: bytes, event: dict[str, Any]) -> None:
        """Remember the bytes before the text of this frame, provided its text comes last and nothing else varies."""
        if frame.startswith(self._prefix):
            return
        delta = event.get("delta")
        if (
            not isinstance(delta, dict)
            or delta.keys() != {"type", "text"}
            or event.keys() != {"type", "index", "delta"}
        ):
            return
        key = b'"text":"' if b'"text":"' in frame else b'"text": "'
        head, _, rest = frame.partition(key)
        end = rest.rfind(b'"') + 1
        with suppress(ValueError):
            if rest[end:] in _SUFFIXES and from_json(b'"' + rest[:end]) == delta["text"]:
                self.index, self._prefix = event["index"], head + key
                self._text_at = len(self._prefix) - 1
