"""Sinks in a stream: order, errors, use by two streams, separators."""

# ruff: noqa: PT012 - the whole life of a stream stands under one `raises`
from __future__ import annotations

import contextlib
from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from streamkit import AsyncSink, BufferSink, CallbackSink, Sink, StreamResult, StreamTruncatedError, UsageMeter
from streamkit.testing import Reply, serve
from tests.support.clients import assert_no_connection_in_use
from tests.support.events import (
    MESSAGE_STOP,
    block_start,
    block_stop,
    message_delta,
    message_start,
    text_delta,
    tool_use_start,
)
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import REPLY, TEXT
from tests.support.sinks import AsyncLog, Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


class Failing(Sink):
    """Raises in one method; and notes how it was finished."""

    def __init__(self, where: str, error: BaseException) -> None:
        self.finished: list[str] = []

        def fail(_: object) -> None:
            raise error

        if where != "finish":
            setattr(self, where, fail)
        self._error = error if where == "finish" else None

    def finish(self, result: StreamResult) -> None:
        self.finished.append(result.status)
        if self._error is not None:
            raise self._error


class AsyncFailing(AsyncSink):
    def __init__(self, where: str, error: BaseException) -> None:
        self.finished: list[str] = []

        async def fail(_: object) -> None:
            await anyio.lowlevel.checkpoint()
            raise error

        if where != "finish":
            setattr(self, where, fail)
        self._error = error if where == "finish" else None

    async def finish(self, result: StreamResult) -> None:
        await anyio.lowlevel.checkpoint()
        self.finished.append(result.status)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("where", ["write", "thinking", "event", "finish"])
@pytest.mark.parametrize("kind", [Failing, AsyncFailing])
@pytest.mark.parametrize("way", ["with", "collect", "bare"])
async def test_a_sink_that_raises(harness: Harness, where: str, kind: Any, way: str) -> None:
    if kind is AsyncFailing and not harness.is_async:
        pytest.skip("a sync stream refuses an AsyncSink")
    error = ZeroDivisionError("in a sink")
    failing, before, after = kind(where, error), Log(), Log()
    with serve(Reply.thinking("Hm", TEXT)) as server:
        client = harness.client(server)
        options: Any = {"sinks": [before, failing, after]}
        with pytest.raises(ZeroDivisionError) as caught:
            if way == "collect":
                await harness.collect(client, **options)
            elif way == "bare":
                async for _ in harness.text(client, **options):
                    pass
            else:
                async with harness.text(client, **options) as stream:
                    async for _ in stream:
                        pass
        assert_no_connection_in_use(client)
    assert caught.value is error
    status = "complete" if where == "finish" else "failed"
    assert before.of("finish") == after.of("finish") == failing.finished == [status]
    if where == "write":
        assert len(before.of("write")) == 1
        assert after.of("write") == []


async def test_a_sink_that_raises_the_same_error_again_at_its_end(harness: Harness) -> None:
    error = ZeroDivisionError("in a sink")

    class Broken(Sink):
        def write(self, text: str) -> None:
            raise error

        def finish(self, result: StreamResult) -> None:
            raise error

    with serve(REPLY) as server:
        with pytest.raises(ZeroDivisionError) as caught:
            await harness.collect(server, sinks=Broken())
    assert caught.value is error
    assert error.__context__ is None


async def test_a_sink_that_raises_stop_iteration(harness: Harness) -> None:
    with serve(REPLY) as server:
        with pytest.raises((StopIteration, RuntimeError)):
            await harness.collect(server, sinks=Failing("write", StopIteration()))


async def test_a_sink_that_raises_in_finish_does_not_hide_why_the_stream_ended(harness: Harness) -> None:
    failing, other = Failing("finish", ZeroDivisionError("second")), Log()
    with serve(REPLY.cut(after_events=4)) as server:
        with pytest.raises(StreamTruncatedError) as caught:
            await harness.collect(server, sinks=[failing, other])
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert failing.finished == other.of("finish") == ["disconnected"]


async def test_two_sinks_that_raise_in_finish(harness: Harness) -> None:
    one, two, other = Failing("finish", KeyError(1)), Failing("finish", KeyError(2)), Log()
    with serve(REPLY) as server:
        with pytest.raises(KeyError, match="1"):
            await harness.collect(server, sinks=[one, two, other])
    assert one.finished == two.finished == other.of("finish") == ["complete"]


