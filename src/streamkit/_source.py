"""From what was handed in to something to open and read.

Everything that depends on the SDK's classes is here: what counts as a source, whether it is sync or async, stable or
beta, how it is opened, and whether its reply is read by bytes or by events.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, get_args

import anthropic
import pydantic
from anthropic.lib import streaming as sdk
from anthropic.types import Message, RawMessageStreamEvent, Usage
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent, BetaUsage

from ._message import text_delta
from ._wake import NEVER, TimeLeft, observer_of
from ._wire import EventDecoder, WireError
from .errors import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    StreamTruncatedError,
    dig,
)

_MANAGERS = (sdk.MessageStreamManager, sdk.BetaMessageStreamManager)
_ASYNC_MANAGERS = (sdk.AsyncMessageStreamManager, sdk.BetaAsyncMessageStreamManager)
_BETA_ENTERED = (sdk.BetaMessageStream, sdk.BetaAsyncMessageStream)
_ENTERED = (sdk.MessageStream, sdk.AsyncMessageStream, *_BETA_ENTERED)
# What a helper stream adds to the API's own events.
_DERIVED = frozenset({"text", "citation", "thinking", "signature", "input_json", "compaction"})
_TAKES = (
    "a client (Anthropic(), AsyncAnthropic(), ...), a messages resource (client.messages, client.beta.messages) "
    "or an opened SDK stream"
)

_UNKNOWN = anthropic.NOT_GIVEN  # the timeout of a resource's client: only a client says it
_RAW_HEADER = "x-stainless-raw-response"  # by which the SDK asks itself for an unparsed response
_RAW_RESPONSE = (
    "with_raw_response and with_streaming_response are no sources: hand in the client or client.messages; "
    "the response's headers give stream.request_id"
)


class Source:
    """What was handed in, understood: how to open it, and what may be done with it.

    `prepare` takes the moment at which the total time is over, and gives the function that opens the stream: it returns
    the SDK's stream, or an awaitable of it when `is_async`. `retries` is how often it may be reopened by default,
    `None` for what cannot be reopened. `lives_on` says that the SDK's object has a state of its own, which only its own
    iterator keeps up; `manager` is what has to be left at the end for its sake.
    """

    __slots__ = ("is_async", "lives_on", "manager", "output_format", "prepare", "retries")

    def __init__(
        self,
        prepare: Callable[[float], Callable[[], Any]],
        *,
        is_async: bool,
        retries: int | None,
        output_format: Any = None,
        lives_on: bool = False,
        manager: Any = None,
    ) -> None:
        self.prepare: Callable[[float], Callable[[], Any]] = prepare
        self.is_async: bool = is_async
        self.retries: int | None = retries
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
    prepare = _request(resource, params, output_format, getattr(source, "timeout", _UNKNOWN), is_async=is_async)
    return Source(prepare, is_async=is_async, retries=retries, output_format=output_format)


def resolve_call(create: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Source:
    """A source for a call of `messages.create` that somebody else wrote."""
    if not hasattr(create, "__self__") and _module(create).startswith("anthropic."):
        raise TypeError(_RAW_RESPONSE)  # a function of the SDK around its method: the response comes back unparsed
    if any(name.lower() == _RAW_HEADER for name in kwargs.get("extra_headers") or ()):
        raise TypeError(_RAW_RESPONSE)  # such a function around ours, which was put in the place of `create`
    is_async = inspect.iscoroutinefunction(inspect.unwrap(create))

    def prepare(until: float) -> Callable[[], Any]:
        return partial(create, *args, **{**kwargs, "stream": True, **_in_time(kwargs, _UNKNOWN, until)})

    return Source(prepare, is_async=is_async, retries=anthropic.DEFAULT_MAX_RETRIES)


def _request(
    resource: Any, params: Mapping[str, Any], output_format: Any, timeout: Any, *, is_async: bool
) -> Callable[[float], Callable[[], Any]]:
    enter = "__aenter__" if is_async else "__enter__"

    def prepare(until: float) -> Callable[[], Any]:
        given = {**params, **_in_time(params, timeout, until)}
        if output_format is not None:  # only `messages.stream()` of the SDK knows it
            return getattr(resource.stream(**given), enter)  # type: ignore[no-any-return]
        given.pop("output_format", None)
        return partial(resource.create, **given, stream=True)

    return prepare


def _given(params: Mapping[str, Any], name: str, default: Any) -> Any:
    """A parameter of the request; the default where it is left out, in whatever way."""
    value = params.get(name, anthropic.NOT_GIVEN)
    return default if isinstance(value, (anthropic.NotGiven, anthropic.Omit)) else value


def _in_time(params: Mapping[str, Any], timeout: Any, until: float) -> dict[str, Any]:
    """The parameter `timeout` of a request that has to be answered by `until`; `timeout` is the client's own."""
    timeout = _given(params, "timeout", timeout)
    if until == NEVER or not (timeout is None or isinstance(timeout, (float, int, anthropic.Timeout))):
        return {}
    return {"timeout": TimeLeft(timeout, until)}


