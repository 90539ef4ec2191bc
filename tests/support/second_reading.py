"""A second reading of a body, as plainly as can be: split at blank lines, parse, add up.

What is right is worked out here anew, to compare the library with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import jiter

from streamkit import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamResult,
    StreamTruncatedError,
)

# What is right.


@dataclass
class Reading:
    """What a body says up to one of its events."""

    text: str = ""
    thinking: str = ""
    blocks: tuple[dict[str, Any], ...] | None = None
    whole_tools: tuple[str, ...] = ()
    output_tokens: int | None = None
    end: str = ""  # "", "reason", "stop" or "error"
    wrong: bool = False


def events_of(body: bytes) -> tuple[list[dict[str, Any] | None], bytes]:
    """The events that arrived whole, and what is left."""
    *frames, rest = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
    return [parsed(frame) for frame in frames], rest


@cache
def parsed(frame: bytes) -> dict[str, Any] | None:
    """The event of a frame; None for one without data, {} for what is no JSON."""
    lines = [line[5:].removeprefix(b" ") for line in frame.split(b"\n") if line.startswith(b"data:")]
    if not b"\n".join(lines):
        return None
    try:
        return json.loads(b"\n".join(lines))
    except ValueError:
        return {}


def read(events: list[dict[str, Any] | None]) -> list[Reading]:
    """What the body says before the first event, and after each of them."""
    found = [Reading()]
    head: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    pieces: dict[int, str] = {}
    closed: dict[int, bool] = {}
    said: list[str] = []
    thought: list[str] = []
    between = False
    tokens, end, wrong = None, "", False

    def say(words: str) -> None:
        nonlocal between
        if words:
            said.append("\n\n" + words if between and said else words)
            between = False

    for event in events:
        kind = "" if event is None else event.get("type", "?")
        if end in ("stop", "error") or wrong:
            pass
        elif event == {}:
            wrong = True
        elif kind == "error":
            end = "error"
        elif kind == "message_start":
            head = event["message"]
            tokens = head["usage"]["output_tokens"]
            for index, block in enumerate(head["content"]):
                blocks[index], pieces[index], closed[index] = block, "", True
                say(block.get("text") or "")
        elif kind == "content_block_start":
            index, block = event["index"], dict(event["content_block"])
            blocks[index], pieces[index], closed[index] = block, "", False
            if block["type"] == "text":
                say(block["text"])
            else:
                between = bool(said)
                thought.append(block.get("thinking") or "" if block["type"] == "thinking" else "")
        elif kind == "content_block_delta":
            index, change = event["index"], event["delta"]
            block = dict(blocks[index])
            match change["type"]:
                case "text_delta":
                    block["text"] = (block.get("text") or "") + change["text"]
                    say(change["text"])
                case "thinking_delta":
                    block["thinking"] = (block.get("thinking") or "") + change["thinking"]
                    thought.append(change["thinking"])
                case "signature_delta":
                    block["signature"] = change["signature"]
                case "citations_delta" if block["type"] == "text":
                    block["citations"] = [*(block.get("citations") or []), change["citation"]]
                case "compaction_delta":
                    block |= {"content": change.get("content"), "encrypted_content": change.get("encrypted_content")}
                case "input_json_delta":
                    pieces[index] += change["partial_json"]
                    if pieces[index]:
                        block["input"] = so_far(pieces[index])
            blocks[index] = block
        elif kind == "content_block_stop":
            closed[event["index"]] = True
        elif kind == "message_delta":
            tokens = event.get("usage", {}).get("output_tokens", tokens)
            end = "reason" if event["delta"].get("stop_reason") else end
        elif kind == "message_stop":
            end = "stop"
        tools = [
            block["id"]
            for index, block in blocks.items()
            if block["type"] == "tool_use" and (closed[index] or end) and end != "error" and whole(pieces[index])
        ]
        content = tuple(blocks.values()) if head else None
        found.append(Reading("".join(said), "".join(thought), content, tuple(tools), tokens, end, wrong))
    return found


@cache
def so_far(piece: str) -> Any:
    try:
        return jiter.from_json(piece.encode(), partial_mode=True)
    except ValueError:
        return None  # not looked at


def whole(piece: str) -> bool:
    try:
        json.loads(piece or "{}")
    except ValueError:
        return False
    return True


def verdict(reading: Reading, breaks: bool) -> tuple[str, type[StreamError] | None]:
    if reading.wrong:
        return "failed", StreamProtocolError
    if reading.end == "error":
        return "failed", StreamAPIError
    if reading.end == "stop" or (reading.end == "reason" and not breaks):
        return "complete", None
    return "disconnected", StreamConnectionError if breaks else StreamTruncatedError


class Expected:
    """What each cut of a body must give."""

    def __init__(self, body: bytes) -> None:
        events, rest = events_of(body)
        self.body = body
        self.readings = read([*events, parsed(rest)])
        self.lf = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") == body

    def at(self, cut: int, breaks: bool) -> Reading:
        body = self.body[:cut]
        if self.lf:
            count, rest = body.count(b"\n\n"), body[body.rfind(b"\n\n") + 2 if b"\n\n" in body else 0 :]
        else:
            events, rest = events_of(body)
            count = len(events)
        # A last event without its blank line counts where the body ended in good order.
        return self.readings[count + (not breaks and bool(parsed(rest)))]


def check(found: StreamResult[Any, Any], given: list[str], right: Reading, breaks: bool) -> None:
    status, kind = verdict(right, breaks)
    assert (found.status, type(found.error) if found.error else None) == (status, kind)
    assert found.text == right.text == "".join(given)
    assert found.thinking == right.thinking
    assert (found.message is None) == (right.blocks is None)
    if found.message is not None:
        mine = [block.to_dict(warnings=False) for block in found.message.content]
        assert len(mine) == len(right.blocks)
        for block, wanted in zip(mine, right.blocks, strict=True):
            unknown = {"input": block["input"]} if "input" in wanted and wanted["input"] is None else {}
            assert block == {**wanted, **unknown}
    assert tuple(tool.id for tool in found.tool_uses) == right.whole_tools
    assert found.usage.output_tokens == (right.output_tokens or 0)
    assert found.ok <= (found.status == "complete")
    assert found.usage_final <= bool(right.end)
