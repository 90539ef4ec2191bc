"""The four functions: what was handed in becomes a stream."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeAlias, TypeVar, overload

import anthropic
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from typing_extensions import Unpack

from ._io.async_stream import AsyncBaseStream, AsyncEventStream, AsyncTextStream
from ._io.sync_stream import EventStream, SyncStream, TextStream
from ._options import Options
from ._params import (
    AsyncBetaOpened,
    AsyncBetaResource,
    AsyncOpened,
    AsyncSource,
    BetaResource,
    BetaStreamParams,
    OpenOptions,
    OutputT,
    StreamOptions,
    StreamParams,
    SyncBetaOpened,
    SyncOpened,
    SyncSource,
)
from ._result import StreamResult
from ._sdk.sources import Source, resolve, resolve_call

Choice: TypeAlias = Literal["raise", "return"]
Created: TypeAlias = Message | BetaMessage
CreateT = TypeVar("CreateT", bound=Callable[..., Created | Awaitable[Created]])
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
def stream_text(source: SyncOpened, **options: Unpack[StreamOptions]) -> TextStream[Message]: ...
@overload
def stream_text(source: AsyncOpened, **options: Unpack[StreamOptions]) -> AsyncTextStream[Message]: ...
@overload
def stream_text(source: SyncBetaOpened, **options: Unpack[StreamOptions]) -> TextStream[BetaMessage]: ...
@overload
def stream_text(source: AsyncBetaOpened, **options: Unpack[StreamOptions]) -> AsyncTextStream[BetaMessage]: ...
def stream_text(source: Any, **params: Any) -> Any:
    """The text of a reply, as it arrives.

    `source` is a client or messages resource of the SDK, with the request's parameters as keywords, or a stream that
    the SDK opened, with none. Nothing is sent before the stream is opened, entered or iterated. See `StreamOptions`
    for the options.

    Raises `TypeError` for a source that is none, and `TypeError` or `ValueError` for a wrong option.
    """
    found, options = _understand(source, params)
    return AsyncTextStream(found, options) if found.is_async else TextStream(found, options)


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
    source: SyncOpened, **options: Unpack[StreamOptions]
) -> EventStream[RawMessageStreamEvent, Message]: ...
@overload
def stream_events(
    source: AsyncOpened, **options: Unpack[StreamOptions]
) -> AsyncEventStream[RawMessageStreamEvent, Message]: ...
@overload
def stream_events(
    source: SyncBetaOpened, **options: Unpack[StreamOptions]
) -> EventStream[BetaRawMessageStreamEvent, BetaMessage]: ...
@overload
def stream_events(
    source: AsyncBetaOpened, **options: Unpack[StreamOptions]
) -> AsyncEventStream[BetaRawMessageStreamEvent, BetaMessage]: ...
def stream_events(source: Any, **params: Any) -> Any:
    """The SDK's own raw event objects, as they arrive; with the same result, sinks and guarantees as `stream_text`.

    Takes and raises what `stream_text` does.
    """
    found, options = _understand(source, params)
    return AsyncEventStream(found, options) if found.is_async else EventStream(found, options)


@overload
def collect(
    source: SyncSource,
    *,
    on_error: Choice = ...,
    on_interrupt: Choice = ...,
    **params: Unpack[StreamParams[OutputT]],
) -> StreamResult[Message, OutputT]: ...
@overload
def collect(
    source: AsyncSource,
    *,
    on_error: Choice = ...,
    **params: Unpack[StreamParams[OutputT]],
) -> Coroutine[Any, Any, StreamResult[Message, OutputT]]: ...
@overload
def collect(
    source: BetaResource,
    *,
    on_error: Choice = ...,
    on_interrupt: Choice = ...,
    **params: Unpack[BetaStreamParams[OutputT]],
) -> StreamResult[BetaMessage, OutputT]: ...
@overload
def collect(
    source: AsyncBetaResource,
    *,
    on_error: Choice = ...,
    **params: Unpack[BetaStreamParams[OutputT]],
) -> Coroutine[Any, Any, StreamResult[BetaMessage, OutputT]]: ...
@overload
def collect(
    source: SyncOpened, *, on_error: Choice = ..., on_interrupt: Choice = ..., **options: Unpack[StreamOptions]
) -> StreamResult[Message]: ...
@overload
def collect(
    source: AsyncOpened, *, on_error: Choice = ..., **options: Unpack[StreamOptions]
) -> Coroutine[Any, Any, StreamResult[Message]]: ...
@overload
def collect(
    source: SyncBetaOpened, *, on_error: Choice = ..., on_interrupt: Choice = ..., **options: Unpack[StreamOptions]
) -> StreamResult[BetaMessage]: ...
@overload
def collect(
    source: AsyncBetaOpened, *, on_error: Choice = ..., **options: Unpack[StreamOptions]
) -> Coroutine[Any, Any, StreamResult[BetaMessage]]: ...
def collect(source: Any, *, on_error: Any = "raise", on_interrupt: Any = None, **params: Any) -> Any:
    """Read a reply to its end, into the sinks, and return its `StreamResult`; for an async source, a coroutine of it.

    With `on_error="return"` every `anthropic.APIError`, also of a request that was refused or never got through, and
    for sync sources with `on_interrupt="return"` a `KeyboardInterrupt`, gives back the result so far in place of being
    raised; its `error` says what ended it. Takes and raises what `stream_text` does, and `StreamError` for a stream
    that ends early.
    """
    found, options = _understand(source, params)
    for name, choice in (("on_error", on_error), ("on_interrupt", on_interrupt or "raise")):
        if choice not in ("raise", "return"):
            raise ValueError(f'{name}= takes "raise" or "return", not {choice!r}')
    if found.is_async:
        if on_interrupt is not None:
            raise TypeError("on_interrupt= is for sync sources: async code is interrupted by cancelling its task")
        return _drain_async(AsyncTextStream(found, options), on_error)
    return _drain(TextStream(found, options), on_error, on_interrupt)


def streamed(create: CreateT, **options: Unpack[OpenOptions]) -> CreateT:
    """Wrap a `messages.create`: same arguments, same `Message` back, streamed underneath.

    `options` are those of `stream_text`, with `retries`. A call that passes `stream=True` itself is handed on
    untouched. The wrapped function raises `StreamError` on anything but a complete reply.

    Raises `TypeError` for what is not callable or an unknown option.
    """
    if not callable(create):
        raise TypeError(f"streamed() wraps a function, client.messages.create, not {create!r}")
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise TypeError(f"{', '.join(unknown)}: no option of streamed(); the request's parameters go to the call")
    checked = Options(**options)
    call_create: Any = create

    if inspect.iscoroutinefunction(inspect.unwrap(create)):

        @functools.wraps(create)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("stream"):
                return await call_create(*args, **kwargs)
            return (await _drain_async(AsyncTextStream(resolve_call(create, args, kwargs), checked), "raise")).message

        return call_async  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    @functools.wraps(create)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("stream"):
            return create(*args, **kwargs)
        return _drain(TextStream(resolve_call(create, args, kwargs), checked), "raise", "raise").message

    return call  # type: ignore[return-value] # pyright: ignore[reportReturnType]


def _understand(source: Any, params: dict[str, Any]) -> tuple[Source, Options]:
    """Tell the options from the request's parameters, and check both as far as that goes before a request."""
    given = {name: params.pop(name) for name in _OPTIONS if name in params}
    found = resolve(source, params)
    if found.retries is None and given.get("retries") is not None:
        raise TypeError("retries= needs a source that can be opened again: hand in the client and the parameters")
    return found, Options(**given)


def _drain(stream: SyncStream[Any, Any, Any], on_error: Choice, on_interrupt: Choice | None) -> StreamResult[Any, Any]:
    try:
        with stream:
            return stream.until_done()
    except anthropic.APIError as error:
        if on_error == "raise":
            raise
        return stream._in_place_of(error)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one package
    except KeyboardInterrupt as error:
        stream.close()  # the interrupt may have come where `with` does not reach
        if on_interrupt == "return":
            return stream._in_place_of(error)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        raise


async def _drain_async(stream: AsyncBaseStream[Any, Any, Any], on_error: Choice) -> StreamResult[Any, Any]:
    try:
        async with stream:
            return await stream.until_done()
    except anthropic.APIError as error:
        if on_error == "raise":
            raise
        return stream._in_place_of(error)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one package
