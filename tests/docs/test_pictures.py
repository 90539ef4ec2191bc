"""The pictures of docs/: they are what their script makes, and show what a terminal shows."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.pages import ROOT

DOCS = ROOT / "docs"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def script() -> Iterator[dict[str, Any]]:
    """The names of the script, and the pictures that it makes as `made`."""
    path, modules = [*sys.path], {*sys.modules}
    names = runpy.run_path(str(DOCS / "make_pictures.py"))
    yield {**names, "made": names["pictures"]()}
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if name == "_connect":
            del sys.modules[name]


@pytest.mark.parametrize("name", ["markdown.svg", "markdown-still.svg"])
def test_the_pictures_are_those_that_the_script_makes(name: str, script: dict[str, Any]) -> None:
    made, committed = script["made"][name], (DOCS / name).read_text(encoding="utf-8")
    if committed.partition("\n")[0] != made.partition("\n")[0]:
        pytest.skip(f"made with another rich than {script['RICH']}, which may draw some things in another way")
    assert committed == made, "to make them again: uv run --group test docs/make_pictures.py"
    assert len(made.encode()) < 40_000


def frames(script: dict[str, Any]) -> list[Any]:
    return list(script["play"](runpy.run_path(str(script["EXAMPLE"]))["CANNED"]))


def visible_at(svg: str, second: float, script: dict[str, Any]) -> tuple[dict[tuple[int, int], str], int]:
    """The characters by row and column that a picture shows at a time, and how many units the rows are moved up."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    style = root.findtext(f"{SVG}style") or ""
    (length,) = re.findall(r"g\{animation:([\d.]+)s step-end infinite\}", style)
    part = 100 * second / float(length)
    state = {}
    for name, steps in re.findall(r"@keyframes (\w+)\{((?:[^{}]+\{[^{}]*\})*)\}", style):
        times = re.findall(r"([\d.]+)%\{([^}]*)\}", steps)
        state[name] = [value for time, value in times if float(time) <= part + 0.006][-1]
    cells: dict[tuple[int, int], str] = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("class") and state.get(str(group.get("class"))) != "visibility:hidden":
            for text in group.iter(f"{SVG}text"):
                x, y = int(text.get("x", "0")), int(text.get("y", "0"))
                for column, character in enumerate(text.text or "", x // script["CELL"]):
                    if character != " ":
                        place = (y - script["BASELINE"]) // script["LINE"], column
                        assert place not in cells, "two characters in one place"
                        cells[place] = character
    moved = re.search(r"translateY\(-(\d+)px\)", state["rows"])
    return cells, int(moved[1]) if moved else 0


def test_the_moving_picture_shows_each_frame_of_the_terminal(script: dict[str, Any]) -> None:
    for frame in frames(script):
        cells, moved = visible_at(script["made"]["markdown.svg"], frame.second, script)
        drawn = {
            (y, x): cell.data for y, row in enumerate(frame.rows) for x, cell in enumerate(row) if cell.data.strip()
        }
        assert cells == drawn, f"at {frame.second} seconds"
        assert moved == frame.scrolled * script["LINE"]


def test_the_reply_is_longer_than_the_screen_and_shows_what_markdown_has(script: dict[str, Any]) -> None:
    text = runpy.run_path(str(script["EXAMPLE"]))["CANNED"]
    for mark in ("# ", "**", "\n- ", "\n1. ", "\n```python\n", "\n|--", "\n> ", "~~"):
        assert re.search(rf"^ *{re.escape(mark.strip())}" if mark.startswith("\n") else re.escape(mark), text, re.M)
    assert frames(script)[-1].scrolled > script["ROWS"]


def test_a_picture_that_does_not_move_shows_the_end(script: dict[str, Any]) -> None:
    """For readers that prefer reduced motion, and for programs that know no animation."""
    svg = script["made"]["markdown.svg"]
    assert "@media (prefers-reduced-motion:reduce){g{animation:none!important}}" in svg
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    hidden = set(re.findall(r"^\.(\w+)\{visibility:hidden\}", svg, re.MULTILINE))
    shown = {
        (text.get("x"), text.get("y"), text.text)
        for group in root.iter(f"{SVG}g")
        if group.get("class") and group.get("class") not in hidden
        for text in group.iter(f"{SVG}text")
    }
    last = frames(script)[-1]
    characters = sorted("".join(text or "" for _, _, text in shown).replace(" ", ""))
    assert characters == sorted("".join(cell.data for row in last.rows for cell in row).replace(" ", ""))
    (rows,) = root.iterfind(f".//{SVG}g[@id='rows']")
    assert rows.get("transform") == f"translate(0 -{last.scrolled * script['LINE']})"
