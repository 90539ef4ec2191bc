"""The cost of an event by HTTP client and event loop. Part of `cpu_per_event.py`; by itself:

    python tests/benchmarks/stacks.py [rounds]

All stacks read the same replies from the same server, and take turns. How many events one read of the socket brings
depends on how far the server is ahead of the reader, and with it the cost: aiohttp hands on all that a read brought as
few large chunks. So the reads are counted, and only rounds of the same mode are compared: many events a read, or few.
"""

from __future__ import annotations

import asyncio
import importlib.util
import operator
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import anthropic

import streamkit

if __package__:
    from . import contenders, limits
else:  # run as a script
    import contenders  # type: ignore[no-redef]
    import limits  # type: ignore[no-redef]

Row, Contender = limits.Row, contenders.Contender
MANY = 50  # events a read, at least: below, the reads show in the cost of an event
LEAST_ROUNDS = 3  # of a mode, for a median


class Pair(NamedTuple):
    """A contender for the sync stack, and for the others."""

    sync: Contender
    is_async: Contender


CONTENDERS = {
    "floor": Pair(limits.floor, contenders.floor_async),
    "stream_text": Pair(limits.ours, contenders.reading_async(streamkit.stream_text)),
    "text_stream": Pair(limits.text_stream, contenders.text_stream_async),
    "stream_events": Pair(
        limits.reading(streamkit.stream_events), contenders.reading_async(streamkit.stream_events)
    ),
    "SDK's raw events": Pair(limits.raw, contenders.raw_async),
}  # fmt: skip
PACED = ("floor", "stream_text", "text_stream")  # a round of these takes 0.7 s each


class Reads:
    """The number of reads of a socket that brought bytes."""

    def __init__(self) -> None:
        self.count = 0

    def count_received(self, protocol: Any) -> Any:
        """Count what an event loop gives to a protocol. Costs less than 0.1 µs an event."""
        data_received = protocol.data_received

        def counting(data: bytes) -> None:
            if data:  # aiohttp calls itself without any, when it resumes reading
                self.count += 1
            data_received(data)

        protocol.data_received = counting
        return protocol

    def count_read(self, response: Any) -> None:
        """Count the reads of a sync response: a hook of the HTTP client. A connection is used for many responses."""
        stream = response.extensions["network_stream"]
        if "read" not in vars(stream):
            read = stream.read

            def counting(*args: Any, **options: Any) -> bytes:
                self.count += 1
                return read(*args, **options)  # type: ignore[no-any-return]

            stream.read = counting


Run = Callable[[Pair], None]


@contextmanager
def open_sync(url: str, reads: Reads) -> Iterator[Run]:
    http_client = anthropic.DefaultHttpxClient(event_hooks={"response": [reads.count_read]})
    with anthropic.Anthropic(api_key="test", base_url=url, http_client=http_client) as client:
        yield lambda pair: pair.sync(client)


