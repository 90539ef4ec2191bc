"""`continuation()` of replies that were cut anywhere: never raises, and gives what the API accepts."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from anthropic.types.beta import BetaMessage

from streamkit import StreamResult
from tests.streams.test_history import REASONS, SHAPES, objections
from tests.support.bodies import BETA, RECORDED
from tests.support.events import MESSAGE_STOP, message_delta, message_start, sse
from tests.support.in_memory import play
from tests.support.request_types import complaints
from tests.support.second_reading import events_of

LIMITS = ("max_tokens", "model_context_window_exceeded")
PAUSES = ("pause_turn", "compaction")
THINKING = ("thinking", "redacted_thinking")
CUTS = 12  # of each recording


def is_continued(result: StreamResult[Any, Any], content: list[dict[str, Any]]) -> bool:
    """Whether there has to be a continuation, given what the history keeps."""
    if not content or any(block["type"] == "tool_use" for block in content):
        return False
    if result.status == "complete":
        return result.stop_reason in (*LIMITS, *PAUSES)
    return result.stop_reason not in ("end_turn", "stop_sequence")


def sendable(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check(result: StreamResult[Any, Any], arrived: list[Any], *, prefill: bool) -> None:
    messages: list[Any] = list(result.continuation(prefill=prefill))
    kept: list[Any] = [block for message in result.new_messages() for block in message["content"]]
    assert bool(messages) == is_continued(result, kept)
    if not messages:
        return
    reply, *asked = messages
    paused = result.status == "complete" and result.stop_reason in PAUSES
    alone = prefill or paused
    assert [message["role"] for message in messages] == (["assistant"] if alone else ["assistant", "user"])
    content = reply["content"]
    assert complaints(content, beta=isinstance(result.message, BetaMessage)) == []
    assert objections(content, arrived) == []
    expected = [block for block in kept if paused or not prefill or block["type"] not in THINKING]
    if expected[-1]["type"] == "text":
        expected[-1] = {**expected[-1], "text": expected[-1]["text"].rstrip()}
        assert not content[-1]["text"][-1].isspace()
    assert content == expected
    for message in asked:
        assert message["content"].strip() == message["content"] != ""
        if content[-1]["type"] == "text":
            assert message["content"].split()[-1] == sendable(result.text).split()[-1][-40:]
    json.dumps(messages, ensure_ascii=False).encode()


def cut_at_some_events(path: Path, cuts: int) -> int:
    body = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, _ = events_of(body)
    beta = any(name in path.name for name in (*BETA, "compaction", "mcp", "fallback"))
    ends = [0, *itertools.accumulate(len(frame) + 2 for frame in body.split(b"\n\n")[:-1])]
    cases = 0
    for count in range(0, len(ends), max(1, len(ends) // cuts)):
        arrived = events[:count]
        for breaks in (False, True):
            _, result = play(body[: ends[count]], breaks=breaks, beta=beta)
            for prefill in (False, True):
                check(result, arrived, prefill=prefill)
                cases += 1
    return cases


def test_fixtures_cut_at_every_event(recorded: Path) -> None:
    print(f"{cut_at_some_events(recorded, cuts=10_000)} cases of {recorded.name}")


@pytest.mark.parametrize("path", RECORDED[10::20], ids=lambda path: path and path.name)
def test_some_recordings_cut_at_some_events(path: Path) -> None:
    print(f"{cut_at_some_events(path, CUTS)} cases of {path.name}")


@pytest.mark.slow
def test_each_recording_cut_at_some_events(recording: Path) -> None:
    print(f"{cut_at_some_events(recording, CUTS)} cases of {recording.name}")


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_with_every_end(name: str) -> None:
    cases = 0
    for reason in REASONS:
        events = [message_start(), *SHAPES[name], *([message_delta(reason)] if reason else []), MESSAGE_STOP]
        for count, breaks, prefill in itertools.product(range(len(events) + 1), (False, True), (False, True)):
            _, result = play(sse(*events[:count]), breaks=breaks)
            check(result, events[:count], prefill=prefill)
            cases += 1
    print(f"{cases} cases")
