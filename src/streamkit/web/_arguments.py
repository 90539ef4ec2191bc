"""The checks of arguments that several functions take."""

from __future__ import annotations

from typing import Any, cast

from streamkit import AsyncEventStream, AsyncTextStream, EventStream, TextStream

from ._protocol import Protocol

_LONGEST = 86_400.0  # one day; a wait of a thread is limited as well


def check_stream(stream: object) -> None:
    """Raise `TypeError` unless it is a stream of events, and `ValueError` if the stream has ended."""
    if isinstance(stream, TextStream | AsyncTextStream):
        raise TypeError(
            f"expected a stream of stream_events, got {type(cast('Any', stream)).__name__}, which lacks tools and "
            "thinking: call stream_events with the same arguments"
        )
    if not isinstance(stream, EventStream | AsyncEventStream):
        raise TypeError(f"expected a stream of stream_events, got {type(stream).__name__}")
    status = cast("EventStream[Any, Any, Any]", stream).status
    if status not in ("pending", "streaming"):
        raise ValueError(f"expected a stream that has not ended, got one with status {status!r}")


def check_protocol(protocol: object) -> None:
    """Raise `TypeError` unless it is an instance of a protocol."""
    if not isinstance(protocol, Protocol):
        raise TypeError(f"expected a protocol such as AISDK(), got {protocol!r}")


def check_seconds(name: str, value: object, *, zero: bool = False) -> None:
    """Raise `TypeError` unless it is a number, `ValueError` unless it is above 0 (or 0) and at most a day."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"expected a number of seconds for {name}=, got {value!r}")
    if not (0 < value <= _LONGEST or (zero and value == 0)):
        least = "0 seconds or more" if zero else "more than 0 seconds"
        raise ValueError(f"expected {least} for {name}=, and at most a day, got {value!r}")


def check_text(name: str, value: object) -> None:
    """Raise `TypeError` unless it is a str, and `ValueError` for an empty one."""
    if not isinstance(value, str):
        raise TypeError(f"expected a str for {name}, got {value!r}")
    if not value:
        raise ValueError(f"expected a non-empty str for {name}, got an empty one")
