"""Rows that a window which got smaller pushed off the screen before they were final."""

from __future__ import annotations

import re

from ._rows import Row, content_length, text_of, without_content

# Neither blank nor drawn by rich. Lines of tables are left out as their length changes with the columns.
_NO_CONTENT = re.compile(r"[\s▌\u2500-\u257f]+")


class ScrolledRows:
    """The content of open rows that have left the screen. Writing them again would show them twice."""

    def __init__(self) -> None:
        self._content = ""
        self._blank_rows = 0  # without content, after the content

    def clear(self) -> None:
        """Forget the content, so that all rows are written."""
        self._content, self._blank_rows = "", 0

    def add(self, row: Row) -> None:
        """Append the content of the next row that has left the screen."""
        content = _content(row)
        self._content += content
        self._blank_rows = 0 if content else self._blank_rows + 1

    def without(self, final: list[Row], tail: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows to write: those below the content that has left the screen.

        If the rows no longer begin with that content, all of them are written, as a text shown twice is better than a
        lost one.
        """
        rows, at, left, blank_rows = [*final, *tail], 0, self._content, self._blank_rows
        while at < len(rows):
            content = _content(rows[at])
            if not left and (content or not blank_rows):
                break
            if not left.startswith(content):
                rest = _without_start(rows[at], content, left)
                if rest is not None:
                    rows[at], left = rest, ""
                break
            blank_rows -= not left
            left = left[len(content) :]
            at += 1
        if left:
            self.clear()
            return final, tail
        if at < len(final):
            self.clear()
            return rows[at : len(final)], tail
        self._content = self._content[sum(len(_content(row)) for row in final) :]
        self._blank_rows = min(self._blank_rows, at - len(final))
        return [], rows[at:]


def _without_start(row: Row, content: str, start: str) -> Row | None:
    """Return a row with the `start` of its content blanked; `None` if the content begins with something else."""
    if not content.startswith(start) or content_length(row) != len(content):
        return None
    return without_content(row, len(start))


def _content(row: Row) -> str:
    return _NO_CONTENT.sub("", text_of(row))
