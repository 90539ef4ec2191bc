"""Cuts over HTTP: the same as without, sync and async."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamkit import StreamResult, collect
from streamkit.testing import Reply, serve
from tests.support.bodies import BETA, FIXTURES
from tests.support.clients import PARAMS, async_client_for, sdk_client
from tests.support.in_memory import play


def over_http() -> list[tuple[Path, int, bool]]:
    """A few cuts of each fixture: both ends, both sides of an event's end, and some in between."""
    chosen = []
    for path in FIXTURES:
        size = len(path.read_bytes())
        cuts = {0, 1, size, size - 1, *random.Random(path.name).sample(range(size), 4)}
        chosen += [(path, cut, breaks) for cut in sorted(cuts) for breaks in (False, True)]
    return chosen


def replies(cases: list[tuple[Path, int, bool]]) -> Iterator[Reply]:
    for path, cut, breaks in cases:
        whole = Reply.recorded(path)
        yield whole.reset(after_bytes=cut) if breaks else whole.cut(after_bytes=cut)


def check_http(case: tuple[Path, int, bool], result: StreamResult[Any, Any]) -> None:
    path, cut, breaks = case
    body = path.read_bytes()
    _, found = play(body[:cut], breaks=breaks, beta=path.stem in BETA)
    assert (result.status, type(result.error)) == (found.status, type(found.error)), case
    assert (result.text, result.thinking, result.tool_uses) == (found.text, found.thinking, found.tool_uses)
    assert result.message == found.message


@pytest.mark.parametrize("stable", [True, False], ids=["stable", "beta"])
def test_cuts_over_http(stable: bool) -> None:
    cases = [case for case in over_http() if (case[0].stem not in BETA) is stable]
    with serve(*replies(cases)) as server:
        client = sdk_client(server)
        source: Any = client if stable else client.beta.messages
        for case in cases:
            check_http(case, collect(source, on_error="return", retries=0, **PARAMS))
        assert len(server.requests) == len(cases)
    print(f"{len(cases)} cuts over HTTP")


@pytest.mark.parametrize("mode", ["asyncio", "aiohttp"])
def test_cuts_over_http_async(mode: str) -> None:
    cases = [case for case in over_http() if case[0].stem not in BETA][::2]

    async def run() -> None:
        async with async_client_for(mode, server) as client:
            for case in cases:
                check_http(case, await collect(client, on_error="return", retries=0, **PARAMS))

    with serve(*replies(cases)) as server:
        anyio.run(run)
        assert len(server.requests) == len(cases)
    print(f"{len(cases)} cuts over HTTP, async")
