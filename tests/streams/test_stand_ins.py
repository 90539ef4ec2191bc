"""Iterators of events without a response, as programs use them that test without a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from streamkit import (
    AsyncSink,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    StreamTruncatedError,
)
from tests.support.events import MESSAGE_STOP, block_start, block_stop, message_delta, message_start, text_delta
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


class StandIn:
    """Event objects from a list, for programs that test without a server. Calls what is callable."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)
        self.closed = False

    def __iter__(self) -> StandIn:
        return self

    def __next__(self) -> Any:
        for item in self._items:
            if not callable(item):
                return item
            item()
        raise StopIteration

    def close(self) -> None:
        self.closed = True


class AsyncStandIn(StandIn):
    def __aiter__(self) -> AsyncStandIn:
        return self

    async def __anext__(self) -> Any:
        for item in self:
            return item
        raise StopAsyncIteration

    async def close(self) -> None:  # type: ignore[override]
        self.closed = True


def stand_in(harness: Harness, *items: Any) -> Any:
    return (AsyncStandIn if harness.is_async else StandIn)(*(item if callable(item) else made(item) for item in items))


def made(event: dict[str, Any]) -> Any:
    kinds: dict[str, Any] = {
        "message_start": anthropic.types.RawMessageStartEvent,
        "message_delta": anthropic.types.RawMessageDeltaEvent,
        "message_stop": anthropic.types.RawMessageStopEvent,
        "content_block_start": anthropic.types.RawContentBlockStartEvent,
        "content_block_delta": anthropic.types.RawContentBlockDeltaEvent,
        "content_block_stop": anthropic.types.RawContentBlockStopEvent,
    }
    return kinds[event["type"]].construct(**event)


async def test_a_stand_in_without_a_response(harness: Harness) -> None:
    source = stand_in(
        harness,
        message_start(),
        block_start(),
        text_delta("One "),
        text_delta("two"),
        block_stop(),
        message_delta(),
        MESSAGE_STOP,
    )
    async with harness.text(source) as stream:
        assert [piece async for piece in stream] == ["One ", "two"]
    assert (stream.result.ok, stream.request_id, source.closed) == (True, None, True)
    source = stand_in(harness, message_start(), block_start(), text_delta("One "))
    with pytest.raises(StreamTruncatedError):
        await harness.collect(source)
    assert source.closed


@pytest.mark.parametrize("after", [(), (text_delta("two"),)], ids=["at the end", "at the next event"])
async def test_cancel_without_a_socket_counts_at_the_next_event(harness: Harness, after: Any) -> None:
    source = stand_in(harness, message_start(), block_start(), text_delta("One "), lambda: stream.cancel(), *after)  # noqa: PLW0108
    stream = harness.text(source)
    assert [piece async for piece in stream] == ["One "]
    assert (stream.status, stream.result.error, source.closed) == ("interrupted", None, True)


async def test_an_error_of_the_line_after_cancel_is_no_error(harness: Harness) -> None:
    def cancelled() -> None:
        stream.cancel()
        raise OSError("connection gone")

    stream = harness.text(stand_in(harness, message_start(), block_start(), text_delta("One "), cancelled))
    assert [piece async for piece in stream] == ["One "]
    assert (stream.status, stream.result.error) == ("interrupted", None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("gone"), StreamConnectionError),
        (TimeoutError(), StreamTimeoutError),
        (ValueError("x"), StreamProtocolError),
    ],
)
async def test_errors_of_a_stand_in(harness: Harness, error: Exception, kind: type[StreamError]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(kind) as caught:
        await harness.collect(stand_in(harness, message_start(), block_start(), text_delta("One "), fail))
    assert caught.value.__cause__ is error
    assert caught.value.result.text == "One "


async def test_a_malformed_event_of_a_stand_in(harness: Harness) -> None:
    source = stand_in(
        harness, message_start(), block_start(), text_delta("One "), {"type": "content_block_delta", "index": 0}
    )
    with pytest.raises(StreamProtocolError) as caught:
        await harness.collect(source)
    assert caught.value.result.text == "One "


class Forever(AsyncSink):
    """Waits for what never comes."""

    async def write(self, text: str) -> None:
        await self

    def __await__(self) -> Iterator[None]:
        while True:
            yield


async def test_a_coroutine_that_is_closed_while_it_waits_finishes_the_plain_sinks(harness: Harness, mode: str) -> None:
    """It may not await any more; but the plain sinks can be finished, and are."""
    if mode != "asyncio":
        pytest.skip("driven by hand: one loop will do")
    log = Log()
    stream = harness.text(stand_in(harness, message_start(), block_start(), text_delta("One ")), sinks=[log, Forever()])
    reading = stream.stream.__anext__()
    reading.send(None)
    reading.close()
    assert (stream.status, stream.text) == ("interrupted", "One ")
    assert log.of("finish") == ["interrupted"]
