"""A window that gets smaller: rows that are not final leave the screen, and are not written again."""

from __future__ import annotations

import random

import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from streamkit.rich._painter import Painter
from streamkit.rich._renderer import Renderer
from streamkit.rich._rows import BLANK, Row, text_of, wrapped
from streamkit.rich._scrolled import ScrolledRows
from tests.support.markdown import cut, show, whole
from tests.support.terminal import Recorder, as_text, assert_equal_rows, console_on

ITEM = "- A long item, " + "of many words which take some rows, " * 6 + "and its end.\n"
CODE = "```python\n" + "".join(f"line = {number}\n" for number in range(20)) + "```\n"
TABLE = "| Boat | Quay |\n|---|---|\n" + "".join(f"| boat {number} | {number * 111} |\n" for number in range(9))
QUOTE = "".join(f"> Quote {number}\n>\n" for number in range(9))
BLOCKS = {"item": ITEM, "code": CODE, "table": TABLE, "quote": QUOTE}


class Window:
    """A renderer on a terminal whose height changes."""

    def __init__(self, columns: int, lines: int) -> None:
        self.recorder = Recorder(columns, lines)
        self.console = console_on(self.recorder, columns, lines)
        self.renderer = Renderer(self.console)

    def feed(self, text: str) -> None:
        self.renderer.feed(text)
        show(self.recorder, self.renderer, self.renderer.frame())

    def set_height(self, lines: int) -> None:
        self.recorder.terminal.set_height(lines)
        self.console.height = lines

    def finish(self, last_line: str = "") -> list[str]:
        show(self.recorder, self.renderer, self.renderer.finish(last_line))
        return self.recorder.terminal.text().split("\n")


def expected(text: str, columns: int = 40) -> list[str]:
    return as_text(whole(text, columns)).split("\n")


@pytest.mark.parametrize("heights", [(24, 6), (24, 14, 6), (24, 6, 24), (24, 3, 9)], ids=str)
@pytest.mark.parametrize("kind", BLOCKS)
def test_the_rows_are_those_of_one_piece(kind: str, heights: tuple[int, ...]) -> None:
    """The height changes while the block is open and above all of the screen."""
    text = f"First paragraph.\n\n{BLOCKS[kind]}\nLast paragraph.\n"
    window = Window(40, heights[0])
    middle = len("First paragraph.\n\n") + len(BLOCKS[kind]) * 3 // 4
    window.feed(text[:middle])
    for height in heights[1:]:
        window.set_height(height)
        window.feed("")
    for piece in cut(text[middle:], 30):
        window.feed(piece)
    rows, wanted = window.finish(), expected(text)
    if kind != "table":
        assert rows == wanted
    else:  # the columns got wider after rows had left the screen
        assert [row.split() for row in rows if "─" not in row] == [row.split() for row in wanted if "─" not in row]


@pytest.mark.parametrize("seed", range(12))
def test_many_heights(seed: int) -> None:
    source = random.Random(seed)
    text = "\n".join(source.choice([ITEM, CODE, QUOTE]) for _ in range(8))
    window = Window(40, 30)
    for piece in cut(text, 40):
        if source.random() < 0.2:
            window.set_height(source.choice([18, 21, 24, 30]))
        window.feed(piece)
    assert window.finish("interrupted") == [*expected(text), "", "interrupted"]


def test_rows_that_change_after_they_left_the_screen_are_written_again() -> None:
    text = "word " * 60
    window = Window(40, 20)
    window.feed(text)
    window.set_height(4)
    window.feed("\n===\n")  # a heading: another style, and centred
    rows = window.finish()
    assert rows[-4:] == expected(f"{text}\n===\n")[-4:]
    window = Window(40, 20)
    window.feed("| one | two |\n|---|---|\n" + "| 1 | 2 |\n" * 9)
    window.set_height(4)
    window.feed("| 1 | " + "a long cell " * 9 + "|\n")
    assert " ".join(window.finish()).count("long") == 9


def test_a_tail_without_its_first_rows_is_written_again_in_order() -> None:
    """Rows that the screen had no place for have to come first."""
    text = "".join(f"w{number} " for number in range(80)) + "\n"
    window = Window(40, 6)
    window.feed(text)
    window.set_height(4)
    window.feed("")
    rows = window.finish()
    assert rows[-len(expected(text)) :] == expected(text)


def test_another_output_goes_below_what_has_left_the_screen() -> None:
    window = Window(40, 24)
    window.feed(ITEM[:-1])
    window.set_height(4)
    show(window.recorder, window.renderer, window.renderer.frame(above="a note\n"))
    rows, wanted = window.finish(), expected(ITEM)
    gone = rows.index("a note")
    assert gone == len(wanted) - 3
    assert rows[:gone] + rows[gone + 1 :] == wanted


def test_after_a_stop_all_rows_are_written_again() -> None:
    window = Window(40, 24)
    window.feed(ITEM)
    window.set_height(4)
    window.feed("")
    window.renderer.forget_screen()
    wanted = expected(ITEM)
    assert window.finish()[-len(wanted) :] == wanted


