"""Markdown documents, and ways to stream them into the renderer."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from streamkit.rich import Markdown
from streamkit.rich._painter import writes
from streamkit.rich._renderer import Renderer
from tests.support import in_memory
from tests.support.terminal import Recorder, Row, as_text, assert_equal_rows, console_on, printed

SIZES = [(columns, lines) for columns in (40, 80, 200) for lines in (10, 24, 60)]
# What stock rich prints elsewhere or not at all. Before 14.1, it loses characters of long lines of code.
DIFFERENT_IN_STOCK = {"html_block", "html_inline", "image"}
if tuple(map(int, version("rich").split(".")[:2])) < (14, 1):
    DIFFERENT_IN_STOCK |= {"fence", "code_block"}
WITH_HTML = MarkdownIt("commonmark").enable(["strikethrough", "table"])


def pieces_of(path: Path) -> list[str]:
    """The pieces of text of a recorded body."""
    return in_memory.play(path.read_bytes(), beta="beta" in path.name)[0]


def cut(text: str, size: int = 4) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def cut_anywhere(text: str, seed: int) -> list[str]:
    """Pieces of 1 to 30 characters."""
    source, pieces, at = random.Random(seed), [], 0
    while at < len(text):
        size = source.choice((1, 2, 3, 4, 8, 30))
        pieces.append(text[at : at + size])
        at += size
    return pieces


def streamed(
    pieces: Iterable[str], columns: int, lines: int, *, frame_after: Iterator[int] | int = 8, **options: Any
) -> Recorder:
    """Render pieces as they come, with a frame after so many of them, and the last frame."""
    recorder = Recorder(columns, lines)
    renderer = Renderer(console_on(recorder, columns, lines), **options)
    due = frame_after if isinstance(frame_after, int) else next(frame_after)
    for piece in pieces:
        renderer.feed(piece)
        due -= 1
        if due <= 0:
            due = frame_after if isinstance(frame_after, int) else next(frame_after)
            show(recorder, renderer, renderer.frame())
    show(recorder, renderer, renderer.finish())
    return recorder


def show(recorder: Recorder, renderer: Renderer, frame: str) -> None:
    """Write a frame as the sink does it, and take note of the rows that are final."""
    for part in writes(frame):
        recorder.write(part)
    recorder.settle(len(renderer._painter._shown))


def frame_times(seed: int) -> Iterator[int]:
    """After how many pieces each frame comes."""
    source = random.Random(seed)
    while True:
        yield source.choice((1, 1, 2, 5, 8, 13, 40))


@lru_cache(maxsize=64)
def whole(text: str, columns: int) -> Sequence[Row]:
    """The rows of a document that is printed in one piece."""
    return printed(Markdown(text), columns)


def check_streamed(
    text: str, columns: int, lines: int, pieces: Iterable[str] | None = None, frame_after: Iterator[int] | int = 8
) -> Recorder:
    """Compare the document, streamed, with the document in one piece."""
    recorder = streamed(cut(text) if pieces is None else pieces, columns, lines, frame_after=frame_after)
    expected, rows = whole(text, columns), recorder.terminal.rows()
    if rows != expected and has_tall_code(text, lines):
        # Where code goes on below the screen, its colours are found without what is above: the words are the same.
        rows, expected = [_plain(row) for row in rows], [_plain(row) for row in expected]
    assert_equal_rows(rows, expected, f"at {columns} x {lines}")
    return recorder


def _plain(row: Row) -> Row:
    return tuple(cell._replace(fg="", bg="", bold=False, italics=False, underscore=False, dim=False) for cell in row)


def tokens_of(text: str) -> tuple[list[Token], dict[str, Any]]:
    """All tokens, those inside of paragraphs too, and the link definitions."""
    env: dict[str, Any] = {}
    tokens = [part for token in WITH_HTML.parse(text, env) for part in (token, *(token.children or ()))]
    return tokens, env.get("references", {})


def has_tall_code(text: str, lines: int) -> bool:
    """Whether a block of code is taller than half of the screen."""
    return any(
        token.type in ("fence", "code_block") and token.content.count("\n") > lines // 2 - 3
        for token in tokens_of(text)[0]
    )


def uses_links_early(text: str) -> bool:
    """Whether a link may stand before its definition."""
    lines = text.splitlines()
    for label, definition in tokens_of(text)[1].items():
        before = "\n".join(lines[: definition["map"][0]])
        if f"[{label}]".casefold() in re.sub(r"\s+", " ", before).casefold():
            return True
    return False


def differs_in_stock(text: str) -> bool:
    """Return `True` for a document with a token of `DIFFERENT_IN_STOCK`."""
    return any(token.type in DIFFERENT_IN_STOCK for token in tokens_of(text)[0])


def letters(rows: Iterable[Row]) -> str:
    """All that is printed, without blanks and lines that are drawn: the same at any width."""
    return re.sub(r"[\s\u2500-\u257f]+|-{20,}", "", as_text(rows))  # rich before 14.3 draws a rule with hyphens
