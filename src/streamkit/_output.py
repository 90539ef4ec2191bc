"""The value of `output_format`."""

from __future__ import annotations

from typing import Any

import pydantic


def parse_output(output_format: Any, message: Any, stop_reason: str | None) -> tuple[Any, Exception | None]:
    """The value of `output_format`, or why there is none.

    The first text block that holds one counts: other text may stand before it. If none does, all text together may: a
    model that takes over from another goes on in the middle of the value.
    """
    texts = [] if message is None else [block.text for block in message.content if block.type == "text"]
    if not texts:
        return None, ValueError(f"the reply holds no text to parse (stop reason: {stop_reason})")
    errors: list[Exception] = []
    adapter: pydantic.TypeAdapter[Any] | None = None
    for text in texts if len(texts) == 1 else [*texts, "".join(texts)]:
        try:
            adapter = adapter or pydantic.TypeAdapter(output_format)
            return adapter.validate_json(text), None
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise anything
            errors.append(error)
    wrong = errors[len(texts) - 1]  # what is wrong with the last block: the answer comes at the end
    if stop_reason in ("end_turn", "stop_sequence", "tool_use"):
        return None, wrong
    ended = "the stream ended early" if stop_reason is None else f"the reply ended with {stop_reason!r}"
    explained = ValueError(f"{ended}, and its text is no whole value")
    explained.__cause__ = wrong
    return None, explained
