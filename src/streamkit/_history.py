"""From the blocks of a reply to what the API accepts in a history.

What a request may hold is read from the SDK's own `TypedDict`s, whichever version is installed, when it is first asked
for. Nothing here recurses over a reply: JSON in it may be nested deeper than Python's stack.
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

# Stop reasons of a reply that was cut at a limit, in the middle of whatever the model was writing.
LIMITS = frozenset({"max_tokens", "model_context_window_exceeded"})
_THINKING = ("thinking", "redacted_thinking")


class _Key(NamedTuple):
    """What a `TypedDict` of the SDK says of one of its keys."""

    forms: tuple[Any, ...]
    """The types that its value may have, without `Optional` and the like."""
    required: bool
    nullable: bool


def acceptable(
    blocks: list[Any],
    *,
    beta: bool,
    unparsed: list[Any],
    unfinished: set[int] | frozenset[int],
    whole: bool,
    goes_on: bool,
) -> list[dict[str, Any]]:
    """The blocks of a message that the API accepts in a history, in the form of a request.

    `unparsed` are the ids of tool uses without a valid input, `unfinished` the positions of blocks whose end did not
    arrive. `whole` says that the message is, and `goes_on` that what it began may be answered in the next one.
    """
    forms = _block_forms(beta)
    params = [_as_param(block, forms) for block in blocks]
    # Lists, not sets: what a broken peer sends as an id may not be hashable.
    kinds = [str(block.get("type")) for block in params]
    answered = [
        block.get("tool_use_id") for kind, block in zip(kinds, params, strict=True) if kind.endswith("_tool_result")
    ]
    kept: list[dict[str, Any]] = []
    left_out = False  # since the last block that was kept
    for position, (kind, block) in enumerate(zip(kinds, params, strict=True)):
        if kind == "text":
            keep = bool((block.get("text") or "").strip())
        elif kind == "thinking":
            keep = bool(block.get("signature"))
        elif kind == "tool_use":
            keep = whole and block.get("id") not in unparsed
        elif kind in ("server_tool_use", "mcp_tool_use"):
            # The result of one may come in the next reply: after a pause, or after the client's own tools have run.
            keep = block.get("id") in answered or (whole and goes_on and block.get("id") not in unparsed)
        else:
            # Every other kind usually arrives whole in its first event, but may still have waited for deltas.
            keep = whole or position not in unfinished or kind.endswith("_tool_result")
            keep = keep and type(block.get("type")) is str
        if keep:
            # The API takes thinking back as the model gave it: before what it led to, never as the neighbour of other
            # thinking that it did not stand beside. The earlier goes, as what it led to is gone; the later still leads
            # to what follows, and the message still begins its tool use with thinking, which the API asks for.
            if left_out and kind in _THINKING:
                _drop_thinking(kept)
            kept.append(block)
        left_out = not keep
    _drop_thinking(kept)
    return kept


def _drop_thinking(blocks: list[dict[str, Any]]) -> None:
    """Leave out thinking at the end of the blocks, as what it led to is not there."""
    while blocks and blocks[-1]["type"] in _THINKING:
        blocks.pop()


def _as_param(block: Any, forms: tuple[Any, ...]) -> dict[str, Any]:
    """A block of the SDK's message in the form of a request: a copy in plain JSON types.

    Where the SDK has a `TypedDict` for it or for a part of it, keys that this lacks, and nulls that it does not ask
    for, are left out: the API sends some that it does not take back. What no `TypedDict` describes stays as it is.
    """
    given: list[Any] = [None]
    todo: list[tuple[Any, tuple[Any, ...], Any, Any]] = [(block, forms, given, 0)]
    while todo:
        value, forms, target, place = todo.pop()
        if isinstance(value, pydantic.BaseModel):
            value = _fields_given(value)
        if isinstance(value, dict):
            data = cast("dict[str, Any]", value)
            keys = _keys_for(data, forms)
            kept = data if keys is None else _fitting(data, keys)
            target[place] = made = {_well_formed(name): None for name in kept}
            for name, item in kept.items():
                todo.append((item, () if keys is None else keys[name].forms, made, _well_formed(name)))
        elif isinstance(value, list):
            items = cast("Sequence[Any]", value)
            target[place] = copies = [None] * len(items)
            inner = next((_members(get_args(form)[0]) for form in forms if _is_list(form)), ())
            todo += [(item, inner, copies, position) for position, item in enumerate(items)]
        else:
            target[place] = _well_formed(value)
    return given[0]  # type: ignore[no-any-return]


def _fields_given(model: pydantic.BaseModel) -> dict[str, Any]:
    """The fields of a model that the API sent, by the API's names."""
    known = type(model).model_fields
    extra = model.model_extra or {}
    return {
        (known[name].alias or name) if name in known else name: value
        for name, value in model
        if name in model.model_fields_set or name in extra
    }


def _fitting(value: dict[str, Any], keys: Mapping[str, _Key]) -> dict[str, Any]:
    """What of an object the SDK's `TypedDict` with these keys takes."""
    fits = {name: item for name, item in value.items() if name in keys and (item is not None or keys[name].required)}
    missing = [name for name, key in keys.items() if key.required and key.nullable and name not in value]
    return {**fits, **dict.fromkeys(missing)}


def _well_formed(value: Any) -> Any:
    """Text that can be sent: surrogates that make a pair are joined, as when two deltas split one; others replaced."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


# What the SDK's types say.


@cache
def _block_forms(beta: bool) -> tuple[Any, ...]:
    """The forms of a block in a request. The stable client, too, hands on what only the beta one has types for."""
    return _members(BetaContentBlockParam) if beta else (*_members(ContentBlockParam), *_members(BetaContentBlockParam))


def _members(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows, out of `Union`, `Optional`, `Required` and `Annotated`."""
    if get_origin(hint) in (Annotated, Required, NotRequired):
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return tuple(member for part in get_args(hint) for member in _members(part))
    return (hint,)


def _is_list(form: Any) -> bool:
    origin = get_origin(form)
    return isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping)


def _keys_for(value: dict[str, Any], forms: tuple[Any, ...]) -> Mapping[str, _Key] | None:
    """The keys of the `TypedDict` that describes an object, by its `type`; `None` where none does, or any key fits."""
    if any(get_origin(form) is dict for form in forms):
        return None
    kind = value.get("type")
    for form in forms:
        if is_typeddict(form):
            keys = _keys(form)
            named = keys.get("type")
            kinds = [name for name in get_args(named.forms[0]) if isinstance(name, str)] if named is not None else []
            # Without names in a `Literal`, it is a key like any other.
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
