"""The value of `output_format`."""

from __future__ import annotations

from typing import Any

import pydantic


def parse_output(output_format: Any, message: Any, stop_reason: str | None) -> tuple[Any, Exception | None]:
    """Return the value of `output_format`, or `None` and the reason for the missing value.

    The value is that of the first text block that holds one: other text may precede it. If no block does, try the
    blocks joined: a model that takes over from another one continues in the middle of the value.
    """
    texts = [] if message is None else [block.text for block in message.content if block.type == "text"]
    if not texts:
        return None, ValueError(f"expected a value of output_format, got no text (stop reason: {stop_reason})")
    errors: list[Exception] = []
    adapter: pydantic.TypeAdapter[Any] | None = None
    for text in texts if len(texts) == 1 else [*texts, "".join(texts)]:
        try:
            adapter = adapter or pydantic.TypeAdapter(output_format)
            return adapter.validate_json(text), None
        except Exception as error:  # noqa: BLE001 - the user's validators may raise anything
            errors.append(error)
    last_block_error = errors[len(texts) - 1]  # the most helpful one: a model answers at the end
    if stop_reason in ("end_turn", "stop_sequence", "tool_use"):
        return None, last_block_error
    ended = "the stream ended early" if stop_reason is None else f"the reply ended with {stop_reason!r}"
    parse_error = ValueError(f"expected a complete value of output_format, got a part of one: {ended}")
    parse_error.__cause__ = last_block_error
    return None, parse_error
