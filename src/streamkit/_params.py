"""The types of what is handed in: the options, and the SDK's own request parameters."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Generic, Literal, Protocol, TypeAlias, Union

import anthropic
from anthropic.lib.streaming import (
    AsyncMessageStream,
    AsyncMessageStreamManager,
    BetaAsyncMessageStream,
    BetaAsyncMessageStreamManager,
    BetaMessageStream,
    BetaMessageStreamManager,
    MessageStream,
    MessageStreamManager,
)
from anthropic.resources.messages import AsyncMessages, Messages
from anthropic.types import ModelParam, RawMessageStreamEvent
from anthropic.types.beta import BetaMessageParam, BetaRawMessageStreamEvent
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaCreateParams
from anthropic.types.message_create_params import MessageCreateParamsBase as CreateParams
from typing_extensions import TypedDict, TypeVar

from .sinks import SinkOrFactory

OutputT = TypeVar("OutputT", default=None)


class HasMessages(Protocol):
    """A sync client of the SDK."""

    @property
    def messages(self) -> Messages: ...


class HasAsyncMessages(Protocol):
    """An async client of the SDK."""

    @property
    def messages(self) -> AsyncMessages: ...


# By their `create`, as Bedrock and Vertex have classes of their own for `client.beta.messages`.
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


# The classes too: the `messages` of the Foundry clients is a kind of property that pyright takes for no property.
SyncSource: TypeAlias = anthropic.Anthropic | HasMessages | Messages
AsyncSource: TypeAlias = anthropic.AsyncAnthropic | HasAsyncMessages | AsyncMessages
# Helper streams with any `output_format`: the SDK keeps to itself which one it was.
SyncOpened: TypeAlias = Union["anthropic.Stream[RawMessageStreamEvent]", MessageStream[Any], MessageStreamManager[Any]]
AsyncOpened: TypeAlias = Union[
    "anthropic.AsyncStream[RawMessageStreamEvent]", AsyncMessageStream[Any], AsyncMessageStreamManager[Any]
]
SyncBetaOpened: TypeAlias = Union[
    "anthropic.Stream[BetaRawMessageStreamEvent]", BetaMessageStream[Any], BetaMessageStreamManager[Any]
]
AsyncBetaOpened: TypeAlias = Union[
    "anthropic.AsyncStream[BetaRawMessageStreamEvent]", BetaAsyncMessageStream[Any], BetaAsyncMessageStreamManager[Any]
]


class StreamOptions(TypedDict, total=False):
    """The options that each of the four functions takes."""

    sinks: SinkOrFactory | Iterable[SinkOrFactory] | None
    """Where the text goes while it arrives: a sink, a function that makes one, or several of either."""
    idle_timeout: float | None
    """Seconds without content after which the stream ends with `StreamTimeoutError`. Off by default."""
    total_timeout: float | None
    """Seconds, counted from `open`, after which the stream ends with `StreamTimeoutError`. Off by default."""
    separator: str
    """What stands between two texts that had a block of another kind between them. A blank line by default."""


class OpenOptions(StreamOptions, total=False):
    """The options of a stream that streamkit opens itself."""

    retries: int | None
    """How often a stream that fails before its first content is opened again; by default the client's `max_retries`."""


class SDKOptions(TypedDict, total=False):
    """What the SDK takes beside the request's body."""

    extra_headers: Mapping[str, str | anthropic.Omit] | None
    extra_query: Mapping[str, object] | None
    extra_body: object | None
    timeout: float | anthropic.Timeout | anthropic.NotGiven | None
    """Seconds; the SDK's own timeout, which ends a silent line."""


class MessageParams(CreateParams, SDKOptions, total=False):
    """Everything that a stable request takes as keywords, but `output_format`."""


class BetaMessageParams(BetaCreateParams, SDKOptions, total=False):
    """Everything that a beta request takes as keywords, but `output_format`."""


class StreamParams(MessageParams, OpenOptions, Generic[OutputT], total=False):
    """A stable request, and how it is streamed."""

    output_format: type[OutputT] | anthropic.Omit | None
    """The type of `StreamResult.parsed_output`: a pydantic model, a dataclass, a `TypedDict`, ..."""


class BetaStreamParams(BetaMessageParams, OpenOptions, Generic[OutputT], total=False):
    """A beta request, and how it is streamed."""

    # Before 1.0 the SDK's own parameters have one of that name.
    output_format: type[OutputT] | anthropic.Omit | None  # type: ignore[misc, unused-ignore]  # pyright: ignore[reportIncompatibleVariableOverride]
    """The type of `StreamResult.parsed_output`: a pydantic model, a dataclass, a `TypedDict`, ..."""
