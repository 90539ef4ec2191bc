"""The beta API: each block, delta and field of the SDK's own types."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from anthropic.types.beta import (
    BetaContentBlock,
    BetaMessage,
    BetaRawContentBlockDelta,
    BetaRawMessageDeltaEvent,
    BetaRawMessageStreamEvent,
)

import streamkit
from streamkit import StreamAPIError, StreamConnectionError, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import OLD_SDK, PARAMS, assert_no_connection_in_use, client_for, sdk_client
from tests.support.events import (
    MESSAGE_STOP,
    block_start,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    text_delta,
    tool_use_start,
)
from tests.support.harness import awaited, read_all, run
from tests.support.messages import plain

MODES = ["sync", "asyncio"]

PLACE = {"cited_text": "Tides", "document_index": 0, "document_title": None, "file_id": None}


def result_of(name: str, *contents: Any) -> list[dict[str, Any]]:
    """A block of a server tool's result for each of these contents."""
    return [{"type": name, "tool_use_id": "srvtoolu_1", "content": content} for content in contents]


def failed(name: str, code: str = "unavailable") -> dict[str, Any]:
    return {"type": f"{name}_error", "error_code": code}


def ran(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "return_code": 0, "stderr": "", **fields}


PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}

PLAIN = {"type": "text", "media_type": "text/plain", "data": "High at noon."}

EDITED = "text_editor_code_execution"

REMOVED = [
    {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "get_tide"}},
    {"type": "tool_removal", "tool": {"type": "mcp_tool_reference", "name": "get_tide", "server_name": "sea"}},
    {"type": "tool_addition", "tool": {"type": "mcp_toolset_reference", "server_name": "sea"}},
]

