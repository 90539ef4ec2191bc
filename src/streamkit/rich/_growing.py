"""A Markdown text that grows: finished blocks are rendered once, the open one for each frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from markdown_it.token import Token
from rich.console import Console

from ._markdown import UnitRenderer
from ._parse import Cleaner, Unit, last_leaf, parse, parse_blocks, parse_inlines, units, without_last_leaf
from ._partial import completed, decided, is_table_head
from ._rows import BLANK, Row, content_length, without_content

_LEAST_TALL = 3  # rows
# Lines of a long code block, of those whose rows are final: they are rendered again, so that the lexer is in step, ...
_KEPT_LINES = 14
_COMPARED_ROWS = 8  # ... which these rows at their end must show.
_LINES_BETWEEN_CUTS = 10


class Frame(NamedTuple):
    """The rows that became final since the last frame, and the rows below, which may change in the next frame."""

    final: list[Row]
    tail: list[Row]


class GrowingMarkdown:
    """Renders a text that arrives in pieces. Does no I/O.

    `_source` is the text from the start of the open unit on: the last block of the document, or its last item if this
    block is a list. No text to come can change what stands before it.
    """

    def __init__(self, console: Console, *, gap_due: bool = False, **markdown_options: Any) -> None:
        self._console = console
        self._renderer = UnitRenderer("", **markdown_options)
        self._source = ""
        self._cleaner = Cleaner()
        self._searched = 0  # characters of the source that were searched for finished units
        self._references = dict[str, Any]()  # the link definitions of the finished units
        self._next_number: int | None = None  # of the item that the source begins with, if its list began before
        self._gap_due = gap_due  # a blank row is needed before the next unit
        self._width = 0
        # What is final of the open unit: rows, and characters of the next row, after the window changed its width.
        self._final_rows = 0
        self._final_content: int = 0
        self._next_cut = 0  # lines of a code block from which on it is worth while to cut it

    def feed(self, text: str) -> None:
        """Append a piece of text."""
        self._source += self._cleaner.feed(text)

    def frame(self, width: int, height: int) -> Frame:
        """Render a frame for a window of `width` columns and `height` rows."""
        self._set_width(width)
        end = self._source.rfind("\n") + 1
        final = list[Row]()
        if end > self._searched:
            final += self._finish_units(end)
            end = self._source.rfind("\n") + 1
        shown = self._source[:end] + decided(self._source[end:])
        tokens = self._shown_tokens(shown)
        rendered = [(unit, self._render(unit)) for unit in self._units(tokens)]
        if rendered and len(rendered[0][1]) - self._final_rows > max(height // 2, _LEAST_TALL):
            final += self._finish_rows(*rendered[0], self._source[:end])
            rendered[0] = (rendered[0][0], self._without_start_of_code(*rendered[0], shown))
        gap_due, tail = self._gap_due, list[Row]()
        for index, (unit, rows) in enumerate(rendered):
            tail += self._remaining(unit, rows, gap_due) if index == 0 else self._with_gap(unit, rows, gap_due)
            gap_due = gap_due or bool(rows)
        if rendered and rendered[-1][0].tokens[0].type == "fence":
            tail = tail[:-1]  # the blank row below code, which each new line would move
        return Frame(final, tail)

    def finish(self, width: int) -> list[Row]:
        """Render the rest of the text, which is complete now, and return its rows, which are final."""
        self._set_width(width)
        rows = self._finish(self._source + self._cleaner.finish())
        self._source, self._searched = "", 0
        self._next_number = None
        return rows

    def _units(self, tokens: list[Token]) -> Iterator[Unit]:
        return units(tokens, self._next_number)

    def _render(self, unit: Unit) -> list[Row]:
        options = self._console.options.update(width=self._width)
        return self._renderer.rows(unit.tokens, self._console, options)

    def _shown_tokens(self, text: str) -> list[Token]:
        """Parse what is shown of the open units, without half-written marks."""
        references = dict(self._references)
        tokens = parse_blocks(text, references)
        leaf = last_leaf(tokens)
        inlines = [token for token in tokens[leaf] if token.type == "inline" and token.content]
        if inlines:
            last = inlines[-1]
            is_paragraph = tokens[leaf][0].type == "paragraph_open"
            last.content = "" if is_paragraph and is_table_head(last.content) else completed(last.content)
            if is_paragraph and not last.content:
                del tokens[leaf]
        return parse_inlines(tokens, references)

    def _finish_units(self, end: int) -> list[Row]:
        """Finish all units but the last one of the text up to `end`, the end of the last whole line."""
        text = self._source[:end]
        found = list(self._units(parse_blocks(text, dict(self._references))))
        self._searched = end
        if not found or not found[-1].start:
            return []
        last = found[-1]
        lines = text.splitlines(keepends=True)
        cut = sum(map(len, lines[: last.start]))
        rows = self._finish(text[:cut])
        self._source, self._searched = self._source[cut:], end - cut
        self._next_number = None if last.is_first else last.number
        return rows

    def _finish(self, text: str) -> list[Row]:
        rows = list[Row]()
        for unit in self._units(parse(text, self._references)):
            rendered = self._render(unit)
            rows += self._remaining(unit, rendered, self._gap_due)
            self._gap_due = self._gap_due or bool(rendered)
            self._final_rows, self._final_content, self._next_cut = 0, 0, 0
            self._next_number = None
        return rows

    def _remaining(self, unit: Unit, rows: list[Row], gap_due: bool) -> list[Row]:
        """Return the rows of the open unit that are not final yet."""
        if not self._final_rows and not self._final_content:
            return self._with_gap(unit, rows, gap_due)
        rest = rows[self._final_rows :]
        if rest and self._final_content:
            rest[0] = without_content(rest[0], self._final_content)
        return rest

    def _with_gap(self, unit: Unit, rows: list[Row], gap_due: bool) -> list[Row]:
        return [BLANK, *rows] if rows and gap_due and unit.is_first else rows

    def _finish_rows(self, unit: Unit, rows: list[Row], text: str) -> list[Row]:
        """Finish the rows of a tall unit that are the same without its last leaf, as these do not change any more."""
        references = dict(self._references)
        tokens = without_last_leaf(parse(text, references))
        first = next(self._units(tokens), None)
        without = self._render(first) if first else []
        pairs = zip(rows, without, strict=False)
        count = next((index for index, (row, other) in enumerate(pairs) if row != other), min(len(rows), len(without)))
        if count <= self._final_rows:
            return []
        final = self._remaining(unit, rows[:count], self._gap_due)
        self._final_rows, self._final_content = count, 0
        return final

    def _without_start_of_code(self, unit: Unit, rows: list[Row], shown: str) -> list[Row]:
        """Cut lines off the start of a long code block whose rows are final. Returns the rows of what is left of it.

        Else each frame would take longer than the one before.
        """
        lines = shown.splitlines(keepends=True)
        dropped = len(lines) - unit.start - _KEPT_LINES - (len(rows) - self._final_rows)
        if unit.tokens[0].type != "fence" or dropped < max(_LINES_BETWEEN_CUTS, self._next_cut):
            return rows
        before, after = "".join(lines[: unit.start + 1]), lines[unit.start + 1 :]
        start = before + "".join(after[dropped:])
        left = self._render(next(self._units(parse(start, dict(self._references)))))
        compared = len(rows) - self._final_rows + _COMPARED_ROWS
        if left[-compared:] != rows[-compared:]:
            self._next_cut = dropped + _LINES_BETWEEN_CUTS
            return rows
        length = sum(map(len, after[:dropped]))
        self._source = before + self._source[len(before) + length :]
        self._searched -= length
        self._final_rows -= len(rows) - len(left)
        self._next_cut = 0
        return left

    def _set_width(self, width: int) -> None:
        """Take note of the window's width, and if it changed find the place up to which the open unit is final."""
        if width != self._width and (self._final_rows or self._final_content):
            before = self._rows_of_open_unit()
            count: int = sum(map(content_length, before[: self._final_rows])) + self._final_content
            self._width = width
            self._final_rows, self._final_content = 0, count
            for row in self._rows_of_open_unit():
                length = content_length(row)
                if length > self._final_content:
                    break
                self._final_rows += 1
                self._final_content -= length
        self._width = width

    def _rows_of_open_unit(self) -> list[Row]:
        unit = next(self._units(parse(self._source, dict(self._references))), None)
        return self._render(unit) if unit else []
