"""What Markdown in a terminal costs while it streams: CPU time and bytes written, as ratios measured in one run.

    python tests/benchmarks/terminal.py [--check] [--limit 60] [--rounds 3]

A reply arrives in pieces of four characters, 100 of them a second of a clock that only counts; twelve times a second
each contender draws what there is, on a terminal of 80 columns and 24 rows. "rich.Live" updates a `rich.live.Live` with
all of the text as rich's Markdown, and shows an ellipsis where the screen ends. "window of rows" is the way of aider:
render all of the text, print the rows for good that are more than six above the end, and keep those six in a `Live`.

A contender that takes longer than `--limit` seconds is stopped, and is listed with how far it got. With `--check` the
exit code is 1 when a goal is missed. Nothing is measured by the clock on the wall.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from streamkit.rich._renderer import Renderer

COLUMNS, LINES = 80, 24
PIECE = 4  # characters
PIECES_PER_SECOND, FRAMES_PER_SECOND = 100, 12
LOAD = 10  # times what a frame took: the pause of the sink before the next one
SMALL, LARGE = 13_000, 200_000  # characters

WORDS = [
    *("boat", "harbour", "quay", "rope", "tide", "wind", "sail", "mast", "deck", "anchor", "crew", "captain"),
    *("berth", "light", "tower", "signal", "chart", "depth", "current", "north", "south", "east", "west"),
    *("the", "a", "of", "and", "to", "in", "with", "that", "which", "is", "are", "was", "will", "can", "must"),
    *("near", "far", "before", "after", "slowly"),
]  # fmt: skip


def _sentence(source: random.Random) -> str:
    words = [source.choice(WORDS) for _ in range(source.randint(6, 18))]
    if source.random() < 0.5:
        mark = source.choice(
            ["**{0}**", "**{0}**", "*{0}*", "`{0}`", "`{0}`", "`{0}`", "[{0}](https://boats.example/{0})"]
        )
        words[source.randrange(len(words))] = mark.format(source.choice(WORDS))
    return " ".join(words).capitalize() + "."


def _paragraph(source: random.Random) -> str:
    return " ".join(_sentence(source) for _ in range(source.randint(2, 6)))


def _list(source: random.Random) -> str:
    numbered = source.random() < 0.5
    items = []
    for number in range(1, source.randint(4, 10)):
        items.append(f"{number}. {_sentence(source)}" if numbered else f"- {_sentence(source)}")
        if source.random() < 0.2:
            items += [f"{'   ' if numbered else '  '}- {_sentence(source)}" for _ in range(2)]
    return "\n".join(items)


def _python(source: random.Random) -> str:
    name, other = source.choice(WORDS), source.choice(WORDS)
    body = "\n".join(
        f'    {source.choice(WORDS)}_{number} = {other}([{number}, 2.5], name="{source.choice(WORDS)}")  # {number}'
        for number in range(source.randint(4, 20))
    )
    head = f'def {name}({other}: int) -> str:\n    """Return the {other}."""'
    return f'```python\n{head}\n{body}\n    return f"{{{other}}}"\n```'


def _shell(source: random.Random) -> str:
    lines = [f"{source.choice(WORDS)} --{source.choice(WORDS)} {n} | grep '{source.choice(WORDS)}'" for n in range(4)]
    return "```sh\n# " + _sentence(source) + "\n" + "\n".join(lines) + "\n```"


def _table(source: random.Random) -> str:
    rows = [
        f"| {source.choice(WORDS)} | **{n * 7}** | {_sentence(source)[:40]} |" for n in range(source.randint(3, 12))
    ]
    return "| Boat | Length | Notes |\n|:---|---:|---|\n" + "\n".join(rows)


def _quote(source: random.Random) -> str:
    return "\n".join(f"> {_sentence(source)}" for _ in range(source.randint(1, 4)))


def reply(size: int) -> str:
    """A reply of so many characters, with a heading above every few blocks; the same in each run."""
    source, text = random.Random(13), ""
    while len(text) < size:
        text += f"## {' '.join(source.choice(WORDS) for _ in range(3)).capitalize()}\n\n"
        for block in source.sample([_paragraph, _paragraph, _paragraph, _list, _python, _shell, _table, _quote], 4):
            text += block(source) + "\n\n"
    return text[:size]


class Output(io.StringIO):
    """A terminal that counts bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def write(self, text: str) -> int:
        self.size += len(text.encode())
        return len(text)

    def isatty(self) -> bool:
        return True


def console(output: Output) -> Console:
    environment = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    return Console(file=output, width=COLUMNS, height=LINES, force_terminal=True, _environ=environment)


def frames(text: str) -> Iterator[str]:
    """The text that arrives between two frames."""
    begin, due = 0, 0.0
    for count, end in enumerate(range(PIECE, len(text) + PIECE, PIECE), 1):
        if count / PIECES_PER_SECOND >= due or end >= len(text):
            due += 1 / FRAMES_PER_SECOND
            yield text[begin:end]
            begin = end


Contender = Callable[[str, Output], Iterator[int]]


def renderer(text: str, output: Output) -> Iterator[int]:
    """Yield how many characters were drawn, after each frame."""
    drawn = Renderer(console(output))
    at = 0
    for news in frames(text):
        for begin in range(0, len(news), PIECE):
            drawn.feed(news[begin : begin + PIECE])
        output.write(drawn.frame())
        at += len(news)
        yield at
    output.write(drawn.finish())
    yield at


def rich_live(text: str, output: Output) -> Iterator[int]:
    at = 0
    with Live(console=console(output), auto_refresh=False, vertical_overflow="ellipsis") as live:
        for news in frames(text):
            at += len(news)
            live.update(Markdown(text[:at]), refresh=True)
            yield at


