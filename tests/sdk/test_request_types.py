"""Every block and citation that the installed SDK knows goes back as its own types for requests have it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
import pytest
from anthropic.types import ContentBlock, ContentBlockParam, Message
from anthropic.types.beta import BetaCompactionBlockParam, BetaContentBlock, BetaContentBlockParam, BetaMessage
from typing_extensions import get_type_hints, is_typeddict

from streamkit import StreamResult, Timing
from tests.support.request_types import complaints, keys_of


def members(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        yield from members(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from members(part)
    else:
        yield hint


def samples(hint: Any) -> list[Any]:
    """Values that the API may send for a field: each kind that it may be of, and null where that is allowed."""
    if get_origin(hint) is Annotated or get_origin(hint) in (Union, UnionType):
        return [value for kind in members(hint) for value in samples(kind)]
    if get_origin(hint) is Literal:
        return list(get_args(hint)[:1])
    if get_origin(hint) is list:
        return [[], samples(get_args(hint)[0])]
    if get_origin(hint) is dict or hint is object:
        return [{"a": None, "b": [None]}]
    if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel):
        return blocks_of(hint)
    return [{str: "x", int: 1, float: 1.0, bool: True, NoneType: None}[hint]]


def blocks_of(model: type[pydantic.BaseModel]) -> list[dict[str, Any]]:
    """Objects of a model: each value of each field is in one of them, and one has only the required fields."""
    fields = {
        field.alias or name: (field.is_required(), samples(field.annotation))
        for name, field in model.model_fields.items()
    }
    most = max(len(values) for _, values in fields.values())
    made = [
        {name: values[number % len(values)] for name, (_, values) in fields.items()}
        | {"field_of_tomorrow": {"a": None}}
        for number in range(most)
    ]
    return [*made, {name: values[0] for name, (required, values) in fields.items() if required}]


def result_of(blocks: list[Any], *, beta: bool) -> StreamResult[Any, Any]:
    message: Any = (BetaMessage if beta else Message).construct(
        id="m",
        type="message",
        role="assistant",
        model="m",
        content=copy.deepcopy(blocks),
        usage={},
        stop_reason="tool_use",
    )
    return StreamResult(
        text="", thinking="", tool_uses=(), message=message, usage=message.usage, usage_final=True,
        stop_reason="tool_use", stop_details=None, status="complete", error=None, parsed_output=None, parse_error=None,
        invalid_tool_input=(), timing=Timing(None, None, 0.0, 0.0), attempts=1, request_id=None,
    )  # fmt: skip


def kind_of(model: Any) -> str:
    return get_args(model.model_fields["type"].annotation)[0]


CASES = [
    pytest.param(model, beta, id=f"{kind_of(model)}{'-beta' if beta else ''}")
    for beta, union in ((False, ContentBlock), (True, BetaContentBlock))
    for model in members(union)
]


@pytest.mark.parametrize(("model", "beta"), CASES)
def test_a_block_of_each_kind(model: Any, beta: bool) -> None:
    """With every field and each kind of value of it, and with fields that no version knows."""
    count, keys = 0, {name for kind in named(kind_of(model), beta) for name in keys_of(kind)}
    assert keys, "the SDK has a type for it"
    for block in blocks_of(model):
        text = {"type": "text", "text": "x"}
        given = [block, text] if "thinking" in block["type"] else [block]
        (message,) = result_of(given, beta=beta).new_messages()
        assert complaints(message["content"], beta=beta) == []
        kept = message["content"][0]
        lost = [name for name, value in block.items() if name not in kept and value is not None and name in keys]
        assert lost == []
        if "input" in block:
            assert kept["input"] == block["input"], "what a model wrote for a tool keeps its nulls"
        count += 1
    print(f"{count} blocks")


def named(kind: str, beta: bool) -> list[Any]:
    params = [form for form in members(BetaContentBlockParam if beta else ContentBlockParam) if is_typeddict(form)]
    return [form for form in params if kind in get_args(get_type_hints(form)["type"])]


def test_the_check_finds_what_a_request_may_not_hold() -> None:
    text = {"type": "text", "text": "x"}
    wrong: dict[str, list[dict[str, Any]]] = {
        "content[0].citations is null": [{**text, "citations": None}],
        "content[0].parsed_output is no key of BetaTextBlockParam": [{**text, "parsed_output": {}}],
        "content[0] lacks text": [{"type": "text"}],
        "content[1].text is 5, no str": [text, {"type": "text", "text": 5}],
        "content[0].caller is null": [{"type": "tool_use", "id": "x", "name": "x", "input": {}, "caller": None}],
    }
    for said, blocks in wrong.items():
        assert said in complaints(blocks, beta=False)
    citation = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None}
    citation |= {"start_char_index": 0, "end_char_index": 1}
    assert complaints([{**text, "citations": [citation]}], beta=False) == []
    assert complaints([{**text, "citations": [{**citation, "file_id": None}]}], beta=False) != []


@pytest.mark.skipif("tool_changes" not in keys_of(BetaCompactionBlockParam), reason="this SDK has no tool changes")
def test_what_may_hold_any_key_keeps_them_all() -> None:
    schema = {"type": "object", "properties": {"a": None}, "additionalProperties": False, "default": None}
    tool = {"type": "tool_definition", "definition": {"name": "x", "input_schema": schema}}
    block = {"type": "compaction", "content": "x", "tool_changes": [{"type": "tool_addition", "tool": tool}]}
    (message,) = result_of([block], beta=True).new_messages()
    assert message["content"] == [block]


def test_what_the_sdk_has_no_type_for_stays_as_it_is() -> None:
    hologram = {"type": "hologram", "shape": None, "citations": None, "parts": [{"type": "text", "citations": None}]}
    cited = {"type": "text", "text": "x", "citations": [{"type": "hologram_location", "at": None}]}
    for beta in (False, True):
        (message,) = result_of([hologram, cited], beta=beta).new_messages()
        assert message["content"] == [hologram, cited]


def test_a_citation_without_a_title_gets_the_null_that_a_request_asks_for() -> None:
    cited: dict[str, Any] = {
        "type": "web_search_result_location",
        "cited_text": "x",
        "encrypted_index": "x",
        "url": "x",
    }
    block = {"type": "text", "text": "x", "citations": [{**cited, "file_id": "f"}]}
    (message,) = result_of([block], beta=False).new_messages()
    assert message["content"] == [{**block, "citations": [{**cited, "title": None}]}]


def test_blocks_that_only_the_beta_client_knows_through_the_stable_one() -> None:
    block = {
        "type": "mcp_tool_use",
        "id": "x",
        "name": "x",
        "input": {"a": None},
        "server_name": "x",
        "citations": None,
    }
    (message,) = result_of([block], beta=False).new_messages()
    assert complaints(message["content"], beta=True) == []
    assert set(block) - set(message["content"][0]) == {"citations"}
