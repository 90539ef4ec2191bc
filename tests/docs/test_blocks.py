"""The blocks of Python that can be copied into an empty file: each runs by itself, without a key, and prints what the
page says.
"""

from __future__ import annotations

import gc
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import PAGES, TOGETHER, Block, blocks, docstring_blocks, name_of


def outputs(page: Path) -> list[tuple[Block, str]]:
    """The blocks of Python of a page that have no file name, each with the output that stands below it."""
    found = list(blocks(page))
    return [
        (block, after.source if after and after.language == "text" and after.line == block.end + 2 else "")
        for block, after in zip_longest(found, found[1:])
        if block.language == "python" and not block.file
    ]


ALONE = [
    pytest.param((page, block, output), id=f"{name_of(page)}:{block.line}")
    for page in PAGES
    if name_of(page) not in TOGETHER
    for block, output in outputs(page)
]


def test_every_page_that_is_left_out_exists() -> None:
    assert {name_of(page) for page in PAGES} >= TOGETHER


def test_an_output_stands_right_below_its_block(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n1\n```\n\n```text\none\n```\n\n```python\n2\n```\n\nA diagram:\n\n```text\n+-+\n```\n"
        "\n```python\n# a.py\n```\n",
        encoding="utf-8",
    )
    assert [(block.source, output) for block, output in outputs(page)] == [("1\n", "one\n"), ("2\n", "")]


def run_alone(source: str, name: str) -> None:
    """Run a block as a program that an empty file would be."""
    thresholds = gc.get_threshold()  # a block sets them
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(source, name, "exec", dont_inherit=True), namespace)  # noqa: S102 - our own
    finally:
        gc.set_threshold(*thresholds)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("shown", ALONE)
def test_a_block_runs_alone(shown: tuple[Path, Block, str], capsys: pytest.CaptureFixture[str]) -> None:
    page, block, output = shown
    if "import instructor" in block.source:
        pytest.importorskip("instructor", reason="instructor has no release for this Python")
    # Empty lines in front, so that a traceback names the line of the page.
    run_alone("\n" * block.line + block.source, str(page))
    printed, errors = capsys.readouterr()
    assert errors == ""
    assert [line.rstrip() for line in printed.splitlines()] == [line.rstrip() for line in output.splitlines()]


@pytest.mark.parametrize("source", [pytest.param(*item[1:], id=item[0]) for item in docstring_blocks().items()])
def test_a_block_of_a_docstring_runs_alone(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_alone(source, "docstring")
    assert "there!" in capsys.readouterr().out


def test_the_blocks_of_docstrings_are_found() -> None:
    assert len(docstring_blocks()) >= 2
