"""Make the pictures of this folder: the reply of examples/markdown.py in a terminal, moving and still.

`uv run --group test docs/make_pictures.py` writes them. Nothing is read from the network or from a clock, so that each
run makes the same bytes.
"""

from __future__ import annotations

import io
import re
import runpy
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import pyte
from pyte.screens import Char
from rich.console import Console

from streamkit.rich._renderer import Renderer

RICH = ".".join(version("rich").split(".")[:2])  # another one may draw some things in another way
DOCS = Path(__file__).parent
EXAMPLE = DOCS.parent / "examples" / "markdown.py"
COMMAND = "\x1b[1;32m$\x1b[0m uv run examples/markdown.py\r\n\r\n"
COLUMNS, ROWS = 80, 24
WORDS_PER_SECOND, FRAMES_PER_SECOND = 24, 12
PAUSE = 5.0  # seconds that the whole reply stays before the picture starts over
CELL, LINE, FONT_SIZE = 10, 21, 16.6  # in units of the picture; a character is 0.6 times as wide as the font's size
BASELINE, PADDING, TITLE_BAR = 16, 14, 22
REACH = 30  # columns: a gap of blanks up to here takes less space than another element
SCALE = 0.84  # pixels for a unit
FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
BACKGROUND, FOREGROUND, FRAME = "#1e1f29", "#d8d9e3", "#7d8096"
COLORS = {
    "black": "#3b3d4d",
    "red": "#ff6b6b",
    "green": "#7bd88f",
    "brown": "#e5c07b",
    "blue": "#6cb6ff",
    "magenta": "#d699f0",
    "cyan": "#5fd7d7",
    "white": "#d8d9e3",
    "brightblack": "#7d8096",
    "brightred": "#ff8f8f",
    "brightgreen": "#a5e6b3",
    "brightbrown": "#f3d9a4",
    "brightblue": "#9cceff",
    "brightmagenta": "#e6bff7",
    "brightcyan": "#93e8e8",
    "brightwhite": "#ffffff",
}


class Screen(pyte.HistoryScreen):
    """A terminal that keeps what was scrolled out. Dim text, which pyte does not know, counts as blinking."""

    def __init__(self) -> None:
        super().__init__(COLUMNS, ROWS, history=10_000, ratio=1)

    def select_graphic_rendition(self, *attrs: int) -> None:
        """Set the style of what follows."""
        changed, rest = list[int](), iter(attrs)
        for attr in rest:
            changed.append(5 if attr == 2 else attr)
            if attr in (38, 48):  # a colour: `2` and three numbers, or `5` and one
                changed += (kind := next(rest), *(next(rest) for _ in range(3 if kind == 2 else 1)))
        super().select_graphic_rendition(*changed)

    def rows(self) -> list[tuple[Char, ...]]:
        """All rows, from the first one that was scrolled out to that of the cursor."""
        lines = [*self.history.top, *(self.buffer[y] for y in range(self.cursor.y + 1))]
        return [tuple(line[x] for x in range(COLUMNS)) for line in lines]


@dataclass(frozen=True)
class Frame:
    """All rows at one moment, and how many of them were scrolled out."""

    second: float
    rows: list[tuple[Char, ...]]
    scrolled: int


