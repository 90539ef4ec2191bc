"""What a streamed event costs: CPU time of the reader, as ratios measured in one run.

    python tests/benchmarks/cpu_per_event.py [--check] [--write] [--other-libraries]
        [--rounds 9] [--only burst]

A server in another process writes events over loopback, as fast as it can ("burst") or one a millisecond ("paced").
Each contender reads the whole reply; they take turns, and the median of the rounds counts. `floor` reads the bytes of
the body and drops them; `text_stream` is the SDK's own helper. What is no cost of an event over HTTP is in `limits.py`
and `scale.py`, the cost by HTTP client and event loop in `stacks.py`.

With `--check` only the goals of CI are measured, and the exit code is 1 when one is missed. With `--write` the tables
and a picture go into the docs. With `--other-libraries` those are installed and measured too. Instructions
for an event, the same on each run, are counted by `instructions.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anthropic

import streamkit

if __package__:
    from . import contenders, limits, other_libraries, scale, stacks
    from .rounds import medians, samples_async, seconds
else:  # run as a script
    import contenders  # type: ignore[no-redef]
    import limits  # type: ignore[no-redef]
    import other_libraries  # type: ignore[no-redef]
    import scale  # type: ignore[no-redef]
    import stacks  # type: ignore[no-redef]
    from rounds import medians, samples_async, seconds  # type: ignore[no-redef]

Row, Listener, words, reading = limits.Row, limits.Listener, limits.words, limits.reading
floor, raw, text_stream, collected = limits.floor, limits.raw, limits.text_stream, limits.collected
Contender, run_server, events_in = contenders.Contender, contenders.run_server, contenders.events_in
by_events, floor_async, raw_async = contenders.by_events, contenders.floor_async, contenders.raw_async
text_stream_async, collected_async = contenders.text_stream_async, contenders.collected_async
reading_async = contenders.reading_async
DOCS = Path(__file__).parents[2] / "docs"
PARAMS = limits.PARAMS
# For CI: at most this many times the floor, and at most this share of `text_stream`.
GOALS = {("text, burst, sync", "stream_text"): (1.6, 1 / 3), ("text, burst, async", "stream_text"): (1.6, 1 / 3)}


@dataclass(frozen=True)
class Case:
    """Contenders that read the same reply. The first is the floor, the second the SDK's own way."""

    reply: str
    contenders: dict[str, Contender]


THREE = [Listener, Listener, Listener]
CASES = {
    "text, burst, sync": Case(
        "burst",
        {
            "floor": floor,
            "text_stream": text_stream,
            "stream_text": reading(streamkit.stream_text),
            "stream_text, a timeout": reading(streamkit.stream_text, idle_timeout=60),
            "stream_text, 1 sink": reading(streamkit.stream_text, sinks=Listener),
            "stream_text, 3 sinks": reading(streamkit.stream_text, sinks=THREE),
            "collect": collected,
            "SDK's raw events": raw,
            "stream_events": reading(streamkit.stream_events),
            "stream_text by events": by_events,
        },
    ),
    "text, burst, async": Case(
        "burst",
        {
            "floor": floor_async,
            "text_stream": text_stream_async,
            "stream_text": reading_async(streamkit.stream_text),
            "stream_text, a timeout": reading_async(streamkit.stream_text, idle_timeout=60),
            "stream_text, 3 sinks": reading_async(streamkit.stream_text, sinks=THREE),
            "SDK's raw events": raw_async,
            "stream_events": reading_async(streamkit.stream_events),
            "collect": collected_async,
        },
    ),
    "text, paced, sync": Case(
        "paced", {"floor": floor, "text_stream": text_stream, "stream_text": reading(streamkit.stream_text)}
    ),
    "text, paced, async": Case(
        "paced",
        {
            "floor": floor_async,
            "text_stream": text_stream_async,
            "stream_text": reading_async(streamkit.stream_text),
        },
    ),
    "thinking, burst, sync": Case(
        "thinking",
        {
            "floor": floor,
            "messages.stream()": limits.helper,
            "stream_text, 1 sink": reading(streamkit.stream_text, sinks=Listener),
        },
    ),
    "tool input, 50 kB, sync": Case(
        "tool", {"floor": floor, "messages.stream()": limits.helper, "collect": collected}
    ),
}  # fmt: skip


