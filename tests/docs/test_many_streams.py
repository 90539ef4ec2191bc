"""What docs/many-streams.md says of connections, slow sinks and several processes."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest

import streamkit
from streamkit import AsyncSink, StreamResult, collect, isolate, stream_text
from streamkit.testing import Reply, Server, serve
from tests.support.clients import NEWEST_SDK, OLD_SDK, PARAMS, TLS_CONTEXT
from tests.support.pages import ROOT, blocks

PAGE = ROOT / "docs" / "many-streams.md"
BOATS = Reply.text("They push water aside.")
LIMITS: Any = type(anthropic.DEFAULT_CONNECTION_LIMITS)


def client_for(library: str, server: Server, limits: Any, seconds: float) -> anthropic.AsyncAnthropic:
    """A client whose requests wait so long for a connection of the pool."""
    if library == "aiohttp":
        pytest.importorskip("httpx_aiohttp" if OLD_SDK else "aiohttp", reason="the SDK's extra is not installed")
    http = anthropic.DefaultAioHttpClient if library == "aiohttp" else anthropic.DefaultAsyncHttpxClient
    return server.async_client(
        http_client=http(verify=TLS_CONTEXT, limits=limits),
        timeout=anthropic.Timeout(60, pool=seconds),
        max_retries=0,
    )


@pytest.mark.skipif(not NEWEST_SDK, reason="older SDKs may have others")
def test_the_limits_of_the_sdk() -> None:
    limits = anthropic.DEFAULT_CONNECTION_LIMITS
    assert (limits.max_connections, limits.max_keepalive_connections, limits.keepalive_expiry) == (1000, 100, 5.0)
    assert LIMITS(max_keepalive_connections=1).max_connections is None


async def refused(client: anthropic.AsyncAnthropic, count: int) -> list[Exception]:
    """Open so many streams at once, and return the exceptions of those that got no connection."""
    errors: list[Exception] = []
    tried, all_tried = [0], anyio.Event()

    async def one() -> None:
        stream = stream_text(client, **PARAMS)
        try:
            await stream.open()
        except anthropic.APITimeoutError as error:
            errors.append(error)
        tried[0] += 1
        if tried[0] == count:
            all_tried.set()
        await all_tried.wait()
        await stream.aclose()

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return errors


@pytest.mark.parametrize(
    ("library", "limit", "count", "too_many"),
    [("httpx", 2, 3, 1), ("aiohttp", 2, 3, 1), ("httpx", None, 102, 0), ("aiohttp", None, 102, 2)],
)
def test_a_request_above_the_limit_waits_for_a_connection(
    library: str, limit: int | None, count: int, too_many: int
) -> None:
    async def go() -> None:
        with serve(BOATS.stall(after_events=3), repeat=True) as server:
            limits = LIMITS(max_connections=limit)
            seconds = 20 if too_many == 0 else 2
            async with client_for(library, server, limits, seconds) as client:
                assert len(await refused(client, count)) == too_many

    anyio.run(go)


def test_the_wait_for_a_connection_is_in_the_timing() -> None:
    async def go() -> None:
        with serve(BOATS, repeat=True) as server:
            async with client_for("httpx", server, LIMITS(max_connections=1), 20) as client:
                first = await stream_text(client, **PARAMS).open()
                waiting: list[StreamResult] = []

                async def wait() -> None:
                    waiting.append(await collect(client, **PARAMS))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait)
                    await anyio.wait_all_tasks_blocked()
                    began = time.monotonic()
                    await first.until_done()
                    held = time.monotonic() - began
                assert waiting[0].timing.response is not None
                assert waiting[0].timing.response >= held

    anyio.run(go)


@pytest.mark.parametrize("wrap", [lambda sink: sink, isolate], ids=["plain", "isolate"])
def test_a_sink_that_blocks_stops_all_streams_of_the_loop(wrap: Any) -> None:
    lengths: list[tuple[int, int]] = []

    async def go() -> None:
        # The other stream still runs when the sink blocks, however long the request of the sink's stream takes.
        replies = Reply.text(["a"] * 100_000, delay=0.001), Reply.text(["a"] * 100, delay=0.001)
        with serve(*replies) as server, anyio.fail_after(20):
            async with server.async_client() as client:
                other = stream_text(client, **PARAMS)

                def block(text: str) -> None:
                    if not lengths:
                        before = len(other.text)
                        time.sleep(0.05)
                        lengths.append((before, len(other.text)))

                async with anyio.create_task_group() as tasks:
                    await anext(other)
                    tasks.start_soon(other.until_done)
                    await collect(client, sinks=wrap(block), **PARAMS)
                    assert other.status == "streaming"
                    other.cancel()

    anyio.run(go)
    (before, after) = lengths[0]
    assert before == after


def test_an_async_sink_that_waits_stops_its_own_stream_alone() -> None:
    async def go() -> None:
        with serve(BOATS, repeat=True) as server, anyio.fail_after(20):
            async with server.async_client() as client:
                ended = anyio.Event()

                class Waits(AsyncSink):
                    async def write(self, text: str) -> None:
                        await ended.wait()

                async with anyio.create_task_group() as tasks:
                    slow = stream_text(client, sinks=Waits(), **PARAMS)
                    tasks.start_soon(slow.until_done)
                    assert (await collect(client, **PARAMS)).ok  # ends while the sink of the other waits
                    ended.set()
                assert slow.result.text == "They push water aside."

    anyio.run(go)


def test_the_program_for_several_processes_runs(tmp_path: Path) -> None:
    (source,) = [block.source for block in blocks(PAGE) if block.file == "many.py"]
    (tmp_path / "many.py").write_text(source, encoding="utf-8")
    folder = Path(streamkit.__file__).parents[1]
    with serve(BOATS, repeat=True) as server:
        env = {
            **os.environ,
            **({"PYTHONPATH": str(folder)} if folder.name == "src" else {}),
            "ANTHROPIC_BASE_URL": server.url,
            "ANTHROPIC_API_KEY": "test-key",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "many.py"], cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=False
        )
    assert (done.stdout, done.stderr) == ("20 {'complete'}\n", "")


@pytest.mark.parametrize(("library", "probes"), [("httpx", 1), ("aiohttp", 0)])
@pytest.mark.skipif(not NEWEST_SDK, reason="older SDKs may differ")
def test_aiohttp_sends_no_keep_alive_probes(library: str, probes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        loop, sockets = asyncio.get_running_loop(), list[Any]()
        connect = loop.create_connection

        async def create_connection(*args: Any, **options: Any) -> Any:
            transport, protocol = await connect(*args, **options)
            sockets.append(transport.get_extra_info("socket"))
            return transport, protocol

        monkeypatch.setattr(loop, "create_connection", create_connection)
        with serve(BOATS) as server:
            async with client_for(library, server, anthropic.DEFAULT_CONNECTION_LIMITS, 20) as client:
                async with stream_text(client, **PARAMS):
                    options = [one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for one in sockets]
        assert options == [probes]

    asyncio.run(go())
