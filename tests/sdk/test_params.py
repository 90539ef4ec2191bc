"""The parameters that the four functions take are those of the installed SDK's `create` and `stream`."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import pytest
import typing_extensions
from anthropic.resources.beta.messages import AsyncMessages as AsyncBetaMessages
from anthropic.resources.beta.messages import Messages as BetaMessages
from anthropic.resources.messages import AsyncMessages, Messages
from typing_extensions import TypedDict

from streamkit._params import BetaStreamParams, RequestStreamOptions, StreamParams

SDK = tuple(int(part) for part in anthropic.__version__.split(".")[:2])
WHERE = "src/streamkit/_params.py"


class Known(NamedTuple):
    """A difference that is meant, in the SDKs from `since` up to but not including `before`."""

    kind: str
    method: str
    name: str
    reason: str
    since: tuple[int, int] = (0, 80)
    before: tuple[int, int] = (3, 0)


KNOWN = [
    Known("both", "create", "stream", "the request is always streamed: `stream=` is refused"),
    Known("both", "create", "output_format", "`stream` alone takes a type; `create` is called where there is none"),
    Known("both", "stream", "output_format", "older SDKs take a schema too, for which there is no type", before=(1, 0)),
    Known("beta", "*", "tools", "runnable tools are taken too, by a type that is private", since=(1, 17)),
]


def method(function: Any) -> Any:
    return inspect.unwrap(function)


METHODS = [
    ("stable", StreamParams, Messages.create),
    ("stable", StreamParams, Messages.stream),
    ("stable", StreamParams, AsyncMessages.create),
    ("stable", StreamParams, AsyncMessages.stream),
    ("beta", BetaStreamParams, BetaMessages.create),
    ("beta", BetaStreamParams, BetaMessages.stream),
    ("beta", BetaStreamParams, AsyncBetaMessages.create),
    ("beta", BetaStreamParams, AsyncBetaMessages.stream),
]
REQUIRED = {getattr(module, "Required", None) for module in (typing, typing_extensions)} - {None}
ABSENT = (anthropic.Omit, anthropic.NotGiven)


def plain(annotation: Any, *, outermost: bool = False) -> Any:
    """An annotation in a form that can be compared; the outermost union without what stands for nothing given."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in REQUIRED or origin is typing_extensions.Annotated:
        return plain(args[0], outermost=outermost)
    if origin in (typing.Union, types.UnionType):
        members = {plain(member) for member in args if not (outermost and member in ABSENT)}
        return frozenset(members) if len(members) > 1 else members.pop()
    if isinstance(annotation, typing_extensions.TypeVar):
        return "a type variable"
    if origin is None:
        return annotation
    return origin, frozenset(args) if origin is typing.Literal else tuple(plain(member) for member in args)


def differences(params: Any, function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """The parameters in which our `TypedDict` and a method of the SDK differ, each with what to do about it."""
    ours = typing_extensions.get_type_hints(params, include_extras=True)
    theirs = typing_extensions.get_type_hints(function, include_extras=True)
    signature = dict(list(inspect.signature(function).parameters.items())[1:])  # but `self`
    options = set(RequestStreamOptions.__annotations__)
    for name, parameter in signature.items():
        if name not in ours:
            yield name, f"add `{name}: {theirs[name]}` to the TypedDict in {WHERE} that fits, with total=False"
            continue
        if (parameter.default is inspect.Parameter.empty) != (typing.get_origin(ours[name]) in REQUIRED):
            yield name, f"one of both requires `{name}`: correct {params.__name__} in {WHERE}"
        if plain(ours[name], outermost=True) != plain(theirs[name], outermost=True):
            yield name, f"`{name}` is {ours[name]} in {WHERE} and {theirs[name]} in the SDK: correct the former"
    for name in set(ours) - set(signature) - options:
        yield name, f"the SDK takes no `{name}`: remove it from {params.__name__} in {WHERE}"


def is_known(kind: str, method: str, name: str, entry: Known) -> bool:
    return (
        entry.name == name
        and entry.kind in (kind, "both")
        and entry.method in (method, "*")
        and entry.since <= SDK < entry.before
    )


@pytest.mark.parametrize(
    ("kind", "params", "function"), METHODS, ids=[function.__qualname__ + "-" + kind for kind, _, function in METHODS]
)
def test_the_parameters_are_those_of_the_sdk(kind: str, params: Any, function: Any) -> None:
    unknown = [
        what
        for name, what in differences(params, method(function))
        if not any(is_known(kind, function.__name__, name, entry) for entry in KNOWN)
    ]
    assert not unknown, "\n" + "\n".join([*unknown, "or, if the difference is meant, say so in KNOWN, with the reason"])


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: f"{entry.kind}-{entry.method}-{entry.name}")
def test_every_known_difference_still_exists(entry: Known) -> None:
    if not entry.since <= SDK < entry.before:
        pytest.skip("is of another SDK")
    found = {
        (kind, function.__name__, name)
        for kind, params, function in METHODS
        for name, _ in differences(params, method(function))
    }
    assert any(is_known(*difference, entry) for difference in found), f"remove {entry} from KNOWN"


class Ours(TypedDict, total=False):
    model: typing_extensions.Required[str]
    gone: int
    looser: float
    given: int
    optional: int


class Theirs:
    def create(
        self,
        *,
        model: str,
        looser: int | anthropic.Omit = anthropic.omit,
        given: int | anthropic.NotGiven = anthropic.NOT_GIVEN,
        optional: int,
        new: str | None = None,
    ) -> None: ...


def test_what_differs_is_named_with_what_to_do() -> None:
    found = dict(differences(Ours, Theirs.create))
    assert set(found) == {"gone", "looser", "optional", "new"}
    assert found["new"].startswith("add `new: ")
    assert WHERE in found["new"]
    assert "requires `optional`" in found["optional"]
    assert found["gone"].startswith("the SDK takes no `gone`")
    assert "float" in found["looser"]
    assert "int" in found["looser"]
