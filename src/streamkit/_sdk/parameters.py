"""The parameters of a request, checked before it is sent: their names, and the model."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import anthropic
from anthropic.resources.messages import DEPRECATED_MODELS
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaCreateParams

_COLLECT_OPTIONS = ("on_error", "on_interrupt")


def check_names(function: Callable[..., Any], names: Collection[str], options: Collection[str]) -> None:
    """Raise `TypeError` for a name that is neither a parameter of the SDK's function nor an option of streamkit.

    The message gives the nearest name, or says where the name belongs.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARKEYWORDS:
        return
    known = {*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *options, "output_format"} - {"self"}
    for name in names:
        if name not in known:
            if name in _COLLECT_OPTIONS:
                raise TypeError(f"{name}= is an option of collect only")
            raise TypeError(
                f"expected a parameter of anthropic {anthropic.__version__} or an option of streamkit, got {name}="
                f"{_hint(name, known)}"
            )


def _hint(name: str, known: Collection[str]) -> str:
    import difflib  # noqa: PLC0415 - only needed for mistakes

    nearest = difflib.get_close_matches(name, [*known, *_COLLECT_OPTIONS], n=1, cutoff=0.75)
    if nearest:
        return f"; did you mean {nearest[0]}=?"
    return "; for beta parameters, pass client.beta.messages" if name in BetaCreateParams.__annotations__ else ""


def warn_of_deprecated_model(params: Mapping[str, Any], *, stacklevel: int) -> None:
    """Warn of a model that the SDK lists as deprecated, at the caller's line.

    The SDK warns, too, but at the line that calls it: inside streamkit, where Python shows no `DeprecationWarning`.
    """
    model = params.get("model")
    if isinstance(model, str) and model in DEPRECATED_MODELS:
        message = f"the model {model!r} is deprecated and reaches its end of life on {DEPRECATED_MODELS[model]}"
        warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