# Finished blocks by their type; each is streamed with the deltas that the API streams it with.
BLOCKS: dict[str, list[dict[str, Any]]] = {
    "text": [
        {"type": "text", "text": "Tides come twice a day."},
        {
            "type": "text",
            "text": "Cited.",
            "citations": [
                {"type": "char_location", **PLACE, "start_char_index": 0, "end_char_index": 5},
                {"type": "page_location", **PLACE, "start_page_number": 1, "end_page_number": 2},
                {"type": "content_block_location", **PLACE, "start_block_index": 0, "end_block_index": 1},
                {
                    "type": "web_search_result_location",
                    "cited_text": "Tides",
                    "encrypted_index": "QQ==",
                    "title": None,
                    "url": "https://sea.example/",
                },
                {
                    "type": "search_result_location",
                    "cited_text": "Tides",
                    "search_result_index": 0,
                    "source": "almanac",
                    "title": "Almanac",
                    "start_block_index": 0,
                    "end_block_index": 1,
                },
            ],
        },
    ],
    "thinking": [{"type": "thinking", "thinking": "The moon, and the sun.", "signature": "c2ln"}],
    "redacted_thinking": [{"type": "redacted_thinking", "data": "QUJD"}],
    "tool_use": [
        {"type": "tool_use", "id": f"toolu_{at}", "name": "get_tide", "input": {"harbour": "Brest"}, "caller": caller}
        for at, caller in enumerate(
            [
                {"type": "direct"},
                {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"},
                {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"},
            ]
        )
    ],
    "server_tool_use": [
        {"type": "server_tool_use", "id": f"srvtoolu_{at}", "name": name, "input": {"query": "tide, Brest"}}
        for at, name in enumerate(["web_search", "web_fetch", "code_execution"])
    ],
    "web_search_tool_result": result_of(
        "web_search_tool_result",
        [{"type": "web_search_result", "url": "https://sea.example/", "title": "Sea", "encrypted_content": "QQ=="}],
        failed("web_search_tool_result"),
    ),
    "web_fetch_tool_result": result_of(
        "web_fetch_tool_result",
        *(
            {"type": "web_fetch_result", "url": "https://sea.example/", "content": {"type": "document", "source": got}}
            for got in (PDF, PLAIN)
        ),
        failed("web_fetch_tool_result"),
    ),
    "advisor_tool_result": result_of(
        "advisor_tool_result",
        {"type": "advisor_result", "text": "Look at the moon.", "stop_reason": "end_turn"},
        {"type": "advisor_redacted_result", "encrypted_content": "QQ=="},
        failed("advisor_tool_result"),
    ),
    "code_execution_tool_result": result_of(
        "code_execution_tool_result",
        ran("code_execution_result", stdout="6.5", content=[{"type": "code_execution_output", "file_id": "file_1"}]),
        ran("encrypted_code_execution_result", encrypted_stdout="QQ==", content=[]),
        failed("code_execution_tool_result"),
    ),
    "bash_code_execution_tool_result": result_of(
        "bash_code_execution_tool_result",
        ran(
            "bash_code_execution_result",
            stdout="6.5",
            content=[{"type": "bash_code_execution_output", "file_id": "file_1"}],
        ),
        failed("bash_code_execution_tool_result"),
    ),
    f"{EDITED}_tool_result": result_of(
        f"{EDITED}_tool_result",
        {"type": f"{EDITED}_view_result", "content": "6.5", "file_type": "text", "num_lines": 1},
        {"type": f"{EDITED}_create_result", "is_file_update": False},
        {"type": f"{EDITED}_str_replace_result", "lines": ["6.5"], "new_lines": 1},
        failed(f"{EDITED}_tool_result"),
    ),
    "tool_search_tool_result": result_of(
        "tool_search_tool_result",
        {
            "type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "get_tide"}],
        },
        failed("tool_search_tool_result"),
    ),
    "mcp_tool_use": [
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "get_tide", "server_name": "sea", "input": {"at": [1, 2]}}
    ],
    "mcp_tool_result": [
        {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": content}
        for content in ("6.5", [{"type": "text", "text": "6.5"}])
    ],
    "mcp_tool_listing": [
        {
            "type": "mcp_tool_listing",
            "mcp_server_name": "sea",
            "tools": [{"name": "get_tide", "input_schema": {"type": "object"}}],
        }
    ],
    "container_upload": [{"type": "container_upload", "file_id": "file_1"}],
    "compaction": [
        {"type": "compaction", "content": "They spoke of tides."},
        {"type": "compaction", "content": None, "encrypted_content": "QQ==", "signature": "c2ln"},
        {"type": "compaction", "content": "They spoke of tides.", "encrypted_content": "QQ==", "tool_changes": REMOVED},
    ],
    "fallback": [
        {
            "type": "fallback",
            "from": {"model": "claude-one"},
            "to": {"model": "claude-two"},
            "trigger": {"type": "refusal", "category": "bio"},
        }
    ],
}

COUNTS = {"input_tokens": 5, "output_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2}

SERVED = {"cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0}, **COUNTS}
# What the last `message_delta` of such a message says, beside its stop reason.
LAST_DELTA = {
    "container": {
        "id": "container_1",
        "expires_at": "2030-01-01T00:00:00Z",
        "skills": [
            {"type": "anthropic", "skill_id": "pptx", "version": "1"},
            {"type": "custom", "skill_id": "skill_1", "version": "2"},
        ],
    },
    "stop_details": {"type": "refusal", "category": "bio", "explanation": "No.", "recommended_model": None},
}

LAST_USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 4,
    "cache_read_input_tokens": 6,
    "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 2},
    "output_tokens_details": {"thinking_tokens": 3},
    "fallback_credit": {"status": {"type": "not_applied", "reason": "expired", "remove_to_redeem": None}},
    "iterations": [
        {"type": "message", "model": "claude-one", **SERVED},
        {"type": "compaction", **SERVED},
        {"type": "advisor_message", "model": "claude-two", **SERVED},
        {"type": "fallback_message", "model": "claude-two", **SERVED},
    ],
}

LAST_FIELDS = {
    "context_management": {
        "applied_edits": [
            {"type": "clear_tool_uses_20250919", "cleared_input_tokens": 9, "cleared_tool_uses": 1},
            {"type": "clear_thinking_20251015", "cleared_input_tokens": 9, "cleared_thinking_turns": 1},
        ]
    },
    "input_transformations": [
        {"type": kind, "path": "messages.1.content.0", "reason": "model_binding_mismatch"}
        for kind in ("thinking_dropped", "thinking_mismatch_allowed")
    ],
}

FIRST = {
    "diagnostics": {"cache_miss_reason": {"type": "model_changed", "cache_missed_input_tokens": 7}},
    "container": {"id": "container_0", "expires_at": "2030-01-01T00:00:00Z"},
    "stop_details": None,
    **LAST_FIELDS,
}

FIRST_USAGE = {
    "input_tokens": 9,
    "output_tokens": 1,
    "service_tier": "standard",
    "speed": "fast",
    "inference_geo": "eu",
    "cache_creation": SERVED["cache_creation"],
}


def last(stop_reason: str = "end_turn") -> dict[str, Any]:
    """A `message_delta` with every field that one can have."""
    event = message_delta(stop_reason, **LAST_USAGE)
    return {**event, "delta": {**event["delta"], **LAST_DELTA}, **LAST_FIELDS}


REDEEMED = {**last(), "usage": {**LAST_USAGE, "fallback_credit": {"status": {"type": "redeemed"}}, "output_tokens": 9}}

FIELDS = Reply.events(
    message_start(usage=FIRST_USAGE, **FIRST),
    block_start(),
    text_delta("Hi."),
    block_stop(),
    message_delta(None, 2),
    REDEEMED,
    last(),
    MESSAGE_STOP,
)

REPLIES = {"message fields": FIELDS, **{kind: Reply.blocks(*blocks) for kind, blocks in BLOCKS.items()}}

# Types that the SDK has and these replies do not, and why.
LEFT_OUT = {
    "tool_definition": "a tool as a request defines it, within a change of tools: plain data that is handed on whole",
    **dict.fromkeys(
        ("system_changed", "tools_changed", "messages_changed", "previous_message_not_found", "unavailable"),
        "another reason for a cache miss, of which one is enough: it comes whole, within `message_start`",
    ),
}


def events_of(reply: Reply) -> Iterator[dict[str, Any]]:
    for frame in reply.frames:
        yield json.loads(frame.split(b"data: ", 1)[1])


def said(value: Any, *, names: bool = False) -> set[str]:
    """Each `type` within a value; with `names`, the name of each field."""
    if isinstance(value, list):
        return set().union(*(said(item, names=names) for item in value))
    if not isinstance(value, dict):
        return set()
    found = set(value) if names else {value["type"]} if isinstance(value.get("type"), str) else set()
    return found.union(*(said(item, names=names) for item in value.values()))


def models(annotation: Any) -> Iterator[Any]:
    """The SDK's models within an annotation, and those within them, but for what is left out."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        if set(kinds(annotation)) & set(LEFT_OUT):
            return
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for inner in typing.get_args(annotation):
        yield from models(inner)


def kinds(model: Any) -> tuple[str, ...]:
    field = model.model_fields.get("type")
    return () if field is None else tuple(kind for kind in typing.get_args(field.annotation) if isinstance(kind, str))


def members(union: Any) -> dict[str, Any]:
    return {kind: model for model in typing.get_args(typing.get_args(union)[0]) for kind in kinds(model)}


UNIONS = (BetaRawMessageStreamEvent, BetaRawContentBlockDelta, BetaContentBlock, BetaMessage)


@pytest.mark.skipif(OLD_SDK, reason="the tables are those of newer SDKs, which know all that older ones do")
class TestNothingNewIsMissed:
    """A type or field that a new SDK brings has to be added to the tables above, or left out with a reason."""

    def test_types(self) -> None:
        known = {kind for union in UNIONS for model in models(union) for kind in kinds(model)}
        tried = set().union(*(said(event) for reply in REPLIES.values() for event in events_of(reply)))
        assert known - tried == set()
        assert set(LEFT_OUT).isdisjoint(tried)
        assert {*members(BetaRawContentBlockDelta), *members(BetaContentBlock)} <= tried

    def test_fields_of_the_message(self) -> None:
        events = list(events_of(FIELDS))
        delta_model, usage_model = (
            BetaRawMessageDeltaEvent.model_fields[name].annotation for name in ("delta", "usage")
        )
        for model in (BetaMessage, *models(BetaMessage.model_fields["usage"].annotation)):
            assert set(model.model_fields) - said(events, names=True) == set(), model
        for event in (events[-2], events[-3]):
            assert set(BetaRawMessageDeltaEvent.model_fields) == set(event)
            assert set(delta_model.model_fields) == set(event["delta"])
            assert set(usage_model.model_fields) == set(event["usage"])

    @pytest.mark.parametrize("kind", BLOCKS)
    def test_the_blocks_are_such_as_the_sdk_expects(self, kind: str) -> None:
        for block in BLOCKS[kind]:
            assert block["type"] == kind
            members(BetaContentBlock)[kind].model_validate(block, strict=True)


async def by_sdk(mode: str, resource: Any, **params: Any) -> tuple[Any, list[Any]]:
    """The final message of the SDK's helper, and what its raw iterator yields."""
    if mode == "sync":
        with resource.stream(**params) as helper, resource.create(**params, stream=True) as raw:
            return plain(helper.get_final_message()), list(raw)
    async with resource.stream(**params) as helper, await resource.create(**params, stream=True) as raw:
        return plain(await helper.get_final_message()), [event async for event in raw]


def old_sdk_lacks(kind: str) -> bool:
    return kind in BLOCKS and kind not in members(BetaContentBlock)


@pytest.mark.parametrize("kind", REPLIES)
@pytest.mark.parametrize("mode", MODES)
def test_the_message_and_the_events_are_those_of_the_sdk(mode: str, kind: str) -> None:
    if old_sdk_lacks(kind):
        pytest.skip("this SDK does not know the block")

    async def main() -> None:
        with serve(REPLIES[kind], repeat=True) as server:
            async with client_for(mode, server) as client:
                resource = client.beta.messages
                message, events = await by_sdk(mode, resource, **PARAMS)
                text, ours = streamkit.stream_text(resource, **PARAMS), streamkit.stream_events(resource, **PARAMS)
                pieces = await read_all(text)
                assert await read_all(ours) == events
                collected = await awaited(streamkit.collect(resource, **PARAMS))
                for result in (text.result, ours.result, collected):
                    assert plain(result.message) == message
                    assert type(result.message) is BetaMessage
                    assert (result.ok, result.text) == (True, "".join(pieces))
                    assert plain(result.usage) == message["usage"]
                whole = await awaited(streamkit.streamed(resource.create)(**PARAMS))
                assert plain(whole) == message
                # The other way in, by the SDK's own iterator.
                if mode == "sync":
                    with resource.stream(**PARAMS) as helper:
                        assert plain(streamkit.collect(helper).message) == message
                else:
                    async with resource.stream(**PARAMS) as helper:
                        assert plain((await streamkit.collect(helper)).message) == message

    run(mode, main)


def test_every_field_reaches_the_result() -> None:
    with serve(FIELDS) as server:
        result = streamkit.collect(sdk_client(server).beta.messages, **PARAMS)
    message = result.message.to_dict(mode="json", warnings=False)
    usage = result.usage.to_dict(mode="json", warnings=False)
    if OLD_SDK:  # adds what it has a field for and did not come
        usage["iterations"] = [{k: v for k, v in entry.items() if v is not None} for entry in usage["iterations"]]
    assert {name: message[name] for name in LAST_FIELDS} == LAST_FIELDS
    assert {name: message[name] for name in LAST_DELTA} == LAST_DELTA
    assert {name: usage[name] for name in LAST_USAGE} == LAST_USAGE
    assert message["diagnostics"] == FIRST["diagnostics"]
    assert (usage["service_tier"], usage["output_tokens"]) == ("standard", 7)


# One of each, which is a message that no model would give.
ALL = Reply.blocks(*(blocks[-1] for kind, blocks in BLOCKS.items() if not old_sdk_lacks(kind)))


@pytest.mark.parametrize("way", ["by bytes", "by events"])
def test_cut_anywhere_the_message_is_as_far_as_the_sdk_has_it(way: str) -> None:
    counts = range(3, len(ALL.frames))  # from the first block on, up to the `message_delta`
    with serve(*(ALL.cut(after_events=count) for count in counts for _ in range(2))) as server:
        resource = sdk_client(server).beta.messages
        for count in counts:
            with resource.stream(**PARAMS) as helper:
                message = plain(helper.get_final_message())  # the SDK says nothing of the rest
            if way == "by bytes":
                result = streamkit.collect(resource, on_error="return", retries=0, **PARAMS)
            else:
                with resource.stream(**PARAMS) as helper:
                    result = streamkit.collect(helper, on_error="return")
            if count == counts[-1]:
                assert result.ok
            else:
                assert isinstance(result.error, StreamTruncatedError)
            assert plain(result.message) == message, ALL.frames[count - 1]


@pytest.mark.parametrize("mode", MODES)
def test_other_endings(mode: str) -> None:
    """After a compaction and a tool use of an MCP server, within the text."""
    reply = Reply.blocks(BLOCKS["compaction"][0], BLOCKS["mcp_tool_use"][0], {"type": "text", "text": "One two"})
    at = len(reply.frames) - 4

    async def main() -> None:
        with serve(reply.error("overloaded_error", after_events=at), reply.reset(after_events=at), reply) as server:
            async with client_for(mode, server) as client:
                results = []
                for _ in range(2):
                    found = streamkit.collect(client.beta.messages, on_error="return", **PARAMS)
                    results.append(await awaited(found))
                stream = streamkit.stream_text(client.beta.messages, **PARAMS)
                if mode == "sync":
                    with stream:
                        assert next(stream) == "One "
                    assert_no_connection_in_use(client)
                else:
                    async with stream:
                        assert await stream.__anext__() == "One "
                    assert_no_connection_in_use(client)
                results.append(stream.result)
        assert [(type(result.error), result.status) for result in results] == [
            (StreamAPIError, "failed"),
            (StreamConnectionError, "disconnected"),
            (type(None), "interrupted"),
        ]
        for result in results:
            assert [block.type for block in result.message.content] == ["compaction", "mcp_tool_use", "text"]
            assert result.message.content[0].content == "They spoke of tides."
            assert result.message.content[1].input == {"at": [1, 2]}
            assert result.text == "One "

    run(mode, main)


@pytest.mark.parametrize("fine_grained", [False, True])
def test_tool_input_that_is_cut_is_read_as_the_request_asked_for_it(fine_grained: bool) -> None:
    """With fine-grained streaming, the SDK keeps a string that is not whole."""
    reply = Reply.events(message_start(), tool_use_start(), input_delta('{"place": "Bre'))
    betas = ["fine-grained-tool-streaming-2025-05-14"] if fine_grained else ["files-api-2025-04-14"]
    with serve(reply) as server:
        result = streamkit.collect(
            sdk_client(server).beta.messages, **PARAMS, betas=betas, retries=0, on_error="return"
        )
    assert result.message is not None
    block: Any = result.message.content[0]
    assert block.input == ({"place": "Bre"} if fine_grained else {})
