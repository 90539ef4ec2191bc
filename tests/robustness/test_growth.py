"""Thousands of streams, one after the other: nothing of those that ended stays in the process."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import anyio
import pytest

from streamkit import StreamTruncatedError, stream_text
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, async_client_for, sdk_client
from tests.support.harness import EitherStream, ignores_generators_left_behind

WHOLE = Reply.text("They push water aside.")
REPLIES = {"complete": WHOLE, "interrupted": WHOLE, "disconnected": WHOLE.cut(after_text="They push")}
DESCRIPTORS = "/proc/self/fd"
AT_ONCE = 10  # async streams


def run_servers(told: Any, done: Any) -> None:
    """Serve each reply at an address of its own."""
    with ExitStack() as stack:
        told.put({name: stack.enter_context(serve(reply, repeat=True)).url for name, reply in REPLIES.items()})
        done.wait()


@contextmanager
def servers_elsewhere() -> Iterator[dict[str, str]]:
    """The addresses of servers in another process, whose memory does not count, by the status of a stream."""
    context = multiprocessing.get_context("spawn")
    told, done = context.Queue(), context.Event()
    process = context.Process(target=run_servers, args=(told, done))
    process.start()
    try:
        yield told.get(timeout=30)
    finally:
        done.set()
        process.join(30)
        told.close()
        told.join_thread()


class Held(NamedTuple):
    """What the process holds."""

    bytes: int
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        descriptors = len(os.listdir(DESCRIPTORS)) if os.path.exists(DESCRIPTORS) else 0
        return cls(tracemalloc.get_traced_memory()[0], threading.active_count(), descriptors)


async def read(client: Any, status: str) -> None:
    """Read one stream, which ends as its server lets it end, or is cancelled."""
    stream = EitherStream(stream_text(client, retries=0, idle_timeout=60, **PARAMS))
    try:
        async with stream:
            while True:
                await stream.next()
                if status == "interrupted":
                    stream.cancel()
    except (StopAsyncIteration, StreamTruncatedError):
        pass
    assert stream.status == status


async def read_many(clients: dict[str, Any], count: int, is_async: bool) -> None:
    statuses = list(REPLIES)
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        if is_async:
            async with anyio.create_task_group() as tasks:
                for number in numbers:
                    status = statuses[number % len(statuses)]
                    tasks.start_soon(read, clients[status], status)
        else:
            for number in numbers:
                status = statuses[number % len(statuses)]
                await read(clients[status], status)


async def growth(mode: str, urls: dict[str, str], few: int, many: int) -> tuple[Held, Held]:
    """What the process holds after few streams, and after many."""
    with serve(WHOLE) as server:  # for its way to make a client; the requests go to the servers of the other process
        client: Any = sdk_client(server) if mode == "sync" else async_client_for(mode, server)
        clients = {status: client.with_options(base_url=url) for status, url in urls.items()}
        await read_many(clients, few, mode != "sync")
        before = Held.now()
        await read_many(clients, many - few, mode != "sync")
        after = Held.now()
        closing = client.close()
        if mode != "sync":
            await closing
    return before, after


@pytest.mark.parametrize(
    ("few", "many"), [(150, 450), pytest.param(1000, 10_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
@pytest.mark.parametrize("mode", ["sync", "asyncio", "aiohttp"])  # trio keeps a thousand past deadlines in its heap
@ignores_generators_left_behind
def test_streams_that_ended_leave_nothing(mode: str, few: int, many: int) -> None:
    if mode == "sync" and threading.gettrace() is not None:
        pytest.skip("coverage keeps its data of each thread, and so of each sync request")
    with servers_elsewhere() as urls:
        tracemalloc.start()
        try:
            before, after = anyio.run(growth, mode, urls, few, many)
        finally:
            tracemalloc.stop()
    print(f"{mode}: {before} after {few} streams, {after} after {many}")
    assert after.threads <= before.threads
    assert after.descriptors <= before.descriptors + AT_ONCE  # connections that are kept for reuse
    assert after.bytes - before.bytes < 40_000  # 4 bytes a stream in the long run
