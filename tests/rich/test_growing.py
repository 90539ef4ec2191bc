"""Blocks taller than the screen while the window changes its size, and frames of special kinds: without any thread."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from streamkit.rich import Markdown
from streamkit.rich._code import _MOST_KEPT, CodeRows
from streamkit.rich._growing import GrowingMarkdown
from streamkit.rich._renderer import Renderer
from streamkit.rich._rows import Row, text_of
from tests.support.markdown import cut, show, whole
from tests.support.terminal import Recorder, as_text, assert_equal_rows, console_on, printed


def numbered(count: int, line: str) -> str:
    """So many lines, in which each word is there once."""
    return "".join(line.format(*(f"w{number * 3 + place}" for place in range(3))) for number in range(count))


CODE = "```python\n" + numbered(24, "{} = 'a long line' + {}({})\n") + "```\n"
# The place at which the width changes comes after a blank line of code.
GAPS = "```python\n" + numbered(24, "{} = 'a long line' + {}({})\n\n") + "```\n"
QUOTE = numbered(12, "> A paragraph with {} and {}, which is not short, and then {}\n>\n")
WIDE = numbered(20, "> 港の{}案内には{}二つの岸壁と{}橋があります\n>\n")
ITEM = "- boats\n\n" + numbered(12, "  A paragraph with {} and {}, which is not short, and then {}\n\n")
TALL = {"code": CODE, "code with blank lines": GAPS, "quote": QUOTE, "wide characters": WIDE, "item": ITEM}
HEIGHT = 8


def resized(text: str, widths: list[int], pieces: int = 24) -> tuple[list[Row], list[int]]:
    """The rows of a text in a window whose width changes in between, and how many were final after each one."""
    console = console_on(Recorder(80, HEIGHT), 80, HEIGHT)
    growing, rows, counts = GrowingMarkdown(console), list[Row](), list[int]()
    for number, piece in enumerate(cut(text, -(-len(text) // pieces))):
        width = widths[number * len(widths) // pieces]
        growing.feed(piece)
        frame = growing.frame(width, HEIGHT)
        rows += frame.final
        counts.append(len(rows))
        assert all(sum(segment.cell_length for segment in row) <= width for row in [*frame.final, *frame.tail])
    return [*rows, *growing.finish(widths[-1])], counts


def content(rows: list[Row]) -> str:
    """The characters that are not drawn by rich at the sides."""
    return re.sub(r"[\s▌]", "", "".join(segment.text for row in rows for segment in row))


@pytest.mark.parametrize("widths", [[30, 50], [50, 30], [40, 23, 61, 31], [61, 60, 59, 58, 30, 31, 32, 33]], ids=str)
@pytest.mark.parametrize("kind", TALL)
def test_a_tall_block_loses_and_doubles_nothing_when_the_window_changes(kind: str, widths: list[int]) -> None:
    rows, counts = resized(TALL[kind], widths)
    assert counts[-1 - len(counts) // len(widths)] > HEIGHT, "some rows are final when the width changes"
    console = console_on(Recorder(200, 50), 200, 50)
    in_one_piece = GrowingMarkdown(console)
    in_one_piece.feed(TALL[kind])
    assert content(rows) == content(in_one_piece.finish(200))
    if kind == "code":
        assert sum(not content([row]) for row in rows) == 2, "a blank row above and one below, and none between"


@pytest.mark.parametrize("name", ["the_long_name", "港の案内"])
def test_what_is_final_of_a_row_is_blank_in_the_wider_one(name: str) -> None:
    """Where the end of a comment changes the colours of the row before, only a part of a line of code is final."""
    line = f"let {name} = 20; /* it begins"
    growing = GrowingMarkdown(console_on(Recorder(80, HEIGHT), 80, HEIGHT))
    growing.feed("```js\n" + "let boat = 1;\n" * 10 + f"{line}\nand ends */\n")
    final = [text_of(row) for row in growing.frame(22, HEIGHT).final]
    assert [row.strip() for row in final[1:11]] == ["let boat = 1;"] * 10
    begin = final[11].strip()
    assert line.startswith(begin)
    assert len(final) == 12
    growing.feed("let more = 2;\n```\n")
    rows = [text_of(row) for row in growing.finish(60)]
    assert rows[0].rstrip() == " " * (1 + cell_len(begin)) + line[len(begin) :]
    assert [row.strip() for row in rows[1:]] == ["and ends */", "let more = 2;", ""]
    assert {cell_len(row) for row in rows} == {60}


def test_the_final_part_of_a_block_may_end_with_a_blank_row() -> None:
    """All rows of the code so far are final, as nothing but a blank line has followed."""
    text = "```\n" + "".join(f"line {number}\n" for number in range(9)) + "\n\n"
    console = console_on(Recorder(80, HEIGHT), 80, HEIGHT)
    growing = GrowingMarkdown(console)
    growing.feed(text)
    rows = growing.frame(40, HEIGHT).final
    rows += growing.frame(50, HEIGHT).final
    growing.feed("the end\n```\n")
    rows += growing.finish(50)
    words = [text_of(row).strip() for row in rows]
    assert [word for word in words if word] == [*(f"line {number}" for number in range(9)), "the end"]


# -- frames --


def renderer_on(columns: int = 40, lines: int = 10, **options: object) -> tuple[Recorder, Renderer]:
    recorder = Recorder(columns, lines)
    return recorder, Renderer(console_on(recorder, columns, lines, **options))


def test_a_frame_without_news_writes_nothing() -> None:
    recorder, renderer = renderer_on()
    renderer.feed("One *two*\n")
    show(recorder, renderer, renderer.frame("waiting"))
    assert recorder.terminal.text() == "One two\n\nwaiting"
    tail = renderer._tail
    assert renderer.frame("waiting") == ""
    assert renderer._tail is tail, "not rendered again"
    show(recorder, renderer, renderer.frame("thinking"))
    assert recorder.terminal.text() == "One two\n\nthinking"
    show(recorder, renderer, renderer.finish())
    assert recorder.terminal.text() == "One two"


def test_a_screen_that_is_forgotten_stays_and_the_frame_is_drawn_again_below() -> None:
    recorder, renderer = renderer_on()
    renderer.feed("One *two*")
    show(recorder, renderer, renderer.frame())
    recorder.terminal.draw("$ fg")  # the shell's prompt, while the program was stopped
    recorder.terminal.feed("\n")
    renderer.forget_screen()
    renderer.feed(" three")
    frame = renderer.frame()
    assert frame.startswith("\x1b[0m\x1b[?7h\x1b[?2026l"), "the shell may have left another state"
    show(recorder, renderer, frame)
    assert recorder.terminal.text() == "One two\n$ fg\nOne two three"


def test_a_screen_that_is_forgotten_before_the_first_frame() -> None:
    recorder, renderer = renderer_on()
    renderer.forget_screen()
    renderer.feed("One")
    frame = renderer.frame()
    assert "\x1b[0m" not in frame, "there is nothing to restore"
    show(recorder, renderer, frame)
    assert recorder.terminal.text() == "One"


STYLED = "A **bold**`code` *slanted* [link](http://a.example)\n\n```python\ndef boat(): return 'x' + 1  # far\n```\n"


# A theme each: rich keeps the sequence of a style, for whatever colour system it was needed first.
@pytest.mark.parametrize(("colors", "theme"), [("standard", "vim"), ("256", "friendly"), ("truecolor", "monokai")])
def test_the_colours_are_those_of_the_terminal(colors: str, theme: str) -> None:
    recorder = Recorder(40, 10)
    renderer = Renderer(console_on(recorder, 40, 10, color_system=colors), code_theme=theme)
    for piece in cut(STYLED):
        renderer.feed(piece)
        show(recorder, renderer, renderer.frame())
    show(recorder, renderer, renderer.finish())
    assert_equal_rows(recorder.terminal.rows(), printed(Markdown(STYLED, code_theme=theme), 40, color_system=colors))
    assert ("38;2;" in "".join(recorder.writes)) is (colors == "truecolor")


def test_a_console_without_colours_keeps_the_other_styles() -> None:
    """Neighbours that differ in their colours alone have one style then."""
    recorder, renderer = renderer_on(no_color=True)
    for piece in cut(STYLED, 50):
        renderer.feed(piece)
        show(recorder, renderer, renderer.frame())
    show(recorder, renderer, renderer.finish())
    rows = recorder.terminal.rows()
    assert_equal_rows(rows, printed(Markdown(STYLED), 40, no_color=True))
    assert {(cell.fg, cell.bg) for row in rows for cell in row} == {("default", "default")}
    assert "\x1b[1mboldcode\x1b[" in "".join(recorder.writes)


def test_a_terminal_without_a_colour_system_gets_the_characters_alone() -> None:
    recorder, renderer = renderer_on(color_system=None)
    renderer.feed(STYLED)
    show(recorder, renderer, renderer.finish())
    assert "\x1b[3" not in "".join(recorder.writes)
    assert recorder.terminal.text().split() == as_text(whole(STYLED, 40)).split()


@pytest.mark.parametrize("hyperlinks", [True, False])
def test_an_image_is_a_link_where_links_are_wanted(hyperlinks: bool) -> None:
    rows = printed(Markdown("![A boat](http://a.example/boat.png)", hyperlinks=hyperlinks), 40)
    assert as_text(rows) == "🌆 A boat"
    assert {cell.link for row in rows for cell in row[-6:]} == {"http://a.example/boat.png" if hyperlinks else ""}


def test_rows_of_code_are_not_kept_for_ever() -> None:
    code_rows, console = CodeRows(), console_on(Recorder(40, 10), 40, 10)
    code = "\n".join(f"line {number}" for number in range(_MOST_KEPT + 20))
    first = code_rows.render(code, "text", "monokai", console, 40)
    assert [row[1].text for row in first[1:-1]] == code.split("\n")
    assert code_rows.render(code, "text", "monokai", console, 40) == first
    assert len(code_rows._kept) <= _MOST_KEPT + 1
