"""The decoder and a stream over bytes from memory, without HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import anthropic
from anthropic.types import RawMessageStreamEvent
from anthropic.types.beta import BetaRawMessageStreamEvent

from streamkit import StreamError, StreamResult
from streamkit._core.message import MessageBuilder, text_delta_event
from streamkit._core.sse import ProtocolViolation, SSEDecoder
from streamkit._io.sync_stream import TextStream
from streamkit._options import Options
from streamkit._sdk.sources import Source

Events = list[dict[str, Any]]


def ready(decoder: SSEDecoder) -> Iterator[dict[str, Any]]:
    """What arrived whole so far."""
    while decoder.frames:
        event = decoder.parse(decoder.frames.popleft())
        if event is not None:
            yield event


def decode(chunks: Iterable[bytes]) -> tuple[Events, str | None]:
    """All events of a body that ended cleanly, and what was wrong with it."""
    decoder, events = SSEDecoder(), Events()
    try:
        for chunk in chunks:
            said = decoder.matcher.match(chunk)
            if said is not None:
                events.append(text_delta_event(decoder.matcher.index, said))
                continue
            decoder.feed(chunk)
            for event in ready(decoder):
                events.append(event)
        decoder.end()
        for event in ready(decoder):
            events.append(event)
    except ProtocolViolation as error:
        return events, str(error)
    return events, None


class Body:
    """A stream of the SDK without HTTP, as far as streamkit looks: a response whose bytes arrive, then end or break."""

    def __init__(self, *chunks: bytes, breaks: bool = False, beta: bool = False) -> None:
        self.chunks, self.breaks = chunks, breaks
        self.response, self.headers = self, {"content-type": "text/event-stream"}
        self.is_closed = False
        self.__orig_class__ = anthropic.Stream[BetaRawMessageStreamEvent if beta else RawMessageStreamEvent]

    def iter_bytes(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.breaks:
            raise ConnectionResetError("Connection reset by peer")

    __next__ = iter_bytes  # a stream has one

    def close(self) -> None:
        self.is_closed = True


def play(*chunks: bytes, breaks: bool = False, beta: bool = False) -> tuple[list[str], StreamResult[Any, Any]]:
    """The text that is yielded, and the result."""
    body, given = Body(*chunks, breaks=breaks, beta=beta), []
    stream = TextStream(Source(lambda _: lambda: body, is_async=False, max_retries=0), Options())  # type: ignore[var-annotated]
    failure: StreamError | None = None
    try:
        with stream:
            given.extend(iter(stream))
    except StreamError as error:
        failure = error
    assert stream.result.error is failure
    assert failure is None or failure.result is stream.result
    assert body.is_closed
    return given, stream.result


def build(*events: dict[str, Any], **options: Any) -> tuple[MessageBuilder, list[tuple[str, str]]]:
    """A builder that took these events, and what came out: (text, thinking) where there was any."""
    builder = MessageBuilder(**options)
    said = [builder.apply(event) for event in events]
    return builder, [pair for pair in said if any(pair)]


def content(builder: MessageBuilder) -> list[dict[str, Any]]:
    message = builder.message()
    assert message is not None
    return message["content"]
