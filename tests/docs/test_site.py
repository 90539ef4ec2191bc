"""The site: zensical builds it without network and without a warning, and its pages, links and search are sound.

`uvx nox -s docs` runs these tests, with the packages of the group `docs`.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

from tests.docs.test_reference import MODULES, SHOWN, public_members, shown_object
from tests.support.pages import ROOT

pytest.importorskip("zensical", reason="the site needs the packages of the group docs: uvx nox -s docs")

NO_NETWORK = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    "NO_COLOR": "1",
}
# The words that a user may search for, and the page with the answer.
QUESTIONS = {
    "wrap existing code": "how-to/wrap-existing-code/",
    "stop button": "how-to/stop-button/",
    "timeout stalls": "how-to/timeouts/",
    "retry request": "how-to/retries/",
    "history valid": "how-to/history/",
    "continue reply": "how-to/continue/",
    "markdown terminal": "terminal/",
    "fastapi": "web/",
    "django": "web/",
    "flask": "web/",
    "many streams": "many-streams/",
    "smooth bursts": "how-to/smooth-bursts/",
    "several readers": "how-to/several-readers/",
    "structured output": "how-to/structured-output/",
    "tools": "how-to/tools/",
    "bedrock": "sources/",
    "vertex": "sources/",
    "tracing": "tracing-and-cost/",
    "resume reload": "how-to/resume-after-reload/",
    "several machines": "how-to/several-machines/",
    "log streams": "how-to/logging/",
    "cost": "tracing-and-cost/",
    "test offline": "how-to/testing/",
    "record replay": "how-to/record-and-replay/",
    "instructor": "how-to/other-libraries/",
    "langchain": "how-to/other-libraries/",
    "litellm": "how-to/other-libraries/",
}


def command(folder: Path, *arguments: str) -> str:
    """Run a command of the environment, and return what it prints."""
    program = Path(sys.executable).with_name(arguments[0])
    done = subprocess.run(  # noqa: S603 - our own commands
        [program, *arguments[1:]],
        cwd=folder,
        env={**os.environ, **NO_NETWORK},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    printed = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert done.returncode == 0, printed
    return printed


def copy(folder: Path) -> None:
    """Copy what the site is made of."""
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    copy(folder)
    printed = command(folder, "zensical", "build", "--strict", "--clean")
    assert "No issues found" in printed
    assert "warn" not in printed.lower()
    command(folder, "llmstxt-standalone", "build", "--quiet")
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    """The HTML of each page, by its address in the site."""
    found = {page.relative_to(site).as_posix().removesuffix("index.html"): page for page in site.rglob("*.html")}
    return {address: page.read_text(encoding="utf-8") for address, page in found.items()}


def test_a_wrong_link_stops_the_build(tmp_path: Path) -> None:
    copy(tmp_path)
    index = tmp_path / "docs" / "index.md"
    index.write_text(index.read_text(encoding="utf-8") + "\n[why](why.md#nowhere)\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="anchor does not exist"):
        command(tmp_path, "zensical", "build", "--strict", "--clean")


def test_every_page_is_in_the_navigation_and_in_llms_txt(site: Path, pages: dict[str, str]) -> None:
    listed = set(re.findall(r"\]\(([^)]*)\)", (site / "llms.txt").read_text(encoding="utf-8")))
    assert {f"{address}index.md" for address in pages if address != "404.html"} == listed
    assert [name for name in listed if not (site / name).exists()] == []
    assert "stream_text" in (site / "llms-full.txt").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(pages: dict[str, str]) -> None:
    loaded = r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(https?:)?//|<link[^>]*\shref=["']?(https?:)?//"""
    assert [address for address, page in pages.items() if re.search(loaded, page)] == []


def test_every_link_of_the_site_leads_somewhere(site: Path, pages: dict[str, str]) -> None:
    wrong = []
    ids = {address: set(re.findall(r'\sid="?([^"\s>]+)', page)) for address, page in pages.items()}
    for address, page in pages.items():
        if address == "404.html":
            continue  # its links are those of the root
        for found in re.findall(r'<(?:a|link|img|script)[^>]*\s(?:href|src)="?([^"\s>]+)', page):
            link = html.unescape(found)
            if re.match(r"(https?|mailto|data):", link):
                continue
            target, anchor = urldefrag(urljoin(f"/{address}", link))
            target = unquote(target).lstrip("/").removesuffix("index.html")
            if target not in pages:
                wrong += [] if (site / target).is_file() else [f"{address}: {link}"]
            elif anchor and unquote(anchor) not in ids[target]:
                wrong.append(f"{address}: {link}")
    assert wrong == []


def test_every_public_name_and_member_is_in_the_inventory(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes()
    _, _, packed = inventory.partition(b"zlib.\n")
    names = {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}
    wanted = {f"{module}.{name}" for module in MODULES for name in MODULES[module].__all__}
    for name in SHOWN:
        value = shown_object(name)
        if isinstance(value, type) and not name.endswith("Params"):
            own = {member for member in public_members(value) if member in vars(value)}
            wanted |= {f"{name}.{member}" for member in own}
    assert sorted(name for name in wanted - names if not name.startswith(("streamkit.errors", "streamkit.sinks"))) == []
    assert names >= {
        "streamkit.TextStream.cancel",
        "streamkit.AsyncEventStream.until_done",
        "streamkit.sinks.Sink.write",
    }


def test_lists_are_lists(pages: dict[str, str]) -> None:
    """Python-Markdown takes a list for text if no blank line stands before it."""
    paragraphs = [
        (address, text) for address, page in pages.items() for text in re.findall(r"<p>(.*?)</p>", page, re.S)
    ]
    assert [text for text in paragraphs if re.search(r"^(- |\d+\. |\||```)", text[1], re.MULTILINE)] == []


@pytest.mark.parametrize("words", QUESTIONS)
def test_the_search_finds_the_answer(words: str, site: Path) -> None:
    """Each word is in the title or the place of an item of the page, so that the search puts it first."""
    items = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    titles = [(item["location"].partition("#")[0], " ".join([item["title"], *item["path"]]).lower()) for item in items]
    assert QUESTIONS[words] in {page for page, title in titles if all(word in title for word in words.split())}
