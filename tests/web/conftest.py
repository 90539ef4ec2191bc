"""Fixtures for the tests of examples/web_chat. Each test file has its own `served`, as the servers differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.web_chat import API, ChatServer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from tests.support.chromium import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def api(served: tuple[API, ChatServer]) -> API:
    """The API of the servers, which says hello."""
    from tests.support.web_chat import HELLO

    served[0].answer(HELLO)
    return served[0]
