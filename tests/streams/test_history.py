"""`new_messages()`: whatever a reply was cut at, the API accepts it back, and nothing is left out without a reason.

The API's rules are written down here on their own, from its public documentation.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from anthropic.types.beta import BetaMessage

from streamkit import StreamResult
from tests.support.bodies import BETA, RECORDED
from tests.support.events import (
    MESSAGE_STOP,
    block_delta,
    block_start,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    sse,
    text_delta,
    tool_use_start,
)
from tests.support.in_memory import play
from tests.support.request_types import complaints
from tests.support.second_reading import events_of, whole

THINKING = ("thinking", "redacted_thinking")
LIMITS = ("max_tokens", "model_context_window_exceeded")
SAMPLE = RECORDED[20::40]
SENT_ONLY = ("file_id",)  # of citations
SERVER_TOOLS = ("server_tool_use", "mcp_tool_use")


def objections(content: list[dict[str, Any]], arrived: list[dict[str, Any] | None]) -> list[str]:
    """What the API would refuse about an assistant's content; `arrived` are the events that it was made of."""
    found = []
    stop = next((e["delta"]["stop_reason"] for e in reversed(arrived) if e and e.get("type") == "message_delta"), None)
    ended = any(event == MESSAGE_STOP for event in arrived) or stop is not None
    inputs = raw_inputs(arrived)
    results = [block.get("tool_use_id") for block in content]
    citations = [e["delta"]["citation"] for e in arrived if e and e.get("delta", {}).get("type") == "citations_delta"]
    for event in arrived:
        if event and event.get("type") == "content_block_start":
            citations += event["content_block"].get("citations") or []
    if not content:
        found.append("content is empty")
    if stop == "refusal":
        found.append("something after a refusal")
    for block in content:
        kind = block.get("type")
        if not isinstance(kind, str):
            found.append("a block without a type")
        elif kind == "text":
            if not block["text"].strip():
                found.append("blank text")
            if any(
                citation not in without_nulls(citations) for citation in without_nulls(block.get("citations") or [])
            ):
                found.append("half a citation")
        elif kind == "thinking":
            if not block.get("signature"):
                found.append("thinking without its signature")
        elif kind == "tool_use":
            cut = stop in LIMITS and block["id"] == list(inputs)[-1] and not inputs[block["id"]]
            if not ended or not whole(inputs[block["id"]]) or cut:
                found.append("a tool use with unfinished input")
            if not isinstance(block["input"], dict):
                found.append("tool input that is no object")
        elif kind in SERVER_TOOLS:
            waits = ended and stop in ("pause_turn", "compaction", "tool_use") and whole(inputs[block["id"]])
            if block["id"] not in results and not waits:
                found.append("a server tool use without its result")
    if content and content[-1].get("type") in THINKING:
        found.append("thinking at the end")
    return found


def raw_inputs(arrived: list[dict[str, Any] | None]) -> dict[str, str]:
    """The JSON that arrived for each tool use."""
    ids: dict[int, str] = {}
    found: dict[str, str] = {}
    for event in arrived:
        kind = event.get("type") if event else None
        if kind == "message_start":
            found |= {block["id"]: "{}" for block in event["message"]["content"] if "id" in block}
        if kind == "content_block_start" and "id" in event["content_block"]:
            ids[event["index"]] = event["content_block"]["id"]
            found[ids[event["index"]]] = ""
        elif kind == "content_block_delta" and event["delta"]["type"] == "input_json_delta" and event["index"] in ids:
            found[ids[event["index"]]] += event["delta"]["partial_json"]
    return found


