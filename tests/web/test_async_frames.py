"""`sse` of an async stream, on asyncio and on trio: frames, pings, and what happens when the consumer goes away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from streamkit import AsyncEventStream, AsyncSink, Sink, stream_events
from streamkit.testing import Reply, serve
from streamkit.web import AISDK, sse
from tests.support.bodies import BETA, FIXTURES
from tests.support.clients import PARAMS, assert_no_connection_in_use, async_client_for, open_connections_in_use
from tests.support.harness import ignores_generators_left_behind
from tests.support.reply_bodies import read_until
from tests.support.web import PROTOCOLS, encoded, of_type, types, until

pytestmark = [pytest.mark.anyio, ignores_generators_left_behind]
WORDS = Reply.text("They push water aside.")
STALLED = WORDS.stall(after_events=5)  # after "They " and "push "
PING = b": ping\n\n"
each_loop = pytest.mark.parametrize("mode", ["asyncio", "trio", "aiohttp"])


@contextlib.asynccontextmanager
async def opened(
    mode: str, *replies: Reply, beta: bool = False, **options: Any
) -> AsyncIterator[tuple[AsyncEventStream, Any]]:
    """A stream of the reply, and the client, which has no connection in use at the end."""
    with serve(*replies) as server:
        async with async_client_for(mode, server) as client:
            with anyio.fail_after(20):
                yield stream_events(client.beta.messages if beta else client, **{**PARAMS, **options}), client
                assert not open_connections_in_use(client)


class Gate(AsyncSink):
    """Waits, with the first piece of text, until it is opened. Keeps the text and the status."""

    def __init__(self) -> None:
        self.reached, self.open, self.finished = anyio.Event(), anyio.Event(), anyio.Event()
        self.text = self.status = ""

    async def write(self, text: str) -> None:
        self.reached.set()
        await self.open.wait()
        self.text += text

    async def finish(self, result: Any) -> None:
        self.status = result.status
        self.finished.set()


@each_loop
async def test_other_tasks_get_their_turns_during_a_burst(mode: str) -> None:
    assert await turns_during_a_burst(mode) >= 20


@pytest.mark.parametrize("mode", ["asyncio", "aiohttp"])
async def test_busy_tasks_get_more_turns(mode: str) -> None:
    assert await turns_during_a_burst(mode, busy_for=0.006) >= 100


async def turns_during_a_burst(mode: str, *, busy_for: float = 0) -> int:
    """The turns of another task, which takes this time for each, during 800 events and more."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            time.sleep(busy_for)  # noqa: ASYNC251 - the load
            await anyio.lowlevel.checkpoint()

    async with opened(mode, Reply.text(["a "] * 800)) as (stream, _), anyio.create_task_group() as group:
        await stream.open()
        group.start_soon(count)
        async for _ in sse(stream, AISDK()):
            pass
        group.cancel_scope.cancel()
    return turns


@each_loop
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: type(one).__name__)
async def test_the_frames_are_those_of_the_encoder(mode: str, protocol: Any) -> None:
    for path in FIXTURES:
        async with opened(mode, Reply.recorded(path), beta=path.stem in BETA) as (stream, _):
            body = b"".join([piece async for piece in sse(stream, protocol)])
        assert body == encoded(protocol, path.read_bytes(), beta=path.stem in BETA)[0], path.name


@each_loop
async def test_the_first_frame_needs_no_answer_of_the_api(mode: str) -> None:
    async with opened(mode, Reply.text("Hi", header_delay=60)) as (stream, _):
        frames = sse(stream, AISDK(), ping=0.02)
        assert of_type(await anext(frames), "start")
        assert await anext(frames) == PING
        await frames.aclose()


@each_loop
async def test_pings_in_silence(mode: str) -> None:
    async with opened(mode, STALLED) as (stream, _):
        frames = sse(stream, AISDK(), ping=0.02)
        await read_until(frames, b"push")
        assert [await anext(frames) for _ in range(3)] == [PING] * 3
        await frames.aclose()


@each_loop
async def test_no_ping_while_events_arrive(mode: str) -> None:
    async with opened(mode, Reply.text("a " * 30, delay=0.02)) as (stream, _):
        last = time.monotonic()
        async for piece in sse(stream, AISDK(), ping=0.3):
            assert piece != PING or time.monotonic() - last >= 0.3  # of silence, where the whole process stood still
            last = time.monotonic()


@each_loop
async def test_no_ping_for_the_time_in_which_the_consumer_was_busy(mode: str) -> None:
    async with opened(mode, STALLED) as (stream, _):
        frames = sse(stream, AISDK(), ping=0.2)
        await anext(frames)
        await until(lambda: stream.text == "They push ")
        await anyio.sleep(0.3)  # longer than the silence that a ping follows
        assert PING not in await read_until(frames, b"push")
        assert await anext(frames) == PING
        await frames.aclose()


