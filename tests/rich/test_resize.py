"""In a real terminal, and while its window changes its size: no word is lost, and none comes twice."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from tests.support.markdown import SIZES, streamed, whole
from tests.support.markdown_samples import LONG, PROSE, SAMPLES
from tests.support.terminal import Recorder, as_text, console_on
from tests.support.tmux import needs_tmux, tmux

pytestmark = needs_tmux


def numbered(seed: int, blocks: int = 40) -> str:
    """Blocks of many kinds, in which each word is a number that comes once."""
    source, count, texts = random.Random(seed), 0, []

    def words(most: int) -> str:
        nonlocal count
        first, count = count, count + source.randint(1, most)
        return " ".join(f"w{number}" for number in range(first, count))

    for _ in range(blocks):
        kind = source.choice(["text", "text", "list", "numbers", "code", "table", "quote", "heading"])
        if kind == "text":
            texts.append(words(90))
        elif kind == "heading":
            texts.append(f"## {words(4)}")
        elif kind in ("list", "numbers"):
            mark = "- " if kind == "list" else "1. "
            texts.append("\n".join(f"{mark}{words(25)}" for _ in range(source.randint(1, 12))))
        elif kind == "code":
            texts.append("```python\n" + "\n".join(words(6) for _ in range(source.randint(1, 20))) + "\n```")
        elif kind == "quote":
            texts.append("\n>\n".join(f"> {words(30)}" for _ in range(source.randint(1, 3))))
        else:
            rows = "\n".join(f"| {words(2)} | {words(2)} |" for _ in range(source.randint(1, 10)))
            texts.append(f"| {words(1)} | {words(1)} |\n|---|---|\n{rows}")
    return "\n\n".join(texts) + "\n"


def check_words(found: list[str], text: str) -> None:
    """Each word is there once, in order. A row that was wrapped in the middle of a word gives two parts."""
    expected = re.findall(r"w\d+", text)
    got = re.findall(r"w\d+", " ".join(found))
    missing = [word for word in expected if word not in set(got)]
    doubled = [word for word, times in Counter(got).items() if times > 1]
    assert not missing, f"lost: {missing[:10]} of {len(expected)}"
    assert not doubled, f"doubled: {doubled[:10]} of {len(expected)}"
    assert got == expected


def as_tmux_shows(text: str, columns: int) -> list[str]:
    """The rows of a text in one piece: without blanks at their ends, and without blank rows at the end."""
    rows = "\n".join(row.rstrip() for row in as_text(whole(text, columns)).split("\n")).rstrip("\n")
    return rows.split("\n") if rows else []


@pytest.mark.parametrize(("columns", "lines"), [(40, 12), (80, 24)])
def test_the_rows_in_a_real_terminal(columns: int, lines: int) -> None:
    text = LONG[: len(LONG) // 3]
    text = "".join(char for char in text if char.isascii())
    with tmux(text, columns, lines) as window:
        for _ in range(len(text) // 200):
            window.feed(200)
        window.finish()
        assert window.rows() == as_tmux_shows(text, columns)


@pytest.mark.slow
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_rows_of_samples_in_a_real_terminal(sample: str) -> None:
    text = "".join(char for char in SAMPLES[sample] if char.isascii())
    with tmux(text, 40, 10) as window:
        for _ in range(len(text) // 40):
            window.feed(40)
        window.finish()
        assert window.rows() == as_tmux_shows(text, 40)


def resized(text: str, sizes: list[tuple[int, int]], piece: int) -> list[str]:
    """Stream in pieces, while the window takes on these sizes, one after the other."""
    with tmux(text, *sizes[0]) as window:
        every = max(1, len(text) // piece // len(sizes))
        for number in range(len(text) // piece):
            window.feed(piece)
            if number % every == every - 1 and number // every + 1 < len(sizes):
                window.resize(*sizes[number // every + 1])
        window.finish()
        return window.words()


NARROWER, WIDER = [(80, 24), (40, 24)], [(40, 24), (80, 24)]
BOTH = [(80, 24), (60, 24), (100, 24), (40, 24), (41, 24), (90, 24)]
HEIGHTS = [(80, 24), (80, 10), (80, 40), (60, 12), (100, 30)]
# Rows are wrapped by the terminal and leave the screen in part.
SMALLER = [(80, 30), (33, 20), (80, 30), (50, 15)]
each_change = pytest.mark.parametrize(
    "sizes", [NARROWER, WIDER, BOTH, HEIGHTS], ids=["narrower", "wider", "both", "heights"]
)


@each_change
def test_resizes(sizes: list[tuple[int, int]]) -> None:
    text = numbered(1, 16)
    check_words(resized(text, sizes, 60), text)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@each_change
def test_many_resizes(sizes: list[tuple[int, int]], seed: int) -> None:
    text = numbered(seed)
    check_words(resized(text, sizes * (1 + seed % 2), 35 + seed * 20), text)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_rows_that_leave_the_screen_in_part(seed: int) -> None:
    """The rest of such a row stays cut where the terminal has cut it, even in the middle of a word."""
    text = numbered(seed).replace("\n1. ", "\n- ")
    check_words(["".join(resized(text, SMALLER * 2, 75))], text)


def test_the_size_is_read_for_each_frame() -> None:
    """The rest of a reply has the width that the window has now."""
    from streamkit.rich._renderer import Renderer

    recorder = Recorder(80, 24)
    console = console_on(recorder, 80, 24)
    renderer = Renderer(console)
    renderer.feed(PROSE)
    recorder.write(renderer.frame())
    console.width = 40  # the terminal itself does not get narrower, so that more is erased than was there
    renderer.feed("\n" + "boat " * 30 + "\n\n")
    recorder.write(renderer.finish())
    rows = recorder.terminal.text().split("\n")
    assert rows[-4:] == ["boat " * 7 + "boat"] * 3 + ["boat " * 5 + "boat"]
    assert max(map(len, rows)) > 40


def test_sizes_do_not_matter_before_anything_is_drawn() -> None:
    for columns, lines in SIZES:
        assert streamed(["", ""], columns, lines).terminal.rows() == []
