"""Fixtures of the tests of `streamkit.testing`."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.testing_server import Read, read_async, read_sync


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Read:
    return request.param


@pytest.fixture
def no_thread_left() -> Any:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
