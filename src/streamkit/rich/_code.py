"""The rows of a code block: as rich's `Syntax` draws them, but a row that has not changed is not made again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax
from rich.text import Text

Row = list[Segment]

_MOST_HIGHLIGHTED = 200_000  # characters: beyond, and for lines beyond _LONGEST_LINE, highlighting would take seconds
_LONGEST_LINE = 10_000
_MOST_KEPT = 500  # lines


@lru_cache(maxsize=32)
def _syntax(lexer_name: str, theme: str) -> Syntax:
    """Return a highlighter. rich looks the lexer up for each text, unless it is given one."""
    lexer = Syntax("", lexer_name, theme=theme).lexer or Syntax("", "text", theme=theme).lexer
    return Syntax("", lexer or "text", theme=theme, word_wrap=True)


class CodeRows:
    """Renders code blocks, and keeps the rows of the lines that it has rendered."""

    def __init__(self) -> None:
        self._kept: dict[Any, list[Row]] = {}

    def render(self, code: str, lexer_name: str, theme: str, console: Console, width: int) -> list[Row]:
        """Return the rows of a code block, with a padding of one column and one row on each side."""
        if len(code) > _MOST_HIGHLIGHTED or any(len(line) > _LONGEST_LINE for line in code.split("\n")):
            lexer_name = "text"
        text = _syntax(lexer_name, theme).highlight(code)
        text.remove_suffix("\n")
        style = Syntax.get_theme(theme).get_background_style()
        blank = [Segment(" " * width, style)]
        rows = [blank]
        for line in text.split("\n", allow_blank=True):
            rows += self._rows_of(line, style, console, max(width - 2, 1))
        return [*rows, blank]

    def _rows_of(self, line: Text, style: Style, console: Console, width: int) -> list[Row]:
        key = (line.plain, tuple(line.spans), style, width)
        rows = self._kept.get(key)
        if rows is None:
            if len(self._kept) > _MOST_KEPT:
                self._kept.clear()
            rows = self._kept[key] = _wrapped(line, style, console, width)
        return rows


def _wrapped(line: Text, style: Style, console: Console, width: int) -> list[Row]:
    edge = Segment(" ", style)
    line.expand_tabs()
    parts = [line] if cell_len(line.plain) <= width else line.wrap(console, width, justify="left", overflow="fold")
    rows = list[Row]()
    for part in parts:
        padding = max(width - cell_len(part.plain), 0)
        segments = [edge, *part.render(console, end=""), Segment(" " * (padding + 1), style)]
        rows.append([*_joined(segments)])
    return rows


def _joined(segments: list[Segment]) -> Iterator[Segment]:
    """Give blanks the style of what stands before them, where that looks the same: fewer styles, fewer bytes."""
    former: Style | None = None
    for text, style, _ in segments:
        is_blank = former is not None and style is not None and text.isspace() and _looks_same(former, style)
        former = former if is_blank else style
        yield Segment(text, former)


def _looks_same(style: Style, other: Style) -> bool:
    """Return `True` if blanks look the same in both styles, which are those of a code theme."""
    return style.bgcolor == other.bgcolor and not (style.underline or other.underline)