def _opened(source: Any) -> Source | None:
    """A stream that the SDK opened or is about to open; `None` for anything else."""
    # One of a class of its own belongs to something that follows the reply, such as a thread of messages.
    manager = None if type(source) in (*_MANAGERS, *_ASYNC_MANAGERS) else source
    if isinstance(source, _MANAGERS):
        return Source(lambda _: source.__enter__, is_async=False, retries=None, manager=manager)
    if isinstance(source, _ASYNC_MANAGERS):
        return Source(lambda _: source.__aenter__, is_async=True, retries=None, manager=manager)
    if isinstance(source, type) or not (hasattr(source, "close") or hasattr(source, "aclose")):
        return None
    is_async = hasattr(source, "__anext__")
    if not is_async and not hasattr(source, "__next__"):
        return None
    response = getattr(source, "response", None)
    begun = getattr(response, "is_closed", False) or getattr(response, "is_stream_consumed", False)
    if begun and not _read_ahead(response):
        raise RuntimeError("this stream was read or closed already: hand it over before reading from it")

    async def take_over() -> Any:
        return source

    return Source(
        lambda _: take_over if is_async else lambda: source,
        is_async=is_async,
        retries=None,
        # The helpers are tested for first: old SDKs warn when one is tested for being a raw stream.
        lives_on=isinstance(source, _ENTERED) or not isinstance(source, (anthropic.Stream, anthropic.AsyncStream)),
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


class Reading:
    """An open stream of the SDK, and how it is read.

    `body` is the iterator to read from, of bytes or of the SDK's events; `decoder` makes event dicts of what it gives,
    and `to_object` the SDK's event objects of those.
    """

    __slots__ = ("beta", "body", "by_bytes", "decoder", "partial_mode", "response", "stream", "to_object")

    def __init__(self, stream: Any, source: Source) -> None:
        self.stream = stream
        response: Any = getattr(stream, "response", None)
        self.response = response
        if not hasattr(stream, "__anext__" if source.is_async else "__next__"):
            raise TypeError(f"the call returned {type(stream).__name__}, no stream")
        self.beta = _is_beta(stream)
        self.by_bytes = not source.lives_on and _has_plain_body(response)
        self.body: Any = stream
        self.decoder: Any
        if self.by_bytes:
            self.decoder = EventDecoder()
            self.to_object = event_maker(self.beta)
            self.body = _body(response, source)
        else:
            self.decoder = SDKEvents(self.beta, helper=isinstance(stream, _ENTERED))
            self.to_object = self.decoder.to_object
            if source.manager is not None:
                self.body = _Entered(stream, source.manager)
        betas = _header(getattr(response, "request", None), "anthropic-beta") or ""
        fine_grained = self.beta and "fine-grained-tool-streaming-2025-05-14" in betas
        # As the SDK reads tool input that was cut.
        self.partial_mode: Any = "trailing-strings" if fine_grained else True

    @property
    def request_id(self) -> str | None:
        """The API's id of the request; Bedrock has a header of its own for it."""
        return self.header("request-id") or self.header("x-amzn-requestid")

    def header(self, name: str) -> str | None:
        """A header of the response."""
        return _header(self.response, name)

    def frame(self, chunk: Any) -> bytes:
        """What was read as the bytes of an event stream."""
        if self.by_bytes:
            return bytes(chunk)
        event = _as_dict(chunk)
        if event is None:
            return b""
        return f"event: {event['type']}\ndata: {json.dumps(event, default=str)}\n\n".encode()


class _Entered:
    """The events of a helper stream, sync or async; closing them leaves its manager."""

    __slots__ = ("_manager", "_stream")

    def __init__(self, stream: Any, manager: Any) -> None:
        self._stream = stream
        self._manager = manager

    def __next__(self) -> Any:
        return next(self._stream)

    def __anext__(self) -> Any:
        return self._stream.__anext__()

    def close(self) -> None:
        self._manager.__exit__(None, None, None)

    async def aclose(self) -> None:
        await self._manager.__aexit__(None, None, None)


class SDKEvents:
    """The counterpart of `EventDecoder` for a stream that is read from the SDK's own iterator."""

    unstreamed = False
    __slots__ = ("_beta", "_helper", "_last", "foreign", "index", "waiting")

    def __init__(self, beta: bool, *, helper: bool) -> None:
        self.waiting: deque[Any] = deque()
        self.foreign = b""
        self._beta = beta
        self._helper = helper
        self._last: Any = None
        self.index: Any = None

    def feed(self, event: Any) -> None:
        """Take the next event object."""
        self.waiting.append(event)

    def end(self) -> None:
        """The iterator ended."""

    def parse(self, event: Any) -> dict[str, Any] | None:
        """The event as a dict; `None` for what the SDK's helpers add."""
        self._last = event
        made = _as_dict(event)
        if made is not None and "delta" in made:
            self.index = made.get("index")
        return made

    def text_of(self, event: Any) -> str | None:
        """The text of a text delta for the same block as the delta before; any other event has to be fed."""
        try:
            if event.type == "content_block_delta" and event.delta.type == "text_delta" and event.index == self.index:
                self._last, text = event, event.delta.text
                return text if type(text) is str else None
        except AttributeError:
            pass
        return None

    def to_object(self, event: dict[str, Any]) -> Any:
        """The SDK's object for the event that came last; a stop event of a helper as the raw one."""
        if self._helper and event["type"] in ("content_block_stop", "message_stop"):
            return event_maker(self._beta)(event)
        return self._last


def _as_dict(event: Any) -> dict[str, Any] | None:
    """The API's own form of an event of the SDK's iterators; `None` for what its helpers add."""
    kind = getattr(event, "type", None)
    if not isinstance(kind, str):
        raise WireError(f"the stream gave {event!r}, no event")
    try:
        if kind == "content_block_delta":
            delta = event.delta
            if delta.type == "text_delta":
                return text_delta(event.index, delta.text)
            return {"type": kind, "index": event.index, "delta": delta.to_dict(warnings=False)}
        if kind == "content_block_stop":
            return {"type": kind, "index": event.index}
        if kind == "message_stop":
            return {"type": kind}
        return None if kind in _DERIVED else dict(event.to_dict(warnings=False))
    except (AttributeError, TypeError) as error:
        raise WireError(f"a malformed {kind!r} event ({error})") from error


@cache
def event_maker(beta: bool) -> Callable[[dict[str, Any]], Any]:
    """A function that makes, of an event dict, the object that the SDK's raw iterator yields for it."""
    union: Any = BetaRawMessageStreamEvent if beta else RawMessageStreamEvent
    members = _members(union)
    validate = {kind: member.model_validate for kind, member in members.items()}
    delta_of: Any = members["content_block_delta"].model_fields["delta"]
    # Made first: by itself the outer model takes three times as long to find out which kind of delta it is.
    validate_delta = {kind: member.model_validate for kind, member in _members(delta_of.annotation).items()}

    # A model of one field: its `construct` treats the value as the SDK treats an event, valid or not.
    holder: Any = pydantic.create_model("Holder", __base__=anthropic.BaseModel, event=(union, ...))

    def make(event: dict[str, Any]) -> Any:
        try:
            kind, given = event["type"], event
            if kind == "content_block_delta":
                delta = event["delta"]
                given = {**event, "delta": validate_delta[delta["type"]](delta)}
            return validate[kind](given)
        except (KeyError, TypeError, pydantic.ValidationError):
            return holder.construct(event=event).event

    return make


def _members(union: Any) -> dict[str, Any]:
    """The models of one of the SDK's unions, by their `type`."""
    models = get_args(union)
    models = get_args(models[0]) or models  # within `Annotated`
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in models}


