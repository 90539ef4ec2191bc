"""Bodies of responses in files: those written for the tests, and recordings of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FIXTURES = sorted((TESTS / "fixtures").glob("*.sse"))
SDK_READS = [path for path in FIXTURES if path.stem != "no_event_lines"]  # the SDK passes over that one
each_that_the_sdk_reads = pytest.mark.parametrize("path", SDK_READS, ids=lambda path: path.stem)
BETA = frozenset({"beta_compaction", "beta_mcp"})  # the fixtures that only the beta client knows
# Recordings are not part of the project: they stand in a folder beside it, or are absent.
RECORDINGS = TESTS.parents[1] / "shared" / "recordings"
RECORDED = sorted(RECORDINGS.glob("*.sse")) or [
    pytest.param(None, marks=pytest.mark.skip(reason="the recordings are not beside the project"))
]
