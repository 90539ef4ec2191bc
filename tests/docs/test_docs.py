"""The README and docs/: every block of Python runs, every public name is explained, every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit.testing import Reply, serve
from tests.support.pages import PAGES, ROOT, TOGETHER, Block, blocks, modules, name_of

BOATS = Reply.text("They push water aside.")
# Two pieces of text arrive, "They " and "push ", and then what the fault says.
CUT = BOATS.cut(after_events=5)
STALLED = BOATS.stall(after_events=5, pings=0.05)
# What the blocks below a heading get for an answer. Elsewhere it is BOATS.
ANSWERS = {"The same cut reply, twice": CUT}


def test_the_blocks_of_a_page_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\ntext\n```python\na = 1\n\nb = 2\n```\n## Two\n```text\n# no heading\n```\n", encoding="utf-8"
    )
    assert list(blocks(page)) == [
        Block("python", "a = 1\n\nb = 2\n", "One", 3),
        Block("text", "# no heading\n", "Two", 9),
    ]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `anthropic.Anthropic()` finds; the address is set for each block."""
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)


def run(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    # Empty lines in front, so that a traceback names the line of the page.
    code = compile("\n" * block.line + block.source, str(page), "exec", dont_inherit=True)
    exec(code, namespace)  # noqa: S102 - our own pages


def close(namespace: dict[str, Any]) -> None:
    client = namespace.get("client")
    if isinstance(client, anthropic.Anthropic):
        client.close()


def test_there_are_pages_with_code() -> None:
    with_code = {page.name for page in PAGES if any(block.language == "python" for block in blocks(page))}
    assert {"README.md", "tutorial.md"} <= with_code


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) in TOGETHER], ids=name_of)
def test_every_block_of_python_runs_and_prints_what_the_page_says(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem}
    printed = ""
    for block in blocks(page):
        if block.language == "text" and printed:
            # A block of text right after one of Python is its output, without the blanks at the ends of lines.
            lines = [line.rstrip() for line in printed.strip().splitlines()]
            assert lines == block.source.strip().splitlines(), f"{name_of(page)}:{block.line}"
        printed = ""
        if block.language != "python" or block.file:
            continue  # a block with the name of a file is run by the test below
        with serve(ANSWERS.get(block.heading, BOATS), repeat=True) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            if "client" in namespace:
                namespace["client"] = server.client()
            try:
                run(block, page, namespace)
            finally:
                close(namespace)
        printed = capsys.readouterr().out


