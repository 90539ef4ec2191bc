"""The reference: the pages of docs/api/ show each public name, from its docstring."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import streamkit
import streamkit.errors
import streamkit.rich
import streamkit.sinks
import streamkit.testing
import streamkit.web
from tests.support.pages import ROOT

MODULES: dict[str, Any] = {
    module.__name__: module
    for module in (
        streamkit,
        streamkit.errors,
        streamkit.rich,
        streamkit.sinks,
        streamkit.testing,
        streamkit.web,
    )
}
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md"))}
SHOWN = [name for page in PAGES.values() for name in re.findall(r"^::: (streamkit\S*)$", page, re.MULTILINE)]
# These have types and, for the request's parameters, the SDK's own documentation.
WITHOUT_DOCSTRING = {"BetaMessageParams", "MessageParams", "Status"}


def shown_object(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(MODULES[module], attribute)


def public_members(kind: type) -> set[str]:
    """The public methods and properties that streamkit itself gives a class."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("streamkit")]
    return {
        name
        for base in ours
        for name, value in vars(base).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property | classmethod))
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_on_a_page(module: str) -> None:
    shown = [id(shown_object(name)) for name in SHOWN]
    names = {name: shown.count(id(vars(MODULES[module])[name])) for name in MODULES[module].__all__}
    assert {name: count for name, count in names.items() if count != 1} == {}


def test_the_pages_show_public_names_only() -> None:
    assert [name for name in SHOWN if name.rpartition(".")[2] not in MODULES[name.rpartition(".")[0]].__all__] == []


@pytest.mark.parametrize("name", SHOWN)
def test_a_name_and_its_members_have_docstrings(name: str) -> None:
    value = shown_object(name)
    if name.rpartition(".")[2] not in WITHOUT_DOCSTRING:
        assert inspect.getdoc(value), name
    if inspect.isclass(value):
        assert [member for member in sorted(public_members(value)) if not inspect.getdoc(getattr(value, member))] == []


@pytest.mark.parametrize("name", SHOWN)
def test_a_docstring_is_markdown_that_renders(name: str) -> None:
    """A list needs a blank line before it, and an indented line that is not a part of a list would be code."""
    value = shown_object(name)
    members = [getattr(value, member) for member in public_members(value)] if inspect.isclass(value) else []
    for each in (value, *members):
        before = ""
        in_list = False
        for line in (inspect.getdoc(each) or "").splitlines():
            if line.startswith("- "):
                assert in_list or before == "", f"{each}: {line}"
                in_list = True
            elif line and not line.startswith(" "):
                in_list = False
            assert in_list or not line.startswith(" "), f"{each}: {line}"
            before = line
