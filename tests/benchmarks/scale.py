"""Very many streams at once: how late their pieces are, the cores in use, the memory of a stream.

    python tests/benchmarks/scale.py [part of a name] [streams ...]

A server in another process opens all streams, and then sends each of them 25 pieces a second. A piece holds the time at
which it was due and the time at which it was sent, so that the server's own lateness is known. All processes of a
machine share the clock. Numbers of streams replace those that the search for the limit tries.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import operator
import os
import queue
import socket
import statistics
import sys
import threading
import time
import tracemalloc
from array import array
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import anyio

import streamkit
from streamkit.testing import Reply

if __package__:
    from . import limits, stacks
else:  # run as a script
    import limits  # type: ignore[no-redef]
    import stacks  # type: ignore[no-redef]

Row, PARAMS, HTTP = limits.Row, limits.PARAMS, limits.HTTP
STREAMS, EVERY, PIECES = 1000, 0.04, 250
LATEST = 50  # ms, at the 99th percentile
DISTURBED = 0.05  # share of the time in which the reader waited for a core
EDGE = 1.0  # seconds at the beginning and at the end that do not count: there, streams are opened and closed
COUNTS = (500, 1000, 1250, 1500, 2000)
# For the garbage collector, whose full collection stops 1,000 streams for 0.2 s: by default it comes every 2.5 s once
# the reader falls behind.
THRESHOLD = (100_000, 50, 100)

# The server.


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


TIMES = b"%017.6f %017.6f"
_start, _opened, _piece, *_end = Reply.text(["TIMES"], pings=False).frames
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(
    http_chunk(frame) for frame in (_start, _opened)
)
PIECE = http_chunk(_piece.replace(b"TIMES", TIMES % (0, 0))).replace(TIMES % (0, 0), TIMES)
END = b"".join(http_chunk(frame) for frame in _end) + b"0\r\n\r\n"


def answer(connection: socket.socket) -> None:
    """Read one request, and send the beginning of the reply."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection.makefile("rb") as file:
        head = b"".join(iter(file.readline, b"\r\n")).lower()
        file.read(int(head.partition(b"content-length:")[2].split()[0]))
    connection.sendall(HEAD)


def send_pieces(connections: list[socket.socket], every: float, pieces: int) -> None:
    """Send each stream its pieces, the streams spread over the time between two of them."""
    began = time.monotonic() + 0.5 + len(connections) * 0.002  # the client takes as long for its side of the opening
    for turn in range(pieces):
        for number, connection in enumerate(connections):
            due = began + (turn + number / len(connections)) * every
            while (now := time.monotonic()) < due:
                time.sleep(due - now)
            connection.send(PIECE % (due, now))
    for connection in connections:
        connection.send(END)


def run_server(told: Any, done: Any, count: int, every: float, pieces: int) -> None:
    """Send the pieces once so many streams are open, again and again."""
    accepted = queue.Queue[socket.socket]()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            answer(connection)
            accepted.put(connection)

    def send() -> None:
        while True:
            connections = [accepted.get() for _ in range(count)]
            send_pieces(connections, every, pieces)
            for connection in connections:
                connection.recv(1)  # until the client has left
                connection.close()

    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        for work in (accept, send):
            threading.Thread(target=work, daemon=True).start()
        told.put("http://{}:{}".format(*listener.getsockname()))
        done.wait()


# The reader.


def client_for(url: str, http_client: Callable[..., Any]) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        api_key="test",
        base_url=url,
        max_retries=0,
        timeout=120,
        http_client=http_client(limits=HTTP.Limits(max_connections=100_000, keepalive_expiry=0)),
    )


def in_loop(function: Callable[[], Awaitable[Any]]) -> Any:
    """Run on uvloop where it is installed."""
    kind = stacks.uvloop_loop() if stacks.installed("uvloop") else stacks.asyncio_loop()
    return anyio.run(function, backend_options={"loop_factory": kind})


def waited_for_a_core() -> float:
    """Seconds that the main thread could have run, but other programs had the cores. Linux tells."""
    path = Path("/proc/self/schedstat")
    return int(path.read_text(encoding="ascii").split()[1]) / 1e9 if path.exists() else 0.0


@dataclass
class Load:
    """The figures of so many streams."""

    count: int
    # In turn: when a piece was due, sent and received. Numbers alone: the garbage collector need not visit them.
    arrived: array[float] = field(default_factory=lambda: array("d"))
    cores: float = 0.0
    waited: float = 0.0  # share of the time in which the reader waited for a core

    def percentile(self, late: Callable[[float, float, float], float]) -> float:
        """The 99th percentile, in ms, without the edges."""
        pieces = list(zip(*[iter(self.arrived)] * 3, strict=True))
        first, last = pieces[0][0] + EDGE, pieces[-1][0] - EDGE
        counted = [late(*piece) for piece in pieces if first <= piece[0] <= last]
        return statistics.quantiles(counted, n=100)[98] * 1e3

    @property
    def late(self) -> float:
        return self.percentile(lambda _, sent, received: received - sent)

    @property
    def server_late(self) -> float:
        return self.percentile(lambda due, sent, _: sent - due)

    def __str__(self) -> str:
        return (
            f"{self.count:5} streams: 99 % at most {self.late:.1f} ms late, the server {self.server_late:.1f} ms, "
            f"{self.cores:.2f} cores, waited for a core {self.waited:.0%}, load {os.getloadavg()[0]:.1f}"
        )


