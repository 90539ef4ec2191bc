"""The fixtures that several files use, and the hooks."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.bodies import FIXTURES, RECORDED
from tests.support.harness import ALL_MODES, Harness, backend_of


def pytest_collection_finish() -> None:
    gc.freeze()  # what the imports made stays: a collection takes a tenth of the time without it


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name that is the same in every process, for values whose `repr` tells where in memory they are."""
    return type(val).__name__ if " at 0x" in repr(val) else None


@pytest.fixture(params=ALL_MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Sync, asyncio, trio, and asyncio over aiohttp."""
    return request.param


@pytest.fixture
def anyio_backend(mode: str) -> str:
    """The event loop of the mode."""
    return backend_of(mode)


@pytest.fixture
async def harness(mode: str, anyio_backend: str) -> AsyncIterator[Harness]:
    """Clients and functions of the kind that the mode needs; the test has to be marked `anyio`."""
    harness = Harness(mode)
    yield harness
    await harness.aclose()


@pytest.fixture
def without_drain_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stream wait for the end of the body however late it comes: else its connection is not used again."""
    for module in ("sync_stream", "async_stream"):
        monkeypatch.setattr(f"streamkit._io.{module}.DRAIN_SECONDS", 20)


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> Path:
    """Each body in `tests/fixtures`."""
    return request.param


@pytest.fixture(params=RECORDED, ids=lambda path: path and path.name)
def recording(request: pytest.FixtureRequest) -> Path:
    """Each recording of a real stream."""
    return request.param
