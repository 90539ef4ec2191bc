"""The terminal of these tests: it shows what a real one shows, and finds each fault that it is there to find."""

from __future__ import annotations

import pytest
from rich.console import Group
from rich.style import Style
from rich.text import Text

from tests.support.terminal import BLANK, Cell, Recorder, Terminal, as_text, assert_equal_rows, printed

UP = "\x1b[1A"


def test_rows_go_into_the_scrollback_with_their_styles() -> None:
    recorder = Recorder(10, 3)
    recorder.write("\x1b[2;1;31mone\x1b[0m\n" + "".join(f"{number}\n" for number in range(5)))
    rows = recorder.terminal.rows()
    assert as_text(rows) == "one\n0\n1\n2\n3\n4"
    assert rows[0] == tuple(Cell(char, fg="red", bold=True, dim=True) for char in "one")
    assert len(recorder.terminal.history) == 4


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("dim #020202", Cell("x", fg="020202", dim=True)),
        ("#020202 on #222222", Cell("x", fg="020202", bg="222222")),
        ("underline", Cell("x", underscore=True)),
        ("link http://a.example/2", Cell("x", link="http://a.example/2")),
    ],
)
def test_styles(style: str, expected: Cell) -> None:
    assert printed(Text("x", Style.parse(style)), 10) == [(expected,)]


def test_a_long_line_wraps_only_while_wrap_is_on() -> None:
    recorder = Recorder(4, 5)
    recorder.write("abcdef\n\x1b[?7labcdef\x1b[?7h\n")
    assert recorder.terminal.text() == "abcd\nef\nabcf"


def test_wide_and_joined_characters() -> None:
    assert as_text(printed(Group("日本", "e\u0301", "\u2764\ufe0f!"), 10)) == "日本\ne\u0301\n\u2764\ufe0f!"
    terminal = Terminal(3, 5)
    terminal.draw("日本")
    assert terminal.text() == "日\n本", "a wide character never stands half outside"


def test_trailing_blanks_count_only_with_a_style() -> None:
    rows = printed(Group("a   ", Text("b  ", "on red")), 10)
    assert [len(row) for row in rows] == [1, 3]
    assert_equal_rows([(BLANK, BLANK)], [(BLANK, BLANK)])


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        ("a\x1b[Jb\n", "was written"),
        ("a\x1b[?25l\n", "was written"),
        ("a\x1b[31\n", "was written"),
        ("a\x07\n", "was written"),
        ("a\x9b\n", "was written"),
        ("\x1b]0;title\x07\n", "was written"),
        ("\x1b[31ma\n", "open style"),
        ("\x1b]8;;http://a.example\x1b\\a\n", "open style"),
        ("\x1b[?7la\n", "wrap is off"),
        ("\x1b[?2026ha\n", "synchronized"),
        ("a\n\x1b[2Ab\n", "rows up"),
        ("a", "middle of a row"),
        ("a\n\x1b[10Cb\n", "to the right"),
    ],
)
def test_faults_of_a_write_are_found(frame: str, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        Recorder(10, 5).write(frame)


def test_rows_above_the_tail_are_final() -> None:
    recorder = Recorder(10, 5)
    recorder.write("a\nb\n")
    recorder.settle(1)
    recorder.write(f"{UP}c\nd\n")
    recorder.settle(1)
    for change in ("e\n", "\x1b[2K\n"):
        with pytest.raises(AssertionError, match="after it was final"):
            recorder.write(f"{UP}{UP}{change}")
        recorder.terminal.feed("\n")


def test_more_rows_than_the_screen_less_one_are_too_many() -> None:
    rows = "".join(f"{number}\n" for number in range(4))
    recorder = Recorder(10, 5)
    recorder.write(rows)
    recorder.write(f"\x1b[4A{rows}")
    with pytest.raises(AssertionError, match="rows up"):
        recorder.write(f"\x1b[5A{rows}")


def test_a_difference_is_reported_by_its_row() -> None:
    with pytest.raises(AssertionError, match=r"(?s)row 1 .*'b'.*'c'"):
        assert_equal_rows(printed("a\nb", 10), printed("a\nc", 10))
    with pytest.raises(AssertionError, match="styles at 1"):
        assert_equal_rows(printed("ab", 10), printed(Text.assemble("a", ("b", "bold")), 10))
    with pytest.raises(AssertionError, match="1 rows for 2"):
        assert_equal_rows(printed("a", 10), printed("a\nb", 10))
