"""The fixtures of the tests of `streamkit.rich`."""

from __future__ import annotations

import pytest

from streamkit.rich import _live


@pytest.fixture(autouse=True)
def without_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a drawing thread be late: on a busy machine this looks as if the program had been stopped by the shell."""
    monkeypatch.setattr(_live, "_SUSPENDED", 60.0)
