"""What the four functions take as a source, and how each kind is opened."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import anthropic
from anthropic.lib import streaming as sdk

from .abandonable_timeout import AbandonableTimeout
from .response import HELPER_STREAMS, is_buffered

_MANAGERS = (sdk.MessageStreamManager, sdk.BetaMessageStreamManager)
_ASYNC_MANAGERS = (sdk.AsyncMessageStreamManager, sdk.BetaAsyncMessageStreamManager)
_RAW_STREAMS = (anthropic.Stream, anthropic.AsyncStream)
_TAKES = (
    "a client (Anthropic(), AsyncAnthropic(), ...), a messages resource (client.messages, client.beta.messages) "
    "or an opened SDK stream"
)

IsAbandoned: TypeAlias = Callable[[], bool]
_RAW_HEADER = "x-stainless-raw-response"  # by which the SDK asks itself for an unparsed response
_RAW_RESPONSE = (
    "with_raw_response and with_streaming_response are no sources: hand in the client or client.messages; "
    "the response's headers give stream.request_id"
)


class Source:
    """A validated source: how to open it, and which operations it allows.

    `prepare` gives the function that opens the stream: it returns the SDK's stream, or an awaitable of it when
    `is_async`. It takes a function that says whether the request is abandoned, so that no further attempt is made;
    `None` where the task that opens the stream is cancelled instead. `sends` says whether opening sends a request.
    `retries` is how often the stream may be reopened by default, `None` where it cannot be reopened. `lives_on` says
    that the SDK's object has a state of its own, which only its own iterator keeps up; `manager` is left at the end.
    """

    __slots__ = ("is_async", "lives_on", "manager", "output_format", "prepare", "retries", "sends")

    def __init__(
        self,
        prepare: Callable[[IsAbandoned | None], Callable[[], Any]],
        *,
        is_async: bool,
        retries: int | None,
        sends: bool = True,
        output_format: Any = None,
        lives_on: bool = False,
        manager: Any = None,
    ) -> None:
        self.prepare: Callable[[IsAbandoned | None], Callable[[], Any]] = prepare
        self.is_async: bool = is_async
        self.retries: int | None = retries
        self.sends: bool = sends
        self.output_format: Any = output_format
        self.lives_on: bool = lives_on or manager is not None
        self.manager: Any = manager


def resolve(source: Any, params: Mapping[str, Any]) -> Source:
    """Understand what was handed in. Sends nothing; raises `TypeError` for what is no source."""
    opened = _opened(source)
    if opened is not None:
        if params:
            names = ", ".join(sorted(params))
            raise TypeError(f"{names}: an opened stream takes no request parameters, they went out when it was opened")
        return opened
    resource, retries = source, anthropic.DEFAULT_MAX_RETRIES
    if not hasattr(source, "create") and hasattr(source, "messages"):
        resource, retries = source.messages, getattr(source, "max_retries", retries)
    if not callable(getattr(resource, "create", None)) or isinstance(source, type):
        raise TypeError(_no_source(source))
    if not hasattr(resource, "with_raw_response"):
        raise TypeError(_RAW_RESPONSE)
    if "stream" in params:
        raise TypeError("stream= is not needed: the request is always streamed")
    output_format = _given(params, "output_format", None)
    is_async = inspect.iscoroutinefunction(inspect.unwrap(resource.create))
    prepare = _request(resource, params, output_format, is_async=is_async)
    return Source(prepare, is_async=is_async, retries=retries, output_format=output_format)


def resolve_call(create: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Source:
    """A source for a call of `messages.create` that somebody else wrote."""
    if not hasattr(create, "__self__") and _module(create).startswith("anthropic."):
        raise TypeError(_RAW_RESPONSE)  # a function of the SDK around its method: the response comes back unparsed
    if any(name.lower() == _RAW_HEADER for name in kwargs.get("extra_headers") or ()):
        raise TypeError(_RAW_RESPONSE)  # such a function around ours, which was put in the place of `create`
    is_async = inspect.iscoroutinefunction(inspect.unwrap(create))

    bound = inspect.unwrap(create, stop=lambda function: hasattr(function, "__self__"))
    resource = getattr(bound, "__self__", None)

    def prepare(is_abandoned: IsAbandoned | None) -> Callable[[], Any]:
        timeout = _abandonable(kwargs, resource, is_abandoned) if _takes(create, "timeout") else {}
        return partial(create, *args, **{**kwargs, "stream": True, **timeout})

    return Source(prepare, is_async=is_async, retries=anthropic.DEFAULT_MAX_RETRIES)


def _request(
    resource: Any, params: Mapping[str, Any], output_format: Any, *, is_async: bool
) -> Callable[[IsAbandoned | None], Callable[[], Any]]:
    enter = "__aenter__" if is_async else "__enter__"

    def prepare(is_abandoned: IsAbandoned | None) -> Callable[[], Any]:
        given = {**params, **_abandonable(params, resource, is_abandoned)}
        if output_format is not None:  # only `messages.stream()` of the SDK knows it
            return getattr(resource.stream(**given), enter)  # type: ignore[no-any-return]
        given.pop("output_format", None)
        return partial(resource.create, **given, stream=True)

    return prepare


def _given(params: Mapping[str, Any], name: str, default: Any) -> Any:
    """A parameter of the request; the default where it is left out, in whatever way."""
    value = params.get(name, anthropic.NOT_GIVEN)
    return default if isinstance(value, (anthropic.NotGiven, anthropic.Omit)) else value


def _abandonable(params: Mapping[str, Any], resource: Any, is_abandoned: IsAbandoned | None) -> dict[str, Any]:
    """The parameter `timeout` of a request that may be abandoned: the same seconds, see `AbandonableTimeout`.

    Without `timeout` among the parameters the client's own counts. A resource does not offer its client, so it is
    looked for among what the resource holds, by what every client has; a request of one without is not recalled.
    """
    if is_abandoned is None:
        return {}
    timeout: Any = anthropic.NOT_GIVEN
    for held in (resource, *getattr(resource, "__dict__", {}).values()):
        if hasattr(held, "max_retries") and hasattr(held, "timeout"):
            timeout = held.timeout
    timeout = _given(params, "timeout", timeout)
    if not (timeout is None or isinstance(timeout, (float, int, anthropic.Timeout))):
        return {}
    return {"timeout": AbandonableTimeout(timeout, is_abandoned)}


def _enter(manager: Any, is_abandoned: IsAbandoned | None) -> Callable[[], Any]:
    """The function that enters a sync manager made elsewhere; its request can be abandoned like our own.

    The request is looked for among what the manager holds, as a client is among what a resource holds.
    """
    parts: dict[str, Any] = manager.__dict__
    for held in parts.values():
        keywords: dict[str, Any] = getattr(held, "keywords", {})
        if "options" in keywords:
            client = getattr(held.func, "__self__", None)
            keywords["options"].update(_abandonable(keywords["options"], client, is_abandoned))
    return manager.__enter__  # type: ignore[no-any-return]


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function takes a keyword of this name."""
    try:
        taken = inspect.signature(function, follow_wrapped=False).parameters
    except (TypeError, ValueError):  # one in C, without a signature
        return False
    return name in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())


