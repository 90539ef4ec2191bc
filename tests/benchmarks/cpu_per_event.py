"""What a streamed event costs: CPU time of the reader, as ratios measured in one run.

    python tests/benchmarks/cpu_per_event.py [--check] [--rounds 7] [--events 5000]

A server in another process writes text events over loopback as fast as it can. Each contender reads the whole reply;
they take turns, and the median of the rounds counts. `floor` reads the bytes of the body and drops them; `text_stream`
is the SDK's own helper. With `--check` the exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import anthropic

import streamkit
from streamkit.testing import Reply, serve

PARAMS: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "Hello"}],
}
# At most this many times the floor, and at most this share of `text_stream`.
GOALS = {"stream_text": (1.6, 1 / 3), "stream_text async": (1.6, 1 / 3)}


def run_server(events: int, url: Any, done: Any) -> None:
    reply = Reply.text([f"w{number:05d} " for number in range(events)], pings=False)
    with serve(reply, repeat=True) as server:
        url.put(server.url)
        done.wait()


def sync_contenders(client: anthropic.Anthropic) -> dict[str, Callable[[], None]]:
    def floor() -> None:
        with client.messages.create(stream=True, **PARAMS) as stream:
            for _ in stream.response.iter_bytes():
                pass

    def text_stream() -> None:
        with client.messages.stream(**PARAMS) as stream:
            for _ in stream.text_stream:
                pass

    def raw() -> None:
        with client.messages.create(stream=True, **PARAMS) as stream:
            for _ in stream:
                pass

    def stream_text() -> None:
        with streamkit.stream_text(client, **PARAMS) as stream:
            for _ in stream:
                pass

    def stream_events() -> None:
        with streamkit.stream_events(client, **PARAMS) as stream:
            for _ in stream:
                pass

    def by_events() -> None:
        with client.messages.stream(**PARAMS) as stream:
            for _ in streamkit.stream_text(stream):
                pass

    return {
        "floor": floor,
        "text_stream": text_stream,
        "SDK's raw events": raw,
        "stream_text": stream_text,
        "collect": lambda: bool(streamkit.collect(client, **PARAMS)) and None,
        "collect, a sink": lambda: bool(streamkit.collect(client, sinks=streamkit.BufferSink, **PARAMS)) and None,
        "stream_events": stream_events,
        "entered helper": by_events,
    }


def async_contenders(client: anthropic.AsyncAnthropic) -> dict[str, Callable[[], Any]]:
    async def floor() -> None:
        async with await client.messages.create(stream=True, **PARAMS) as stream:
            async for _ in stream.response.aiter_bytes():
                pass

    async def text_stream() -> None:
        async with client.messages.stream(**PARAMS) as stream:
            async for _ in stream.text_stream:
                pass

    async def stream_text() -> None:
        async with streamkit.stream_text(client, **PARAMS) as stream:
            async for _ in stream:
                pass

    async def with_a_clock() -> None:
        async with streamkit.stream_text(client, idle_timeout=30, **PARAMS) as stream:
            async for _ in stream:
                pass

    return {
        "floor async": floor,
        "text_stream async": text_stream,
        "stream_text async": stream_text,
        "stream_text async, a clock": with_a_clock,
    }


def measure(url: str, events: int, rounds: int) -> dict[str, float]:
    """Microseconds of CPU time an event, by contender."""
    spent: dict[str, list[float]] = {}

    def note(name: str, started: float) -> None:
        spent.setdefault(name, []).append((time.process_time() - started) / events * 1e6)

    with anthropic.Anthropic(api_key="test", base_url=url) as client:
        for _ in range(rounds + 1):
            for name, contender in sync_contenders(client).items():
                started = time.process_time()
                contender()
                note(name, started)

    async def in_async() -> None:
        async with anthropic.AsyncAnthropic(api_key="test", base_url=url) as client:
            for _ in range(rounds + 1):
                for name, contender in async_contenders(client).items():
                    started = time.process_time()
                    await contender()
                    note(name, started)

    asyncio.run(in_async())
    return {name: statistics.median(times[1:]) for name, times in spent.items()}  # the first round warms up


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=5000)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    url, done = context.Queue(), context.Event()
    server = context.Process(target=run_server, args=(options.events, url, done))
    server.start()
    try:
        costs = measure(url.get(), options.events, options.rounds)
    finally:
        done.set()
        server.join()
    missed = 0
    print(f"{'contender':28} {'µs/event':>9} {'x floor':>8} {'text_stream ÷':>14}")
    for name, cost in costs.items():
        twin = " async" if " async" in name else ""
        floor, sdk = cost / costs["floor" + twin], cost / costs["text_stream" + twin]
        most_floor, most_sdk = GOALS.get(name, (floor, sdk))
        bad = floor > most_floor or sdk > most_sdk
        missed += bad
        print(f"{name:28} {cost:9.2f} {floor:8.2f} {1 / sdk:14.2f}{'   missed' if bad else ''}")
    return int(options.check and missed > 0)


if __name__ == "__main__":
    sys.exit(main())
