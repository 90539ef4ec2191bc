"""The public names, and what the source may not do."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import streamkit
import streamkit.errors
import streamkit.sinks
import streamkit.testing
import streamkit.web

SOURCE = Path(streamkit.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PRIVATE_OK = {"_asdict", "_fields", "_make", "_replace"}  # of `typing.NamedTuple`


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def test_all_is_sorted_and_what_is_public() -> None:
    assert streamkit.__all__ == sorted(streamkit.__all__)
    public = {
        name
        for name, value in vars(streamkit).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(streamkit.__all__) == public


@pytest.mark.parametrize("module", [streamkit, streamkit.errors, streamkit.sinks, streamkit.testing, streamkit.web])
def test_everything_public_has_a_docstring(module: ModuleType) -> None:
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        if name == "Status":
            continue
        assert inspect.getdoc(value), name
        for member, attribute in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and callable(attribute):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def test_the_functions_the_contract_names() -> None:
    for name in ("stream_text", "stream_events", "collect", "streamed"):
        assert inspect.isfunction(getattr(streamkit, name))
    assert set(streamkit.errors.__all__) <= set(streamkit.__all__)
    assert set(streamkit.sinks.__all__) <= set(streamkit.__all__)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports(path: Path) -> None:
    allowed = {"anthropic", "anyio", "jiter", "pydantic", "typing_extensions", "streamkit", "rich"}
    if path.parent.name == "rich":
        allowed |= {"markdown_it"}  # rich's own parser
    if path.name in ("async_wait.py", "_async_tasks.py"):
        allowed |= {"trio"}  # below a running loop of trio
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            assert first in allowed or first in sys.stdlib_module_names, f"{path.name} imports {name}"
            if first not in ("streamkit", "__future__"):
                assert not [part for part in rest if part.startswith("_")], f"{path.name} imports the private {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_private_attribute_of_others(path: Path) -> None:
    """A private attribute is one that streamkit itself defines somewhere."""
    own = set(PRIVATE_OK)
    for file in FILES:
        for node in ast.walk(parsed(file)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
    tree = parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            assert node.attr in own, f"{path.name}:{node.lineno} uses .{node.attr}"
            assert "anthropic" not in ast.unparse(node.value), f"{path.name}:{node.lineno} uses .{node.attr}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "attrgetter"):
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant) and str(argument.value).startswith("_"):
                    name = str(argument.value)
                    assert name in own or name.endswith("__"), f"{path.name}:{node.lineno} reads {name}"


def test_no_module_is_longer_than_500_lines() -> None:
    long = {path.name: count for path in FILES if (count := len(path.read_text("utf-8").splitlines())) > 500}
    assert long == {}


def test_no_assert_statements() -> None:
    """`python -O` takes them away: misuse is an exception."""
    for path in FILES:
        assert [node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.Assert)] == [], path.name


def test_importing_it_starts_nothing_and_imports_no_wing() -> None:
    program = """
import sys, threading
import anthropic
before = set(sys.modules)
import streamkit
new = set(sys.modules) - before
print(sorted(name for name in new if name.split(".")[0] in ("httpx", "httpx2", "rich")))
print(bool({"streamkit.testing", "streamkit.web"} & new), threading.active_count())
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", program],
        env={"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n")[:2] == ["[]", "False 1"]


@pytest.mark.parametrize("name", ["jiter", "anyio", "pydantic", "typing_extensions"])
def test_the_sdk_requires_what_is_imported_without_being_declared(name: str) -> None:
    required = [
        line.replace("-", "_") for line in importlib.metadata.requires("anthropic") or () if "extra ==" not in line
    ]
    assert [line for line in required if line.startswith(name)], f"declare {name} as a dependency"


def test_it_is_typed() -> None:
    assert (SOURCE / "py.typed").exists()