@each_loop
async def test_pings_while_a_sink_is_slow(mode: str) -> None:
    async with opened(mode, WORDS, sinks=(gate := Gate())) as (stream, _):
        frames = sse(stream, AISDK(), ping=0.02)
        await read_until(frames, PING + PING)
        assert gate.text == ""
        gate.open.set()
        await read_until(frames, b"[DONE]")
    assert gate.text == "They push water aside."


@each_loop
async def test_a_cancelled_consumer_closes_the_connection_before_it_goes_on(mode: str) -> None:
    async with opened(mode, STALLED) as (stream, client):
        frames = sse(stream, AISDK())
        await read_until(frames, b"push")
        with anyio.move_on_after(0.05) as scope:
            await anext(frames)
        assert scope.cancelled_caught
        assert_no_connection_in_use(client)
        assert (stream.status, stream.text) == ("interrupted", "They push ")
        with pytest.raises(StopAsyncIteration):
            await anext(frames)


@pytest.mark.parametrize("mode", ["asyncio", "aiohttp"])
async def test_a_task_that_is_cancelled_twice_still_closes_the_connection(mode: str) -> None:
    class Slow(AsyncSink):
        async def finish(self, result: Any) -> None:
            reached.set()
            await anyio.sleep(0.05)

    reached = anyio.Event()
    async with opened(mode, STALLED, sinks=Slow()) as (stream, client):
        frames = sse(stream, AISDK())
        await read_until(frames, b"push")
        task = asyncio.ensure_future(anext(frames))
        await anyio.lowlevel.checkpoint()
        task.cancel()
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_no_connection_in_use(client)
        assert stream.status == "interrupted"


@each_loop
async def test_a_slow_sink_does_not_hold_up_the_end(mode: str) -> None:
    async with opened(mode, WORDS, sinks=(gate := Gate())) as (stream, _):
        frames = sse(stream, AISDK())
        await anext(frames)
        await gate.reached.wait()
        await frames.aclose()
        assert (stream.status, gate.status) == ("interrupted", "interrupted")


@each_loop
async def test_closing_from_another_task_ends_the_reader(mode: str) -> None:
    async with opened(mode, STALLED) as (stream, _):
        frames = sse(stream, AISDK())
        async with anyio.create_task_group() as group:

            async def read() -> None:
                async for piece in frames:
                    if b"push" in piece:
                        reached.set()

            reached = anyio.Event()
            group.start_soon(read)
            await reached.wait()
            await anyio.wait_all_tasks_blocked()
            await frames.aclose()
        assert stream.status == "interrupted"
        await frames.aclose()


@each_loop
@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "open"])
async def test_closing_before_the_first_frame(mode: str, sent: bool) -> None:
    async with opened(mode, WORDS) as (stream, _):
        if sent:
            await stream.open()
        await sse(stream, AISDK()).aclose()
        assert stream.status == "interrupted"


@each_loop
@pytest.mark.parametrize("started", [False, True], ids=["not started", "started"])
async def test_dropping_the_frames_closes_the_connection(mode: str, started: bool) -> None:
    async with opened(mode, STALLED) as (stream, client):
        await stream.open()
        frames = sse(stream, AISDK())
        if started:
            await read_until(frames, b"push")
        del frames
        gc.collect()
        await until(lambda: stream.status != "streaming")
        assert stream.status == "interrupted"
        await until(lambda: not open_connections_in_use(client))


@pytest.mark.parametrize("mode", ["asyncio", "aiohttp"])  # on trio, only the loop may close a coroutine
async def test_closing_the_coroutine_closes_the_connection(mode: str) -> None:
    async with opened(mode, STALLED) as (stream, client):
        frames = sse(stream, AISDK())
        await read_until(frames, b"push")
        coroutine = frames.__anext__()
        coroutine.send(None)
        coroutine.close()
        await until(lambda: stream.status != "streaming")
        assert stream.status == "interrupted"
        await until(lambda: not open_connections_in_use(client))


@each_loop
@pytest.mark.parametrize("how", ["cancelled", "closed", "closed before", "dropped", "dropped before", "coroutine"])
async def test_a_detached_stream_goes_on(mode: str, how: str) -> None:
    if (mode, how) == ("trio", "coroutine"):
        pytest.skip("on trio, only the loop may close a coroutine")
    async with opened(mode, WORDS, sinks=(gate := Gate())) as (stream, client):
        frames = sse(stream, AISDK(), detach=True)
        if "before" not in how:
            await anext(frames)
            await gate.reached.wait()
            await read_until(frames, b"start-step")
        if how == "cancelled":
            with anyio.move_on_after(0.02):
                await read_until(frames, b"push")
        elif how == "coroutine":
            coroutine = frames.__anext__()
            coroutine.send(None)
            coroutine.close()
        elif "closed" in how:
            await frames.aclose()
        del frames
        gc.collect()
        assert stream.status in ("pending", "streaming")
        gate.open.set()
        await gate.finished.wait()
        assert (gate.status, gate.text) == ("complete", "They push water aside.")
        await until(lambda: not open_connections_in_use(client))


