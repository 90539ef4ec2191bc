"""From pieces of a reply to what is written to the terminal. Without a thread and a clock."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from ._growing import GrowingMarkdown
from ._painter import Painter
from ._rows import BLANK, Row, make_row

_DIM = Style(dim=True)


class Renderer:
    """Renders a reply: text, and thinking, which is dim. `frame` returns what to write to the terminal."""

    def __init__(self, console: Console, **markdown_options: Any) -> None:
        self._console = console
        self._options = markdown_options
        self._painter = Painter(console)
        self._section: GrowingMarkdown | None = None  # the thinking or the text that is being written
        self._in_thinking = False
        self._final: list[Row] = []  # the rows of finished sections that are not painted yet
        self._tail: list[Row] = []
        self._has_rows = False
        self._is_changed = False  # since the last frame
        self._last_size: tuple[int, int] = (0, 0)

    def feed(self, text: str, *, thinking: bool = False) -> None:
        """Append a piece of the reply."""
        if self._section is None or thinking != self._in_thinking:
            self._finish_section()
            options = {**self._options, "style": "dim"} if thinking else self._options
            self._section = GrowingMarkdown(self._console, gap_due=self._has_rows, **options)
            self._in_thinking = thinking
        self._section.feed(text)
        self._is_changed = True

    def frame(self, status: str = "", above: str = "") -> str:
        """Return what to write to show all that has arrived, and below it a `status` line, if there is one.

        `above` is other output, whole lines, which goes above what may still change.
        """
        size = width, height = self._size()
        final, self._final = self._final, []
        if self._section is None:
            self._tail = []
        elif self._is_changed or size != self._last_size:
            rows = self._section.frame(width, height)
            final, self._tail = [*final, *rows.final], rows.tail
        self._is_changed = False
        self._last_size = size
        self._has_rows = self._has_rows or bool(final)
        return self._painter.paint(final, [*self._tail, *self._line(status, self._tail)], width, height, above)

    def finish(self, last_line: str = "", above: str = "") -> str:
        """Return what to write as the last frame: all that has arrived, and below it, dim, `last_line`."""
        self._finish_section()
        width, height = self._size()
        final, self._final = self._final, []
        self._has_rows = self._has_rows or bool(final)
        self._painter.doubt()
        return self._painter.paint([*final, *self._line(last_line, final)], [], width, height, above)

    def forget_screen(self) -> None:
        """Go on below what is on the screen: something else was written there meanwhile."""
        self._painter.forget()

    def _finish_section(self) -> None:
        if self._section is not None:
            self._final += self._section.finish(self._size()[0])
            self._has_rows = self._has_rows or bool(self._final)
            self._section = None

    def _line(self, text: str, rows: list[Row]) -> list[Row]:
        """Return the rows of a dim line below `rows`: none without a text."""
        if not text:
            return []
        line = make_row([Segment(text, _DIM)], self._size()[0])
        return [BLANK, line] if rows or self._has_rows else [line]

    def _size(self) -> tuple[int, int]:
        width, height = self._console.size
        return max(width, 1), max(height, 1)