def row(text: str, style: str = "") -> Row:
    return (Segment(text, Style.parse(style)),) if text else BLANK


def plain_painter() -> Painter:
    return Painter(Console(force_terminal=True, color_system=None, legacy_windows=False))


def test_the_rest_of_a_row_that_is_wrapped_is_final_where_it_was_cut() -> None:
    painter = plain_painter()
    painter.paint([], [row("a b c d e f g h"), row("i j k l"), row("m")], 20, 10)
    # In 7 columns: `a b c d`, ` e f g `, `h`, `i j k l`, `m`: the first two leave a screen of four rows.
    output = painter.paint([], [row("a b c"), row("d e f"), row("g h i"), row("j k l"), row("m n")], 7, 4)
    assert output.replace("\x1b[2K", "").replace("\x1b[K", "") == (
        "\x1b[?2026h\r\x1b[3A\r\n\r\n\r\n\x1b[3Ah\r\n    i\r\nj k l\r\nm n\r\n\x1b[?2026l"
    )


def test_a_row_that_is_final_in_part_stays_so_when_the_rows_above_become_final() -> None:
    painter = plain_painter()
    painter.paint([], [row("a b"), row("c d"), row("e f"), row("g h")], 9, 10)
    painter.paint([], [row("a b"), row("c d"), row("e f"), row("g h")], 9, 3)
    painter.paint([], [row("a"), row("b c"), row("d e f"), row("g h")], 10, 3)
    output = painter.paint([row("a"), row("b c")], [row("d e f"), row("g h i")], 10, 3)
    assert output == "\r\x1b[1A\x1b[3C i\r\n"


def scrolled(*texts: str) -> ScrolledRows:
    rows = ScrolledRows()
    for text in texts:
        rows.add(row(text))
    return rows


def left(rows: ScrolledRows, final: list[str], tail: list[str]) -> tuple[list[str], list[str]]:
    """The texts of the rows that have to be written."""
    found = rows.without([row(text) for text in final], [row(text) for text in tail])
    return [text_of(each) for each in found[0]], [text_of(each) for each in found[1]]


def test_rows_that_are_gone_are_left_out_until_they_are_final() -> None:
    rows = scrolled("a", "", "b")
    assert left(rows, [], ["a", "", "b", "", "c"]) == ([], ["", "c"])
    assert left(rows, ["a", ""], ["b", "", "c"]) == ([], ["", "c"])
    assert left(rows, ["b", "", "c"], ["d"]) == (["", "c"], ["d"])
    assert left(rows, ["b"], ["b"]) == (["b"], ["b"])  # another `b`


@pytest.mark.parametrize("final", [["a"], ["a", ""], ["a", "", ""]], ids=str)
def test_blank_rows_that_are_gone(final: list[str]) -> None:
    rows = scrolled("a", "", "")
    everything = ["a", "", "", "", "b"]
    assert left(rows, final, everything[len(final) :]) == ([], ["", "b"])
    assert left(rows, [], everything[len(final) :]) == ([], ["", "b"])
    assert left(scrolled("", ""), [], ["", "", "", "b"]) == ([], ["", "b"])


def test_the_lines_of_tables_and_the_sides_of_quotes_do_not_count() -> None:
    assert left(scrolled("a  b", "────"), [], ["a    b", "──────", "1    2"]) == ([], ["1    2"])
    assert left(scrolled("▌ a"), ["▌ a", "▌ b"], []) == (["▌ b"], [])


def test_rows_that_begin_otherwise_are_all_written() -> None:
    rows = scrolled("a", "b")
    assert left(rows, ["a"], ["c"]) == (["a"], ["c"])
    assert left(rows, [], ["a", "b"]) == ([], ["a", "b"])  # and so are those to come
    assert left(scrolled("a", "b"), [], ["a"]) == ([], ["a"])
    assert left(scrolled("a", "b"), [], ["a b c"]) == ([], ["    c"])
    assert left(scrolled("a ┌", "b"), [], ["a ┌ b ┐ c"]) == ([], ["a ┌ b ┐ c"])


def test_wrapped_rows() -> None:
    assert wrapped(BLANK, 3) == [BLANK]
    assert [text_of(part) for part in wrapped((*row("ab", "bold"), *row("cdefg")), 3)] == ["abc", "def", "g"]
    assert wrapped((*row("ab", "bold"), *row("cd")), 3) == [(*row("ab", "bold"), *row("c")), row("d")]
    assert wrapped((*row("ab", "bold"), *row("cd")), 2) == [row("ab", "bold"), row("cd")]
    assert [text_of(part) for part in wrapped(row("港の二つ"), 3)] == ["港", "の", "二", "つ"]
    assert [text_of(part) for part in wrapped(row("abcdef"), 3)] == ["abc", "def"]


def test_equal_sizes_leave_the_rows_alone() -> None:
    window = Window(40, 24)
    window.feed(CODE)
    shown = window.recorder.terminal.rows()
    window.feed("")
    assert_equal_rows(window.recorder.terminal.rows(), shown)