def reasons(blocks: list[dict[str, Any]], result: StreamResult[Any, Any], arrived: list[Any]) -> list[str]:
    """For each block of the message, why it has to be left out; "" for what has to be there."""
    ended, stop = result.status == "complete", result.stop_reason
    inputs = raw_inputs(arrived)
    answered = [block.get("tool_use_id") for block in blocks if block["type"].endswith("_tool_result")]
    order = [event["index"] for event in arrived if event and event.get("type") == "content_block_start"]
    closes = [event["index"] for event in arrived if event and event.get("type") == "content_block_stop"]
    found = []
    for place, block in enumerate(blocks):
        kind, why = block["type"], ""
        if stop == "refusal":
            why = "refused"
        elif kind == "text":
            why = "" if block["text"].strip() else "blank"
        elif kind == "thinking":
            why = "" if block.get("signature") else "not signed"
        elif kind == "tool_use":
            raw = inputs.get(block["id"], "")
            cut = stop in LIMITS and place == len(blocks) - 1 and not raw
            why = "" if ended and whole(raw) and not cut else "unfinished"
        elif kind in SERVER_TOOLS:
            waits = ended and stop in ("pause_turn", "compaction", "tool_use") and whole(inputs.get(block["id"], ""))
            why = "" if block["id"] in answered or waits else "not answered"
        elif kind.endswith("_tool_result") or kind == "redacted_thinking":
            why = ""
        elif not ended:
            why = "" if place < len(order) and order[place] in closes else "unfinished"
        found.append(why)
    after: int | None = None  # the place of the next block that is there
    for place in reversed(range(len(blocks))):
        if found[place] == "" and blocks[place]["type"] in THINKING:
            if after is None:
                found[place] = "thinking at the end"
            elif after > place + 1 and blocks[after]["type"] in THINKING:
                found[place] = "beside thinking that it did not stand beside"
        if found[place] == "":
            after = place
    return found


def check(result: StreamResult[Any, Any], arrived: list[Any]) -> None:
    messages = result.new_messages()
    blocks = [] if result.message is None else [b.to_dict(mode="json", warnings=False) for b in result.message.content]
    kept = [block for block, why in zip(blocks, reasons(blocks, result, arrived), strict=True) if not why]
    assert without_nulls(messages) == without_nulls([{"role": "assistant", "content": kept}] if kept else [])
    for message in messages:
        assert objections(message["content"], arrived) == []
        assert complaints(message["content"], beta=isinstance(result.message, BetaMessage)) == []


