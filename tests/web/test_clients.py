"""The real clients of the protocols accept every reply, whole and cut at every event, and end in the right state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkit import StreamResult
from streamkit.testing import Reply
from streamkit.web import AISDK
from tests.support.bodies import BETA, FIXTURES, RECORDINGS
from tests.support.npm import AG_UI, AI_SDK, needs_node, read_with
from tests.support.web import RUN, encoded

pytestmark = needs_node
Case = tuple[str, bytes, bool]  # name, body, beta
LIMITS = ("max_tokens", "model_context_window_exceeded")


def whole(paths: list[Path]) -> Iterator[Case]:
    for path in paths:
        yield path.name, path.read_bytes(), path.stem in BETA


def cut(paths: list[Path], most: int = 10_000) -> Iterator[Case]:
    """Each body, cut after each of its events; of longer bodies after `most` of them, spread evenly."""
    for path in paths:
        frames = Reply.recorded(path.read_bytes()).frames
        step = -(-len(frames) // most)
        for count in range(0, len(frames), step):
            yield f"{path.name} cut after {count}", b"".join(frames[:count]), path.stem in BETA


def recordings() -> list[Path]:
    index = RECORDINGS / "index.jsonl"
    if not index.exists():
        pytest.skip("the recordings are not beside the project")
    return [RECORDINGS / json.loads(line)["file"] for line in index.read_text("utf-8").splitlines()]


def shown(parts: list[dict[str, Any]], kind: str) -> str:
    return "".join(part["text"] for part in parts if part["type"] == kind)


def check_ai_sdk(name: str, found: dict[str, Any], result: StreamResult[Any, Any]) -> None:
    assert (found["status"] == "ready") is (result.status == "complete"), name
    reply = found["messages"][-1]
    assert reply["role"] == "assistant", name
    assert reply["metadata"]["status"] == result.status, name
    assert reply["metadata"]["usageFinal"] is result.usage_final, name
    if result.message is not None:
        assert reply["metadata"]["usage"]["outputTokens"] == result.min_output_tokens, name
    parts = reply["parts"]
    assert "�" in shown(parts, "text") or shown(parts, "text") == result.text, name
    assert shown(parts, "reasoning") == result.thinking, name
    assert all(part.get("state") not in ("streaming", "input-streaming") for part in parts), name
    tools = {part["toolCallId"]: part for part in parts if "toolCallId" in part}
    for use in result.tool_uses:
        assert tools[use.id]["state"] == "input-available", name
        assert tools[use.id]["input"] == use.input, name
    for use, _ in result.invalid_tool_input:
        assert tools[use.id]["state"] == "output-error", name
    assert len(found["calls"]) == sum(
        part["state"] == "input-available" and not part.get("providerExecuted") for part in tools.values()
    ), name
    if result.status == "complete":
        reason = {"end_turn": "stop", "stop_sequence": "stop", "tool_use": "tool-calls", "refusal": "content-filter"}
        expected = "length" if result.stop_reason in LIMITS else reason.get(str(result.stop_reason), "other")
        assert found["finish"]["finishReason"] == expected, name
    else:
        assert found["error"].endswith("."), name
        assert found["finish"]["isError"], name


def check_ag_ui(name: str, found: dict[str, Any], result: StreamResult[Any, Any]) -> None:
    assert found["warnings"] == [] or "failed" in found, (name, found["warnings"])
    if result.status == "complete":
        assert found.get("outcome") == "success", (name, found.get("raised"))
        assert found["finished"]["result"]["status"] == "complete", name
        assert found["pending"] == [use.id for use in result.tool_uses if use.type == "tool_use"], name
    else:
        assert found["failed"]["message"].endswith("."), (name, found.get("raised"))
    replies = [message for message in found["messages"] if message["role"] == "assistant"]
    text = "".join(message.get("content") or "" for message in replies)
    assert "�" in text or text == result.text, name
    thinking = "".join(message["content"] for message in found["messages"] if message["role"] == "reasoning")
    assert thinking == result.thinking, name


def accepts(client: str, cases: list[Case]) -> None:
    """Let the client read all cases in one process."""
    protocol = RUN if client == AG_UI else AISDK()
    made = [encoded(protocol, body, beta=beta) for _, body, beta in cases]
    check = check_ag_ui if client == AG_UI else check_ai_sdk
    answers = read_with(client, ({"body": body.decode()} for body, _ in made))
    for (name, _, _), found, (_, result) in zip(cases, answers, made, strict=True):
        check(name, found, result)


@pytest.mark.parametrize("client", [*AI_SDK, AG_UI])
def test_the_client_accepts_the_fixtures(client: str) -> None:
    accepts(client, [*whole(FIXTURES), *cut(FIXTURES, 6)])


@pytest.mark.slow
@pytest.mark.parametrize("client", [*AI_SDK, AG_UI])
def test_the_client_accepts_the_recordings(client: str) -> None:
    accepts(client, [*whole(recordings())])


@pytest.mark.slow
@pytest.mark.parametrize("client", [*AI_SDK, AG_UI])
def test_the_client_accepts_everything_cut_after_each_event(client: str) -> None:
    accepts(client, [*cut(FIXTURES), *cut(recordings(), 60)])
