"""Replies that broke off, read by the real clients: replayed, and ended because their server was lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamkit.testing import Reply
from streamkit.web import AGUI, AISDK
from tests.support.bodies import BETA, FIXTURES
from tests.support.npm import AG_UI, AI_SDK, needs_node, read_with
from tests.support.reply_bodies import frames_of
from tests.support.web import RUN, encoded, of_type, payloads

SENTENCE = "The server was lost in the middle of the reply. Please try again."


def cut(protocol: Any, most: int) -> Iterator[tuple[str, list[bytes], list[bytes]]]:
    """Replies that broke off: their names, the frames so far, and those that end them; of each body `most` ones."""
    for path in FIXTURES:
        frames = frames_of(encoded(protocol, path.read_bytes(), beta=path.stem in BETA)[0])
        for count in range(0, len(frames) - 1, -(-len(frames) // most)):  # the last frame is the end
            yield f"{path.name} cut after {count}", frames[:count], protocol.lost(frames[:count])


def check_ai_sdk(name: str, body: bytes, found: dict[str, Any]) -> None:
    assert (found["status"], found["error"]) == ("error", SENTENCE), name
    reply = found["messages"][-1]
    assert reply["metadata"]["status"] == "disconnected", name
    assert reply["metadata"]["error"] == "server_lost", name
    text = "".join(part["text"] for part in reply["parts"] if part["type"] == "text")
    assert text == "".join(one["delta"] for one in of_type(body, "text-delta")), name
    assert all(part.get("state") not in ("streaming", "input-streaming") for part in reply["parts"]), name
    assert not [part for part in reply["parts"] if part.get("state") == "input-available" and is_server_tool(part)]


def is_server_tool(part: dict[str, Any]) -> bool:
    return bool(part.get("providerExecuted"))


def check_ag_ui(name: str, body: bytes, found: dict[str, Any]) -> None:
    assert found["failed"] == {"type": "RUN_ERROR", "message": SENTENCE, "code": "server_lost"}, (name, found)
    replies = [message for message in found["messages"] if message["role"] == "assistant"]
    text = "".join(message.get("content") or "" for message in replies)
    assert text == "".join(one["delta"] for one in of_type(body, "TEXT_MESSAGE_CONTENT")), name


def accepts(client: str, most: int) -> None:
    protocol = RUN if client == AG_UI else AISDK()
    made = [(name, b"".join([*frames, *last])) for name, frames, last in cut(protocol, most)]
    check = check_ag_ui if client == AG_UI else check_ai_sdk
    answers = read_with(client, ({"body": body.decode()} for _, body in made))
    for (name, body), found in zip(made, answers, strict=True):
        check(name, body, found)


@needs_node
@pytest.mark.parametrize("client", [*AI_SDK, AG_UI])
def test_the_clients_are_told(client: str) -> None:
    accepts(client, 6)


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("client", [*AI_SDK, AG_UI])
def test_the_clients_are_told_after_each_event(client: str) -> None:
    accepts(client, 10_000)


def test_nothing_stays_open() -> None:
    """Without the clients: each part that began has ended."""
    for _, frames, last in cut(AISDK(), 50):
        events = payloads(b"".join([*frames, *last]))
        kinds = [event["type"] for event in events]
        for part in ("text", "reasoning"):
            assert kinds.count(f"{part}-start") == kinds.count(f"{part}-end")
        assert kinds.count("start-step") == kinds.count("finish-step")
        started = {event["toolCallId"] for event in events if event["type"] == "tool-input-start"}
        ended = {
            event["toolCallId"] for event in events if event["type"] in ("tool-input-available", "tool-input-error")
        }
        assert started == ended
        assert last[-1] == b"data: [DONE]\n\n"
    for _, frames, last in cut(RUN, 50):
        kinds = [event["type"] for event in payloads(b"".join([*frames, *last]))]
        for part in ("TEXT_MESSAGE", "REASONING_MESSAGE", "REASONING", "TOOL_CALL"):
            assert kinds.count(f"{part}_START") == kinds.count(f"{part}_END")
        assert kinds[-1] == "RUN_ERROR"


def test_a_server_that_was_lost_after_the_last_frame() -> None:
    for protocol in (AISDK(), RUN):
        frames = frames_of(encoded(protocol, FIXTURES[0].read_bytes(), beta=FIXTURES[0].stem in BETA)[0])
        assert protocol.lost(frames) == protocol.lost([])
        assert protocol.lost([b": a comment\n\n"]) == protocol.lost([])


@needs_node
@pytest.mark.parametrize("client", [*AI_SDK, AG_UI])
def test_a_replay_is_not_appended_to_what_the_client_has(client: str) -> None:
    """Whatever the client has of the reply: nothing, a half, or all."""
    question: list[Any] = [{"id": "question", "role": "user", "content": "Hi"}]
    run = AGUI(thread_id="thread-1", run_id="run-1", messages=question)
    protocol = run if client == AG_UI else AISDK(message_id="reply-1")
    whole = frames_of(encoded(protocol, Reply.text("They push water aside.").body)[0])
    with_ids = [f"id: 1234abcd-{number}\n".encode() + frame for number, frame in enumerate(whole, 1)]
    replay = b"".join(with_ids).decode()
    heads = [b"".join(with_ids[:count]).decode() for count in range(1, len(whole) + 1)]
    for found in read_with(client, [{"body": head, "replay": replay} for head in heads]):
        assert found.get("raised") is None
        assert [message["role"] for message in found["messages"]] == ["user", "assistant"]
        reply = found["messages"][-1]
        text = reply["content"] if client == AG_UI else "".join(part.get("text", "") for part in reply["parts"])
        assert text == "They push water aside."


def test_messages_have_to_be_a_list() -> None:
    with pytest.raises(TypeError, match="expected a list for messages=, got str"):
        AGUI(thread_id="1", run_id="2", messages="Hi")  # type: ignore[arg-type]