@contextmanager
def open_async(loop_class: Callable[[], Any], http_client: Callable[[], Any], url: str, reads: Reads) -> Iterator[Run]:
    class Counting(loop_class()):  # type: ignore[misc]
        async def create_connection(self, protocol_factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
            return await super().create_connection(
                lambda: reads.count_received(protocol_factory()), *args, **options
            )  # fmt: skip

    loop = Counting()
    client = anthropic.AsyncAnthropic(api_key="test", base_url=url, http_client=http_client())
    try:
        yield lambda pair: loop.run_until_complete(pair.is_async(client))
        loop.run_until_complete(client.close())
    finally:
        loop.close()


def asyncio_loop() -> Any:
    return asyncio.SelectorEventLoop


def uvloop_loop() -> Any:
    import uvloop

    return uvloop.Loop


Opener = Callable[[str, Reads], AbstractContextManager[Run]]
SYNC, DEFAULT, BEST = "httpx, sync", "httpx, asyncio", "aiohttp, uvloop"
STACKS: dict[str, Opener] = {
    SYNC: open_sync,
    DEFAULT: partial(open_async, asyncio_loop, anthropic.DefaultAsyncHttpxClient),
    "httpx, uvloop": partial(open_async, uvloop_loop, anthropic.DefaultAsyncHttpxClient),
    "aiohttp, asyncio": partial(open_async, asyncio_loop, anthropic.DefaultAioHttpClient),
    BEST: partial(open_async, uvloop_loop, anthropic.DefaultAioHttpClient),
}


def installed(stack: str) -> bool:
    return all(importlib.util.find_spec(name) for name in ("aiohttp", "uvloop") if name in stack)


class Sample(NamedTuple):
    """One round of one contender."""

    microseconds: float
    events_a_read: float

    @property
    def many(self) -> bool:
        return self.events_a_read >= MANY


@dataclass
class Figures:
    """The rounds of each contender on each stack, of one reply."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)

    def cost(self, stack: str, contender: str, many: bool) -> float | None:
        """The median of the rounds of a mode, if there are enough of them."""
        costs = [one.microseconds for one in self.samples.get((stack, contender), ()) if one.many is many]
        return statistics.median(costs) if len(costs) >= LEAST_ROUNDS else None

    def events_a_read(self, stack: str, contender: str, many: bool) -> float | None:
        counts = [one.events_a_read for one in self.samples.get((stack, contender), ()) if one.many is many]
        return statistics.median(counts) if len(counts) >= LEAST_ROUNDS else None

    def ratio(self, over: tuple[str, str], under: tuple[str, str], many: bool) -> float | None:
        """One cost divided by another of the same mode."""
        above, below = self.cost(*over, many), self.cost(*under, many)
        return None if above is None or below is None else above / below

    @property
    def stacks(self) -> list[str]:
        return list(dict.fromkeys(stack for stack, _ in self.samples))

    @property
    def contenders(self) -> list[str]:
        return list(dict.fromkeys(contender for _, contender in self.samples))


def take_turns(reply: str, url: str, names: Iterable[str], rounds: int) -> Figures:
    figures, events, names = Figures(), contenders.events_in(reply), list(names)
    reads = Reads()
    with ExitStack() as opened:
        runs = {stack: opened.enter_context(STACKS[stack](url, reads)) for stack in STACKS if installed(stack)}
        for turn in range(rounds + 1):
            for stack, run in runs.items():
                for name in names:
                    reads.count, started = 0, time.process_time()
                    run(CONTENDERS[name])
                    spent = time.process_time() - started
                    if turn:  # the first warms up
                        sample = Sample(spent / events * 1e6, events / max(reads.count, 1))
                        figures.samples.setdefault((stack, name), []).append(sample)
    return figures


def measure(rounds: int) -> dict[str, Figures]:
    """The figures by reply: burst and paced."""
    with limits.elsewhere(contenders.run_server, ["burst", "paced"]) as where:
        figures = {
            "burst": take_turns("burst", where["burst"], CONTENDERS, rounds),
            "paced": take_turns("paced", where["paced"], PACED, rounds),
        }
    print(*tables(figures), sep="\n", flush=True)
    return figures


def goals(figures: dict[str, Figures]) -> Iterable[Row]:
    burst, paced = figures["burst"], figures["paced"]
    for stack in burst.stacks:
        most = 1.18 if "aiohttp" in stack else 1.12
        for many in (True, False):
            times = burst.ratio((stack, "stream_text"), (stack, "floor"), many)
            yield from row(f"{stack}, burst, {mode(many)}: `stream_text`, times the floor", times, most)
        times = paced.ratio((stack, "stream_text"), (stack, "floor"), many=False)
        yield from row(f"{stack}, paced: `stream_text`, times the floor", times, 1.08)
        share = burst.ratio((stack, "stream_events"), (stack, "SDK's raw events"), many=True)
        yield from row(f"{stack}, burst: `stream_events` of the SDK's raw events", share, 0.5)
    yield from goals_of_the_best(burst, paced)


def goals_of_the_best(burst: Figures, paced: Figures) -> Iterable[Row]:
    """The best stack against what the SDK does by default. On httpx an event costs the same in both modes."""
    sdk = burst.cost(DEFAULT, "text_stream", many=True)
    for many, least in ((True, 9), (False, 5)):
        own = burst.cost(BEST, "stream_text", many)
        times = None if sdk is None or own is None else sdk / own
        name = f"{BEST}, burst, {mode(many)}: less than `text_stream` on {DEFAULT}"
        yield from row(name, times, least, operator.ge)
    times = paced.ratio((DEFAULT, "text_stream"), (BEST, "stream_text"), many=False)
    yield from row(f"{BEST}, paced: less than `text_stream` on {DEFAULT}", times, 4, operator.ge)


def row(name: str, figure: float | None, goal: float, better: Callable[..., bool] = operator.le) -> Iterable[Row]:
    """A row, if there was enough to compare."""
    if figure is not None:
        yield Row(name, figure, goal, "x", better)


def mode(many: bool) -> str:
    return "many events a read" if many else "few events a read"


def tables(figures: dict[str, Figures]) -> Iterable[str]:
    """Lines of Markdown."""
    yield from table("Burst, many events a read", figures["burst"], many=True)
    yield from table("Burst, few events a read", figures["burst"], many=False)
    yield from table("Paced: one event a millisecond", figures["paced"], many=False)


def table(title: str, figures: Figures, many: bool) -> Iterable[str]:
    names = figures.contenders
    lines = []
    for stack in figures.stacks:
        costs = [figures.cost(stack, name, many) for name in names]
        if any(cost is not None for cost in costs):
            reads = [figures.events_a_read(stack, name, many) for name in names]
            known = [count for count in reads if count is not None]
            cells = ["" if cost is None else f"{cost:.1f}" for cost in costs]
            span = f"{min(known):.0f}" if f"{min(known):.0f}" == f"{max(known):.0f}" else (
                f"{min(known):.0f} to {max(known):.0f}"
            )  # fmt: skip
            lines.append(f"| {stack} | {' | '.join(cells)} | {span} |")
    if lines:
        yield from (f"### {title}", "", f"| client and loop | {' | '.join(names)} | events a read |")
        yield from ("|---" * (len(names) + 2) + "|", *lines, "")


def bars(figures: dict[str, Figures]) -> dict[str, dict[str, float]]:
    """The costs for the picture, by case and bar."""
    cases: dict[str, dict[str, float]] = {}
    for reply, many in (("burst", True), ("paced", False)):
        known = {
            f"{name}, {stack}": cost
            for name in ("text_stream", "stream_text")
            for stack in figures[reply].stacks
            if (cost := figures[reply].cost(stack, name, many)) is not None
        }
        if known:
            cases[f"by client and loop, {reply}"] = known
    return cases


if __name__ == "__main__":
    print(*goals(measure(int((sys.argv[1:] or ["9"])[0]))), sep="\n")
