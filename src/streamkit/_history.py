"""The blocks of a reply, converted to blocks that the API accepts in a history.

The keys that a request may hold are read from the `TypedDict`s of the installed SDK, on first use. No function here
recurses over a reply: its JSON may be nested deeper than Python's stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, cast, get_args, get_origin

import pydantic
from anthropic.types import ContentBlockParam
from anthropic.types.beta import BetaContentBlockParam
from typing_extensions import NotRequired, Required, get_type_hints, is_typeddict

# The stop reasons of a reply that a limit cut, possibly in the middle of a block.
LIMITS = frozenset({"max_tokens", "model_context_window_exceeded"})
THINKING = ("thinking", "redacted_thinking")


class _Key(NamedTuple):
    """The description of a key in a `TypedDict` of the SDK."""

    forms: tuple[Any, ...]
    """The types that the value may have, without `Optional` and the like."""
    required: bool
    nullable: bool


def resendable_blocks(
    blocks: list[Any],
    *,
    beta: bool,
    unparsed: list[Any],
    unfinished: set[int] | frozenset[int],
    is_complete: bool,
    awaits_continuation: bool,
) -> list[dict[str, Any]]:
    """Return the blocks of a message that the API accepts in a history, in the form of a request.

    `unparsed` are the ids of tool uses without a valid input, `unfinished` the positions of blocks whose end did not
    arrive. `is_complete` is true for a complete message, `awaits_continuation` if a later message may answer its tool
    uses.
    """
    forms = _block_forms(beta)
    params = [_as_param(block, forms) for block in blocks]
    # Lists, not sets: an id that a broken server sent may not be hashable.
    kinds = [str(block.get("type")) for block in params]
    answered = [
        block.get("tool_use_id") for kind, block in zip(kinds, params, strict=True) if kind.endswith("_tool_result")
    ]
    kept: list[dict[str, Any]] = []
    left_out = False  # True if the block before this one was left out
    for position, (kind, block) in enumerate(zip(kinds, params, strict=True)):
        if kind == "text":
            keep = bool((block.get("text") or "").strip())
        elif kind == "thinking":
            keep = bool(block.get("signature"))
        elif kind == "tool_use":
            keep = is_complete and block.get("id") not in unparsed
        elif kind in ("server_tool_use", "mcp_tool_use"):
            # The result may arrive in the next reply: after a pause, or after the client's own tools have run.
            awaited = is_complete and awaits_continuation and block.get("id") not in unparsed
            keep = awaited or block.get("id") in answered
        else:
            # Blocks of other kinds usually arrive complete in their first event, but deltas may have been due.
            keep = is_complete or position not in unfinished or kind.endswith("_tool_result")
            keep = keep and type(block.get("type")) is str
        if keep:
            # The API refuses thinking next to other thinking that the model did not write beside it. Where the block
            # between two is left out, drop the earlier thinking, which led to that block. Keep the later one: the API
            # requires thinking before a tool use.
            if left_out and kind in THINKING:
                _drop_thinking(kept)
            kept.append(block)
        left_out = not keep
    _drop_thinking(kept)
    return kept


def _drop_thinking(blocks: list[dict[str, Any]]) -> None:
    """Remove thinking from the end of the blocks: the block that it led to is missing."""
    while blocks and blocks[-1]["type"] in THINKING:
        blocks.pop()


def _as_param(block: Any, forms: tuple[Any, ...]) -> dict[str, Any]:
    """Return a block of the SDK's message in the form of a request: a copy in plain JSON types.

    Leave out keys that the SDK's `TypedDict` for an object lacks, and nulls that it does not require: the API refuses
    some keys that it sends itself. Keep an object that no `TypedDict` describes as it is.
    """
    root: list[Any] = [None]
    todo: list[tuple[Any, tuple[Any, ...], Any, Any]] = [(block, forms, root, 0)]
    while todo:
        value, forms, target, place = todo.pop()
        if isinstance(value, pydantic.BaseModel):
            value = _fields_sent(value)
        if isinstance(value, dict):
            data = cast("dict[str, Any]", value)
            keys = _keys_for(data, forms)
            kept = data if keys is None else _only_known_keys(data, keys)
            target[place] = copied = {well_formed(name): None for name in kept}
            for name, item in kept.items():
                todo.append((item, () if keys is None else keys[name].forms, copied, well_formed(name)))
        elif isinstance(value, list):
            items = cast("Sequence[Any]", value)
            target[place] = copies = [None] * len(items)
            inner = next((_members(get_args(form)[0]) for form in forms if _is_list(form)), ())
            todo += [(item, inner, copies, position) for position, item in enumerate(items)]
        else:
            target[place] = well_formed(value)
    return root[0]  # type: ignore[no-any-return]


def _fields_sent(model: pydantic.BaseModel) -> dict[str, Any]:
    """Return the fields of a model that the API sent, by the API's names."""
    known = type(model).model_fields
    extra = model.model_extra or {}
    return {
        (known[name].alias or name) if name in known else name: value
        for name, value in model
        if name in model.model_fields_set or name in extra
    }


def _only_known_keys(value: dict[str, Any], keys: Mapping[str, _Key]) -> dict[str, Any]:
    """Return the part of an object that the SDK's `TypedDict` with these keys describes."""
    kept = {name: item for name, item in value.items() if name in keys and (item is not None or keys[name].required)}
    missing = [name for name, key in keys.items() if key.required and key.nullable and name not in value]
    return {**kept, **dict.fromkeys(missing)}


def well_formed(value: Any) -> Any:
    """Return text that UTF-8 can encode: join a pair of surrogates that two deltas split, replace single ones."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


# The SDK's types.


@cache
def _block_forms(beta: bool) -> tuple[Any, ...]:
    """Return the types of a block in a request; for the stable client, too, with those of beta, which it passes on."""
    return _members(BetaContentBlockParam) if beta else (*_members(ContentBlockParam), *_members(BetaContentBlockParam))


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the types that a hint allows, out of `Union`, `Optional`, `Required` and `Annotated`."""
    if get_origin(hint) in (Annotated, Required, NotRequired):
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return tuple(member for part in get_args(hint) for member in _members(part))
    return (hint,)


def _is_list(form: Any) -> bool:
    origin = get_origin(form)
    return isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping)


def _keys_for(value: dict[str, Any], forms: tuple[Any, ...]) -> Mapping[str, _Key] | None:
    """Return the keys of the `TypedDict` for an object, found by its `type`; `None` if any key, or no type, fits."""
    if any(get_origin(form) is dict for form in forms):
        return None
    kind = value.get("type")
    for form in forms:
        if is_typeddict(form):
            keys = _keys(form)
            named = keys.get("type")
            kinds = [name for name in get_args(named.forms[0]) if isinstance(name, str)] if named is not None else []
            # A `type` that is not a `Literal` does not tell the forms apart.
            if not kinds or kind in kinds or (kind is None and named is not None and not named.required):
                return keys
    return None


@cache
def _keys(form: Any) -> Mapping[str, _Key]:
    keys: dict[str, _Key] = {}
    for name, hint in get_type_hints(form, include_extras=True).items():
        members = _members(hint)
        origin: Any = get_origin(hint)
        required = origin is Required or (form.__total__ and origin is not NotRequired)
        forms = tuple(member for member in members if member is not type(None))
        keys[name] = _Key(forms, required, nullable=len(forms) < len(members))
    return keys