def _opened(source: Any) -> Source | None:
    """A stream that the SDK opened or is about to open; `None` for anything else."""
    # One of a class of its own belongs to something that follows the reply, such as a thread of messages.
    manager = None if type(source) in (*_MANAGERS, *_ASYNC_MANAGERS) else source
    if isinstance(source, _MANAGERS):
        return Source(partial(_enter, source), is_async=False, retries=None, manager=manager)
    if isinstance(source, _ASYNC_MANAGERS):
        return Source(lambda _: source.__aenter__, is_async=True, retries=None, manager=manager)
    if isinstance(source, type) or not (hasattr(source, "close") or hasattr(source, "aclose")):
        return None
    is_async = hasattr(source, "__anext__")
    if not is_async and not hasattr(source, "__next__"):
        return None
    response = getattr(source, "response", None)
    begun = getattr(response, "is_closed", False) or getattr(response, "is_stream_consumed", False)
    if begun and not is_buffered(response):
        raise RuntimeError("this stream was read or closed already: hand it over before reading from it")

    async def take_over() -> Any:
        return source

    return Source(
        lambda _: take_over if is_async else lambda: source,
        is_async=is_async,
        retries=None,
        sends=False,
        # The helpers are tested for first: old SDKs warn when one is tested for being a raw stream.
        lives_on=isinstance(source, HELPER_STREAMS)
        or not isinstance(source, (anthropic.Stream, anthropic.AsyncStream)),
    )


def _module(function: Any) -> str:
    """The module that a function was written in, also where it poses as the one that it wraps."""
    return str(getattr(function, "__globals__", {}).get("__name__", ""))


def _no_source(source: Any) -> str:
    if inspect.iscoroutine(source):
        return f"a coroutine is no source: await the call that made it, or hand in {_TAKES}"
    if isinstance(source, type):
        return f"{source.__name__} is a class: hand in an object, {source.__name__}(...)"
    return f"{type(source).__name__} is no source: hand in {_TAKES}"
