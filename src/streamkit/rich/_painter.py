"""What to write to a terminal so that it shows the next frame: the rows that changed, and control sequences."""

from __future__ import annotations

import re
from itertools import chain, repeat

from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment

from ._rows import Row, is_ascii, is_certain, split_changed, to_ansi, width_of, wrapped
from ._scrolled import ScrolledRows

_ERASE = "\x1b[2K"  # one row: erasing to the end of the screen makes tmux push the rows into the scrollback
_ERASE_REST = "\x1b[K"  # of a row
_WRAP_OFF, _WRAP_ON = "\x1b[?7l", "\x1b[?7h"  # without line wrap, a row whose width is misjudged stays one row
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # synchronised output: the terminal shows what is between in one go
_RESTORE = f"\x1b[0m{_WRAP_ON}{_END}"
# Linux looks for signals each 2,048 bytes that it writes to a terminal, and a signal may end the program there. So
# there are shorter writes, after each of which the terminal is in its normal state. The cursor is never hidden.
_LONGEST_WRITE = 1900


class Painter:
    """Knows the rows on the screen that are not final. Between two frames the cursor stands in the row below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: list[Row] = []
        self._scrolled = ScrolledRows()
        self._width = 0  # of the last frame; 0 before there is one
        self._is_doubtful = False

    def forget(self) -> None:
        """Leave what is on the screen there, and go on below."""
        self._shown = []
        self._scrolled.clear()
        self.doubt()

    def doubt(self) -> None:
        """Restore the normal state of the terminal in the next frame: Ctrl-C or Ctrl-Z may have discarded output."""
        self._is_doubtful = self._width > 0

    def paint(self, final: list[Row], tail: list[Row], width: int, height: int, above: str = "") -> str:
        """Return what to write so that the screen shows the `final` rows and, below, as much of the tail as fits.

        `above` is other output, whole lines, which goes above the rows that were not final.
        """
        begun = self._follow_resize(width, height)
        final, tail = self._scrolled.without(final, tail)
        final = [*begun, *final]
        tail = tail[max(len(tail) - height + 1, 0) :]
        rows, shown = [*final, *tail], self._shown
        is_anew = bool(above) or width != self._width
        first = 0 if is_anew else _first_change(rows, shown, len(final))
        # A row whose real width is larger wraps into the next one, which has to be empty then.
        is_anew = is_anew or not all(map(is_certain, final[first:]))
        restore, self._is_doubtful = _RESTORE if self._is_doubtful else "", False
        if first == len(rows) == len(shown) and not above:
            self._shown = tail
            return restore
        up = min(len(shown) - first, height - 1)
        old = [] if is_anew else shown[first:]
        self._shown, self._width = tail, width
        move_up = f"\x1b[{up}A" if up else ""
        parts = [f"{restore}\r{move_up}"]
        if is_anew:
            parts += [*[f"{_ERASE}\r\n"] * up, move_up, above.replace("\n", "\r\n")]
        for index, (row, former) in enumerate(zip(rows[first:], chain(old, repeat(None)), strict=False), first):
            parts.append(self._replacing(row, former, is_final=index < len(final)) + "\r\n")
        left = 0 if is_anew else up - len(rows) + first  # rows below that showed something
        if left > 0:
            parts += [*[f"{_ERASE}\r\n"] * left, f"\x1b[{left}A"]
        return _synchronized(parts)

    def _follow_resize(self, width: int, height: int) -> list[Row]:
        """Find out what a window of a new size has made of the rows on the screen.

        A narrower window has wrapped them in most terminals. What it has pushed off the screen can no longer change.
        Returns the rest of a row of which the first part is gone: final, and one row, so that the terminal wraps it
        where it did before.
        """
        on_screen = [wrapped(row, width) if width < self._width else [row] for row in self._shown]
        gone = sum(map(len, on_screen)) + 1 - height
        rest = list[Row]()
        while gone > 0:
            rows = on_screen.pop(0)
            rest = rows[gone:]
            gone -= len(rows)
            self._scrolled.add(self._shown.pop(0))
        self._shown = [*rest, *chain(*on_screen)]
        return [tuple(chain(*rest))] if rest else []

    def _replacing(self, row: Row, old: Row | None, *, is_final: bool) -> str:
        """Return what to write at the start of a row that shows `old`."""
        if row == old and (is_certain(row) or not is_final):
            return ""
        if old is None or not (is_certain(row) and is_certain(old)):
            text = f"{_ERASE_REST}{self._ansi(row)}"
            return text if is_final or is_ascii(row) else f"{_WRAP_OFF}{text}{_WRAP_ON}"
        column, changed = split_changed(row, old)
        move = f"\x1b[{column}C" if column else ""
        return f"{move}{self._ansi(changed)}{_ERASE_REST if width_of(old) > width_of(row) else ''}"

    def _ansi(self, row: Row) -> str:
        name = self._console.color_system
        if self._console.no_color:
            row = tuple(Segment.remove_color(row))
        return to_ansi(row, None if name is None else COLOR_SYSTEMS[name])


def _synchronized(parts: list[str]) -> str:
    """Join the parts of a frame: rows, after what leads to the first one."""
    if len(parts) <= 2:
        return "".join(parts)  # one row
    writes, size = [_BEGIN], 0
    for part in parts:
        length = len(part.encode("utf-8", "replace"))
        if size and size + length > _LONGEST_WRITE:
            writes.append(_END + _BEGIN)
            size = 0
        writes.append(part)
        size += length
    return "".join([*writes, _END])


def writes(frame: str) -> list[str]:
    """Split a frame into what to write at once."""
    return [write for write in re.split(f"(?<={re.escape(_END)})", frame) if write]


def _first_change(rows: list[Row], shown: list[Row], final: int) -> int:
    """Return the index of the first row that has to be written.

    A row of doubtful width is written again when it becomes final: with line wrap, as its real width does no harm then.
    """
    for index, (row, old) in enumerate(zip(rows, shown, strict=False)):
        if row != old or (index < final and not is_certain(row)):
            return index
    return min(len(rows), len(shown))
