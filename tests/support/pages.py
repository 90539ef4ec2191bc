"""The pages of the documentation: their fenced blocks, and the Python blocks as modules for a type checker.

`python -m tests.support.pages FOLDER` writes each Python block of the README and of docs/ into a module of its own.
"""

from __future__ import annotations

import ast
import re
import symtable
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

TOGETHER = {"README.md", "web.md"}
"""The pages whose blocks need a key or are files of their own. A block of any other page runs in an empty file."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    source: str
    heading: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that the block says it is, in a comment on its first line: `# test_ask.py`."""
        named = re.match(r"# (\w+\.py)\b", self.source)
        return named[1] if named else None

    @property
    def end(self) -> int:
        """The line of the closing fence."""
        return self.line + self.source.count("\n") + 1


def name_of(page: Path) -> str:
    """The path of a page below the repository or docs/."""
    folder = ROOT / "docs" if page.is_relative_to(ROOT / "docs") else ROOT
    return page.relative_to(folder).as_posix() if page.is_relative_to(folder) else page.name


def blocks(page: Path) -> Iterator[Block]:
    heading, lines = "", page.read_text(encoding="utf-8").splitlines()
    numbered = iter(enumerate(lines, 1))
    for number, line in numbered:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("```"):
            source: list[str] = []
            for _, inner in numbered:
                if inner.startswith("```"):
                    break
                source.append(inner)
            yield Block(line[3:].strip(), "\n".join(source) + "\n", heading, number)


def modules(page: Path) -> dict[str, str]:
    """The Python blocks of a page as the sources of modules, by file name.

    A block begins in the line of its module that it has on the page. Before it stand the imports of what it uses from
    the blocks before, which a run of the page has in one namespace.
    """
    found: dict[str, str] = {}
    known: dict[str, str] = {}  # the import of each name that a block before has made
    for block in blocks(page):
        if block.language != "python":
            continue
        if block.file:
            found[block.file] = block.source
            continue
        made, used = _names(block.source)
        module = re.sub(r"\W", "_", name_of(page).removesuffix(".md")) + f"_line_{block.line}"
        shared = "; ".join(known[name] for name in sorted(used & known.keys()))  # one line: the block keeps its place
        found[f"{module}.py"] = shared + "\n" * block.line + block.source
        known |= {name: f"from {module} import {name}" for name in made} | _imports(block.source)
    return found


def docstring_blocks() -> dict[str, str]:
    """The blocks of code in the docstrings of the library, by the name of a module for each."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                for block in re.finditer(r"^\n((?:    .*\n+)+)", text, re.MULTILINE):
                    place = re.sub(r"\W", "_", path.relative_to(ROOT / "src").with_suffix("").as_posix())
                    found[f"{place}_{len(found)}"] = textwrap.dedent(block[1])
    return found


def _names(source: str) -> tuple[set[str], set[str]]:
    """The names that a block makes, and those that it uses but does not make."""
    top = symtable.symtable(source, "block", "exec")
    made = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    inner = list(top.get_children())  # functions and classes, whose own names are not the block's
    while inner:
        table = inner.pop()
        used |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        inner += table.get_children()
    return made, used - made


def _imports(source: str) -> dict[str, str]:
    """The imports of a block, by the name that each makes."""
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                one = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], 0)
                found[alias.asname or alias.name.partition(".")[0]] = ast.unparse(one)
    return found


if __name__ == "__main__":
    target = Path(sys.argv[1])
    (target / "pyrightconfig.json").write_text('{"pythonVersion": "3.10"}', encoding="utf-8")
    for each in PAGES:
        for name, source in modules(each).items():
            (target / name).write_text(source, encoding="utf-8")
    for name, source in docstring_blocks().items():
        (target / f"{name}.py").write_text(source, encoding="utf-8")
