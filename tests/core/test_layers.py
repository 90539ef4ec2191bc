"""A module imports only from its own layer and from those below, and no two modules import each other."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import streamkit

HOME = Path(streamkit.__file__).parent
# From the bottom to the top. The wings come last: they import the public names, and nothing below.
WINGS = ("testing", "rich", "web")
LAYERS = ("values", "_core", "_sdk", "_io", "_api", *WINGS)
TOP = {"_api": "_api", "__init__": "_api"}
NO_IO = frozenset({"socket", "threading", "time", "asyncio", "select", "subprocess", "urllib", "http"})


def layer(module: str) -> str:
    """The layer of a module of the package, by its dotted name."""
    parts = module.split(".")[1:]
    if not parts:
        return "_api"
    return parts[0] if parts[0] in LAYERS else TOP.get(parts[0], "values")


def name_of(path: Path) -> str:
    parts = path.relative_to(HOME.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The modules that a file imports when it is run, by their dotted names; not those for type checkers alone."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names if f"{module}.{alias.name}" in MODULES)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found - {name_of(path)}


FILES = sorted(HOME.rglob("*.py"))
MODULES = {name_of(path) for path in FILES}
IMPORTS = {name_of(path): imports(path) for path in FILES}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_its_layer_and_those_below(module: str) -> None:
    own = layer(module)
    for imported in IMPORTS[module]:
        if not imported.startswith("streamkit"):
            continue
        allowed = LAYERS.index(layer(imported)) <= LAYERS.index(own)
        if own in WINGS:  # public names only
            allowed = imported in {"streamkit", "streamkit.errors", "streamkit.sinks"} or layer(imported) == own
        assert allowed, f"{module} imports {imported}"


@pytest.mark.parametrize("module", sorted(one for one in MODULES if layer(one) == "_core"))
def test_the_core_does_no_io_and_knows_no_sdk(module: str) -> None:
    others = {imported.partition(".")[0] for imported in IMPORTS[module]} - {"streamkit"}
    assert others <= {*sys.stdlib_module_names, "jiter", "typing_extensions"}
    assert not others & NO_IO


def test_no_circles() -> None:
    """Not even through an import within a function."""
    todo = {module: {one for one in imported if one in MODULES} for module, imported in IMPORTS.items()}
    while free := [module for module, imported in todo.items() if not imported]:
        for module in free:
            del todo[module]
        for imported in todo.values():
            imported.difference_update(free)
    assert not todo, f"these import each other: {todo}"
