"""What a streamed event costs: CPU time of the reader, as ratios measured in one run.

    python tests/benchmarks/cpu_per_event.py [--check] [--write] [--rounds 7] [--only burst]

A server in another process writes events over loopback, as fast as it can ("burst") or one a millisecond ("paced").
Each contender reads the whole reply; they take turns, and the median of the rounds counts. `floor` reads the bytes of
the body and drops them; `text_stream` is the SDK's own helper. With `--check` only the goals of CI are measured, and
the exit code is 1 when one is missed. With `--write` the table and its picture go into the docs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic

import streamkit
from streamkit.testing import Reply, serve

DOCS = Path(__file__).parents[2] / "docs"
PARAMS: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "Hello"}],
}
# For CI: at most this many times the floor, and at most this share of `text_stream`.
GOALS = {("text, burst, sync", "stream_text"): (1.6, 1 / 3), ("text, burst, async", "stream_text"): (1.6, 1 / 3)}


def words(count: int) -> list[str]:
    return [f"w{number:05d} " for number in range(count)]


def tool_reply(count: int) -> Reply:
    """Structured JSON, about 60 bytes a row, in pieces of 20 characters."""
    rows = [{"id": number, "name": f"row {number}", "tags": ["a", "b"], "ok": True} for number in range(count)]
    raw = json.dumps({"rows": rows})
    block = {"type": "tool_use", "id": "toolu_1", "name": "store", "input": {}}
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    deltas = [{"type": "input_json_delta", "partial_json": raw[at : at + 20]} for at in range(0, len(raw), 20)]
    return Reply.events(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )


REPLIES: dict[str, Callable[[], Reply]] = {
    "burst": lambda: Reply.text(words(5000), pings=False),
    "paced": lambda: Reply.text(words(600), pings=False, delay=0.001),
    "thinking": lambda: Reply.thinking("".join(words(5000)), "So.", pings=False),
    "tool": lambda: tool_reply(800),
}


def run_server(names: list[str], urls: Any, done: Any) -> None:
    with ExitStack() as stack:
        urls.put({name: stack.enter_context(serve(REPLIES[name](), repeat=True)).url for name in names})
        done.wait()


class Listener(streamkit.Sink):
    """A sink that listens to text and does nothing with it."""

    def write(self, text: str) -> None:
        pass

    def thinking(self, text: str) -> None:
        pass


Contender = Callable[[Any], Any]


def floor(client: anthropic.Anthropic) -> None:
    with client.messages.create(stream=True, **PARAMS) as stream:
        for _ in stream.response.iter_bytes():
            pass


def text_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**PARAMS) as stream:
        for _ in stream.text_stream:
            pass


def helper_events(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**PARAMS) as stream:
        for _ in stream:
            pass


def raw(client: anthropic.Anthropic) -> None:
    with client.messages.create(stream=True, **PARAMS) as stream:
        for _ in stream:
            pass


def reading(function: Callable[..., Any], **options: Any) -> Contender:
    def run(client: anthropic.Anthropic) -> None:
        with function(client, **options, **PARAMS) as stream:
            for _ in stream:
                pass

    return run


def by_events(client: anthropic.Anthropic) -> None:
    with client.messages.create(stream=True, **PARAMS) as stream:
        for _ in streamkit.stream_text(event for event in stream):  # type: ignore[call-overload]
            pass


def collected(client: anthropic.Anthropic) -> None:
    streamkit.collect(client, **PARAMS)


async def floor_async(client: anthropic.AsyncAnthropic) -> None:
    async with await client.messages.create(stream=True, **PARAMS) as stream:
        async for _ in stream.response.aiter_bytes():
            pass


async def text_stream_async(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(**PARAMS) as stream:
        async for _ in stream.text_stream:
            pass


async def raw_async(client: anthropic.AsyncAnthropic) -> None:
    async with await client.messages.create(stream=True, **PARAMS) as stream:
        async for _ in stream:
            pass


def reading_async(function: Callable[..., Any], **options: Any) -> Contender:
    async def run(client: anthropic.AsyncAnthropic) -> None:
        async with function(client, **options, **PARAMS) as stream:
            async for _ in stream:
                pass

    return run


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
            "stream_text, a clock": reading(streamkit.stream_text, idle_timeout=60),
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
            "stream_text, a clock": reading_async(streamkit.stream_text, idle_timeout=60),
            "stream_text, 3 sinks": reading_async(streamkit.stream_text, sinks=THREE),
            "SDK's raw events": raw_async,
            "stream_events": reading_async(streamkit.stream_events),
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
            "messages.stream()": helper_events,
            "stream_text, 1 sink": reading(streamkit.stream_text, sinks=Listener),
        },
    ),
    "tool input, 50 kB, sync": Case(
        "tool", {"floor": floor, "messages.stream()": helper_events, "collect": collected}
    ),
}  # fmt: skip


def events_in(reply: str) -> int:
    return len(REPLIES[reply]().frames)


def measure_sync(case: Case, url: str, rounds: int) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {name: [] for name in case.contenders}
    with anthropic.Anthropic(api_key="test", base_url=url) as client:
        for _ in range(rounds + 1):
            for name, contender in case.contenders.items():
                started = time.process_time()
                contender(client)
                spent[name].append(time.process_time() - started)
    return spent


def measure_async(case: Case, url: str, rounds: int) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {name: [] for name in case.contenders}

    async def run() -> None:
        async with anthropic.AsyncAnthropic(api_key="test", base_url=url) as client:
            for _ in range(rounds + 1):
                for name, contender in case.contenders.items():
                    started = time.process_time()
                    await contender(client)
                    spent[name].append(time.process_time() - started)

    asyncio.run(run())
    return spent


def measure(names: Iterable[str], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of CPU time an event, by case and contender."""
    names = list(names)
    context = multiprocessing.get_context("spawn")
    urls, done = context.Queue(), context.Event()
    server = context.Process(target=run_server, args=(sorted({CASES[name].reply for name in names}), urls, done))
    server.start()
    costs: dict[str, dict[str, float]] = {}
    try:
        where = urls.get()
        for name in names:
            case = CASES[name]
            run = measure_async if name.endswith("async") else measure_sync
            events = events_in(case.reply)
            spent = run(case, where[case.reply], rounds)
            # The first round warms up.
            costs[name] = {who: statistics.median(times[1:]) / events * 1e6 for who, times in spent.items()}
            show({name: costs[name]})
    finally:
        done.set()
        server.join()
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
            mark = "   missed" if missed(case, name, times_floor, times_less) else ""
            print(f"  {name:26} {cost:9.2f} {times_floor:8.2f} {times_less:8.2f}{mark}", flush=True)