def measure_sync(case: Case, url: str, rounds: int) -> list[float]:
    with anthropic.Anthropic(api_key="test", base_url=url) as client:
        return seconds(*(partial(contender, client) for contender in case.contenders.values()), rounds=rounds)


def measure_async(case: Case, url: str, rounds: int) -> list[float]:
    async def run() -> list[list[float]]:
        async with anthropic.AsyncAnthropic(api_key="test", base_url=url) as client:
            runs = [partial(contender, client) for contender in case.contenders.values()]
            return await samples_async(*runs, rounds=rounds)

    return medians(asyncio.run(run()))


def measure(names: Iterable[str], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of CPU time an event, by case and contender."""
    names = list(names)
    costs: dict[str, dict[str, float]] = {}
    with limits.elsewhere(run_server, sorted({CASES[name].reply for name in names})) as where:
        for name in names:
            case = CASES[name]
            run = measure_async if name.endswith("async") else measure_sync
            spent = run(case, where[case.reply], rounds)
            each = 1e6 / events_in(case.reply)
            costs[name] = {who: cost * each for who, cost in zip(case.contenders, spent, strict=True)}
            show({name: costs[name]})
    return costs


def ratios(costs: dict[str, float]) -> Iterable[tuple[str, float, float, float]]:
    """Name, microseconds, times the floor, and how many times less than the SDK's own way."""
    lowest, sdk, *_ = costs.values()
    for name, cost in costs.items():
        yield name, cost, cost / lowest, sdk / cost


def missed(case: str, name: str, times_floor: float, times_less: float) -> bool:
    most_floor, most_share = GOALS.get((case, name), (times_floor, 1 / times_less))
    return times_floor > most_floor or 1 / times_less > most_share


def show(costs: dict[str, dict[str, float]]) -> None:
    for case, by_name in costs.items():
        print(f"\n{case:28} {'µs/event':>9} {'x floor':>8} {'SDK ÷':>8}")
        for name, cost, times_floor, times_less in ratios(by_name):
            print(f"  {name:26} {cost:9.2f} {times_floor:8.2f} {times_less:8.2f}", flush=True)


def goals(costs: dict[str, dict[str, float]]) -> Iterable[Row]:
    """What the project aims at, of the cases that were measured."""
    for case, most, least in (
        ("text, burst, sync", 1.25, 4.5),
        ("text, burst, async", 1.25, 4.5),
        ("text, paced, sync", 1.15, 2.0),
        ("text, paced, async", 1.10, 1.6),
    ):
        if case in costs:
            own = costs[case]["stream_text"]
            yield Row(f"{case}: `stream_text`, times the floor", own / costs[case]["floor"], most, "x")
            yield Row(
                f"{case}: times less than `text_stream`", costs[case]["text_stream"] / own, least, "x", operator.ge
            )
    for mode in ("sync", "async"):
        cost = costs.get(f"text, burst, {mode}")
        if cost is not None:
            share = cost["stream_events"] / cost["SDK's raw events"]
            yield Row(f"`stream_events` of the SDK's raw events, {mode}", share, 0.6, "x")
    cost = costs.get("text, burst, sync")
    if cost is not None:
        share = cost["stream_text by events"] / cost["SDK's raw events"]
        yield Row("by events, times the SDK's raw events", share, 1.25, "x")
        yield Row("`collect`, times `stream_text`", cost["collect"] / cost["stream_text"], 1.0, "x")
    cost = costs.get("text, burst, async")
    if cost is not None:
        yield Row("timeouts, async, an event", cost["stream_text, a timeout"] - cost["stream_text"], 5, "µs")


BY_STACK = (
    "## By HTTP client and event loop",
    "",
    "µs per event. `aiohttp` is the SDK's `DefaultAioHttpClient`. All stacks take turns. In a burst, one read of the",
    "socket brings many events if the server is ahead of the reader, else few. The reads are counted, and only rounds",
    f"with {stacks.MANY} events a read or more, or only rounds with fewer, are compared.",
    "",
)


def page(
    costs: dict[str, dict[str, float]], rows: list[Row], by_stack: dict[str, stacks.Figures], others: dict[str, float]
) -> str:
    lines = [
        "# Cost of an event",
        "",
        "The CPU time of the reading process for each event: the median of several rounds in which all functions",
        "take turns. `floor` reads the bytes of the body (`response.iter_bytes()`) and drops them. It can be",
        "undercut: streamkit skips layers of the HTTP library that `iter_bytes()` passes. The times depend on the",
        "machine; the ratios hold on other machines, too.",
        "",
        f"Python {platform.python_version()}, `anthropic` {anthropic.__version__}. To measure again:",
        "",
        "```sh",
        "python tests/benchmarks/cpu_per_event.py --write",
        "```",
        "",
        "![microseconds of CPU time per event](benchmarks.svg)",
        "",
        "## Goals",
        "",
        "What this project aims at. CI requires less: the limits of `--check`.",
        "",
        "| | measured | goal | |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row.name} | {row.figure:.2f} {row.unit} | {row.aim} | {row.verdict} |" for row in rows]
    lines.append("")
    for case, by_name in costs.items():
        second = list(by_name)[1]
        lines += [
            f"## {case[0].upper()}{case[1:]}",
            "",
            f"| | µs per event | times the floor | times less than `{second}` |",
        ]
        lines += ["|---|---|---|---|"]
        lines += [f"| {name} | {cost:.1f} | {low:.2f} | {less:.2f} x |" for name, cost, low, less in ratios(by_name)]
        lines += [""]
    if by_stack:
        lines += [*BY_STACK, *stacks.tables(by_stack)]
    if others:
        lines += ["## Other libraries", "", "Text, burst; each in an environment of its own (`--other-libraries`).", ""]
        lines += ["| | µs per event |", "|---|---|", *(f"| {name} | {cost:.0f} |" for name, cost in others.items()), ""]
    return "\n".join(lines)


def picture(costs: dict[str, dict[str, float]]) -> str:
    """A bar for each contender, each case on a scale of its own."""
    parts, y = list[str](), 10
    for case, by_name in costs.items():
        parts.append(f'<text x="10" y="{y + 14}" font-weight="bold">{case}</text>')
        y += 22
        longest = max(by_name.values())
        for name, cost in by_name.items():
            colour = "#999" if name == "floor" else "#3a7" if name.startswith(("stream_", "collect")) else "#c63"
            width = round(cost / longest * 400, 1)
            parts.append(f'<text x="190" y="{y + 12}" text-anchor="end">{name.replace("&", "&amp;")}</text>')
            parts.append(f'<rect x="200" y="{y + 2}" width="{width}" height="12" fill="{colour}"/>')
            parts.append(f'<text x="{205 + width}" y="{y + 12}">{cost:.1f}</text>')
            y += 17
        y += 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{y}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="680" height="{y}" fill="white"/>', *parts, "</svg>", ""])


def compare_other_libraries(rounds: int) -> dict[str, float]:
    with limits.elsewhere(run_server, ["burst"]) as where:
        length = sum(map(len, words(5000)))
        others = other_libraries.measure(where["burst"], events_in("burst"), length, rounds)
        for name, cost in others.items():
            print(f"  {name:26} {cost:9.2f}")
    return others


def check(rounds: int) -> int:
    """The goals of CI."""
    costs = measure(sorted({case for case, _ in GOALS}), rounds)
    bad = [
        (case, name)
        for case, by_name in costs.items()
        for name, _, low, less in ratios(by_name)
        if missed(case, name, low, less)
    ]
    for case, name in bad:
        print(f"missed: {name} ({case})")
    return int(bool(bad))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="only what CI asks for")
    parser.add_argument("--write", action="store_true", help="put the tables and the picture into the docs")
    parser.add_argument("--other-libraries", action="store_true", help="install and measure other libraries too")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="only the cases whose name holds this")
    options = parser.parse_args()
    if options.check:
        return check(options.rounds)
    costs = measure([name for name in CASES if options.only in name], options.rounds)
    rows = list(goals(costs))
    print()
    for row in rows:
        print(row)
    by_stack: dict[str, stacks.Figures] = {}
    if not options.only:
        by_stack = stacks.measure(options.rounds)
        rows += stacks.goals(by_stack)
        rows += limits.measure()
        rows += scale.measure()
    others = compare_other_libraries(options.rounds) if options.other_libraries else {}
    if options.write:
        (DOCS / "benchmarks.md").write_text(page(costs, rows, by_stack, others), encoding="utf-8")
        (DOCS / "benchmarks.svg").write_text(
            picture({**costs, **stacks.bars(by_stack)} if by_stack else costs), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
