"""Closing, leaving and dropping a stream, and what a stream that has ended still allows."""

# ruff: noqa: PT012, PT031 - the whole life of a stream stands under one `raises`
from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import streamkit
from streamkit import BufferSink, StreamResult, StreamTruncatedError
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, async_sdk_client
from tests.support.events import block_start, message_start, sse, text_delta
from tests.support.harness import (
    EitherStream,
    Harness,
    ignores_generators_left_behind,
    is_reading,
    reading_elsewhere,
    wait_until,
)
from tests.support.replies import REPLY, TEXT
from tests.support.servers import raw_server
from tests.support.sinks import AsyncLog, Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


@pytest.mark.parametrize(
    ("reply", "text"),
    [(REPLY.stall(after_events=4), "One "), (Reply.recorded(REPLY.body, [10**6]), TEXT)],
    ids=["first text alone", "in one chunk"],
)
async def test_iterating_after_close(harness: Harness, reply: Reply, text: str) -> None:
    with serve(reply, repeat=True) as server:
        client = harness.client(server)
        async with harness.text(client) as stream:
            assert await stream.next() == "One "
        left = harness.text(client)
        await left.next()
        await left.close()
        for one in (stream, left):
            for way in (one.next, one.open, one.until_done):
                with pytest.raises(RuntimeError, match="this stream is closed: read it before"):
                    await way()
            assert (one.text, one.status) == (text, "interrupted")


class Leaving(BaseException):
    """What a loop's body may raise."""


async def _leave(stream: EitherStream, way: str) -> None:
    """Leave a stream after its first piece."""
    if way == "body":
        with pytest.raises(Leaving):
            async with stream:
                await stream.next()
                raise Leaving
    elif way == "break":
        async with stream:
            async for _ in stream:
                break
    elif way == "cancel":
        async for _ in stream:
            stream.cancel()
    elif way == "throw":
        await stream.next()
        with pytest.raises(Leaving):
            await stream.call("throw", "athrow", Leaving())
    elif way == "close":
        await stream.next()
        await stream.close()
    else:
        await stream.next()
        with pytest.warns(ResourceWarning):
            del stream.stream
            gc.collect()


@pytest.mark.parametrize("way", ["body", "break", "cancel", "throw", "close", "drop"])
async def test_what_has_arrived_counts_when_the_consumer_leaves(harness: Harness, mode: str, way: str) -> None:
    """Also what it had not asked for yet; but a reply that was not read to its end is not complete."""
    log, buffer = Log(), BufferSink()
    sinks: list[Any] = [log, buffer]
    with_async_sink = harness.is_async and (mode, way) != ("trio", "drop")  # on trio a finaliser can start nothing
    if with_async_sink:
        sinks.append(AsyncLog("late", []))
    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        await _leave(harness.text(server, sinks=sinks), way)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()  # what was dropped is ended by a task of its own
    result = buffer.result
    assert result is not None
    assert (result.text, buffer.text, result.status, result.ok) == (TEXT, TEXT, "interrupted", False)
    assert result.message.content[0].text == TEXT
    assert (result.usage_final, result.stop_reason) == (True, "end_turn")
    assert log.of("write") == ["One ", "two ", "three"]
    assert log.calls[-1] == ("finish", "interrupted")
    assert log.of("event")[0] == "message_start"
    assert log.of("event")[-1] == "message_delta"
    if with_async_sink:
        assert [(method, value) for _, method, value in sinks[-1].calls if method != "event"] == [
            (method, value) for method, value in log.calls if method != "event"
        ]


async def test_a_sink_that_raises_at_what_was_left(harness: Harness) -> None:
    class Picky(Log):
        def write(self, text: str) -> None:
            super().write(text)
            if text == "two ":
                raise ZeroDivisionError

    picky, log = Picky(), Log()
    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        stream = harness.text(server, sinks=[picky, log])
        with pytest.raises(ZeroDivisionError):
            async with stream:
                await stream.next()
    assert picky.of("write") == ["One ", "two "]
    assert log.of("write") == ["One "]
    assert picky.of("finish") == log.of("finish") == ["failed"]
    assert (stream.status, type(stream.result.error)) == ("failed", ZeroDivisionError)


async def test_what_was_left_may_be_broken(harness: Harness) -> None:
    body = (
        sse(message_start(), block_start(), text_delta("One "))
        + b": a comment\n\n"
        + sse(text_delta("two "))
        + b"data: {oops\n\n"
        + sse(text_delta("x"))
    )
    with serve(Reply.recorded(body, [10**6])) as server:
        async with harness.text(server) as stream:
            await stream.next()
    assert (stream.text, stream.status, stream.result.error) == ("One two ", "interrupted", None)