def make_message(message: dict[str, Any], *, beta: bool) -> Any:
    """The SDK's message, as lenient as the SDK itself."""
    return (BetaMessage if beta else Message).construct(**message)


def make_usage(usage: dict[str, Any], *, beta: bool) -> Any:
    """The SDK's usage; zeros for what has not arrived."""
    known: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, **usage}
    return (BetaUsage if beta else Usage).construct(**known)


def explain(error: Exception, reading: Reading) -> StreamError:
    """The error of our family for what reading the body raised."""
    names = {kind.__name__ for kind in type(error).__mro__}
    response = reading.response
    said = str(error) or type(error).__name__
    made: StreamError
    exception = _aws_exception(error)
    if exception is not None:
        made = api_error(exception, reading)
    elif isinstance(error, anthropic.APIStatusError):  # an error event, met by the SDK's iterator
        made = StreamAPIError(api_error_message(error.body, said), body=error.body, response=response)
    elif isinstance(error, TimeoutError) or "TimeoutException" in names:  # the HTTP library's, whichever it is
        made = StreamTimeoutError(
            f"nothing arrived for the read timeout of the client ({said})", clock="read", response=response
        )
    elif (
        isinstance(error, WireError)
        or "DecodingError" in names
        or (not reading.by_bytes and not _is_transport(error, names))
    ):
        made = StreamProtocolError(f"no stream of Messages events: {said}", response=response)
    else:
        made = StreamConnectionError(f"the connection broke while the reply was being read: {said}", response=response)
    made.__cause__ = error
    return made


