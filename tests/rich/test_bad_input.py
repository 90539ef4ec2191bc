"""Replies that try to take over the terminal, or to take up all the time."""

from __future__ import annotations

import pytest

from streamkit.rich import Markdown
from tests.support.markdown import cut, streamed, whole
from tests.support.terminal import as_text, assert_equal_rows, printed

# Erase the screen, set the title, a hyperlink, report the status, the alternate screen, bare controls, and those of C1.
ESCAPES = [
    *("\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://evil.example\x1b\\", "\x1b[6n", "\x1b[?1049h", "\x1bc"),
    *("\x1bP1$q\x1b\\", "\x07", "\x08", "\x0b", "\x0c", "\x0e", "\x7f", "\x00"),
    *("\x9b2J", "\x9d0;title\x9c", "\x85", "\x84"),
]  # fmt: skip
PLACES = {
    "text": "a {} b",
    "word": "a{}b",
    "heading": "# a {}",
    "code span": "`a {} b`",
    "fence": "```\na {} b\n```",
    "info string": "```py{}thon\nx = 1\n```",
    "indented code": "    a {} b",
    "link text": "[a {}](http://a.example)",
    "link target": "[a](http://a.example/{})",
    "link target in brackets": "[a](<http://a.example/{}>)",
    "link title": "[a](http://a.example '{}')",
    "autolink": "<http://a.example/{}>",
    "image": "![a {}](http://a.example/{}.png)",
    "reference": "[b]: http://a.example/{}\n\n[b] and [c{}][b]",
    "table": "| a {} | b |\n|---|---|\n| c | {} |",
    "quote": "> {}\n> a",
    "list": "1. {}\n2. a",
    "html": "<a href='{}'>a</a>\n\n<div>\n{}\n</div>",
}
by_place = pytest.mark.parametrize("place", PLACES)


@by_place
def test_control_characters_never_reach_the_terminal(place: str) -> None:
    """The terminal of the tests fails at each one that is not the renderer's own."""
    for escape in ESCAPES:
        text = PLACES[place].replace("{}", escape) + "\n\nend\n"
        for size in (1, 3, len(text)):
            recorder = streamed(cut(text, size), 80, 24, frame_after=1)
            assert_equal_rows(recorder.terminal.rows(), whole(text, 80), repr(text))
        assert recorder.terminal.text().endswith("end")


@by_place
@pytest.mark.parametrize("number", [0x1B, 0x9B, 0x07, 0x08, 0x7F, 0x85, 0x0D, 0x00, 0x0A, 0x09])
def test_nor_as_character_references(place: str, number: int) -> None:
    for reference in (f"&#{number};[2J", f"&#x{number:X};[2J", f"&#X{number:06x};]0;title&#7;", "&Tab;&NewLine;[2J"):
        text = PLACES[place].replace("{}", reference) + "\n\nend\n"
        recorder = streamed(cut(text), 80, 24, frame_after=1)
        assert_equal_rows(recorder.terminal.rows(), whole(text, 80), repr(text))
        assert recorder.terminal.text().endswith("end")


def test_console_markup_and_emoji_codes_are_text() -> None:
    text = "[red]not red[/red] :smile: [link=http://a.example]x[/link] [/] \\[b]\n"
    assert as_text(whole(text, 80)) == "[red]not red[/red] :smile: [link=http://a.example]x[/link] [/] [b]"
    assert {cell.fg for row in streamed(cut(text), 80, 24).terminal.rows() for cell in row} == {"default"}


def test_lone_surrogates_and_halves_of_characters() -> None:
    text = "a \ud83d b \udc9b c"
    recorder = streamed([*text, "\ud83d", "\ude00", "!\n"], 80, 24, frame_after=1)
    assert "a" in recorder.terminal.text()
    recorder.terminal.text().encode()
    for write in recorder.writes:
        write.encode()


def test_text_that_only_looks_like_a_carriage_return() -> None:
    """`\\r\\n` in two pieces is one line end."""
    text = "a\r\nb\r\n\r\n- c\r\n- d\r\r1. e"
    for size in (1, 2, 3):
        recorder = streamed(cut(text, size), 80, 24, frame_after=1)
        assert_equal_rows(recorder.terminal.rows(), whole(text, 80))


HUGE = {
    "long line": "x" * 200_000,
    "long line of words": "boat " * 40_000,
    "long line of code": "```python\n" + "x = 1; " * 10_000 + "\n```\n",
    "nested quotes": ">" * 2_000 + " deep\n\nend\n",
    "nested quotes, a line each": "".join("> " * depth + "a\n" for depth in range(1, 60)) + "\nend\n",
    "nested lists": "- " * 2_000 + "deep\n\nend\n",
    "nested lists, a line each": "".join("  " * depth + "- a\n" for depth in range(150)) + "\nend\n",
    "wide table": ("|" + " boat |" * 200 + "\n") + ("|" + "---|" * 200 + "\n") + ("|" + " x |" * 200 + "\n") * 3,
    "tall table": "| a | b |\n|---|---|\n" + "".join(f"| {number} | boat |\n" for number in range(400)),
    "long paragraph": "A boat *leaves* the harbour. " * 700,
    "many marks": "*" * 5_000
    + " "
    + "`" * 5_000
    + "\n\n"
    + "[" * 5_000
    + "\n\n"
    + "_a" * 3_000
    + "\n\n"
    + "![" * 2_000,
    "many fences": "```\n" * 500 + "end\n",
    "many definitions": "".join(f"[{number}]: /{number}\n" for number in range(500)) + "\n[1] [499]\n",
    "blank lines": "\n" * 20_000 + "end\n",
}
HUGER = {
    **HUGE,
    "long line": "x" * 1_000_000,
    "nested quotes": ">" * 10_000 + " deep\n\nend\n",
    "nested quotes, a line each": "".join("> " * depth + "a\n" for depth in range(1, 120)) + "\nend\n",
    "many definitions": "".join(f"[{number}]: /{number}\n" for number in range(1_000)) + "\n[1] [999]\n",
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_blocks_are_rendered(name: str) -> None:
    """In a few frames, whatever the size."""
    check_is_rendered(HUGE[name], 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGER)
def test_huger_blocks_are_rendered_in_many_frames(name: str) -> None:
    check_is_rendered(HUGER[name], 20)


def check_is_rendered(text: str, frames: int) -> None:
    pieces = cut(text, max(4, len(text) // frames))
    recorder = streamed(pieces, 80, 24, frame_after=1)
    assert recorder.terminal.text().strip()
    assert recorder.most_rewritten < 24


@pytest.mark.parametrize("name", ["wide table", "tall table", "long paragraph", "many fences", "many definitions"])
def test_huge_blocks_equal_those_in_one_piece(name: str) -> None:
    text = HUGE[name]
    recorder = streamed(cut(text, len(text) // 15), 80, 24, frame_after=1)
    assert as_text(recorder.terminal.rows()) == as_text(whole(text, 80))


@pytest.mark.parametrize("name", ["nested quotes", "nested lists"])
def test_deep_nesting_in_one_piece(name: str) -> None:
    assert as_text(printed(Markdown(HUGE[name]), 80)).strip()