def without_nulls(value: Any) -> Any:
    """A value without what the API only sends; not what is in the input of a tool, which is the model's."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if item is not None and key not in SENT_ONLY}
        return {key: item if key == "input" else without_nulls(item) for key, item in kept.items()}
    return value


def cut_at_every_event(path: Path) -> int:
    body = path.read_bytes()
    events, rest = events_of(body)
    ends, at, beta = [0], 0, any(name in path.name for name in (*BETA, "compaction", "mcp", "fallback"))
    normal = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for _ in events:
        at = normal.index(b"\n\n", at) + 2
        ends.append(at)
    if rest:
        ends.append(len(normal))
    cases = 1
    _, result = play(normal, beta=not beta)  # the whole through the other client
    check(result, events)
    for count, end in enumerate(ends):
        arrived = events[:count]
        for breaks in (False, True):
            _, result = play(normal[:end], breaks=breaks, beta=beta)
            seen = arrived if result.status != "failed" else [event for event in arrived if event and "type" in event]
            check(result, seen)
            cases += 1
    return cases


def test_cut_at_every_event(recorded: Path) -> None:
    print(f"{cut_at_every_event(recorded)} cuts of {recorded.name}")


@pytest.mark.parametrize("path", SAMPLE, ids=lambda path: path and path.name)
def test_cut_at_every_event_of_some_recordings(path: Path) -> None:
    print(f"{cut_at_every_event(path)} cuts of {path.name}")


@pytest.mark.slow
def test_cut_at_every_event_of_each_recording(recording: Path) -> None:
    print(f"{cut_at_every_event(recording)} cuts of {recording.name}")


def block(index: int, kind: str, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return block_start(index, kind, **fields), block_stop(index)


def said(index: int, words: str) -> tuple[dict[str, Any], ...]:
    return block_start(index), text_delta(words, index), block_stop(index)


def thought(index: int, signature: str = "c2ln") -> tuple[dict[str, Any], ...]:
    begin = block_start(index, "thinking", thinking="", signature="")
    signed = (block_delta(index, "signature_delta", signature=signature),) if signature else ()
    return (begin, block_delta(index, "thinking_delta", thinking="Hm"), *signed, block_stop(index))


def used(index: int, raw: str = '{"a": 1}', kind: str = "tool_use") -> tuple[dict[str, Any], ...]:
    names = {"server_tool_use": {"name": "web_search"}, "mcp_tool_use": {"name": "tides", "server_name": "harbour"}}
    begun = block_start(index, kind, id=f"toolu_{index}", input={}, **names.get(kind, {"name": "get_tide"}))
    return begun, input_delta(raw, index), block_stop(index)


def found(index: int, of: int, kind: str = "web_search_tool_result") -> tuple[dict[str, Any], ...]:
    return block(index, kind, tool_use_id=f"toolu_{of}", content=[])


SHAPES: dict[str, tuple[dict[str, Any], ...]] = {
    "nothing": (),
    "text": said(0, "A"),
    "blank text": (*said(0, " \n\t"), *said(1, "A"), *said(2, "")),
    "thinking only": thought(0),
    "thinking twice": (*thought(0), *thought(1), *block(2, "redacted_thinking", data="x")),
    "thinking and text": (*thought(0), *said(1, "A")),
    "thinking without its signature": (*thought(0, ""), *said(1, "A")),
    "thinking and a tool": (*thought(0), *used(1)),
    "thinking and bad input": (*thought(0), *used(1, '{"a": ')),
    "thinking between": (*said(0, "A"), *thought(1), *said(2, " "), *used(3, "{")),
    "a tool without input": (tool_use_start(0), block_stop(0)),
    "two tools": (*used(0), *used(1, "{")),
    "a search": (*said(0, "A"), *used(1, kind="server_tool_use"), *found(2, 1), *said(3, "B")),
    "a search without its result": (*said(0, "A"), *used(1, kind="server_tool_use"), *said(2, "B")),
    "two searches, one result": (*used(0, kind="server_tool_use"), *used(1, kind="server_tool_use"), *found(2, 1)),
    "a search and a tool": (*used(0, kind="server_tool_use"), *used(1)),
    "a search with bad input": (*used(0, "{", kind="server_tool_use"), *said(1, "A")),
    "mcp": (*used(0, kind="mcp_tool_use"), *found(1, 0, "mcp_tool_result")),
    "a result of an earlier reply": (*found(0, 9), *said(1, "A")),
    "an unknown block": (*block(0, "hologram", shape="cube"), *said(1, "A"), *block(2, "hologram", shape="cone")),
    "interleaved": (
        block_start(0),
        block_start(1, "hologram"),
        block_start(2),
        text_delta("A"),
        text_delta("B", 2),
        block_stop(2),
        block_stop(0),
        block_stop(1),
    ),
}
REASONS = [
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
    "compaction", None,
]  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_with_every_end(name: str) -> None:
    """Each mix of blocks, whole with each stop reason, and cut after each event."""
    cases = 0
    for reason in REASONS:
        events = [message_start(), *SHAPES[name], *([message_delta(reason)] if reason else []), MESSAGE_STOP]
        for count in range(len(events) + 1):
            arrived = events[:count]
            before = copy.deepcopy(arrived)
            for breaks in (False, True):
                _, result = play(sse(*arrived), breaks=breaks)
                check(result, arrived)
                cases += 1
            assert arrived == before
    print(f"{cases} cases")


def test_programmatic_tool_calls_keep_what_they_refer_to() -> None:
    """A client tool that a server tool called: its result comes in the next reply, so it has to be there."""
    caller = {"type": "code_execution_20250825", "tool_id": "toolu_0"}
    use = block_start(1, "tool_use", id="toolu_1", name="get_tide", input={}, caller=caller)
    events = (
        message_start(),
        *used(0, kind="server_tool_use"),
        use,
        input_delta("{}", 1),
        block_stop(1),
        message_delta("tool_use"),
        MESSAGE_STOP,
    )
    _, result = play(sse(*events))
    (message,) = result.new_messages()
    assert [block["id"] for block in message["content"]] == ["toolu_0", "toolu_1"]  # type: ignore[typeddict-item, union-attr, index]
    print("1 case")
