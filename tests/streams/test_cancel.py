"""`cancel()`, and cancellation from outside: of the task, by a scope, by closing a coroutine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from streamkit import CallbackSink
from streamkit.testing import Reply, serve
from tests.support.clients import assert_no_connection_in_use
from tests.support.harness import EitherStream, Harness, ignores_generators_left_behind, reading_elsewhere, wait_until
from tests.support.replies import REPLY
from tests.support.sinks import AsyncLog, Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


async def test_cancel_before_open_sends_nothing(harness: Harness) -> None:
    log = Log()
    with serve(REPLY) as server:
        stream = harness.text(server, sinks=log)
        stream.cancel()
        stream.cancel()
        async with stream:
            assert [piece async for piece in stream] == []
        assert server.requests == []
    assert (stream.status, stream.result.error, stream.text) == ("interrupted", None, "")
    assert log.calls == [("finish", "interrupted")]


async def test_cancel_wakes_a_reader_that_is_blocked(harness: Harness) -> None:
    log = Log()
    with serve(REPLY.stall(after_events=4)) as server:
        client = harness.client(server)
        stream = harness.text(client, sinks=log)
        async with reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(wait_until, lambda: stream.text == "One ")
            await anyio.to_thread.run_sync(stream.cancel)  # from a thread, also where the stream is async
            stream.cancel()
        assert_no_connection_in_use(client)
    assert given == ["One "]
    assert (stream.status, stream.result.error, stream.text) == ("interrupted", None, "One ")
    assert log.of("finish") == ["interrupted"]
    stream.cancel()
    assert stream.status == "interrupted"


async def test_cancel_in_the_loop_ends_it_quietly(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = harness.client(server)
        async with harness.text(client) as stream:
            given = []
            async for piece in stream:
                given.append(piece)
                stream.cancel()
        assert_no_connection_in_use(client)
    assert given == ["One "]
    assert (stream.status, stream.result.error) == ("interrupted", None)


async def test_cancel_in_a_sink(harness: Harness) -> None:
    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        stream: EitherStream
        stream = harness.text(server, sinks=CallbackSink(on_text=lambda _: stream.cancel()))
        result = await stream.until_done()
    assert result.status == "interrupted"
    assert "One two three".startswith(result.text)


@pytest.mark.usefixtures("without_drain_limit")
async def test_cancel_when_it_is_late(harness: Harness) -> None:
    with serve(REPLY, repeat=True) as server:
        client = harness.client(server)
        stream = harness.text(client)
        await stream.until_done()
        stream.cancel()
        assert (stream.status, stream.result.ok) == ("complete", True)
        async with harness.events(client) as events:
            async for event in events:
                if event.type == "message_stop":
                    events.cancel()
        assert events.status == "complete"
        assert (await harness.collect(client)).ok
        assert server.connection_count <= 2  # a late cancel may cost the connection, and nothing else


# From outside.


async def test_a_task_that_is_cancelled_while_it_reads(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("for async only")
    calls: list[tuple[str, str, Any]] = []
    log, entered = Log(), anyio.Event()
    with serve(REPLY.stall(after_events=4)) as server:
        client = harness.client(server)
        stream = harness.text(client, sinks=[log, AsyncLog("a", calls)])

        async def read() -> None:
            async with stream.stream:
                async for _ in stream.stream:
                    entered.set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await entered.wait()
                tasks.cancel_scope.cancel()
        assert_no_connection_in_use(client)
    assert (stream.status, stream.text, log.of("finish")) == ("interrupted", "One ", ["interrupted"])
    assert isinstance(stream.result.error, BaseException)
    assert calls[-1] == ("a", "finish", "interrupted")


async def test_a_timeout_around_the_loop(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("for async only")
    with serve(REPLY.stall(after_events=4)) as server:
        client = harness.client(server)
        stream = harness.text(client)
        assert await stream.next() == "One "
        with anyio.move_on_after(0.2) as scope:
            await stream.until_done()
        assert scope.cancelled_caught
        assert (stream.status, stream.text) == ("interrupted", "One ")
        assert_no_connection_in_use(client)


async def test_a_coroutine_that_is_closed_while_it_waits_between_events(harness: Harness) -> None:
    """GeneratorExit: a coroutine that nobody awaits any more is closed, and may not await."""
    if not harness.is_async:
        pytest.skip("for async only")
    log = Log()

    async def pieces() -> AsyncIterator[str]:
        async with harness.text(server, sinks=log) as stream:
            streams.append(stream)
            async for piece in stream:
                yield piece

    streams: list[EitherStream] = []
    with serve(REPLY) as server:
        generator = pieces()
        assert await generator.__anext__() == "One "
        await generator.aclose()
    assert (streams[0].status, log.of("finish")) == ("interrupted", ["interrupted"])
