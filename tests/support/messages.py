"""Messages of any supported SDK in a form that can be compared."""

from __future__ import annotations

from typing import Any

import pydantic

from tests.support.clients import OLD_SDK

# What older SDKs do not accumulate; None is what they set and newer ones leave out.
NOT_IN_OLD = {"stop_details", "output_tokens_details", "container", "encrypted_content", "context_management"}
NOT_IN_OLD |= {"fallback_credit", "input_transformations"}


def plain(value: Any) -> Any:
    """A message as JSON, as it can be compared in this SDK."""
    if isinstance(value, pydantic.BaseModel):
        value = value.to_dict(mode="json", warnings=False)
    if not OLD_SDK:
        return value
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: plain(item) for name, item in value.items() if item is not None and name not in NOT_IN_OLD}
