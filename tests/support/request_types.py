"""What the SDK's own `TypedDict`s let a request hold, checked strictly: no unknown key, no needless null."""

from __future__ import annotations

import collections.abc
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import anthropic
from anthropic.types import ContentBlockParam
from anthropic.types.beta import BetaContentBlockParam
from typing_extensions import Required, get_type_hints, is_typeddict


@cache
def keys_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def complaints(blocks: list[Any], *, beta: bool) -> list[str]:
    """What is wrong with the blocks of a message in a request; nothing with those that the SDK has no type for.

    A stable client may hand on what only the beta one has types for.
    """
    kinds = [*get_args(BetaContentBlockParam), *(() if beta else get_args(ContentBlockParam))]
    found = []
    for number, block in enumerate(blocks):
        named = [kind for kind in kinds if _is_named(block, kind)]
        found += min((_wrong(block, kind, f"content[{number}]") for kind in named), key=len, default=[])
    return found


def _wrong(value: Any, hint: Any, at: str) -> list[str]:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Annotated, Required):
        return _wrong(value, args[0], at)
    if origin in (Union, UnionType):
        named = [arg for arg in args if _is_named(value, arg) or get_origin(arg) is dict]
        return min((_wrong(value, arg, at) for arg in named or args), key=len)
    if is_typeddict(hint):
        return _wrong_keys(value, hint, at)
    if origin is Literal:
        return [] if value in args else [f"{at} is {value!r}, not one of {args}"]
    if origin is dict:
        return [] if isinstance(value, dict) else [f"{at} is no object"]
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable):
        if not isinstance(value, list):
            return [f"{at} is no list"]
        return [wrong for number, item in enumerate(value) for wrong in _wrong(item, args[0], f"{at}[{number}]")]
    if hint is object:
        return []
    if not isinstance(hint, type) or issubclass(hint, anthropic.BaseModel):
        return [f"{at} is none of the SDK's models, which a request may hold, too"]
    return [] if isinstance(value, hint) else [f"{at} is {value!r}, no {hint.__name__}"]


def _is_named(value: Any, kind: Any) -> bool:
    hint = keys_of(kind).get("type") if is_typeddict(kind) else None
    while get_origin(hint) in (Annotated, Required):
        hint = get_args(hint)[0]
    return get_origin(hint) is Literal and isinstance(value, dict) and value.get("type") in get_args(hint)


def _wrong_keys(value: Any, kind: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at} is no object"]
    keys = keys_of(kind)
    found = [f"{at}.{name} is no key of {kind.__name__}" for name in value if name not in keys]
    found += [f"{at} lacks {name}" for name, hint in keys.items() if get_origin(hint) is Required and name not in value]
    for name, item in value.items():
        if name in keys:
            if item is None and get_origin(keys[name]) is not Required:
                found.append(f"{at}.{name} is null")
            found += _wrong(item, keys[name], f"{at}.{name}")
    return found