@pytest.mark.parametrize("chunks", [None, [10**6]], ids=["event by event", "in one chunk"])
async def test_async_sinks_get_everything_in_order_before_the_consumer_does(harness: Harness, chunks: Any) -> None:
    calls: list[tuple[str, str, Any]] = []
    plain = CallbackSink(lambda piece: calls.append(("plain", "write", piece)))
    reply = Reply.recorded(Reply.thinking("Hm", "One two").body, chunks)
    with serve(reply) as server:
        sinks = [AsyncLog("a", calls), plain, AsyncLog("b", calls)]
        if not harness.is_async:
            with pytest.raises(TypeError, match="AsyncLog is an AsyncSink and this stream is sync"):
                harness.text(server, sinks=sinks)
            assert server.requests == []
            return
        async with harness.text(server, sinks=sinks) as stream:
            async for piece in stream:
                calls.append(("loop", "write", piece))  # noqa: PERF401
    of_a = [call[1:] for call in calls if call[0] == "a"]
    assert of_a == [call[1:] for call in calls if call[0] == "b"]
    assert of_a[0] == ("event", "message_start")
    assert of_a[-1] == ("finish", "complete")
    for piece in ("One ", "two"):
        assert [name for name, method, value in calls if (method, value) == ("write", piece)] == [
            "a",
            "plain",
            "b",
            "loop",
        ]
    with_thinking = [call for call in of_a if call[0] in ("thinking", "write")]
    assert with_thinking == [("thinking", "Hm"), ("write", "One "), ("write", "two")]


async def test_a_sink_claimed_twice_is_refused_before_a_request(harness: Harness) -> None:
    sink = BufferSink()
    with serve(REPLY, repeat=True) as server:
        client = harness.client(server)
        async with harness.text(client, sinks=sink) as stream:
            await stream.next()
            with pytest.raises(RuntimeError, match="BufferSink is in use by another stream"):
                await harness.collect(client, sinks=sink)
            assert len(server.requests) == 1
            assert (await stream.until_done()).text == sink.text
        assert (await harness.collect(client, sinks=sink)).ok


async def test_a_meter_counts_each_stream_once(harness: Harness) -> None:
    meter = UsageMeter()
    with serve(REPLY, REPLY.cut(after_events=4), Reply.http_error(400)) as server:
        client = harness.client(server)
        await harness.collect(client, sinks=meter)
        await harness.collect(client, sinks=meter, on_error="return")
        with pytest.raises(anthropic.BadRequestError):
            await harness.collect(client, sinks=meter)
    assert (meter.total.streams, meter.total.not_final_streams, meter.total.output_tokens) == (3, 2, 4)


@pytest.mark.parametrize("separator", ["\n\n", "", "|"])
async def test_the_separator_is_the_same_everywhere(harness: Harness, separator: str) -> None:
    blocks = (
        block_start(0),
        text_delta("A", 0),
        block_stop(0),
        tool_use_start(1),
        block_stop(1),
        block_start(2),
        text_delta("B", 2),
        text_delta("C", 2),
        block_stop(2),
    )
    log = Log()
    with serve(Reply.events(message_start(), *blocks, message_delta(), MESSAGE_STOP)) as server:
        async with harness.text(server, sinks=log, separator=separator) as stream:
            pieces = [piece async for piece in stream]
    assert pieces == log.of("write") == ["A", separator + "B", "C"]
    assert stream.text == stream.result.text == f"A{separator}BC"
    assert [block.text for block in stream.message.content if block.type == "text"] == ["A", "BC"]


async def test_a_sink_that_closes_the_stream_it_serves(harness: Harness) -> None:
    """From within the reader: the connection is closed at once, and the reader's loop ends."""
    if harness.is_async:
        pytest.skip("a plain sink cannot await")
    log = Log()
    with serve(REPLY) as server:
        client = harness.client(server)
        stream = harness.text(client, sinks=[CallbackSink(lambda _: stream.stream.close()), log])
        with contextlib.suppress(RuntimeError):
            async for _ in stream:
                pass
        assert_no_connection_in_use(client)
    assert (stream.status, log.of("finish")) == ("interrupted", ["interrupted"])
