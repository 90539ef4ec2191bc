"""What `sinks=` takes, and the sink that each item of it stands for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from .base import METHODS, AsyncSink, Factory, Sink
from .callback import CallbackSink

Listener: TypeAlias = Callable[..., Any]


def make_sink(item: object) -> Sink | AsyncSink:
    """Return the sink that an item of `sinks=` stands for. Raises `TypeError` for an item that is not a sink."""
    factory = factory_of(item)
    return item if factory is None else factory()  # type: ignore[return-value] # pyright: ignore[reportReturnType]


def factory_of(item: Any) -> Factory | None:
    """Return a function that makes the sinks that an item of `sinks=` stands for; `None` if the item is a sink.

    A class, and a function that can be called without arguments, makes a sink; any other function takes the text. A
    function of any number of arguments, such as `print`, takes the text, too.
    """
    if isinstance(item, (Sink, AsyncSink)):
        return None
    if not callable(item):
        raise TypeError(f"expected a sink, got {item!r}: subclass streamkit.Sink, or use CallbackSink(on_text=...)")
    function: Any = item
    while isinstance(function, partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    signature = _signature(item)
    first = next(iter(signature.parameters.values()), None)
    is_variadic = first is not None and first.kind is first.VAR_POSITIONAL
    if _accepts(signature) and (inspect.isclass(function) or not is_variadic):
        return partial(_call_factory, item)
    if inspect.isclass(function):
        name = function.__name__
        raise TypeError(f"expected a class that needs no arguments, got {name}: use functools.partial({name}, ...)")
    if not _accepts(signature, ""):
        raise TypeError(
            "expected a function that takes a piece of text, or one without arguments that makes a sink, "
            f"got {item!r}: bind its other arguments with functools.partial"
        )
    return partial(CallbackSink, item)


def _call_factory(factory: Callable[[], Any]) -> Sink | AsyncSink:
    if _is_async(factory):
        raise TypeError(f"expected a plain function that makes a sink, got the async function {factory!r}")
    made = factory()
    if not isinstance(made, (Sink, AsyncSink)):
        raise TypeError(f"expected a sink, got {made!r}: subclass streamkit.Sink, or use CallbackSink(on_text=...)")
    return made


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function; that of any arguments for a function in C without one."""
    try:
        return inspect.signature(function)
    except ValueError:
        return inspect.signature(lambda *_: None)


def _accepts(signature: inspect.Signature, *arguments: object) -> bool:
    with suppress(TypeError):
        signature.bind(*arguments)
        return True
    return False


def listener_of(sink: Sink | AsyncSink, method: str) -> Listener | None:
    """Return a method of a sink; `None` if the sink does not override it."""
    listener: Listener = getattr(sink, method)
    base = AsyncSink if isinstance(sink, AsyncSink) else Sink
    return None if getattr(listener, "__func__", None) is getattr(base, method) else listener


def is_awaited(sink: Sink | AsyncSink) -> bool:
    """Return `True` if calls of the sink must be awaited: an `AsyncSink`, or a `CallbackSink` of async functions."""
    return isinstance(sink, AsyncSink) or any(_is_async(getattr(sink, name)) for name in (*METHODS, "finish"))


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def wrapped_sinks(sink: Any) -> list[Sink | AsyncSink]:
    """Return a sink and the sinks that it wraps, from the outermost to the innermost."""
    parts: list[Sink | AsyncSink] = []
    while sink is not None:
        parts.append(sink)
        sink = getattr(sink, "_streamkit_wrapped", None)
    return parts


def innermost(sink: Sink | AsyncSink) -> Sink | AsyncSink:
    """Return the sink that a user wrote or chose, out of all that wraps it."""
    return wrapped_sinks(sink)[-1]


def attach(wrapper: Any, sink: Any, replacement: Callable[[str, Listener], Listener]) -> None:
    """Give a wrapper a replacement, made from name and method, of each method that the sink overrides.

    A method that the sink does not override is not called, and costs nothing.
    """
    for name in METHODS:
        method = listener_of(sink, name)
        if method is not None:
            setattr(wrapper, name, replacement(name, method))
    wrapper._streamkit_wrapped = sink  # noqa: SLF001 - for `wrapped_sinks`
    if hasattr(sink, "_streamkit_body"):  # of a sink that records
        wrapper._streamkit_body = sink._streamkit_body  # noqa: SLF001


async def call_and_await(method: Listener, *items: object) -> None:
    """Call a method that may have to be awaited."""
    answer = method(*items)
    if inspect.isawaitable(answer):
        await answer


def wrap(item: Any, wrapper: Callable[[Any], Any]) -> Any:
    """Wrap a sink; for a class or another function, return a function that makes one wrapped sink per stream."""
    factory = factory_of(item)
    if factory is None:
        return wrapper(item)
    return lambda: wrapper(factory())
