"""Pickling of JSON at any depth, as a flat list of its parts.

`pickle` recurses over nested objects and fails beyond some hundred levels; a server may send more.
"""

from __future__ import annotations

from typing import Any, cast

import anthropic


def flatten(root: Any) -> list[tuple[Any, Any, list[int]]]:
    """Return each dict, list and SDK model within `root`, once, with the positions of its parts in the list.

    Keep all other values as they are, for `pickle`.
    """
    found: list[Any] = [root]  # keeps each object alive, so that its `id` is not reused
    positions = {id(root): 0}

    def position(part: Any) -> int:
        at = positions.setdefault(id(part), len(found))
        if at == len(found):
            found.append(part)
        return at

    flat: list[tuple[Any, Any, list[int]]] = []
    for item in found:  # grows during the loop
        kind = cast("Any", type(item))
        if kind is dict:
            flat.append((dict, list(item), [position(part) for part in item.values()]))
        elif kind is list:
            flat.append((list, None, [position(part) for part in item]))
        elif isinstance(item, anthropic.BaseModel):
            flat.append((kind, None, [position(item.__getstate__())]))
        else:
            flat.append((None, item, []))
    return flat


def unflatten(flat: list[tuple[Any, Any, list[int]]]) -> Any:
    """Rebuild the object that `flatten` was given."""
    items = [value if kind is None else kind.__new__(kind) for kind, value, _ in flat]
    for item, (kind, keys, parts) in zip(items, flat, strict=True):
        if kind is dict:
            item.update(zip(keys, (items[part] for part in parts), strict=True))
        elif kind is list:
            item.extend(items[part] for part in parts)
    for item, (_, _, parts) in zip(items, flat, strict=True):
        if isinstance(item, anthropic.BaseModel) and parts:  # last, once the dicts that hold its state are filled
            item.__setstate__(items[parts[0]])
    return items[0]
