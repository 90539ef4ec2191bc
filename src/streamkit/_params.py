"""The types of the arguments: sources, options, and the SDK's own request parameters."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Generic, Literal, Protocol, TypeAlias, Union

import anthropic
from anthropic.lib import streaming as sdk
from anthropic.resources.messages import AsyncMessages, Messages
from anthropic.types import ModelParam, RawMessageStreamEvent
from anthropic.types.beta import BetaMessageParam, BetaRawMessageStreamEvent
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaCreateParams
from anthropic.types.message_create_params import MessageCreateParamsBase as CreateParams
from typing_extensions import TypedDict

from ._result import OutputT
from ._sinks.base import SinkOrFactory


class SyncClient(Protocol):
    """A sync client of the SDK."""

    @property
    def messages(self) -> Messages: ...


class AsyncClient(Protocol):
    """An async client of the SDK."""

    @property
    def messages(self) -> AsyncMessages: ...


# Protocols with `create`, because Bedrock and Vertex have classes of their own for `client.beta.messages`.
class BetaResource(Protocol):
    """`client.beta.messages` of a sync client."""

    def create(
        self, *, max_tokens: int, messages: Iterable[BetaMessageParam], model: ModelParam, stream: Literal[True]
    ) -> anthropic.Stream[BetaRawMessageStreamEvent]: ...


class AsyncBetaResource(Protocol):
    """`client.beta.messages` of an async client."""

    def create(
        self, *, max_tokens: int, messages: Iterable[BetaMessageParam], model: ModelParam, stream: Literal[True]
    ) -> Coroutine[Any, Any, anthropic.AsyncStream[BetaRawMessageStreamEvent]]: ...


# Protocols and classes: pyright does not take the `messages` of the Foundry clients for a property.
SyncSource: TypeAlias = anthropic.Anthropic | SyncClient | Messages
AsyncSource: TypeAlias = anthropic.AsyncAnthropic | AsyncClient | AsyncMessages
# Helper streams with any `output_format`: the SDK offers no way to tell which one a stream has.
SyncSDKStream: TypeAlias = Union[
    "anthropic.Stream[RawMessageStreamEvent]", sdk.MessageStream[Any], sdk.MessageStreamManager[Any]
]
AsyncSDKStream: TypeAlias = Union[
    "anthropic.AsyncStream[RawMessageStreamEvent]", sdk.AsyncMessageStream[Any], sdk.AsyncMessageStreamManager[Any]
]
SyncBetaSDKStream: TypeAlias = Union[
    "anthropic.Stream[BetaRawMessageStreamEvent]", sdk.BetaMessageStream[Any], sdk.BetaMessageStreamManager[Any]
]
AsyncBetaSDKStream: TypeAlias = Union[
    "anthropic.AsyncStream[BetaRawMessageStreamEvent]",
    sdk.BetaAsyncMessageStream[Any],
    sdk.BetaAsyncMessageStreamManager[Any],
]


class StreamOptions(TypedDict, total=False):
    """The options of all four functions."""

    sinks: SinkOrFactory | Iterable[SinkOrFactory] | None
    """The receivers of the text while it arrives: a sink, a function, or several of them.

    A class, or another function that needs no argument, makes a sink for each stream; any other function is called with
    each piece of text.
    """
    idle_timeout: float | None
    """Seconds without content after which the stream ends with `StreamTimeoutError`. Off by default."""
    total_timeout: float | None
    """Seconds, counted from `open`, after which the stream ends with `StreamTimeoutError`. Off by default."""
    separator: str
    """The text between two text blocks with a block of another kind between them. A blank line by default."""


class RequestStreamOptions(StreamOptions, total=False):
    """The options of a stream that streamkit opens itself."""

    retries: int | None
    """How many times a stream that fails before its first content is retried; by default the client's `max_retries`."""


class SDKOptions(TypedDict, total=False):
    """The SDK's parameters that are not part of the request's body."""

    extra_headers: Mapping[str, str | anthropic.Omit] | None
    extra_query: Mapping[str, object] | None
    extra_body: object | None
    timeout: float | anthropic.Timeout | anthropic.NotGiven | None
    """Seconds; the SDK's own timeout, which ends the wait for a silent server."""


class MessageParams(CreateParams, SDKOptions, total=False):
    """The keyword parameters of a stable request, except `output_format`."""


class BetaMessageParams(BetaCreateParams, SDKOptions, total=False):
    """The keyword parameters of a beta request, except `output_format`."""


class StreamParams(MessageParams, RequestStreamOptions, Generic[OutputT], total=False):
    """The parameters and options of a stable request."""

    output_format: type[OutputT] | anthropic.Omit | None
    """The type of `StreamResult.parsed_output`: a pydantic model, a dataclass, a `TypedDict`, ..."""


class BetaStreamParams(BetaMessageParams, RequestStreamOptions, Generic[OutputT], total=False):
    """The parameters and options of a beta request."""

    # Before 1.0 the SDK's own parameters have an `output_format`, too.
    output_format: type[OutputT] | anthropic.Omit | None  # type: ignore[misc, unused-ignore]  # pyright: ignore[reportIncompatibleVariableOverride]
    """The type of `StreamResult.parsed_output`: a pydantic model, a dataclass, a `TypedDict`, ..."""