async def test_iterating_after_a_failure(harness: Harness) -> None:
    with serve(REPLY.cut(after_events=4)) as server:
        stream = harness.text(server)
        with pytest.raises(StreamTruncatedError):
            await stream.until_done()
        with pytest.raises(RuntimeError, match=r"has ended \(disconnected\): make a new one"):
            await stream.next()
        assert (stream.status, stream.text) == ("disconnected", "One ")


async def test_closing_before_opening(harness: Harness) -> None:
    log = Log()
    with serve(REPLY) as server:
        stream = harness.text(server, sinks=log)
        await stream.close()
        await stream.close()
        with pytest.raises(RuntimeError, match="closed"):
            await stream.open()
        assert server.requests == []
    assert (stream.status, log.calls) == ("interrupted", [("finish", "interrupted")])


async def test_close_from_elsewhere_wakes_the_reader(harness: Harness) -> None:
    log = Log()
    with serve(REPLY.stall(after_events=4)) as server:
        client = harness.client(server)
        stream = harness.text(client, sinks=log)
        async with reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(wait_until, lambda: stream.text == "One " and is_reading(stream))
            await stream.close()
        assert_no_connection_in_use(client)
    assert given == ["One "]
    assert (stream.status, stream.result.error, log.of("finish")) == ("interrupted", None, ["interrupted"])


async def test_a_stream_that_is_dropped_warns_and_closes_its_connection(harness: Harness) -> None:
    log = Log()
    body = sse(message_start(), block_start(), text_delta("One "))
    with raw_server(body) as (url, gone), serve(REPLY) as server:
        stream: Any = harness.text(harness.client(server).with_options(base_url=url), sinks=log)
        assert await stream.next() == "One "
        with pytest.warns(ResourceWarning, match="Text.*was dropped without being closed: use `with`"):
            del stream
            gc.collect()
        await anyio.to_thread.run_sync(gone.wait, 5)
        assert gone.is_set()
    assert log.of("finish") == ["interrupted"]


@pytest.mark.filterwarnings("ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning", "ignore:Async generator 'http:ResourceWarning")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_stream_that_is_dropped_after_its_loop_has_ended(backend: str) -> None:
    """Nothing can be awaited any more: plain sinks are finished, and nothing warns of what was never awaited."""

    class Awaited(streamkit.AsyncSink):
        async def finish(self, result: StreamResult) -> None:
            raise AssertionError("no loop runs it")

    log = Log()

    async def main() -> Any:
        stream = streamkit.stream_text(async_sdk_client(server), sinks=[log, Awaited()], **PARAMS)
        assert await stream.__anext__() == "One "
        return stream

    def run_without_a_shutdown() -> Any:  # which would close the stream
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    with serve(REPLY.stall(after_events=4)) as server:
        stream = run_without_a_shutdown() if backend == "asyncio" else anyio.run(main, backend=backend)
        with (
            pytest.warns(ResourceWarning, match="could not finish its AsyncSink"),
            pytest.warns(ResourceWarning, match="was dropped without being closed"),
        ):
            del stream
            gc.collect()
    assert log.of("finish") == ["interrupted"]


async def test_a_stream_that_was_never_opened_or_was_closed_is_dropped_in_silence(harness: Harness) -> None:
    with serve(REPLY, repeat=True) as server:
        client = harness.client(server)
        harness.text(client)
        await harness.text(client).until_done()
        async with harness.text(client) as stream:
            await stream.next()
        del stream
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gc.collect()


async def test_leaving_closes_the_connection_at_once(harness: Harness) -> None:
    with raw_server(sse(message_start(), block_start(), text_delta("One "))) as (url, gone), serve(REPLY) as server:
        async with harness.text(harness.client(server).with_options(base_url=url)) as stream:
            await stream.next()
        await anyio.to_thread.run_sync(gone.wait, 5)
        assert gone.is_set()


@pytest.mark.usefixtures("without_drain_limit")
async def test_a_hundred_replies_over_one_connection(harness: Harness) -> None:
    with serve(REPLY, repeat=True) as server:
        client = harness.client(server)
        for number in range(100):
            if number % 3 == 0:
                assert (await harness.collect(client)).text == TEXT
            elif number % 3 == 1:
                async with harness.text(client) as stream:
                    assert "".join([piece async for piece in stream]) == TEXT
            else:
                async with harness.events(client.messages) as stream:
                    assert len([event async for event in stream]) == len(REPLY.frames) - 1
        assert len(server.requests) == 100
        assert server.connection_count == 1
        assert_no_connection_in_use(client)
