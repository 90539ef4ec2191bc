"""What is no cost of one event over HTTP: the library alone, long replies, memory, latency, many streams, the import.

Each measurement gives a `Row`: what was measured, the figure, and the goal. `cpu_per_event.py` runs them; by itself:

    python tests/benchmarks/limits.py [part of a name]
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import operator
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anthropic

import streamkit
from streamkit.testing import Reply

if __package__:
    from .rounds import seconds
else:  # run as a script
    from rounds import seconds  # type: ignore[no-redef]

HTTP: Any = sys.modules[anthropic.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]  # httpx, or httpx2
PARAMS: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "Hello"}],
}


@dataclass(frozen=True)
class Row:
    """One figure. `better` compares it with the goal: `operator.le` for what may not be more."""

    name: str
    figure: float
    goal: float
    unit: str = ""
    better: Callable[[float, float], bool] = operator.le

    @property
    def met(self) -> bool:
        return self.better(self.figure, self.goal)

    @property
    def aim(self) -> str:
        return f"{'at most' if self.better is operator.le else 'at least'} {self.goal:g}"

    @property
    def verdict(self) -> str:
        return "" if self.met else "missed"

    def __str__(self) -> str:
        return f"{self.name:62} {self.figure:9.2f} {self.unit:8} ({self.aim})   {self.verdict}".rstrip()


# A reply from memory: the SDK's client as it is, over a transport that has the body already.


class Body(HTTP.SyncByteStream):  # type: ignore[misc]
    def __init__(self, chunks: Callable[[], Iterable[bytes]]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks()


class FromMemory(HTTP.BaseTransport):  # type: ignore[misc]
    def __init__(self, chunks: Callable[[], Iterable[bytes]]) -> None:
        self._chunks = chunks

    def handle_request(self, request: Any) -> Any:
        return HTTP.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(self._chunks))


def client_of(chunks: Callable[[], Iterable[bytes]]) -> anthropic.Anthropic:
    http_client = anthropic.DefaultHttpxClient(transport=FromMemory(chunks))
    return anthropic.Anthropic(api_key="test", http_client=http_client)


def words(count: int) -> list[str]:
    return [f"w{number:05d} " for number in range(count)]


def text_events(count: int) -> tuple[bytes, ...]:
    """The events of a text reply, and a few more."""
    return Reply.text(words(count), pings=False).frames


def tool_input(size: int) -> tuple[bytes, ...]:
    """Structured JSON of so many bytes, in pieces of 20 characters."""
    raw = json.dumps(
        {"rows": [{"id": n, "name": f"row {n}", "tags": ["a", "b"], "ok": True} for n in range(size // 60)]}
    )
    block = {"type": "tool_use", "id": "toolu_1", "name": "store", "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": raw[at : at + 20]} for at in range(0, len(raw), 20)]
    first, *_, message_delta, stop = Reply.text("x").frames
    between = Reply.events(
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
    ).frames
    return (first, *between, message_delta, stop)


def reading(function: Callable[..., Any], **options: Any) -> Callable[[anthropic.Anthropic], None]:
    """A contender: the whole reply, read with one of our functions."""

    def run(client: anthropic.Anthropic) -> None:
        with function(client, **options, **PARAMS) as stream:
            for _ in stream:
                pass

    return run


ours = reading(streamkit.stream_text)


class Listener(streamkit.Sink):
    """A sink that listens to text and does nothing with it."""

    def write(self, text: str) -> None:
        pass


def text_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**PARAMS) as stream:
        for _ in stream.text_stream:
            pass


def floor(client: anthropic.Anthropic) -> None:
    with client.messages.create(stream=True, **PARAMS) as stream:
        for _ in stream.response.iter_bytes():
            pass


def raw(client: anthropic.Anthropic) -> None:
    with client.messages.create(stream=True, **PARAMS) as stream:
        for _ in stream:
            pass


def collected(client: anthropic.Anthropic) -> None:
    streamkit.collect(client, **PARAMS)


def helper(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**PARAMS) as stream:
        for _ in stream:
            pass


@contextmanager
def elsewhere(serve: Callable[..., None], *args: Any) -> Iterator[Any]:
    """A server in a process of its own: `serve(told, done, *args)` tells its address, and serves until it is done."""
    context = multiprocessing.get_context("spawn")
    told, done = context.Queue(), context.Event()
    server = context.Process(target=serve, args=(told, done, *args))
    server.start()
    try:
        yield _received(told, server)
    finally:
        done.set()
        server.join()


def _received(told: Any, server: multiprocessing.process.BaseProcess) -> Any:
    """Return what the server tells. Raises `RuntimeError` if it ends without."""
    while server.is_alive():
        with suppress(queue.Empty):
            return told.get(timeout=1)
    raise RuntimeError(f"the server ended at its start, with exit code {server.exitcode}")


# The measurements.


def alone() -> Iterable[Row]:
    frames = text_events(3000)
    with client_of(lambda: frames) as client:
        mine, sdk = seconds(partial(ours, client), partial(text_stream, client), rounds=9)
    yield Row("the library alone, body from memory, an event", mine / 3000 * 1e6, 2.5, "µs")
    yield Row("the library alone, less than `text_stream`", sdk / mine, 18, "x", operator.ge)


def extras() -> Iterable[Row]:
    frames, three = text_events(3000), [Listener, Listener, Listener]
    with client_of(lambda: frames) as client:
        plain, sinks, timeouts = seconds(
            partial(ours, client),
            partial(reading(streamkit.stream_text, sinks=three), client),
            partial(reading(streamkit.stream_text, idle_timeout=60, total_timeout=600), client),
            rounds=25,
        )
    yield Row("a sink that listens to text, an event", (sinks - plain) / 3 / 3000 * 1e6, 0.3, "µs")
    yield Row("timeouts, sync, an event", (timeouts - plain) / 3000 * 1e6, 0.5, "µs")


def long_text() -> Iterable[Row]:
    few, many = (Reply.text(["word"] * count, pings=False).frames for count in (2500, 500_000))
    short, long = [], []
    with client_of(lambda: few) as small, client_of(lambda: many) as large:
        for _ in range(5):
            short += seconds(*[partial(ours, small)] * 10, rounds=1)
            long += seconds(partial(ours, large), rounds=1)
    yield Row(
        "2 MB of text in 4-character deltas, an event, times that of 10 kB",
        statistics.median(long) / 500_000 / (statistics.median(short) / 2500),
        1.10,
        "x",
    )


def large_event() -> Iterable[Row]:
    def chunks(size: int) -> list[bytes]:
        body = Reply.text(["x" * size], pings=False).body
        return [body[at : at + 4096] for at in range(0, len(body), 4096)]

    half, whole = chunks(4_000_000), chunks(8_000_000)
    with client_of(lambda: half) as small, client_of(lambda: whole) as large:
        short, long = seconds(partial(ours, small), partial(ours, large), rounds=7)
    yield Row("an event of 8 MB in chunks of 4 kB, times one of 4 MB", long / short, 2.3, "x")


def tools() -> Iterable[Row]:
    half, whole = tool_input(85_000), tool_input(170_000)
    with client_of(lambda: half) as small, client_of(lambda: whole) as large:
        short, long = seconds(partial(collected, small), partial(collected, large), rounds=7)
        started = time.process_time()
        helper(large)
        sdk = time.process_time() - started
    yield Row("tool input of 170 kB, less than `messages.stream()`", sdk / long, 40, "x", operator.ge)
    yield Row("tool input of 170 kB, times 85 kB", long / short, 2.3, "x")


def memory() -> Iterable[Row]:
    frames = Reply.text(["word"] * 50_000, pings=False).frames
    with client_of(lambda: (bytes(memoryview(frame)) for frame in frames)) as client:
        ours(client)
        tracemalloc.start()
        try:
            ours(client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    yield Row("memory at the peak, 200 kB of text in 4-character deltas", peak / 1e6, 4, "MB")


def latency() -> Iterable[Row]:
    frames, received, added = text_events(5000), [0.0], list[float]()

    def chunks() -> Iterator[bytes]:
        for frame in frames:
            received[0] = time.perf_counter()
            yield frame

    with client_of(chunks) as client, streamkit.stream_text(client, **PARAMS) as stream:
        for _ in stream:
            added.append(time.perf_counter() - received[0])
    yield Row("latency added to a chunk, median", statistics.median(added) * 1e6, 20, "µs")


def importing() -> Iterable[Row]:
    code = "import time, anthropic; start = time.perf_counter(); import streamkit; print(time.perf_counter() - start)"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as cache:  # an installer compiles what it installs, or the first import does
        environment = {**kept, "PYTHONPYCACHEPREFIX": cache}
        run = partial(subprocess.check_output, [sys.executable, "-c", code], env=environment)
        times = [float(run()) for _ in range(12)]
    yield Row("`import streamkit` above `import anthropic`", statistics.median(times[1:]) * 1e3, 10, "ms")


# Many streams at once, each at the pace of a real reply. The server writes when it sent each piece, on the clock that
# all processes of a machine share.

STREAMS, EVERY, LONG = 200, 0.04, 250


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request and its reply, whose pieces of text are the times at which they are sent."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    start, opened, piece, *end = Reply.text(["TIME"], pings=False).frames
    for frame in (start, opened, *[piece] * LONG, *end):
        if frame is piece:
            await asyncio.sleep(EVERY)
        sent = frame.replace(b"TIME", b"%.6f" % time.monotonic())
        writer.write(b"%x\r\n%b\r\n" % (len(sent), sent))
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    writer.close()


def run_server(told: Any, done: Any) -> None:
    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=STREAMS)
        async with server:
            told.put("http://{}:{}".format(*server.sockets[0].getsockname()))
            await asyncio.to_thread(done.wait)

    asyncio.run(run())


async def many(url: str, count: int, read: Callable[[Any, list[float]], Any]) -> tuple[float, list[float]]:
    """CPU seconds, and how late each piece was, of so many streams at once."""
    late: list[float] = []
    limits = anthropic.DefaultAsyncHttpxClient(limits=HTTP.Limits(max_connections=None))
    async with anthropic.AsyncAnthropic(api_key="test", base_url=url, http_client=limits) as client:
        started = time.process_time()

        # Spread over one pause, as real replies do not go in step.
        async def one(number: int) -> None:
            await asyncio.sleep(number * EVERY / count)
            await read(client, late)

        await asyncio.gather(*(one(number) for number in range(count)))
        return time.process_time() - started, late


async def ours_async(client: anthropic.AsyncAnthropic, late: list[float]) -> None:
    async with streamkit.stream_text(client, **PARAMS) as stream:
        late.extend([time.monotonic() - float(text) async for text in stream])


async def text_stream_async(client: anthropic.AsyncAnthropic, late: list[float]) -> None:
    async with client.messages.stream(**PARAMS) as stream:
        late.extend([time.monotonic() - float(text) async for text in stream.text_stream])


def concurrent() -> Iterable[Row]:
    with elsewhere(run_server) as url:
        count = STREAMS // 4  # for the SDK's own helper one core does not do for 200
        asyncio.run(many(url, 5, ours_async))
        mine, sdk = list[float](), list[float]()
        for _ in range(3):
            mine.append(asyncio.run(many(url, count, ours_async))[0])
            sdk.append(asyncio.run(many(url, count, text_stream_async))[0])
        yield Row(
            f"{count} async streams at 25 events a second, less than `text_stream`",
            statistics.median(sdk) / statistics.median(mine),
            1.6,
            "x",
            operator.ge,
        )
        spent, _ = asyncio.run(many(url, STREAMS, ours_async))
        yield Row(f"{STREAMS} such streams, cores in use", spent / (LONG * EVERY), 1.0, "cores")
        _, late = asyncio.run(many(url, STREAMS // 2, ours_async))
        yield Row(
            f"{STREAMS // 2} such streams, lateness at the 99th percentile",
            statistics.quantiles(late, n=100)[98] * 1e3,
            50,
            "ms",
        )


MEASUREMENTS = [alone, extras, long_text, large_event, tools, memory, latency, importing, concurrent]


def measure(part: str = "") -> list[Row]:
    rows: list[Row] = []
    for measurement in MEASUREMENTS:
        if part in measurement.__name__:
            for row in measurement():
                print(row, flush=True)
                rows.append(row)
    return rows


def main(argv: list[str]) -> None:
    measure(*argv[:1])


if __name__ == "__main__":
    main(sys.argv[1:])
