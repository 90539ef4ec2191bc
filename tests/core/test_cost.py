"""The cost of an event, in counts that are the same on every machine: calls, and bytes kept."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Sink
from streamkit._io.async_stream import AsyncEventStream, AsyncTextStream
from streamkit._io.sync_stream import EventStream, TextStream
from streamkit._options import Options
from streamkit._sdk.sources import Source
from tests.support.events import (
    MESSAGE_STOP,
    block_delta,
    block_start,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    sse,
    text_delta,
    tool_use_start,
)

OURS = str(Path(streamkit.__file__).parent)


class Body:
    """A stream of the SDK whose body comes from memory, so many events a chunk, made as it is asked for."""

    def __init__(self, count: int, event: dict[str, Any], block: dict[str, Any], joined: int = 1) -> None:
        self.response, self.headers, self.is_closed = self, {"content-type": "text/event-stream"}, False
        self.count, self.event, self.block = count // joined, sse(event) * joined, block

    def iter_bytes(self) -> Iterator[bytes]:
        yield sse(message_start(), self.block)
        for _ in range(self.count):
            yield bytes(memoryview(self.event))  # a copy, as a socket gives
        yield sse(block_stop(), message_delta(), MESSAGE_STOP)

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for chunk in self.iter_bytes():
            yield chunk

    __next__ = __anext__ = iter_bytes  # a stream has one

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def stream_of(body: Body, kind: Any = TextStream, **options: Any) -> Any:
    return kind(Source(lambda _: lambda: body, is_async=False, max_retries=0), Options(**options))


def async_stream_of(body: Body, kind: Any, **options: Any) -> Any:
    async def take_over() -> Body:
        return body

    return kind(Source(lambda _: take_over, is_async=True, max_retries=0), Options(**options))


def drain(stream: Any) -> None:
    """Read a stream of either kind to its end."""

    async def read() -> None:
        async for _ in stream:
            pass

    if hasattr(stream, "__anext__"):
        asyncio.run(read())
    else:
        for _ in stream:
            pass


def calls(count: int, kind: Any, event: dict[str, Any], block: dict[str, Any], joined: int = 1, **options: Any) -> int:
    """How many calls of Python functions of the library it takes to read so many events."""
    found = 0

    def profile(frame: Any, what: str, _: object) -> None:
        nonlocal found
        found += what == "call" and frame.f_code.co_filename.startswith(OURS)

    make = async_stream_of if kind in (AsyncTextStream, AsyncEventStream) else stream_of
    stream = make(Body(count, event, block, joined), kind, **options)
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        drain(stream)
    finally:
        sys.setprofile(before)
    assert stream.status == "complete"
    return found


class Deaf(Sink):
    """Listens to nothing but the end."""


class Listener(Sink):
    def write(self, text: str) -> None:
        pass


THINKING = block_start(0, "thinking", thinking="", signature="")
CLOCKS = {"idle_timeout": 60, "total_timeout": 60}
CASES: dict[str, tuple[int, Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # `__next__`, `receive`, `match`, `_apply_text` and `add_text`: a sixth call is a step back.
    "text": (5, TextStream, text_delta("word "), block_start(), {}),
    "text, a sink that does not listen": (5, TextStream, text_delta("word "), block_start(), {"sinks": Deaf}),
    "text, a sink": (5, TextStream, text_delta("word "), block_start(), {"sinks": Listener}),
    "text, three sinks": (5, TextStream, text_delta("word "), block_start(), {"sinks": [Listener, Listener, Listener]}),
    "text, clocks": (6, TextStream, text_delta("word "), block_start(), CLOCKS),
    # `__next__`, `next_item`, `match_frame`, `_apply_text` and `add_text`.
    "text, 100 events a chunk": (5, TextStream, text_delta("word "), block_start(), {"joined": 100}),
    "thinking nobody listens to": (13, TextStream, block_delta(0, "thinking_delta", thinking="hm "), THINKING, {}),
    "tool input nobody listens to": (12, TextStream, input_delta("     "), tool_use_start(), {}),
    "events": (10, EventStream, text_delta("word "), block_start(), {}),
    "text, async": (7, AsyncTextStream, text_delta("word "), block_start(), {}),
    "text, async, a sink": (7, AsyncTextStream, text_delta("word "), block_start(), {"sinks": Listener}),
    "text, async, clocks": (10, AsyncTextStream, text_delta("word "), block_start(), CLOCKS),
    "text, async, 100 events a chunk": (5, AsyncTextStream, text_delta("word "), block_start(), {"joined": 100}),
    "events, async": (12, AsyncEventStream, text_delta("word "), block_start(), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_calls_for_an_event(name: str) -> None:
    most, kind, event, block, options = CASES[name]
    few, many = (calls(count, kind, event, block, **options) for count in (1000, 3000))
    each = (many - few) / 2000
    print(f"{name}: {each:.3f} calls")
    assert each <= most + 0.1, "more calls for an event than there were"


def kept(count: int) -> tuple[int, int]:
    """Bytes at the peak, and at the end, of reading so many pieces of text of four characters."""
    body = Body(count, text_delta("word"), block_start())
    for _ in stream_of(Body(10, text_delta("word"), block_start())):
        pass  # what is made once
    tracemalloc.start()
    try:
        stream = stream_of(body)
        for _ in stream:
            pass
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(stream.result.text) == 4 * count
    return peak, now


def test_bytes_kept_for_an_event() -> None:
    """A piece of four characters may take little more than they do; no event is kept."""
    (small, _), (large, _) = kept(5000), kept(50_000)
    each = (large - small) / 45_000
    print(f"{each:.1f} bytes an event, {large / 1e6:.2f} MB at the peak for 200 kB of text")
    assert each <= 40
    assert large <= 4e6