def play(text: str) -> Iterator[Frame]:
    """Let a reply arrive word by word. The time is counted."""
    console = Console(file=io.StringIO(), width=COLUMNS, height=ROWS, force_terminal=True, color_system="truecolor")
    renderer, screen = Renderer(console), Screen()
    stream, second = pyte.Stream(screen), 0.0

    def frame(output: str) -> Frame:
        stream.feed(output)
        return Frame(second, screen.rows(), len(screen.history.top))

    yield frame(COMMAND)
    for number, word in enumerate(re.findall(r"\s*\S+", text), 1):
        renderer.feed(word)
        if number % (WORDS_PER_SECOND // FRAMES_PER_SECOND) == 0:
            second = number / WORDS_PER_SECOND
            yield frame(renderer.frame())
    second += 1 / FRAMES_PER_SECOND
    yield frame(renderer.finish())


Look = tuple[str, str]
"""A style and a character in this style, or a colour and nothing."""


@dataclass(frozen=True)
class Span:
    """Cells of a row that look alike from one frame to another, or to the end."""

    begin: int
    end: int | None
    row: int
    style: str
    cells: tuple[tuple[int, str], ...]  # the column and the character of each

    @property
    def column(self) -> int:
        """The first column."""
        return self.cells[0][0]

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.cells[-1][0] + 1 - self.column

    @property
    def text(self) -> str:
        """The characters, with spaces for the columns between them."""
        characters = dict(self.cells)
        return "".join(characters.get(column, " ") for column in range(self.column, self.column + self.width))


def spans(frames: Sequence[Frame], look: Callable[[Char], Look | None], reach: int) -> Iterator[Span]:
    """Find out what each cell shows and when. Cells that look alike at the same time, within `reach`, are one span."""
    empty = (Char(" "),) * COLUMNS
    for row in range(len(frames[-1].rows)):
        versions = [frame.rows[row] if row < len(frame.rows) else empty for frame in frames]
        alike: dict[tuple[int, int | None, str], list[tuple[int, str]]] = defaultdict(list)
        for column in range(COLUMNS):
            begin = 0
            for seen, same in groupby(look(cells[column]) for cells in versions):
                end = begin + len(list(same))
                if seen is not None:
                    style, shown = seen
                    alike[begin, end if end < len(frames) else None, style].append((column, shown))
                begin = end
        for (first, last, style), cells in alike.items():
            starts = [i for i in range(len(cells)) if i == 0 or cells[i][0] - cells[i - 1][0] > reach]
            for start, stop in zip(starts, [*starts[1:], len(cells)], strict=True):
                yield Span(first, last, row, style, tuple(cells[start:stop]))


def behind(cell: Char) -> Look | None:
    """Return the colour behind a character, unless it is that of the window."""
    color = hexadecimal(cell.fg, FOREGROUND) if cell.reverse else hexadecimal(cell.bg, BACKGROUND)
    return None if color == BACKGROUND else (color, "")


def character(cell: Char) -> Look | None:
    """Return a character and the declarations of its style, unless nothing is seen of it."""
    lines = ["underline"] * cell.underscore + ["line-through"] * cell.strikethrough
    if not cell.data.strip() and not lines:
        return None
    color = hexadecimal(cell.bg, BACKGROUND) if cell.reverse else hexadecimal(cell.fg, FOREGROUND)
    declarations = (
        f"fill:{color}" if color != FOREGROUND else "",
        "font-weight:bold" if cell.bold else "",
        "font-style:italic" if cell.italics else "",
        "opacity:.6" if cell.blink else "",
        f"text-decoration:{' '.join(lines)}" if lines else "",
    )
    return ";".join(filter(None, declarations)), cell.data


def hexadecimal(color: str, default: str) -> str:
    """Return a colour of pyte, which has names and numbers, in the form of CSS."""
    return default if color == "default" else COLORS.get(color, f"#{color}")


class Picture:
    """An SVG of frames: a group for each time, which is visible from one frame to another, and rules in CSS."""

    def __init__(self, frames: Sequence[Frame], rows: int) -> None:
        self.frames, self.rows = frames, rows
        self.seconds = round(frames[-1].second + PAUSE, 2)
        self.styles: dict[str, str] = {}  # the names of classes, by their declarations
        self.times: dict[tuple[int, int | None], str] = {}  # the names of groups, by the frames of their begin and end

    def svg(self) -> str:
        """Draw the backgrounds, and above them the characters."""
        groups = [*self.draw(spans(self.frames, behind, 1), self.path)]
        groups += self.draw(spans(self.frames, character, REACH), self.text)
        rules = [rule for (begin, end), name in self.times.items() for rule in self.visible(name, begin, end)]
        return self.window(rules, groups)

    def draw(self, found: Iterable[Span], make: Callable[[Span], str]) -> Iterator[str]:
        """Draw spans, in a group for each time."""
        groups: dict[tuple[int, int | None], list[str]] = defaultdict(list)
        for span in found:
            groups[span.begin, span.end].append(make(span))
        for time, parts in groups.items():
            name = self.times.setdefault(time, f"g{len(self.times)}")
            yield f'<g class="{name}">{"".join(parts)}</g>'

    def path(self, span: Span) -> str:
        """Draw the background of a span."""
        width = span.width * CELL
        return f'<path fill="{span.style}" d="M{span.column * CELL} {span.row * LINE}h{width}v{LINE}h-{width}z"/>'

    def text(self, span: Span) -> str:
        """Draw the characters of a span. `textLength` keeps the columns with a font of any width."""
        name = self.styles.setdefault(span.style, f"s{len(self.styles)}") if span.style else ""
        attributes = {
            "class": name,
            "x": span.column * CELL or "",
            "y": span.row * LINE + BASELINE,
            "textLength": span.width * CELL if span.width > 1 else "",
        }
        written = "".join(f' {key}="{value}"' for key, value in attributes.items() if value != "")
        return f"<text{written}>{escape(span.text, quote=False)}</text>"

    def percent(self, frame: int) -> str:
        """Return the time of a frame as a part of the whole."""
        return f"{100 * self.frames[frame].second / self.seconds:.2f}%"

    def visible(self, name: str, begin: int, end: int | None) -> Iterator[str]:
        """Write the rules of a group that is visible from one frame to another. What never changes needs none."""
        if begin == 0 and end is None:
            return
        steps = f"0%{{visibility:hidden}}{self.percent(begin)}{{visibility:visible}}"
        if end is not None:
            yield f".{name}{{visibility:hidden}}"  # also the state of a picture that does not move
            steps += f"{self.percent(end)}{{visibility:hidden}}"
        yield f".{name}{{animation-name:{name}}}@keyframes {name}{{{steps}}}"

    def scrolling(self) -> Iterator[str]:
        """Write the rules that move the rows up when the screen is full."""
        steps, before = "0%{transform:none}", 0
        for number, frame in enumerate(self.frames):
            if frame.scrolled != before:
                before = frame.scrolled
                steps += f"{self.percent(number)}{{transform:translateY(-{before * LINE}px)}}"
        yield f"#rows{{animation-name:rows}}@keyframes rows{{{steps}}}"

    def animation(self, rules: list[str]) -> Iterator[str]:
        """Put the rules of a moving picture together. A reader can ask for one that does not move."""
        yield f"g{{animation:{self.seconds:.2f}s step-end infinite}}"
        yield from self.scrolling()
        yield from rules
        yield "@media (prefers-reduced-motion:reduce){g{animation:none!important}}"

    def window(self, rules: list[str], groups: list[str]) -> str:
        """Put the rows into a window, which has its own background: pages may be dark or light."""
        inner = COLUMNS * CELL, self.rows * LINE
        width, height = inner[0] + 2 * PADDING, inner[1] + 2 * PADDING + TITLE_BAR
        style = "\n".join(
            [
                f"text{{font:{FONT_SIZE}px {FONTS};fill:{FOREGROUND};white-space:pre}}",
                "path{shape-rendering:crispEdges}",  # no seams between the rows
                *(f".{name}{{{declarations}}}" for declarations, name in self.styles.items()),
                *(self.animation(rules) if len(self.frames) > 1 else ()),
            ]
        )
        buttons = "".join(
            f'<circle cx="{PADDING + 6 + 20 * number}" cy="{PADDING + 3}" r="6" fill="{color}"/>'
            for number, color in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        )
        return (
            f"<!-- Made by make_pictures.py, with rich {RICH}. -->\n"
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * SCALE:.0f}" height="{height * SCALE:.0f}"'
            f' viewBox="0 0 {width} {height}" role="img" xml:space="preserve">'
            f"<title>A reply in Markdown, drawn in a terminal while it arrives</title><style>{style}</style>"
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="9" fill="{BACKGROUND}"'
            f' stroke="{FRAME}"/>{buttons}'
            f'<svg x="{PADDING}" y="{PADDING + TITLE_BAR}" width="{inner[0]}" height="{inner[1]}">'
            f'<g id="rows" transform="translate(0 -{self.frames[-1].scrolled * LINE})">\n'
            + "\n".join(groups)
            + "\n</g></svg></svg>\n"
        )


def pictures() -> dict[str, str]:
    """Make the pictures, by file name."""
    sys.path.insert(0, str(EXAMPLE.parent))  # as `python path` does
    text = runpy.run_path(str(EXAMPLE))["CANNED"]
    frames = list(play(text))
    last = Frame(0, frames[-1].rows, 0)
    return {
        "markdown.svg": Picture(frames, ROWS).svg(),
        "markdown-still.svg": Picture([last], len(last.rows)).svg(),
    }


if __name__ == "__main__":
    for name, svg in pictures().items():
        (DOCS / name).write_text(svg, encoding="utf-8", newline="\n")
        print(f"{name}: {len(svg.encode()) / 1000:.1f} kB")
