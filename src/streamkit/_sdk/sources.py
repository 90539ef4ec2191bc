"""What the four functions take as a source, and how each kind is opened."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import anthropic
from anthropic.lib import streaming as sdk

from .parameters import check_names
from .response import HELPER_STREAMS, OpenResponse, is_buffered

_MANAGERS = (sdk.MessageStreamManager, sdk.BetaMessageStreamManager)
_ASYNC_MANAGERS = (sdk.AsyncMessageStreamManager, sdk.BetaAsyncMessageStreamManager)
_EXPECTED_SOURCES = "an Anthropic client, messages resource or SDK stream"
_RAW_HEADER = "x-stainless-raw-response"  # with which the SDK asks itself for an unparsed response
_RAW_RESPONSE_MESSAGE = (
    "expected a client or client.messages, got with_raw_response or with_streaming_response: "
    "use the resource itself; stream.request_id has the id from the response's headers"
)

IsAbandoned: TypeAlias = Callable[[], bool]
Opener: TypeAlias = Callable[[], Any]


@dataclass(repr=False, eq=False)  # each method that it makes takes time at import
class Source:
    """A validated source: how to open it, and which operations it allows.

    `opener` returns the function that opens the stream: that returns the SDK's stream, or an awaitable of it if
    `is_async`. It takes a function that tells whether the request is abandoned, so that the SDK makes no further
    attempt, or `None` if the task that opens the stream is cancelled instead. `sends` is true if opening sends a
    request. `max_retries` is how often the stream may be reopened by default, `None` if it cannot be reopened.
    `read_by_events` is true if the SDK's object has a state that only its own iterator keeps. `manager` is the context
    manager to leave at the end, if any.
    """

    opener: Callable[[IsAbandoned | None], Opener]
    is_async: bool
    max_retries: int | None
    sends: bool = True
    output_format: Any = None
    read_by_events: bool = False
    manager: Any = None

    def response(self, stream: Any) -> OpenResponse:
        """Return the response of the stream that was opened. Raises `TypeError` if it is not a stream."""
        by_events = self.read_by_events or self.manager is not None
        return OpenResponse(stream, is_async=self.is_async, read_by_events=by_events, manager=self.manager)


def resolve(source: Any, params: Mapping[str, Any], option_names: Collection[str]) -> Source:
    """Return the validated source. Sends nothing.

    Raises `TypeError` for an object that is not a source, and for a parameter that its function does not take.
    """
    sdk_stream = _resolve_sdk_stream(source)
    if sdk_stream is not None:
        if params:
            names = ", ".join(sorted(params))
            raise TypeError(
                f"an SDK stream takes no request parameters, got {names}: pass them where the stream is made"
            )
        return sdk_stream
    resource, max_retries = source, anthropic.DEFAULT_MAX_RETRIES
    if not hasattr(source, "create") and hasattr(source, "messages"):
        resource, max_retries = source.messages, getattr(source, "max_retries", max_retries)
    if not callable(getattr(resource, "create", None)) or isinstance(source, type):
        raise TypeError(_not_a_source_message(source))
    if not hasattr(resource, "with_raw_response"):
        raise TypeError(_RAW_RESPONSE_MESSAGE)
    if "stream" in params:
        raise TypeError("stream= is not needed: the request is always streamed")
    output_format = _param_or(params, "output_format", None)
    check_names(resource.create if output_format is None else resource.stream, params, option_names)
    is_async = inspect.iscoroutinefunction(inspect.unwrap(resource.create))

    def opener(is_abandoned: IsAbandoned | None) -> Opener:
        request = {**params, **_abandonable_timeout(params, resource, is_abandoned)}
        if output_format is not None:  # only the SDK's `messages.stream()` takes it
            return getattr(resource.stream(**request), "__aenter__" if is_async else "__enter__")  # type: ignore[no-any-return]
        request.pop("output_format", None)
        return partial(resource.create, **request, stream=True)

    return Source(opener, is_async=is_async, max_retries=max_retries, output_format=output_format)


def check_create(create: Any) -> None:
    """Raise `TypeError` for an object that is not a `messages.create`, or a function around one."""
    if not callable(create):
        raise TypeError(f"expected a client or a function such as client.messages.create, got {create!r}")
    written_in = getattr(create, "__globals__", {}).get("__name__")  # `__module__` is that of the function it wraps
    if not hasattr(create, "__self__") and str(written_in).startswith("anthropic."):
        raise TypeError(_RAW_RESPONSE_MESSAGE)  # the SDK's wrapper around its method: leaves the response unparsed
    original: Any = inspect.unwrap(create)
    streams = _takes_keyword(create, "stream") and _takes_keyword(original, "stream")
    if not streams or getattr(original, "__name__", "") == "parse":  # older SDKs have `parse(stream=)`, to refuse it
        raise TypeError(f"expected a function that takes stream=, such as client.messages.create, got {create!r}")


def resolve_create_call(create: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Source:
    """Return the source for a call of `messages.create` in code that streamkit wraps."""
    if any(name.lower() == _RAW_HEADER for name in kwargs.get("extra_headers") or ()):
        raise TypeError(_RAW_RESPONSE_MESSAGE)  # such a wrapper around ours, which stands in the place of `create`
    is_async = inspect.iscoroutinefunction(inspect.unwrap(create))
    bound = inspect.unwrap(create, stop=lambda function: hasattr(function, "__self__"))
    resource = getattr(bound, "__self__", None)

    def opener(is_abandoned: IsAbandoned | None) -> Opener:
        timeout = _abandonable_timeout(kwargs, resource, is_abandoned) if _takes_keyword(create, "timeout") else {}
        return partial(create, *args, **{**kwargs, "stream": True, **timeout})

    return Source(opener, is_async=is_async, max_retries=anthropic.DEFAULT_MAX_RETRIES)


def _param_or(params: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return a parameter of the request; the default if it is left out, in whatever way the SDK allows."""
    value = params.get(name, anthropic.NOT_GIVEN)
    return default if isinstance(value, (anthropic.NotGiven, anthropic.Omit)) else value