def window_of_rows(text: str, output: Output, window: int = 6) -> Iterator[int]:
    at, printed = 0, 0
    with Live(console=console(output), auto_refresh=False) as live:
        for news in frames(text):
            at += len(news)
            scratch = io.StringIO()
            Console(file=scratch, width=COLUMNS, force_terminal=True, _environ={"COLORTERM": "truecolor"}).print(
                Markdown(text[:at])
            )
            rows = scratch.getvalue().splitlines(keepends=True)
            settled = max(0, len(rows) - window)
            if settled > printed:
                live.console.print(Text.from_ansi("".join(rows[printed:settled])))
                printed = settled
            live.update(Text.from_ansi("".join(rows[printed:])), refresh=True)
            yield at


CONTENDERS: dict[str, Contender] = {
    "streamkit.rich": renderer,
    "rich.Live": rich_live,
    "window of rows": window_of_rows,
}


class Cost(NamedTuple):
    """Of one reply: CPU seconds, bytes written, and how many characters of the text were drawn before the limit."""

    seconds: float
    written: int
    drawn: int


def measure(contender: Contender, text: str, limit: float) -> Cost:
    output, drawn = Output(), 0
    began = time.process_time()
    progress = contender(text, output)
    for at in progress:
        drawn = at
        if time.process_time() - began > limit:
            break
    progress.close()  # type: ignore[attr-defined]
    return Cost(time.process_time() - began, output.size, drawn)


def median(contender: Contender, text: str, limit: float, rounds: int) -> Cost:
    costs = [measure(contender, text, limit) for _ in range(rounds)]
    return sorted(costs)[len(costs) // 2]


def huge(kind: str, size: int) -> str:
    if kind == "table":
        return "| Boat | Place |\n|---|---|\n" + "".join(f"| boat {n} | the *quay* {n} |\n" for n in range(size))
    if kind == "paragraph":
        return "A boat *leaves* the `harbour` with the tide. " * (size // 45)
    return "x" * size


def share_of_stream(text: str) -> float:
    """CPU time as a part of the time in which the reply arrives, with pauses between frames as the sink makes them."""
    output, now, due, spent = Output(), 0.0, 0.0, 0.0
    drawn = Renderer(console(output))
    for begin in range(0, len(text), PIECE):
        now += 1 / PIECES_PER_SECOND
        drawn.feed(text[begin : begin + PIECE])
        if now >= due:
            began = time.process_time()
            output.write(drawn.frame())
            cost = time.process_time() - began
            spent += cost
            due = now + max(1 / FRAMES_PER_SECOND, cost + LOAD * cost)
    began = time.process_time()
    output.write(drawn.finish())
    return (spent + time.process_time() - began) / now


class Goal(NamedTuple):
    name: str
    figure: float
    most: float

    @property
    def is_met(self) -> bool:
        return self.figure <= self.most

    def __str__(self) -> str:
        return f"  {self.name:52} {self.figure:8.3f}  at most {self.most:<6g} {'met' if self.is_met else 'MISSED'}"


def show(size: int, limit: float, rounds: int) -> dict[str, Cost]:
    text = reply(size)
    print(f"\n{size // 1000} kB{'':24} {'CPU s':>8} {'written, kB':>12} {'x text':>7}")
    costs = {}
    for name, contender in CONTENDERS.items():
        costs[name] = cost = median(contender, text, limit, rounds if name == "streamkit.rich" else 1)
        note = "" if cost.drawn >= len(text) else f"  stopped at {cost.drawn // 1000} kB"
        times = cost.written / len(text.encode())
        print(f"  {name:26} {cost.seconds:8.2f} {cost.written / 1000:12.0f} {times:7.1f}{note}", flush=True)
    return costs


def long_line() -> float:
    """How the cost of a line in 250 pieces grows with its length."""

    def seconds(size: int) -> float:
        output = Output()
        began = time.process_time()
        drawn, step = Renderer(console(output)), size // 250
        for _ in range(250):
            drawn.feed("x" * step)
            output.write(drawn.frame())
        output.write(drawn.finish())
        return time.process_time() - began

    seconds(10_000)
    return statistics.median(seconds(1_000_000) for _ in range(3)) / statistics.median(
        seconds(100_000) for _ in range(3)
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--limit", type=float, default=60, help="CPU seconds for one contender and reply")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measure(renderer, reply(2000), 60)  # what is made at the first use: lexers, parsers
    small, large = (show(size, options.limit, options.rounds) for size in (SMALL, LARGE))
    own, own_large = small["streamkit.rich"], large["streamkit.rich"]
    goals = [
        Goal("13 kB: CPU of streamkit.rich, of that of rich.Live", own.seconds / small["rich.Live"].seconds, 0.1),
        Goal("200 kB: CPU, times that of 13 kB", own_large.seconds / own.seconds, 20),
        Goal("13 kB: bytes written, times the text", own.written / SMALL, 6),
        Goal("200 kB: bytes written, times the text", own_large.written / LARGE, 6),
        Goal("a table of 400 rows: CPU, of the stream's time", share_of_stream(huge("table", 400)), 0.1),
        Goal("a paragraph of 20 kB: CPU, of the stream's time", share_of_stream(huge("paragraph", 20_000)), 0.1),
        Goal("a line of 1 MB: CPU, times that of 100 kB", long_line(), 20),
    ]
    print("\nGoals")
    for goal in goals:
        print(goal)
    return int(options.check and not all(goal.is_met for goal in goals))


if __name__ == "__main__":
    sys.exit(main())
