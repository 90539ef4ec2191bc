"""A terminal that remembers all its rows with their styles, and checks each write to it."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pyte
import pyte.modes
from rich.console import Console
from rich.markdown import Markdown as StockMarkdown
from wcwidth import wcwidth


class Cell(NamedTuple):
    """A character with its style: the fields of `pyte.screens.Char`, and those that pyte lacks."""

    data: str = " "
    fg: str = "default"
    bg: str = "default"
    bold: bool = False
    italics: bool = False
    underscore: bool = False
    strikethrough: bool = False
    reverse: bool = False
    blink: bool = False
    dim: bool = False
    link: str = ""


Row = tuple[Cell, ...]
BLANK = Cell()
SYNCHRONIZED = 2026 << 5  # the mode, as pyte keeps it


class Terminal(pyte.Screen):
    """A screen of pyte with a complete scrollback, faint text and hyperlinks.

    Rows leave the screen at the top, as they do in a real terminal, and go into `history`.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self.history: list[Row] = []
        self.link = ""
        self._styles: dict[tuple[Any, ...], Cell] = {}
        self._cells: dict[Cell, dict[str, Cell]] = {}
        super().__init__(columns, lines)
        self._stream = pyte.Stream(self)
        self.set_mode(pyte.modes.LNM)  # the terminal's driver puts a carriage return before each newline

    @property
    def default_char(self) -> Any:
        return BLANK

    def reset(self) -> None:
        super().reset()
        self.cursor.attrs = BLANK  # type: ignore[assignment]

    def feed(self, text: str) -> None:
        """Write text without hyperlinks."""
        self._stream.feed(text)

    def index(self) -> None:
        if self.cursor.y == self.lines - 1:
            self.history.append(self._row(0))
        super().index()

    def draw(self, data: str) -> None:
        # pyte drops what follows a character of no width, and lets a wide one stand half outside.
        cursor, attrs = self.cursor, self.cursor.attrs
        cells = self._cells.setdefault(attrs, {})  # type: ignore[arg-type]
        line: Any = self.buffer[cursor.y]
        for char in data:
            width = 1 if " " <= char <= "~" else wcwidth(char)
            if width <= 0:
                self._combine(line, char)
                continue
            if cursor.x + width > self.columns:
                if pyte.modes.DECAWM in self.mode:
                    self.linefeed()
                    line = self.buffer[cursor.y]
                else:
                    cursor.x = self.columns - width
            cell = cells.get(char)
            if cell is None:
                cell = cells[char] = attrs._replace(data=char)  # type: ignore[assignment]
            line[cursor.x] = cell
            if width == 2:
                line[cursor.x + 1] = attrs._replace(data="")
            cursor.x += width

    def _combine(self, line: Any, char: str) -> None:
        x = self.cursor.x - 1
        while x > 0 and not line[x].data:
            x -= 1
        if x >= 0:
            line[x] = line[x]._replace(data=line[x].data + char)

    def select_graphic_rendition(self, *attrs: int, **_: bool) -> None:
        key = (self.cursor.attrs, attrs, self.link)
        style = self._styles.get(key)
        if style is None:
            super().select_graphic_rendition(*attrs)
            style = self.cursor.attrs._replace(dim=_is_dim(self.cursor.attrs, attrs), link=self.link)  # type: ignore[call-arg, assignment]
            self._styles[key] = style  # type: ignore[assignment]
        self.cursor.attrs = style  # type: ignore[assignment]

    def open_link(self, target: str) -> None:
        """Begin a hyperlink, or end it (an empty target): `OSC 8`."""
        self.link = target
        self.cursor.attrs = self.cursor.attrs._replace(link=target)  # type: ignore[call-arg]

    def _row(self, y: int) -> Row:
        line: Any = self.buffer[y]
        cells = [line[x] for x in range(self.columns)]
        while cells and cells[-1] == BLANK:
            cells.pop()
        return tuple(cells)

    def screen_rows(self) -> list[Row]:
        """The rows on the screen, down to the last one that is not blank. Trailing blanks are removed."""
        rows = [self._row(y) for y in range(self.lines)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def rows(self) -> list[Row]:
        """All rows, those of the scrollback first."""
        return self.history + self.screen_rows()

    def text(self) -> str:
        """All rows as text."""
        return as_text(self.rows())

    def set_height(self, lines: int) -> None:
        """Change the size of the window as most terminals do it: rows above the cursor leave the screen at the top."""
        gone = max(self.cursor.y + 1 - lines, 0)
        self.history += [self._row(y) for y in range(gone)]
        rows = {y - gone: row for y, row in self.buffer.items() if gone <= y < gone + lines}
        self.buffer.clear()
        self.buffer.update(rows)
        self.cursor.y -= gone
        self.lines = lines
        self.set_margins()

    @property
    def position(self) -> int:
        """The row of the cursor, counted from the first one of the scrollback."""
        return len(self.history) + self.cursor.y


def _is_dim(attrs: Any, codes: tuple[int, ...]) -> bool:
    dim = attrs.dim
    for at, code in enumerate(codes):
        if code in (38, 48):
            return _is_dim(attrs._replace(dim=dim), codes[at + (3 if codes[at + 1] == 5 else 5) :])
        dim = code == 2 or (dim and code not in (0, 22))
    return dim


def as_text(rows: Iterable[Row]) -> str:
    return "\n".join("".join(cell.data for cell in row) for row in rows)


def assert_equal_rows(got: Sequence[Row], expected: Sequence[Row], note: str = "") -> None:
    """Fail with the first row that differs."""
    for number, (row, other) in enumerate(zip(got, expected, strict=False)):
        if row != other:
            if as_text([row]) != as_text([other]):
                raise AssertionError(
                    f"row {number} {note}\n     got {as_text([row])!r}\nexpected {as_text([other])!r}\n"
                    f"after {as_text(got[max(number - 3, 0) : number])!r}"
                )
            at = next(x for x, (one, two) in enumerate(zip(row, other, strict=True)) if one != two)
            raise AssertionError(
                f"row {number} {note}: {as_text([row])!r}: styles at {at}\n     got {row[at]}\nexpected {other[at]}"
            )
    assert len(got) == len(expected), (
        f"{len(got)} rows for {len(expected)} {note}: {as_text([*got, *expected][min(len(got), len(expected)) :])!r}"
    )


TOKEN = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x1b\\|\x07)|\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]|[^\x00-\x1f\x7f-\x9f]+"
)
TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]")
SGR = re.compile(r"\x1b\[([0-9;]*)m")
UP = re.compile(r"\x1b\[(\d*)[AF]")
RIGHT = re.compile(r"\x1b\[(\d*)C")
LINK = re.compile(r"\x1b\]8;[^;]*;([^\x1b\x07]*)(?:\x1b\\|\x07)")
# What may be written beside text, styles, links and ways up and to the right: neither `CSI J` nor `CSI ?25l`.
ALLOWED = frozenset({"\r", "\n", "\x1b[K", "\x1b[0K", "\x1b[2K", "\x1b[?7l", "\x1b[?7h", "\x1b[?2026l", "\x1b[?2026h"})


