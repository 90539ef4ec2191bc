"""Rows of rich's segments: compared, cut and written with few control sequences."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias
from zlib import crc32

from rich.cells import cell_len, chop_cells
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

Row: TypeAlias = tuple[Segment, ...]
BLANK: Row = ()

_RESET = "\x1b[m"
_LINK = re.compile(r"\x1b\]8;id=[^;]*;([^\x1b]*)\x1b\\")
_DOUBTFUL = re.compile(r"[^\x20-\x7e•▌\u2500-\u257f]")
_SIDES = re.compile(r"[\s▌]+")


def make_row(segments: list[Segment], width: int) -> Row:
    """Return a row of at most `width` columns: neighbours of one style are one segment, and none is empty."""
    if sum(segment.cell_length for segment in segments) > width:
        segments = Segment.adjust_line_length(segments, width)
    return tuple(Segment.simplify(segment for segment in segments if segment.text))


def width_of(row: Row) -> int:
    """Return how many columns a row takes."""
    return sum(segment.cell_length for segment in row)


def text_of(row: Row) -> str:
    """Return the text of a row, without styles."""
    return "".join(segment.text for segment in row)


def wrapped(row: Row, width: int) -> list[Row]:
    """Return the rows that a terminal of `width` columns makes of a row: cut anywhere, also inside a word."""
    rows, rest = list[Row](), list(row)
    for text in chop_cells(text_of(row), width):
        cut, missing = list[Segment](), len(text)
        while missing:
            segment = rest.pop(0)
            if len(segment.text) > missing:
                rest.insert(0, Segment(segment.text[missing:], segment.style))
                segment = Segment(segment.text[:missing], segment.style)
            cut.append(segment)
            missing -= len(segment.text)
        rows.append(tuple(cut))
    return rows or [BLANK]


def is_ascii(row: Row) -> bool:
    """Return `True` if all terminals agree about the width of a row."""
    return all(segment.text.isascii() for segment in row)


def is_certain(row: Row) -> bool:
    """Return `True` if nearly all terminals agree: for ASCII, and what rich draws at quotes, lists and tables."""
    return not any(_DOUBTFUL.search(segment.text) for segment in row)


def split_changed(row: Row, old: Row) -> tuple[int, Row]:
    """Compare a row with the one that it replaces: return the columns that stay, and the segments to write there.

    The blanks at the end of both rows, as of code, stay too.
    """
    blanks = _common_blanks(row, old)
    if blanks:
        text, style, _ = row[-1]
        row = (*row[:-1], Segment(text[:-blanks], style)) if len(text) > blanks else row[:-1]
    column, index = 0, 0
    for index, (segment, former) in enumerate(zip(row, old, strict=False)):
        if segment == former:
            column += segment.cell_length
            continue
        text, style, _ = segment
        length = _common_length(text, former.text) if style == former.style else 0
        return column + length, (Segment(text[length:], style), *row[index + 1 :])
    return column, row[min(len(row), len(old)) :]


def _common_blanks(row: Row, old: Row) -> int:
    """Return how many blanks at the end of two rows of one width are the same."""
    if not row or not old or row[-1].style != old[-1].style or width_of(row) != width_of(old):
        return 0
    return min(len(text) - len(text.rstrip(" ")) for text in (row[-1].text, old[-1].text))


def _common_length(text: str, other: str) -> int:
    length = min(len(text), len(other))
    while text[:length] != other[:length]:
        length = next(index for index in range(length) if text[index] != other[index])
    return length


def to_ansi(row: Row, colors: ColorSystem | None) -> str:
    """Return a row as a string that begins and ends in the terminal's normal style."""
    parts, current = list[str](), None
    for text, style, _ in row:
        if style is not None and style.link and colors is not None:
            parts += [_RESET if current else "", _linked(text, style, colors)]
            current = None
            continue
        change, is_open = _change(current, style, colors)
        current = style if is_open else None
        parts += [change, text]
    return "".join([*parts, _RESET]) if current else "".join(parts)


def _linked(text: str, style: Style, colors: ColorSystem) -> str:
    # rich gives each link a random id, which keeps the rows of a link together.
    return _LINK.sub(
        lambda link: f"\x1b]8;id={crc32(link[1].encode())};{link[1]}\x1b\\", style.render(text, color_system=colors)
    )


@lru_cache(maxsize=1024)
def _change(current: Style | None, style: Style | None, colors: ColorSystem | None) -> tuple[str, bool]:
    """Return the sequence that leads from one style to another, and whether the terminal is in a style then."""
    opening = style.render("\0", color_system=colors).partition("\0")[0] if style else ""
    if current is None or not opening:
        return (_RESET if current else "") + opening, bool(opening)
    if style is None or current == style:
        return "", True
    same = current.bgcolor == style.bgcolor and current.without_color == style.without_color
    if same and style.color is not None:
        return Style(color=style.color).render("\0", color_system=colors).partition("\0")[0], True
    return _RESET + opening, True


def content_length(row: Row) -> int:
    """Return how many characters of a row are neither blank nor drawn by rich at the side of a quote."""
    return sum(len(_SIDES.sub("", segment.text)) for segment in row)


def without_content(row: Row, length: int) -> Row:
    """Return a row whose first `length` characters of content are blank."""
    rest = list[Segment]()
    for text, style, _ in row:
        end = 0
        while end < len(text) and length:
            length -= not _SIDES.match(text[end])
            end += 1
        blanked = "".join(char if _SIDES.match(char) else " " * cell_len(char) for char in text[:end])
        rest += [Segment(blanked, style), Segment(text[end:], style)]
    return tuple(segment for segment in rest if segment.text)
