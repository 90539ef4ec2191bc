"""What stays in the terminal is what `Markdown` prints in one piece: characters, styles and links, at any size."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.markdown import Markdown as StockMarkdown

from tests.support.bodies import RECORDINGS
from tests.support.markdown import (
    SIZES,
    check_streamed,
    cut,
    cut_anywhere,
    differs_in_stock,
    frame_times,
    letters,
    pieces_of,
    uses_links_early,
    whole,
)
from tests.support.markdown_samples import CODE, LINKS, LISTS, LONG, PROSE, QUOTES, SAMPLES, TABLES, TAGS, WIDE
from tests.support.terminal import printed

RECORDED = sorted(RECORDINGS.glob("*.sse"))
PARTS = 8  # that the recordings are divided into, so that several processes share them
by_size = pytest.mark.parametrize(("columns", "lines"), SIZES, ids=str)
by_sample = pytest.mark.parametrize("sample", SAMPLES)


@by_sample
def test_samples_in_small_pieces(sample: str) -> None:
    text = SAMPLES[sample]
    for size in (1, 3) if len(text) < 1000 else (len(text) // 40,):
        check_streamed(text, 40, 10, cut(text, size), frame_after=1)
    check_streamed(text, 40, 10, [text])
    check_streamed(text, 80, 24, cut_anywhere(text, 1), frame_times(2))


@by_sample
def test_samples_cut_anywhere(sample: str) -> None:
    """Each beginning of a reply may be all of it: the stream may end there."""
    check_cuts(SAMPLES[sample], 30 if len(SAMPLES[sample]) < 1000 else 5)


def check_cuts(text: str, places: int) -> None:
    for end in range(1, len(text), max(1, len(text) // places)):
        if not uses_links_early(text[:end]):
            check_streamed(text[:end], 40, 10, cut(text[:end], max(4, end // 30)), frame_after=2)


@pytest.mark.slow
@by_sample
def test_samples_in_many_small_pieces(sample: str) -> None:
    text = SAMPLES[sample]
    for size in (max(1, len(text) // 200), max(1, len(text) // 90)):
        check_streamed(text, 40, 10, cut(text, size), frame_after=1)
    check_cuts(text, 30)


@pytest.mark.slow
@by_sample
def test_samples_at_each_size(sample: str) -> None:
    for columns, lines in (*SIZES, (12, 4), (25, 3)):
        check_streamed(SAMPLES[sample], columns, lines, frame_after=5)


@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (80, 24), (200, 60)])
def test_a_part_of_a_long_reply(columns: int, lines: int) -> None:
    text = "\n\n".join([PROSE, LISTS, CODE, TABLES, QUOTES, WIDE, LINKS, TAGS]) * 2
    check_streamed(text, columns, lines, cut(text, 16), frame_times(columns + lines))


@pytest.mark.slow
@by_size
def test_a_long_reply(columns: int, lines: int) -> None:
    """Every kind of block, one after the other, many screens long."""
    check_streamed(LONG, columns, lines, cut(LONG, 8), frame_times(columns + lines))


@by_sample
def test_words_are_those_of_stock_rich(sample: str) -> None:
    check_words(SAMPLES[sample])


def check_words(text: str) -> None:
    if differs_in_stock(text):
        return
    assert letters(whole(text, 80)) == letters(printed(StockMarkdown(text), 80))


def check_reply(pieces: list[str], seed: int, sizes: list[tuple[int, int]]) -> None:
    """The reply at these sizes, and cut at ten places, each at one size."""
    text = "".join(pieces)
    if uses_links_early(text):
        return
    for columns, lines in sizes:
        check_streamed(text, columns, lines, pieces, frame_times(seed))
    for place in range(1, 11):
        end = len(text) * place // 11
        columns, lines = SIZES[(seed + place) % len(SIZES)]
        check_streamed(text[:end], columns, lines, cut_anywhere(text[:end], seed), frame_times(seed + place))
    check_words(text)


def test_fixtures(recorded: Path) -> None:
    if pieces := pieces_of(recorded):
        check_reply(pieces, 1, [(40, 10), (80, 24), (200, 60)])


def test_a_sample_of_the_recordings() -> None:
    if not RECORDED:
        pytest.skip("the recordings are not beside the project")
    for number, path in enumerate(RECORDED[::40]):
        if pieces := pieces_of(path):
            check_reply(pieces, number, [SIZES[number % len(SIZES)]])


@pytest.mark.slow
@pytest.mark.skipif(not RECORDED, reason="the recordings are not beside the project")
@pytest.mark.parametrize("part", range(PARTS))
def test_all_recordings(part: int) -> None:
    checked = 0
    for number, path in list(enumerate(RECORDED))[part::PARTS]:
        try:
            if pieces := pieces_of(path):
                check_reply(pieces, number, SIZES)
                checked += 1
        except AssertionError as error:
            raise AssertionError(f"{path.name}: {error}") from error
    assert checked > 30


def spec_examples() -> Iterator[str]:
    """The examples of a specification in the format of CommonMark's `spec.txt`, which `COMMONMARK_SPEC` names."""
    text = Path(os.environ["COMMONMARK_SPEC"]).read_text(encoding="utf-8")
    for example in re.finditer(r"^`{32} example[^\n]*\n(.*?)^\.\n.*?^`{32}$", text, re.MULTILINE | re.DOTALL):
        yield example[1].replace("→", "\t")


@pytest.mark.slow
@pytest.mark.skipif("COMMONMARK_SPEC" not in os.environ, reason="COMMONMARK_SPEC names no file")
@pytest.mark.parametrize("part", range(PARTS))
def test_examples_of_commonmark(part: int) -> None:
    """Alone, and between paragraphs: `COMMONMARK_SPEC` is the path of `spec.txt`."""
    examples = list(spec_examples())
    assert len(examples) > 600
    for number, example in list(enumerate(examples))[part::PARTS]:
        for text in (example, f"Before.\n\n{example}\nAfter.\n\n- an item\n- another\n"):
            if uses_links_early(text):
                continue
            try:
                for columns, lines in ((40, 10), (80, 24)):
                    check_streamed(text, columns, lines, cut(text, 1), frame_after=1)
                    check_streamed(text, columns, lines, cut_anywhere(text, number), frame_times(number))
            except AssertionError as error:
                raise AssertionError(f"example {number}, {text!r}: {error}") from error
