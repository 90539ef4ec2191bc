"""Instructions for an event, counted by valgrind: the same on each run, unlike times. Takes some minutes.

    python tests/benchmarks/instructions.py [--check]

Each contender reads a reply from memory, over the SDK's own client, sync and async. The count for an event is the
difference between a long reply and a short one, so that the start of the program does not count. With `--check` the
exit code is 1 if a contender takes more than its share of what the SDK's own way takes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic

import streamkit

if __package__:
    from . import contenders, limits
else:  # run as a script
    import contenders  # type: ignore[no-redef]
    import limits  # type: ignore[no-redef]

HTTP = limits.HTTP
SHORT, LONG = 500, 2500  # events
READERS: dict[str, Callable[[Any], Any]] = {
    "floor": limits.floor,
    "stream_text": limits.reading(streamkit.stream_text),
    "text_stream": limits.text_stream,
    "stream_events": limits.reading(streamkit.stream_events),
    "SDK's raw events": limits.raw,
    "floor, async": contenders.floor_async,
    "stream_text, async": contenders.reading_async(streamkit.stream_text),
    "text_stream, async": contenders.text_stream_async,
    "stream_events, async": contenders.reading_async(streamkit.stream_events),
    "SDK's raw events, async": contenders.raw_async,
}
# At most this share of the instructions that another contender takes.
MOST = {
    "stream_text": (0.10, "text_stream"),
    "stream_events": (0.50, "SDK's raw events"),
    "stream_text, async": (0.10, "text_stream, async"),
    "stream_events, async": (0.50, "SDK's raw events, async"),
}


class AsyncBody(HTTP.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, frames: tuple[bytes, ...]) -> None:
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for frame in self._frames:
            yield frame


class AsyncFromMemory(HTTP.AsyncBaseTransport):  # type: ignore[misc]
    def __init__(self, frames: tuple[bytes, ...]) -> None:
        self._frames = frames

    async def handle_async_request(self, request: Any) -> Any:
        headers = {"content-type": "text/event-stream"}
        return HTTP.Response(200, headers=headers, stream=AsyncBody(self._frames))


def read(name: str, count: int) -> None:
    """Read a reply of so many events, in a process of its own that valgrind watches."""
    start, opened, piece, *end = limits.text_events(1)  # one event many times, as making them would count too
    frames = (start, opened, *[piece] * count, *end)

    async def run() -> None:
        http_client = anthropic.DefaultAsyncHttpxClient(transport=AsyncFromMemory(frames))
        async with anthropic.AsyncAnthropic(api_key="test", http_client=http_client) as client:
            await READERS[name](client)

    if name.endswith("async"):
        asyncio.run(run())
        return
    with limits.client_of(lambda: frames) as client:
        READERS[name](client)


def instructions(valgrind: str, name: str, count: int) -> int:
    print(f"counting {name}, {count} events ...", file=sys.stderr, flush=True)
    command = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
    env = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(  # noqa: S603
        [*command, "--read", name, str(count)], stderr=subprocess.PIPE, text=True, check=True, env=env
    )
    return int(done.stderr.rpartition("Collected : ")[2].split()[0])


def counted(valgrind: str) -> Iterator[tuple[str, float]]:
    """Each contender, and its instructions for an event."""
    for name in READERS:
        short, long = (instructions(valgrind, name, count) for count in (SHORT, LONG))
        yield name, (long - short) / (LONG - SHORT)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="fail if a contender takes more than its share")
    parser.add_argument("--read", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.read:
        read(options.read[0], int(options.read[1]))
        return 0
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("expected valgrind to be installed, to count instructions with", file=sys.stderr)
        return 2
    found: dict[str, float] = {}
    for name, each in counted(valgrind):
        found[name] = each
        print(f"{name:26} {each:12,.0f} instructions for an event", flush=True)
    missed = [name for name, (share, other) in MOST.items() if found[name] > share * found[other]]
    for name in missed:
        share, other = MOST[name]
        print(f"missed: {name} takes {found[name] / found[other]:.2f} of {other}, at most {share}")
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