def page(costs: dict[str, dict[str, float]]) -> str:
    lines = [
        "# What an event costs",
        "",
        "CPU time of the reading process for each event, the median of several rounds in which all take turns.",
        "`floor` reads the bytes of the body (`response.iter_bytes()`) and drops them. The numbers of one machine mean",
        "little on another; the ratios hold.",
        "",
        f"Python {platform.python_version()}, `anthropic` {anthropic.__version__}. To measure anew:",
        "",
        "```sh",
        "python tests/benchmarks/cpu_per_event.py --write",
        "```",
        "",
        "![microseconds of CPU time an event](benchmarks.svg)",
        "",
    ]
    for case, by_name in costs.items():
        second = list(by_name)[1]
        lines += [f"## {case[0].upper()}{case[1:]}", "", f"| | µs an event | x floor | less than `{second}` |"]
        lines += ["|---|---|---|---|"]
        lines += [f"| {name} | {cost:.1f} | {low:.2f} | {less:.2f} x |" for name, cost, low, less in ratios(by_name)]
        lines += [""]
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


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="only what CI asks for")
    parser.add_argument("--write", action="store_true", help="put the table and the picture into the docs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="only the cases whose name holds this")
    options = parser.parse_args()
    wanted = {case for case, _ in GOALS} if options.check else set(CASES)
    costs = measure([name for name in CASES if name in wanted and options.only in name], options.rounds)
    if options.write:
        (DOCS / "benchmarks.md").write_text(page(costs), encoding="utf-8")
        (DOCS / "benchmarks.svg").write_text(picture(costs), encoding="utf-8")
    bad = [
        (case, name)
        for case, by_name in costs.items()
        for name, _, low, less in ratios(by_name)
        if missed(case, name, low, less)
    ]
    return int(options.check and bool(bad))


if __name__ == "__main__":
    sys.exit(main())
