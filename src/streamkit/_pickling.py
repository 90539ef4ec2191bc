"""JSON in pickles, however deep: taken apart into a flat list, and put together again.

`pickle` recurses over what it writes and gives up at some hundred levels. A server may have sent more.
"""

from __future__ import annotations

from typing import Any, cast

import anthropic


def flatten(root: Any) -> list[tuple[Any, Any, list[int]]]:
    """Each dict, list and model of the SDK within `root`, once, with the places of its parts in the list.

    Everything else is kept as it is, for `pickle`.
    """
    found: list[Any] = [root]  # holds on to each object, so that no other gets its identity
    places = {id(root): 0}

    def place(part: Any) -> int:
        at = places.setdefault(id(part), len(found))
        if at == len(found):
            found.append(part)
        return at

    flat: list[tuple[Any, Any, list[int]]] = []
    for item in found:  # grows on the way
        kind = cast("Any", type(item))
        if kind is dict:
            flat.append((dict, list(item), [place(part) for part in item.values()]))
        elif kind is list:
            flat.append((list, None, [place(part) for part in item]))
        elif isinstance(item, anthropic.BaseModel):
            flat.append((kind, None, [place(item.__getstate__())]))
        else:
            flat.append((None, item, []))
    return flat


def unflatten(flat: list[tuple[Any, Any, list[int]]]) -> Any:
    """What `flatten` took apart."""
    made = [kept if kind is None else kind.__new__(kind) for kind, kept, _ in flat]
    for item, (kind, keys, parts) in zip(made, flat, strict=True):
        if kind is dict:
            item.update(zip(keys, (made[part] for part in parts), strict=True))
        elif kind is list:
            item.extend(made[part] for part in parts)
    for item, (_, _, parts) in zip(made, flat, strict=True):
        if isinstance(item, anthropic.BaseModel) and parts:  # last: a model takes over what is in its state
            item.__setstate__(made[parts[0]])
    return made[0]