async def read_all(url: str, load: Load) -> None:
    arrived, monotonic = load.arrived, time.monotonic
    began: list[tuple[float, float, float]] = []

    async def one(client: anthropic.AsyncAnthropic) -> None:
        async with streamkit.stream_text(client, **PARAMS) as stream:
            async for text in stream:
                received = monotonic()
                if not began:
                    began.append((received, time.process_time(), waited_for_a_core()))
                due, sent = text.split()
                arrived.extend((float(due), float(sent), received))
            if not load.cores:  # the first stream that ends
                took, spent, waited = (
                    now - before
                    for now, before in zip((monotonic(), time.process_time(), waited_for_a_core()), *began, strict=True)
                )
                load.cores, load.waited = spent / took, waited / took

    async with client_for(url, anthropic.DefaultAioHttpClient) as client:
        await asyncio.gather(*(one(client) for _ in range(load.count)))


def load_of(count: int, threshold: tuple[int, int, int] = THRESHOLD) -> Load:
    load, before = Load(count), gc.get_threshold()
    gc.set_threshold(*threshold)
    try:
        with limits.elsewhere(run_server, count, EVERY, PIECES) as url:
            in_loop(lambda: read_all(url, load))
    finally:
        gc.set_threshold(*before)
    print(load, file=sys.stderr, flush=True)
    return load


def best_load_of(count: int, tries: int = 3) -> Load:
    """The load with the least lateness, as other programs may have had the cores."""
    best = load_of(count)
    for _ in range(tries - 1):
        if best.late < LATEST:
            break
        best = min(best, load_of(count), key=lambda load: load.late)
    return best


def lateness() -> Iterable[Row]:
    load = best_load_of(STREAMS)
    name = f"{STREAMS} async streams at 25 events a second, aiohttp and uvloop"
    yield Row(f"{name}: late at the 99th percentile", load.late, LATEST, "ms")
    yield Row(f"{name}: cores in use", load.cores, 1.0, "cores")
    yield Row(f"{name}: the server's own lateness", load.server_late, 5, "ms")
    load_of(STREAMS, gc.get_threshold())  # printed, as a comparison: with the default thresholds


def most(counts: Iterable[int] = COUNTS) -> Iterable[Row]:
    """The largest number of streams that one core can read in time. Says nothing while other programs use the cores."""
    largest, waited = 0, 0.0
    for count in counts:
        load = best_load_of(count)
        if load.late >= LATEST:
            waited = load.waited
            break
        largest = count
    name = f"streams at 25 events a second whose 99 % are less than {LATEST} ms late"
    if waited > DISTURBED:
        name += f"; with more, the reader waited {waited:.0%} of the time for a core"
    yield Row(name, largest, STREAMS, "", operator.ge)


# Memory.


async def hold_open(url: str, http_client: Callable[..., Any], count: int, ours: bool) -> int:
    """The traced bytes while so many streams are open, each after all of its pieces but the end."""
    reached, all_reached, go_on = [0], asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        reached[0] += 1
        if reached[0] == count:
            all_reached.set()
        await go_on.wait()

    async def read_ours(client: anthropic.AsyncAnthropic) -> None:
        async with streamkit.stream_text(client, **PARAMS) as stream:
            for _ in range(PIECES // 2):
                await stream.__anext__()
            await pause()
            async for _ in stream:
                pass

    async def read_bytes(client: anthropic.AsyncAnthropic) -> None:
        async with await client.messages.create(stream=True, **PARAMS) as stream:
            body, size = stream.response.aiter_bytes(), 0
            while size < PIECES // 2 * len(_piece):
                size += len(await body.__anext__())
            await pause()
            async for _ in body:
                pass

    async with client_for(url, http_client) as client:
        read = read_ours if ours else read_bytes
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tasks = [asyncio.ensure_future(read(client)) for _ in range(count)]
        await all_reached.wait()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        go_on.set()
        await asyncio.gather(*tasks)
    return after - before


def memory(count: int = 200) -> Iterable[Row]:
    """The memory that streamkit adds to that of the client, for each stream."""
    for name, http_client in (
        ("httpx", anthropic.DefaultAsyncHttpxClient),
        ("aiohttp", anthropic.DefaultAioHttpClient),
    ):
        held: dict[bool, float] = {}
        with limits.elsewhere(run_server, count, 0.02, PIECES) as url:
            tracemalloc.start()
            try:
                for ours in (True, False, True, False):  # the first two warm up
                    held[ours] = in_loop(functools.partial(hold_open, url, http_client, count, ours)) / count / 1e3
            finally:
                tracemalloc.stop()
        print(
            f"{name}: {held[False]:.1f} kB a stream of the client, {held[True]:.1f} kB with streamkit", file=sys.stderr
        )
        yield Row(f"memory of a stream above the client's own, {name}", held[True] - held[False], 60, "kB")


MEASUREMENTS = [memory, lateness, most]


def measure(part: str = "") -> list[Row]:
    rows = [row for measurement in MEASUREMENTS if part in measurement.__name__ for row in measurement()]
    print(*rows, sep="\n", flush=True)
    return rows


if __name__ == "__main__":
    if sys.argv[2:]:
        print(*most(map(int, sys.argv[2:])), sep="\n")
    else:
        measure(*sys.argv[1:])
