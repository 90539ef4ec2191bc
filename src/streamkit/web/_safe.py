"""JSON for frames, and the removal of what must not reach a browser."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
# The API's own fields for a later request: they are large, opaque, and meant for the server alone.
_DROPPED_PREFIX = "encrypted_"
_DROPPED = frozenset({"signature"})
_URL_NAMES = frozenset({"url", "uri"})


def to_frame(text: str) -> bytes:
    """Return the frame for JSON text without line ends."""
    try:
        return f"data: {text}\n\n".encode()
    except UnicodeEncodeError:
        # A surrogate pair may be split over two deltas. As JSON escapes, the browser can join the two halves.
        return f"data: {escape_surrogates(text)}\n\n".encode()


def payloads(frames: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Iterate over the JSON objects in frames that `to_frame` made."""
    for frame in frames:
        if frame.startswith(b"data: {"):
            yield json.loads(frame[len(b"data: ") :])


def escape_surrogates(text: str) -> str:
    """Replace single surrogates, which UTF-8 cannot represent, by JSON escapes."""
    return "".join(f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" else one for one in text)


def safe_url(value: object) -> str | None:
    """Return the URL if it is absolute and of http or https, else `None`: a `javascript:` link would run code."""
    if not isinstance(value, str) or any(one < " " for one in value):
        return None
    try:
        parts = urlsplit(value)
        return value if parts.scheme in ("http", "https") and parts.netloc else None
    except ValueError:  # a malformed IPv6 address
        return None


def cleaned(value: Any) -> Any:
    """Return a JSON value without encrypted fields, signatures, unsafe URLs, base64 data and infinite numbers."""
    if isinstance(value, dict):
        return {name: cleaned(item) for name, item in value.items() if _may_be_sent(str(name), item, value)}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def _may_be_sent(name: str, value: Any, siblings: dict[Any, Any]) -> bool:
    if name.startswith(_DROPPED_PREFIX) or name in _DROPPED:
        return False
    if name == "data" and siblings.get("type") == "base64":
        return False
    return name not in _URL_NAMES or value is None or safe_url(value) is not None
