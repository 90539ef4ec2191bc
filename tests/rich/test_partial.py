"""What is shown of a text whose end is still being written."""

from __future__ import annotations

import pytest

pytest.importorskip("rich", reason="needs the extra `rich`")

from streamkit.rich._partial import completed, decided, is_table_head


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Some **bol", "Some **bol**"),
        ("Some **bold**", "Some **bold**"),
        ("**bold ", "**bold**"),
        ("a *b* c **d *e", "a *b* c **d *e***"),
        ("***both", "***both***"),
        ("**a** b", "**a** b"),
        ("**a *b* c", "**a *b* c**"),
        ("_it", "_it_"),
        ("snake_case_x", "snake_case_x"),
        ("5*3 is", "5*3 is"),
        ("a * b", "a * b"),
        ("a ~~str", "a ~~str~~"),
        ("a ~b", "a ~b"),
        (r"a \*b", r"a \*b"),
        ("x `code", "x `code`"),
        ("x ``a`b", "x ``a`b``"),
        ("x `", "x"),
        ("x ` ", "x"),
        ("a `**b` c **d", "a `**b` c **d**"),
        ("`*a` and *b", "`*a` and *b*"),
        ("[lab", "lab"),
        ("![al", "al"),
        ("see [label", "see label"),
        ("see [label]", "see label"),
        ("see [label](http://x", "see label"),
        ('see [label](http://x "ti', "see label"),
        ("see [label][re", "see label"),
        ("![alt](ht", "alt"),
        ("**[label](http://x", "**label**"),
        ("[label](http://x) and", "[label](http://x) and"),
        ("see [1] for", "see [1] for"),
        ("a &am", "a"),
        ("use <ans", "use"),
        ("end\\", "end"),
        ("a\n", "a\n"),
    ],
)
def test_marks_are_closed_or_left_out(text: str, shown: str) -> None:
    assert completed(text) == shown


@pytest.mark.parametrize(
    "line", ["", "1", "12.", "- ", "-", "|", "###", "> ", "  * ", "***", "```", "```py", "~~~", "- [", "|--|"]
)
def test_a_line_that_may_become_anything_is_not_shown(line: str) -> None:
    assert decided(line) == ""


@pytest.mark.parametrize("line", ["a", "# x", " - a", "1. a", "| a", "> a", "`a", "- [ ] t"])
def test_other_lines_are_shown(line: str) -> None:
    assert decided(line) == line


@pytest.mark.parametrize("text", ["| a", "| a | b |", "| a | b |\n", "| a | b |\n|--", "|a|\n|:-:|"])
def test_a_line_that_may_begin_a_table(text: str) -> None:
    assert is_table_head(text)


@pytest.mark.parametrize("text", ["a | b", "a", "| a |\nb", "| a |\n|-|\nb"])
def test_a_line_that_begins_no_table(text: str) -> None:
    assert not is_table_head(text)