@pytest.mark.usefixtures("environment")
def test_the_tests_on_the_page_about_tests_pass(tmp_path: Path) -> None:
    files = {block.file: block.source for block in blocks(ROOT / "docs" / "how-to" / "testing.md") if block.file}
    assert set(files) == {"ask.py", "test_ask.py"}
    for name, source in files.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    source_folder = Path(streamkit.__file__).parents[1]
    env = {**os.environ, "PYTEST_ADDOPTS": ""}  # the options of this run, such as coverage, are not for that one
    if source_folder.name == "src":
        env["PYTHONPATH"] = str(source_folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "3 passed" in done.stdout


def test_the_blocks_of_a_page_become_modules(tmp_path: Path) -> None:
    page = tmp_path / "a-page.md"
    page.write_text(
        "```python\nimport os\nfrom json import loads as parse\na = b = 1\n```\n"
        "```python\ndef b(c):\n    return a + c\n```\n"
        "```sh\nls\n```\n```python\nprint(parse, b(os), [a for a in 'x'], d)\n```\n```python\n# e.py\nprint(a)\n```\n",
        encoding="utf-8",
    )
    assert modules(page) == {
        "a_page_line_1.py": "\nimport os\nfrom json import loads as parse\na = b = 1\n",
        "a_page_line_6.py": f"from a_page_line_1 import a{chr(10) * 6}def b(c):\n    return a + c\n",
        "a_page_line_13.py": "from a_page_line_6 import b; import os; from json import loads as parse"
        + "\n" * 13
        + "print(parse, b(os), [a for a in 'x'], d)\n",
        "e.py": "# e.py\nprint(a)\n",
    }


@pytest.mark.usefixtures("environment")
def test_the_span_of_an_older_sdk_says_how_the_stream_ended(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "tracing-and-cost.md"
    namespace: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python" and block.heading == "With an SDK before 1.14":
            run(block, page, namespace)
    capsys.readouterr()
    namespace["exporter"].clear()
    params: dict[str, Any] = {"model": "claude-test", "max_tokens": 100, "messages": []}
    cached = Reply.text("Hi.", usage={"cache_read_input_tokens": 20, "cache_creation_input_tokens": 3})
    with serve(cached, CUT, Reply.http_error(400), STALLED) as server:
        sink = streamkit.CallbackSink(on_finish=namespace["make_span"])
        for _ in range(3):
            streamkit.collect(server.client(), sinks=sink, on_error="return", **params)
        with streamkit.stream_text(server.client(), sinks=sink, **params) as stream:
            next(stream)
    names = ("error.type", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    assert [
        (span.status.status_code.name, *((span.attributes or {}).get(name) for name in names))
        for span in namespace["exporter"].get_finished_spans()
    ] == [
        ("UNSET", None, 33, 1),
        ("ERROR", "StreamTruncatedError", 10, None),
        ("ERROR", "BadRequestError", None, None),
        ("UNSET", None, 10, None),
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    fenced = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", fenced, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{name_of(page)}: {target}"
        folder = ROOT / "docs" if page.is_relative_to(ROOT / "docs") else ROOT  # the site has only what is in docs/
        assert found.is_relative_to(folder), f"{name_of(page)}: {target}"
        assert not anchor or anchor in anchors(found), f"{name_of(page)}: {target}"


def explained(name: str) -> bool:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    return re.search(rf"`(?:\w+\.)*{re.escape(name)}\b", reference) is not None


def test_every_option_is_in_the_reference() -> None:
    options = {*streamkit.StreamOptions.__annotations__, "retries", "on_error", "on_interrupt", "output_format"}
    assert {"sinks", "idle_timeout", "total_timeout", "separator"} <= options
    assert sorted(name for name in options if not explained(name)) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_word_has_to_be_deciphered(page: Path) -> None:
    """New users stumbled over these words."""
    text = re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    words = r"\b(verdicts?|(?<!monotonic )clocks?|doors?|way in|hand(s|ed)? (over|in)|peers?|is no)\b"
    assert re.search(words, re.sub(r"\s+", " ", text), re.IGNORECASE) is None


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| (?P<what>.*?) \| `(?P<reply>Reply.*?)`(?: with `(?P<options>.*?)`)?"
    r" \| `(?P<status>\w+)` \| `(?P<error>\w+)` \|$",
    re.MULTILINE,
)
ROWS = list(ROW.finditer(ERRORS))


def test_the_table_of_errors_is_read_whole() -> None:
    assert len(ROWS) == ERRORS.count("| `Reply.") > 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["what"])
def test_the_table_of_errors_is_true(row: re.Match[str]) -> None:
    reply = eval(row["reply"], {"Reply": Reply})  # noqa: S307 - our own page
    options = eval(f"dict({row['options'] or ''})")  # noqa: S307 - our own page
    with serve(reply, repeat=True) as server:
        params: dict[str, Any] = {"model": "claude-test", "max_tokens": 100, "messages": []}
        result = streamkit.collect(server.client(max_retries=0), on_error="return", **options, **params)
    assert (result.status, type(result.error).__name__.replace("NoneType", "None")) == (row["status"], row["error"])
    assert result.ok is (row["status"] == "complete" and "`ok` is false" not in row["what"])
    assert bool(result.invalid_tool_input) is ("invalid_tool_input" in row["what"])