class Recorder:
    """A file that is a terminal, and that checks each single write.

    A write has to leave the terminal as it found it: no open style, link or mode, and the cursor at the start of a row.
    It may go up by at most all rows of the screen but one, never beyond the first of the screen, and to no final row.
    """

    encoding = "utf-8"

    def __init__(self, columns: int, lines: int) -> None:
        self.terminal = Terminal(columns, lines)
        self.writes: list[str] = []
        self.on_write: Callable[[], object] = lambda: None  # called after each write, by the thread that wrote
        self.changed = threading.Condition()
        self.final = 0  # the rows that must not change any more
        self.most_rewritten = 0

    def write(self, text: str) -> int:
        with self.changed:
            self._write(text)
            self.changed.notify_all()
        self.on_write()
        return len(text)

    def wait_for(self, condition: Callable[[str], bool]) -> None:
        """Wait until the text of all rows meets a condition, which some thread's writing brings about."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self.terminal.text()), 20):
                raise AssertionError(f"waited in vain: {self.terminal.text()!r}")

    def _write(self, text: str) -> None:
        self.writes.append(text)
        begin = lowest = self.terminal.position
        for token in _tokens(text):
            self._apply(token)
            lowest = min(lowest, self.terminal.position)
        rewritten = begin - lowest
        assert rewritten < self.terminal.lines, f"{rewritten} rows written again, of {self.terminal.lines}"
        self.most_rewritten = max(self.most_rewritten, rewritten)
        self._check_end(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    def _apply(self, token: str) -> None:
        terminal = self.terminal
        if TEXT.match(token):
            assert terminal.position >= self.final, f"a row changed after it was final: {token!r}"
            terminal.draw(token)
        elif style := SGR.fullmatch(token):
            terminal.select_graphic_rendition(*(int(code or 0) for code in style[1].split(";")))
        elif up := UP.fullmatch(token):
            count = int(up[1] or 1)
            assert count <= terminal.cursor.y, f"{count} rows up from row {terminal.cursor.y} of the screen"
            terminal.cursor_up(count)
            if token.endswith("F"):
                terminal.carriage_return()
        elif right := RIGHT.fullmatch(token):
            assert int(right[1] or 1) < terminal.columns - terminal.cursor.x, "to the right of the screen"
            terminal.cursor_forward(int(right[1] or 1))
        elif link := LINK.fullmatch(token):
            terminal.open_link(link[1])
        else:
            assert token in ALLOWED, f"{token!r} was written to the terminal"
            assert token[-1] != "K" or terminal.position >= self.final, "a row was erased after it was final"
            terminal.feed(token)

    def _check_end(self, text: str) -> None:
        mode = self.terminal.mode
        assert pyte.modes.DECAWM in mode, f"line wrap is off after {text!r}"
        assert SYNCHRONIZED not in mode, f"output is synchronized after {text!r}"
        assert self.terminal.cursor.attrs == BLANK, f"an open style or link after {text!r}"
        assert self.terminal.cursor.x == 0, f"the cursor is in the middle of a row after {text!r}"

    def settle(self, tail_height: int) -> None:
        """Take note that the rows above the last `tail_height` ones are final: no later write may change these."""
        self.final = max(self.final, self.terminal.position - tail_height)


def _tokens(text: str) -> Iterable[str]:
    at = 0
    for match in TOKEN.finditer(text):
        assert match.start() == at, f"{text[at : match.start()]!r} was written to the terminal"
        at = match.end()
        yield match[0]
    assert at == len(text), f"{text[at:]!r} was written to the terminal"


def console_on(file: Any, columns: int, lines: int, **options: Any) -> Console:
    """A console of rich that writes to a file as to a terminal of that size."""
    return Console(
        **{
            "file": file,
            "width": columns,
            "height": lines,
            "force_terminal": True,
            "color_system": "truecolor",
            "legacy_windows": False,
            "_environ": {"TERM": "xterm-256color"},
            **options,
        }
    )


def printed(renderable: Any, columns: int, **options: Any) -> list[Row]:
    """The rows that `console.print` leaves on an empty terminal."""
    file = io.StringIO()
    console_on(file, columns, 50, **options).print(renderable)
    recorder = Recorder(columns, 50)
    for token in _tokens(file.getvalue()):
        recorder._apply(token)
    return recorder.terminal.rows()


def words_of_stock(text: str, columns: int) -> list[str]:
    """The words that rich's own Markdown prints."""
    return as_text(printed(StockMarkdown(text), columns)).split()
