"""`repr` of a reply: one line that says what the server sends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamkit.errors import get_nested

from ._frames import AWS_CONTENT_TYPE, event_text, parse_event

if TYPE_CHECKING:
    from ._reply import Reply

_MAX_LENGTH = 120


def describe(reply: Reply) -> str:
    """Describe a reply by what it sends: its kind, its text, its events and its faults."""
    streamed = reply.content_type.startswith(("text/event-stream", AWS_CONTENT_TYPE))
    parts = _describe_stream(reply) if streamed else [_describe_body(reply)]
    if reply.ending != "end":
        parts.append(reply.ending if reply.stall_pings is None else f"{reply.ending} with pings={reply.stall_pings}")
    parts += [f"{name}={value}" for name in ("header_delay", "delay") if (value := getattr(reply, name))]
    if reply.splits_utf8:
        parts.append("split UTF-8")
    line = " ".join(f"<Reply {', '.join(parts)}>".split())  # one line, whatever an event calls itself
    return line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH - 4]}...>"


def excerpt(text: str, length: int = 40) -> str:
    """Return the beginning of a text, in quotes."""
    return repr(text if len(text) <= length else f"{text[:length]}...")


def _describe_body(reply: Reply) -> str:
    """Describe a reply that is not a stream of events, such as a refused request."""
    try:
        kind = get_nested(json.loads(reply.body), "error", "type")
    except (ValueError, RecursionError):
        kind = None
    return f"HTTP {reply.status} {kind or reply.content_type}"


def _describe_stream(reply: Reply) -> list[str]:
    events = [parse_event(frame, reply.content_type) for frame in reply.frames]
    kind = "+".join(dict.fromkeys(_block_kinds(events))) or "events"
    text = "".join(map(event_text, events))
    first = [f"HTTP {reply.status}"] if reply.status != 200 else []
    first += [kind, excerpt(text)] if text else [kind]
    count = len(events)
    parts = [" ".join(first), "1 event" if count == 1 else f"{count} events"]
    errors = [get_nested(event, "error", "type") for event in events if event.get("type") == "error"]
    parts += ["error" if error is None else f"error {error}" for error in errors]
    ends = any(event.get("type") in ("message_stop", "error") for event in events)
    # Half an event at the end belongs to the fault that comes there.
    odd = sum(not event for event in (events if ends else events[:-1]))
    if odd:
        parts.append(f"{odd} not an event" if odd == 1 else f"{odd} not events")
    if not ends and reply.ending == "end":
        parts.append("cut")
    return parts


def _block_kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    """Return the kinds of the blocks of a reply, tools with their names."""
    blocks = [event.get("content_block") for event in events if event.get("type") == "content_block_start"]
    names = [get_nested(block, "name") for block in blocks]
    kinds = [get_nested(block, "type") for block in blocks]
    return [f"{kind}({name})" if name else str(kind) for kind, name in zip(kinds, names, strict=True)]