@each_loop
async def test_a_reader_of_a_detached_stream_is_woken_by_aclose(mode: str) -> None:
    async with opened(mode, WORDS, sinks=(gate := Gate())) as (stream, _):
        frames = sse(stream, AISDK(), detach=True)
        async with anyio.create_task_group() as group:

            async def read() -> None:
                async for _ in frames:
                    pass

            group.start_soon(read)
            await gate.reached.wait()
            await frames.aclose()
        gate.open.set()
        await gate.finished.wait()


@each_loop
async def test_a_detached_stream_that_was_read_to_its_end(mode: str) -> None:
    async with opened(mode, WORDS) as (stream, _):
        frames = sse(stream, AISDK(), detach=True)
        assert b"[DONE]" in b"".join([piece async for piece in frames])
        await frames.aclose()
        assert stream.status == "complete"


@each_loop
async def test_a_slow_consumer_holds_up_the_stream(mode: str) -> None:
    text = ["x" * 500] * 2000
    async with opened(mode, Reply.text(text)) as (stream, _):
        frames = sse(stream, AISDK())
        await anext(frames)
        await until(lambda: len(stream.text) > 50_000)
        await anyio.wait_all_tasks_blocked()
        assert len(stream.text) < 200_000
        body = b"".join([piece async for piece in frames])
        assert "".join(one["delta"] for one in of_type(body, "text-delta")) == "".join(text)


@each_loop
async def test_a_slow_consumer_that_leaves_closes_the_connection(mode: str) -> None:
    async with opened(mode, Reply.text(["x" * 500] * 2000)) as (stream, _):
        frames = sse(stream, AISDK())
        await anext(frames)
        await until(lambda: len(stream.text) > 50_000)
        await anyio.wait_all_tasks_blocked()
        await frames.aclose()
        assert stream.status == "interrupted"


@each_loop
async def test_one_reader_at_a_time(mode: str) -> None:
    async with opened(mode, STALLED) as (stream, _):
        frames = sse(stream, AISDK())
        await read_until(frames, b"push")
        async with anyio.create_task_group() as group:

            async def read() -> None:
                async for _ in frames:
                    pass

            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="one reader"):
                await anext(frames)
            await frames.aclose()


@each_loop
@pytest.mark.parametrize("method", ["write", "event", "finish"])
async def test_a_sink_that_raises_is_an_internal_error(
    mode: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("the secret disk is full")

    sink = type("Failing", (Sink,), {method: fail})()
    async with opened(mode, WORDS, sinks=sink) as (stream, _):
        body = b"".join([piece async for piece in sse(stream, AISDK())])
    assert types(body)[-2:] == ["message-metadata", "error"]
    assert of_type(body, "error")[0]["errorText"] == "Something went wrong on the server."
    assert of_type(body, "message-metadata")[0]["messageMetadata"]["status"] == "failed"
    assert b"secret" not in body
    assert "the secret disk is full" in caplog.text


@each_loop
async def test_context_variables_reach_the_sinks(mode: str) -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default="")
    variable.set("seen")
    seen: list[str] = []

    class Look(Sink):
        def write(self, text: str) -> None:
            seen.append(variable.get())

    async with opened(mode, WORDS, sinks=Look()) as (stream, _):
        async for _ in sse(stream, AISDK()):
            pass
    assert set(seen) == {"seen"}


@pytest.mark.parametrize("mode", ["asyncio", "trio"])
@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
def test_the_end_of_the_loop_interrupts_the_stream(mode: str, held: bool) -> None:
    program = f"""
    import anyio, gc
    from streamkit import BufferSink, stream_events
    from streamkit.testing import Reply, serve
    from streamkit.web import AISDK, sse

    kept, sink = [], BufferSink()

    async def main(server):
        client = server.async_client()
        params = {{"model": "claude-test", "max_tokens": 10, "messages": []}}
        stream = stream_events(client, sinks=sink, **params)
        frames = sse(stream, AISDK())
        while b"push" not in await anext(frames):
            pass
        kept.append(frames)
        if not {held}:
            del frames
            kept.clear()

    with serve(Reply.text("They push water aside.").stall(after_events=5)) as server:
        anyio.run(main, server, backend="{mode}")
        print(sink.result.status, sink.text)
    """
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore:Async generator:ResourceWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "interrupted They push \n", done.stderr
