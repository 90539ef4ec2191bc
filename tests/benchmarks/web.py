"""What `streamkit.web.sse` adds to an event: CPU time above that of `stream_events`, in µs.

    python tests/benchmarks/web.py [--rounds 21]

A server in another process writes the events, as fast as it can ("burst") or one a millisecond ("paced"). The
functions take turns, and the median of the differences within a round counts, as a machine may change its speed from
round to round. The goal is for a burst; a paced event also wakes a second task or thread, which is shown without a
goal. The exit code is 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import statistics
import sys
from functools import partial

import anthropic

from streamkit import stream_events
from streamkit.web import AGUI, AISDK, Protocol, sse

if __package__:
    from . import contenders, limits
    from .rounds import samples, samples_async
else:  # run as a script
    import contenders  # type: ignore[no-redef]
    import limits  # type: ignore[no-redef]
    from rounds import samples, samples_async  # type: ignore[no-redef]

GOAL = 8.0  # µs an event, in a burst
PROTOCOLS: tuple[Protocol, ...] = (AISDK(), AGUI(thread_id="t", run_id="r"))


def events(client: anthropic.Anthropic) -> None:
    with stream_events(client, **limits.PARAMS) as stream:
        for _ in stream:
            pass


def frames(protocol: Protocol, client: anthropic.Anthropic) -> None:
    for _ in sse(stream_events(client, **limits.PARAMS), protocol):
        pass


async def events_async(client: anthropic.AsyncAnthropic) -> None:
    async with stream_events(client, **limits.PARAMS) as stream:
        async for _ in stream:
            pass


async def frames_async(protocol: Protocol, client: anthropic.AsyncAnthropic) -> None:
    async for _ in sse(stream_events(client, **limits.PARAMS), protocol):
        pass


def measure(url: str, rounds: int) -> list[list[float]]:
    """Seconds of CPU time in each round: of the events, then of the frames of each protocol."""
    with anthropic.Anthropic(api_key="test", base_url=url) as client:
        runs = [partial(events, client), *(partial(frames, protocol, client) for protocol in PROTOCOLS)]
        return samples(*runs, rounds=rounds)


def measure_async(url: str, rounds: int) -> list[list[float]]:
    """The same with an async client."""

    async def run() -> list[list[float]]:
        async with anthropic.AsyncAnthropic(api_key="test", base_url=url) as client:
            runs = [partial(events_async, client), *(partial(frames_async, protocol, client) for protocol in PROTOCOLS)]
            return await samples_async(*runs, rounds=rounds)

    return asyncio.run(run())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    missed = False
    with limits.elsewhere(contenders.run_server, ["burst", "paced"]) as where:
        for reply in ("burst", "paced"):
            count = contenders.events_in(reply)
            for mode, run in (("async", measure_async), ("sync", measure)):
                spent = run(where[reply], rounds)
                base = statistics.median(spent[0]) * 1e6 / count
                for protocol, times in zip(PROTOCOLS, spent[1:], strict=True):
                    added = statistics.median(map(operator.sub, times, spent[0])) * 1e6 / count
                    missed |= reply == "burst" and added > GOAL
                    name = type(protocol).__name__
                    print(f"{reply:5}  {mode:5}  {name:5}  {base:6.1f} + {added:5.1f} µs an event", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
