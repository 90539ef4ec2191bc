"""The fixtures of the tests of one stream."""

from __future__ import annotations

import pytest


@pytest.fixture
def without_drain_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stream wait for the end of the body however late it comes: else its connection is not used again."""
    for module in ("sync_stream", "async_stream"):
        monkeypatch.setattr(f"streamkit._io.{module}.DRAIN_SECONDS", 20)