class RequestAbandoned(Exception):  # noqa: N818 - internal
    """Raised inside the SDK, to prevent another attempt for a stream that has ended."""


class AbandonableTimeout(anthropic.Timeout):
    """The timeout of a request, which ends the SDK's own retries once the request is abandoned.

    The SDK pauses before a retry with `time.sleep`, which nothing can end; but it reads the timeout anew for each
    attempt, and what that raises ends the request.
    """

    def __init__(self, timeout: Any, is_abandoned: Callable[[], bool]) -> None:
        self._is_abandoned = is_abandoned
        super().__init__(timeout)

    def __getattribute__(self, name: str) -> Any:
        if name in ("connect", "read", "write", "pool") and self._is_abandoned():
            raise RequestAbandoned
        return super().__getattribute__(name)

    def __deepcopy__(self, memo: object) -> AbandonableTimeout:
        return self  # the SDK copies the options of each attempt for some platforms

    def __repr__(self) -> str:  # also once it is abandoned
        return f"AbandonableTimeout({vars(self).get('read')})"


def _abandonable_timeout(params: Mapping[str, Any], resource: Any, is_abandoned: IsAbandoned | None) -> dict[str, Any]:
    """Return the parameter `timeout` of a request that may be abandoned: the same seconds, as an `AbandonableTimeout`.

    Without `timeout` among the parameters, the client's counts. A resource does not offer its client, so search what
    the resource holds for the attributes that every client has. Without a client, the request is not abandonable.
    """
    if is_abandoned is None:
        return {}
    timeout: Any = anthropic.NOT_GIVEN
    for held in (resource, *getattr(resource, "__dict__", {}).values()):
        if hasattr(held, "max_retries") and hasattr(held, "timeout"):
            timeout = held.timeout
    timeout = _param_or(params, "timeout", timeout)
    if not (timeout is None or isinstance(timeout, (float, int, anthropic.Timeout))):
        return {}
    return {"timeout": AbandonableTimeout(timeout, is_abandoned)}


def _enter(manager: Any, is_abandoned: IsAbandoned | None) -> Opener:
    """Return the function that enters a sync manager, after making the manager's request abandonable.

    The manager does not offer its request, so search what it holds, as for the client of a resource.
    """
    parts: dict[str, Any] = manager.__dict__
    for held in parts.values():
        keywords: dict[str, Any] = getattr(held, "keywords", {})
        if "options" in keywords:
            client = getattr(held.func, "__self__", None)
            keywords["options"].update(_abandonable_timeout(keywords["options"], client, is_abandoned))
    return manager.__enter__  # type: ignore[no-any-return]


def _takes_keyword(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters
    except (TypeError, ValueError):  # a function in C without a signature
        return False
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _resolve_sdk_stream(source: Any) -> Source | None:
    """Return the source for a stream that the SDK opened or is about to open; `None` for any other object."""
    # A manager of another class belongs to something that follows the reply, such as a thread of messages.
    manager = None if type(source) in (*_MANAGERS, *_ASYNC_MANAGERS) else source
    if isinstance(source, _MANAGERS):
        return Source(partial(_enter, source), is_async=False, max_retries=None, manager=manager)
    if isinstance(source, _ASYNC_MANAGERS):
        return Source(lambda _: source.__aenter__, is_async=True, max_retries=None, manager=manager)
    if isinstance(source, type) or not (hasattr(source, "close") or hasattr(source, "aclose")):
        return None
    is_async = hasattr(source, "__anext__")
    if not is_async and not hasattr(source, "__next__"):
        return None
    response = getattr(source, "response", None)
    begun = getattr(response, "is_closed", False) or getattr(response, "is_stream_consumed", False)
    if begun and not is_buffered(response):
        raise RuntimeError("this SDK stream was already read or closed: pass it to streamkit before reading from it")

    async def take_over() -> Any:
        return source

    return Source(
        lambda _: take_over if is_async else lambda: source,
        is_async=is_async,
        max_retries=None,
        sends=False,
        # Helper streams first: old SDKs warn when one is tested for being a raw stream.
        read_by_events=isinstance(source, HELPER_STREAMS)
        or not isinstance(source, (anthropic.Stream, anthropic.AsyncStream)),
    )


def _not_a_source_message(source: Any) -> str:
    if inspect.iscoroutine(source):
        return f"expected {_EXPECTED_SOURCES}, got a coroutine: await the call that made it"
    if isinstance(source, type):
        return (
            f"expected {_EXPECTED_SOURCES}, got the class {source.__name__}: create an object, {source.__name__}(...)"
        )
    name = "None" if source is None else type(source).__name__
    return f"expected {_EXPECTED_SOURCES}, got {name}"
