"""The four public functions: they turn a source and its options into a stream."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Literal, TypeAlias, TypeVar, overload

import anthropic
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from typing_extensions import Unpack

from ._io.async_stream import AsyncEventStream, AsyncStreamBase, AsyncTextStream
from ._io.sync_stream import EventStream, SyncStreamBase, TextStream
from ._options import Options
from ._params import (
    AsyncBetaResource,
    AsyncBetaSDKStream,
    AsyncClient,
    AsyncSDKStream,
    AsyncSource,
    BetaResource,
    BetaStreamParams,
    StreamOptions,
    StreamParams,
    SyncBetaSDKStream,
    SyncClient,
    SyncSDKStream,
    SyncSource,
)
from ._result import OutputT, StreamResult
from ._sdk.models import with_response_ids
from ._sdk.parameters import warn_of_deprecated_model
from ._sdk.sources import Source, check_create, resolve, resolve_create_call
from .sinks import SinkOrFactory

RaiseOrReturn: TypeAlias = Literal["raise", "return"]
AnyMessage: TypeAlias = Message | BetaMessage
WrappedT = TypeVar("WrappedT", bound=Callable[..., AnyMessage | Awaitable[AnyMessage]] | SyncClient | AsyncClient)
_OPTIONS = tuple(Options.__dataclass_fields__)
Sinks: TypeAlias = SinkOrFactory | Iterable[SinkOrFactory] | None


@overload
def stream_text(source: SyncSource, **params: Unpack[StreamParams[OutputT]]) -> TextStream[Message, OutputT]: ...
@overload
def stream_text(source: AsyncSource, **params: Unpack[StreamParams[OutputT]]) -> AsyncTextStream[Message, OutputT]: ...
@overload
def stream_text(
    source: BetaResource, **params: Unpack[BetaStreamParams[OutputT]]
) -> TextStream[BetaMessage, OutputT]: ...
@overload
def stream_text(
    source: AsyncBetaResource, **params: Unpack[BetaStreamParams[OutputT]]
) -> AsyncTextStream[BetaMessage, OutputT]: ...
@overload
def stream_text(source: SyncSDKStream, **options: Unpack[StreamOptions]) -> TextStream[Message]: ...
@overload
def stream_text(source: AsyncSDKStream, **options: Unpack[StreamOptions]) -> AsyncTextStream[Message]: ...
@overload
def stream_text(source: SyncBetaSDKStream, **options: Unpack[StreamOptions]) -> TextStream[BetaMessage]: ...
@overload
def stream_text(source: AsyncBetaSDKStream, **options: Unpack[StreamOptions]) -> AsyncTextStream[BetaMessage]: ...
def stream_text(
    source: Any,
    *,
    sinks: Sinks = None,
    idle_timeout: float | None = None,
    total_timeout: float | None = None,
    retries: int | None = None,
    separator: str = "\n\n",
    **params: Any,
) -> TextStream[Any, Any] | AsyncTextStream[Any, Any]:
    """Stream the text of a reply, as it arrives: returns a `TextStream`, or an `AsyncTextStream` for an async source.

    `source` is a client or messages resource of the SDK, with the request's parameters as keywords (`model`,
    `max_tokens`, `messages`, `tools`, `output_format`, ...), or a stream that the SDK opened, without parameters.
    Nothing is sent before the stream is opened, entered or iterated.

    - `sinks`: the receivers of the text while it arrives: a sink, a function of one argument that is called with each
      piece of text (`print`), a class or function that makes a sink, or several of these.
    - `idle_timeout`: seconds without content after which the stream ends with `StreamTimeoutError`. Off by default.
    - `total_timeout`: seconds, counted from `open`, after which the stream ends so. Off by default.
    - `retries`: how many times a stream that fails before its first content is retried; the client's `max_retries` by
      default, 2 for a resource, and 0 for a stream that the SDK opened.
    - `separator`: the text between two text blocks with a block of another kind between them. A blank line by default.

    Raises `TypeError` for an object that is not a source and for an unknown keyword, and `TypeError` or `ValueError`
    for a wrong option, before anything is sent.
    """
    options = Options(sinks, retries, idle_timeout, total_timeout, separator)
    resolved = _resolve(source, params, options)
    return AsyncTextStream(resolved, options) if resolved.is_async else TextStream(resolved, options)


@overload
def stream_events(
    source: SyncSource, **params: Unpack[StreamParams[OutputT]]
) -> EventStream[RawMessageStreamEvent, Message, OutputT]: ...
@overload
def stream_events(
    source: AsyncSource, **params: Unpack[StreamParams[OutputT]]
) -> AsyncEventStream[RawMessageStreamEvent, Message, OutputT]: ...
@overload
def stream_events(
    source: BetaResource, **params: Unpack[BetaStreamParams[OutputT]]
) -> EventStream[BetaRawMessageStreamEvent, BetaMessage, OutputT]: ...
@overload
def stream_events(
    source: AsyncBetaResource, **params: Unpack[BetaStreamParams[OutputT]]
) -> AsyncEventStream[BetaRawMessageStreamEvent, BetaMessage, OutputT]: ...
@overload
def stream_events(
    source: SyncSDKStream, **options: Unpack[StreamOptions]
) -> EventStream[RawMessageStreamEvent, Message]: ...
@overload
def stream_events(
    source: AsyncSDKStream, **options: Unpack[StreamOptions]
) -> AsyncEventStream[RawMessageStreamEvent, Message]: ...
@overload
def stream_events(
    source: SyncBetaSDKStream, **options: Unpack[StreamOptions]
) -> EventStream[BetaRawMessageStreamEvent, BetaMessage]: ...
@overload
def stream_events(
    source: AsyncBetaSDKStream, **options: Unpack[StreamOptions]
) -> AsyncEventStream[BetaRawMessageStreamEvent, BetaMessage]: ...
def stream_events(
    source: Any,
    *,
    sinks: Sinks = None,
    idle_timeout: float | None = None,
    total_timeout: float | None = None,
    retries: int | None = None,
    separator: str = "\n\n",
    **params: Any,
) -> EventStream[Any, Any, Any] | AsyncEventStream[Any, Any, Any]:
    """Stream the SDK's own raw event objects, with the same result, sinks and guarantees as `stream_text`.

    The parameters, options and exceptions are those of `stream_text`. Returns an `EventStream`, or an
    `AsyncEventStream` for an async source.
    """
    options = Options(sinks, retries, idle_timeout, total_timeout, separator)
    resolved = _resolve(source, params, options)
    return AsyncEventStream(resolved, options) if resolved.is_async else EventStream(resolved, options)


@overload
def collect(
    source: SyncSource,
    *,
    on_error: RaiseOrReturn = ...,
    on_interrupt: RaiseOrReturn = ...,
    **params: Unpack[StreamParams[OutputT]],
) -> StreamResult[Message, OutputT]: ...
@overload
def collect(
    source: AsyncSource,
    *,
    on_error: RaiseOrReturn = ...,
    **params: Unpack[StreamParams[OutputT]],
) -> Coroutine[Any, Any, StreamResult[Message, OutputT]]: ...
@overload
def collect(
    source: BetaResource,
    *,
    on_error: RaiseOrReturn = ...,
    on_interrupt: RaiseOrReturn = ...,
    **params: Unpack[BetaStreamParams[OutputT]],
) -> StreamResult[BetaMessage, OutputT]: ...
@overload
def collect(
    source: AsyncBetaResource,
    *,
    on_error: RaiseOrReturn = ...,
    **params: Unpack[BetaStreamParams[OutputT]],
) -> Coroutine[Any, Any, StreamResult[BetaMessage, OutputT]]: ...
@overload
def collect(
    source: SyncSDKStream,
    *,
    on_error: RaiseOrReturn = ...,
    on_interrupt: RaiseOrReturn = ...,
    **options: Unpack[StreamOptions],
) -> StreamResult[Message]: ...
@overload
def collect(
    source: AsyncSDKStream, *, on_error: RaiseOrReturn = ..., **options: Unpack[StreamOptions]
) -> Coroutine[Any, Any, StreamResult[Message]]: ...
@overload
def collect(
    source: SyncBetaSDKStream,
    *,
    on_error: RaiseOrReturn = ...,
    on_interrupt: RaiseOrReturn = ...,
    **options: Unpack[StreamOptions],
) -> StreamResult[BetaMessage]: ...
@overload
def collect(
    source: AsyncBetaSDKStream, *, on_error: RaiseOrReturn = ..., **options: Unpack[StreamOptions]
) -> Coroutine[Any, Any, StreamResult[BetaMessage]]: ...
def collect(
    source: Any,
    *,
    on_error: RaiseOrReturn = "raise",
    on_interrupt: RaiseOrReturn | None = None,
    sinks: Sinks = None,
    idle_timeout: float | None = None,
    total_timeout: float | None = None,
    retries: int | None = None,
    separator: str = "\n\n",
    **params: Any,
) -> StreamResult[Any, Any] | Coroutine[Any, Any, StreamResult[Any, Any]]:
    """Read a reply to its end, into the sinks, and return its `StreamResult`; for an async source, a coroutine of it.

    With `on_error="return"` every `anthropic.APIError`, also of a request that was refused or never got through, and
    for sync sources with `on_interrupt="return"` a `KeyboardInterrupt`, gives back the result so far instead of being
    raised; its `error` is that exception. Takes and raises what `stream_text` does, and `StreamError` for a stream
    that ends early.
    """
    options = Options(sinks, retries, idle_timeout, total_timeout, separator)
    resolved = _resolve(source, params, options)
    for name, choice in (("on_error", on_error), ("on_interrupt", on_interrupt or "raise")):
        if choice not in ("raise", "return"):
            raise ValueError(f'expected "raise" or "return" for {name}=, got {choice!r}')
    if resolved.is_async:
        if on_interrupt is not None:
            raise TypeError("on_interrupt= is for sync sources: async code is interrupted by cancelling its task")
        coroutine: Any = _drain_async(AsyncTextStream(resolved, options), on_error)
        coroutine.__qualname__ = "collect"  # which Python names if it is never awaited
        return coroutine  # type: ignore[no-any-return]
    return _drain(TextStream(resolved, options), on_error, on_interrupt)


def streamed(
    create: WrappedT,
    *,
    sinks: Sinks = None,
    idle_timeout: float | None = None,
    total_timeout: float | None = None,
    retries: int | None = None,
    separator: str = "\n\n",
) -> WrappedT:
    """Wrap a `messages.create`, or a whole client: same arguments, same `Message` back, streamed underneath.

    Of a client, this returns a copy of the same type whose `messages.create` and `beta.messages.create` are wrapped;
    copies that `with_options` makes of the copy are not. A call with `stream=True` is passed on unchanged. The options
    are those of `stream_text`. The wrapped function raises `StreamError` on anything but a complete reply.

    Raises `TypeError` for an object that is neither a client nor a function that takes `stream`.
    """
    options = Options(sinks, retries, idle_timeout, total_timeout, separator)
    wrapped: Any = create
    if hasattr(wrapped, "with_options") and hasattr(wrapped, "messages"):
        client = wrapped.with_options()
        for resource in (client.messages, client.beta.messages):
            resource.create = _streamed(resource.create, options)
        return client  # type: ignore[no-any-return]
    check_create(create)
    return _streamed(create, options)  # type: ignore[no-any-return]


def _streamed(create: Any, options: Options) -> Any:
    if inspect.iscoroutinefunction(inspect.unwrap(create)):

        @functools.wraps(create)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("stream"):
                return await create(*args, **kwargs)
            warn_of_deprecated_model(kwargs, stacklevel=2)
            stream: Any = AsyncTextStream(resolve_create_call(create, args, kwargs), options)
            return with_response_ids(await _drain_async(stream, "raise"))

        return call_async

    @functools.wraps(create)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("stream"):
            return create(*args, **kwargs)
        warn_of_deprecated_model(kwargs, stacklevel=2)
        stream: Any = TextStream(resolve_create_call(create, args, kwargs), options)
        return with_response_ids(_drain(stream, "raise", "raise"))

    return call


def _resolve(source: Any, params: dict[str, Any], options: Options) -> Source:
    """Return the validated source, and warn of a deprecated model at the line that called the public function."""
    resolved = resolve(source, params, _OPTIONS)
    if resolved.max_retries is None and options.retries is not None:
        raise TypeError("retries= needs a source that can be opened again: pass the client and the parameters")
    warn_of_deprecated_model(params, stacklevel=3)
    return resolved


def _drain(
    stream: SyncStreamBase[Any, Any, Any], on_error: RaiseOrReturn, on_interrupt: RaiseOrReturn | None
) -> StreamResult[Any, Any]:
    try:
        with stream:
            return stream.until_done()
    except anthropic.APIError as error:
        if on_error == "raise":
            raise
        return stream._result_or_raise(error)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one package
    except KeyboardInterrupt as error:
        stream.close()  # the interrupt may have come outside of the `with` block
        if on_interrupt == "return":
            return stream._result_or_raise(error)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        raise


async def _drain_async(stream: AsyncStreamBase[Any, Any, Any], on_error: RaiseOrReturn) -> StreamResult[Any, Any]:
    try:
        async with stream:
            return await stream.until_done()
    except anthropic.APIError as error:
        if on_error == "raise":
            raise
        return stream._result_or_raise(error)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one package