def truncated(reading: Reading, stream_began: bool) -> StreamError:
    """The error for a body that ended cleanly before its message did."""
    if reading.decoder.unstreamed:
        said = "expected a stream of events, got one whole message as JSON: the server did not stream"
        return StreamProtocolError(f"{said}; look for a gateway that ignores stream=true", response=reading.response)
    foreign = reading.decoder.foreign[:200]
    if foreign and not stream_began:
        said = foreign.decode("utf-8", "replace")
        kind = reading.header("content-type") or "no content type"
        return StreamProtocolError(
            f"the body is no event stream ({kind}), it begins {said!r}", response=reading.response
        )
    return StreamTruncatedError("the body ended cleanly before the end of the message", response=reading.response)


def api_error(event: dict[str, Any], reading: Reading) -> StreamAPIError:
    """The error for an `error` event."""
    return StreamAPIError(api_error_message(event, str(event)), body=event, response=reading.response)


def api_error_message(body: Any, fallback: str) -> str:
    """The API's words in an error body, with the error's type before them."""
    message = dig(body, "error", "message")
    return fallback if message is None else f"{dig(body, 'error', 'type')}: {message}"


def _aws_exception(error: Exception) -> dict[str, Any] | None:
    """What ended a stream of Bedrock, as an error event: an older SDK shows it in the text of a plain `ValueError`."""
    text, found, shown = str(error).partition("Bad response code, expected 200: ")
    if type(error) is not ValueError or text or not found:
        return None
    try:
        frame = ast.literal_eval(shown)
        headers, payload = frame["headers"], json.loads(frame["body"] or b"{}")
        kind = headers.get(":exception-type") or headers[":error-code"]
        said = headers.get(":error-message") or payload["message"]
    except (ValueError, SyntaxError, LookupError, TypeError, AttributeError):
        return None
    return {"type": "error", "error": {"type": kind, "message": said}}


def _is_transport(error: Exception, names: set[str]) -> bool:
    # `httpx.TransportError` and `httpx2.TransportError` by name, as the SDK moved from one to the other.
    return isinstance(error, (OSError, EOFError, anthropic.APIConnectionError)) or "TransportError" in names


def _is_beta(stream: Any) -> bool:
    if isinstance(stream, _ENTERED):
        return isinstance(stream, _BETA_ENTERED)
    # A raw stream is made as `Stream[RawMessageStreamEvent]`, and says so.
    union = next(iter(get_args(getattr(stream, "__orig_class__", None))), None)
    return bool(union == BetaRawMessageStreamEvent)


def _has_plain_body(response: Any) -> bool:
    """Whether the body can be read by bytes: server-sent events, and nobody else needs to see them pass."""
    if not hasattr(response, "iter_bytes"):
        return False  # a stand-in
    if observer_of(response) is not None:
        return False  # traced: the SDK makes the spans while its own iterator runs
    return not (_header(response, "content-type") or "").startswith("application/vnd.amazon.eventstream")


def _body(response: Any, source: Source) -> Any:
    """The body's bytes, as they arrive. Where nothing is encoded, past the layers that would decode and count."""
    stream = getattr(response, "stream", None)
    read_ahead = getattr(response, "is_stream_consumed", False)
    if stream is None or read_ahead or _header(response, "content-encoding") not in (None, "identity"):
        return response.aiter_bytes() if source.is_async else response.iter_bytes()
    response.is_stream_consumed = True  # as those layers say
    return stream.__aiter__() if source.is_async else iter(stream)


def _read_ahead(response: Any) -> bool:
    """Whether the whole body is there, as a hook or a transport read it: then it can be read again."""
    try:
        return response.content is not None
    except Exception:  # noqa: BLE001 - the HTTP library's, whichever it is: nobody read it, or not to its end
        return False


def _header(message: Any, name: str) -> str | None:
    headers = getattr(message, "headers", None)
    return None if headers is None else headers.get(name)
