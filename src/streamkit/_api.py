"""The four public functions: they turn a source and its options into a stream."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
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
    AsyncSDKStream,
    AsyncSource,
    BetaResource,
    BetaStreamParams,
    RequestStreamOptions,
    StreamOptions,
    StreamParams,
    SyncBetaSDKStream,
    SyncSDKStream,
    SyncSource,
)
from ._result import OutputT, StreamResult
from ._sdk.sources import Source, resolve, resolve_create_call

RaiseOrReturn: TypeAlias = Literal["raise", "return"]
AnyMessage: TypeAlias = Message | BetaMessage
CreateT = TypeVar("CreateT", bound=Callable[..., AnyMessage | Awaitable[AnyMessage]])
_OPTIONS = Options.__slots__


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
def stream_text(source: Any, **params: Any) -> Any:
    """Stream the text of a reply, as it arrives.

    `source` is a client or messages resource of the SDK, with the request's parameters as keywords, or a stream that
    the SDK opened, with none. Nothing is sent before the stream is opened, entered or iterated. See `StreamOptions`
    for the options.

    Raises `TypeError` for an object that is not a source, and `TypeError` or `ValueError` for a wrong option.
    """
    resolved, options = _split_options(source, params)
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
def stream_events(source: Any, **params: Any) -> Any:
    """Stream the SDK's own raw event objects, with the same result, sinks and guarantees as `stream_text`.

    Takes and raises what `stream_text` does.
    """
    resolved, options = _split_options(source, params)
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
def collect(source: Any, *, on_error: Any = "raise", on_interrupt: Any = None, **params: Any) -> Any:
    """Read a reply to its end, into the sinks, and return its `StreamResult`; for an async source, a coroutine of it.

    With `on_error="return"` every `anthropic.APIError`, also of a request that was refused or never got through, and
    for sync sources with `on_interrupt="return"` a `KeyboardInterrupt`, gives back the result so far instead of being
    raised; its `error` is that exception. Takes and raises what `stream_text` does, and `StreamError` for a stream
    that ends early.
    """
    resolved, options = _split_options(source, params)
    for name, choice in (("on_error", on_error), ("on_interrupt", on_interrupt or "raise")):
        if choice not in ("raise", "return"):
            raise ValueError(f'expected "raise" or "return" for {name}=, got {choice!r}')
    if resolved.is_async:
        if on_interrupt is not None:
            raise TypeError("on_interrupt= is for sync sources: async code is interrupted by cancelling its task")
        return _drain_async(AsyncTextStream(resolved, options), on_error)
    return _drain(TextStream(resolved, options), on_error, on_interrupt)


def streamed(create: CreateT, **options: Unpack[RequestStreamOptions]) -> CreateT:
    """Wrap a `messages.create`: same arguments, same `Message` back, streamed underneath.

    `options` are those of `stream_text`, with `retries`. A call with `stream=True` is passed on
    unchanged. The wrapped function raises `StreamError` on anything but a complete reply.

    Raises `TypeError` if `create` is not callable, and for an unknown option.
    """
    if not callable(create):
        raise TypeError(f"expected a function such as client.messages.create, got {create!r}")
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise TypeError(
            f"expected options, got {', '.join(unknown)}: pass the request's parameters to the wrapped function"
        )
    stream_options = Options(**options)
    call_create: Any = create

    if inspect.iscoroutinefunction(inspect.unwrap(create)):

        @functools.wraps(create)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("stream"):
                return await call_create(*args, **kwargs)
            stream: Any = AsyncTextStream(resolve_create_call(create, args, kwargs), stream_options)
            return (await _drain_async(stream, "raise")).message

        return call_async  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    @functools.wraps(create)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("stream"):
            return create(*args, **kwargs)
        stream: Any = TextStream(resolve_create_call(create, args, kwargs), stream_options)
        return _drain(stream, "raise", "raise").message

    return call  # type: ignore[return-value] # pyright: ignore[reportReturnType]


def _split_options(source: Any, params: dict[str, Any]) -> tuple[Source, Options]:
    """Separate the options from the request's parameters, and validate both before a request is sent."""
    given = {name: params.pop(name) for name in _OPTIONS if name in params}
    resolved = resolve(source, params)
    if resolved.max_retries is None and given.get("retries") is not None:
        raise TypeError("retries= needs a source that can be opened again: hand in the client and the parameters")
    return resolved, Options(**given)


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
