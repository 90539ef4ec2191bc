"""The clocks: they run out at their time and not before, and name themselves; sync, asyncio and trio."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import anyio
import pytest

import streamkit
from streamkit import BufferSink, StreamTimeoutError
from streamkit._sdk.models import event_factory
from streamkit.testing import Reply, Server, serve
from tests.support.clients import PARAMS, client_for
from tests.support.events import (
    MESSAGE_STOP,
    block_delta,
    block_start,
    block_stop,
    message_delta,
    message_start,
    text_delta,
)
from tests.support.harness import MODES, awaited, items_of, run

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

ONE_FAST = ["sync", *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:])]  # seconds each
REPLY = Reply.text(["One ", "two ", "three"])  # its first piece of text is the fourth event
SLACK = 3.0  # seconds that a loaded machine may take longer; every other time in the same test is beyond it


@contextlib.asynccontextmanager
async def opened_by(way: str, client: Any, mode: str) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """A source, and the parameters that go with it."""
    if way == "client":
        yield client, {"retries": 0, **PARAMS}
    elif way == "raw":
        stream = client.messages.create(stream=True, **PARAMS)
        yield (stream if mode == "sync" else await stream), {}
    elif mode == "sync":
        with client.messages.stream(**PARAMS) as stream:
            yield stream, {}
    else:
        async with client.messages.stream(**PARAMS) as stream:
            yield stream, {}


async def ran_out(
    mode: str, server: Server, clock: str, way: str = "client", client: dict[str, Any] | None = None, **options: Any
) -> tuple[StreamTimeoutError, float]:
    """The error of a stream whose clock runs out, and how long it was waited for after the first content."""
    async with client_for(mode, server, **(client or {})) as one:
        async with opened_by(way, one, mode) as (source, params):
            sink = BufferSink()
            stream = streamkit.stream_text(source, sinks=sink, **params, **options)
            with pytest.raises(anthropic.APITimeoutError) as caught:
                async for _ in items_of(stream):
                    pass
            error: Any = caught.value
            assert (type(error), error.clock, error.retryable) == (StreamTimeoutError, clock, True)
            assert error.result is stream.result is sink.result
            assert (stream.status, stream.text) == ("timed_out", sink.text)
            assert str(next(iter(options.values()), "read")) in str(error)
            return error, error.result.timing.total


WAYS = ["client", "helper", pytest.param("raw", marks=pytest.mark.slow)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pings", [None, 0.03], ids=["silence", "pings"])
def test_idle(mode: str, way: str, pings: float | None) -> None:
    with serve(REPLY.stall(after_events=4, pings=pings)) as server:
        error, took = run(mode, lambda: ran_out(mode, server, "idle", way, idle_timeout=1.5))
    assert "One ".startswith(error.result.text)  # empty, where the text is late
    assert took >= 1.5
    print("1 case")


@pytest.mark.parametrize("way", WAYS)
def test_total_during_steady_content(mode: str, way: str) -> None:
    words = [f"{n} " for n in range(1000)]
    with serve(Reply.text(words, delay=0.02)) as server:
        error, took = run(mode, lambda: ran_out(mode, server, "total", way, total_timeout=2.0, idle_timeout=10))
    assert "".join(words).startswith(error.result.text)
    assert took >= 2.0
    print("1 case")


def test_total_in_silence_and_under_pings(mode: str) -> None:
    for pings in (None, 0.03):
        with serve(REPLY.stall(after_events=4, pings=pings)) as server:
            error, took = run(mode, lambda: ran_out(mode, server, "total", total_timeout=2.0))
        assert "One ".startswith(error.result.text)
        assert took >= 2.0
    print("2 cases")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("clocks", [{}, {"idle_timeout": 15.0, "total_timeout": 18.0}], ids=["alone", "with clocks"])
def test_the_read_timeout_of_the_sdk(mode: str, way: str, clocks: dict[str, Any]) -> None:
    with serve(REPLY.stall(after_events=4)) as server:

        async def go() -> Any:
            async with (
                client_for(mode, server, timeout=1.5) as client,
                opened_by(way, client, mode) as (source, params),
            ):
                with pytest.raises(StreamTimeoutError) as caught:
                    async for _ in items_of(streamkit.stream_text(source, **params, **clocks)):
                        pass
                return caught.value

        error = run(mode, go)
    assert (error.clock, error.result.status) == ("read", "timed_out")
    assert "One ".startswith(error.result.text)
    # The HTTP library counts from its own last read, which comes before the open where it reads ahead.
    assert error.result.timing.total >= 1.4
    print("1 case")


def test_a_clock_that_cannot_wake_the_reader_counts_at_the_next_event() -> None:
    """A stand-in offers no socket to shut down. What arrives at last counts, and then the clock does."""

    def events() -> Iterator[Any]:
        for event in (message_start(), block_start(), text_delta("One ")):
            yield event_factory(False)(event)
        while stream._interrupter.reason is None:
            threading.Event().wait(0.01)
        yield event_factory(False)(text_delta("two"))
        raise AssertionError("it is not read any more")

    stream = streamkit.stream_text(events(), idle_timeout=1.0)  # type: ignore[call-overload]
    with pytest.raises(StreamTimeoutError) as caught:
        for _ in stream:
            pass
    assert (caught.value.clock, stream.text, stream.status) == ("idle", "One two", "timed_out")


def test_a_clock_that_runs_out_while_the_consumer_works(mode: str) -> None:
    """What is decoded is handed out; what waits in the socket is not read any more, though it could be."""
    with serve(Reply.text("four" for _ in range(20_000))) as server:

        async def work(stream: Any) -> None:
            async for _ in items_of(stream):
                last_of_chunk.append(not stream._state.frames)
                while time.monotonic() < stream._interrupter.total_deadline or (mode == "sync" and running(stream)):  # noqa: ASYNC110
                    await anyio.sleep(0.01)

        async def go() -> None:
            async with client_for(mode, server) as client:
                stream = streamkit.stream_text(client, retries=0, total_timeout=2.0, **PARAMS)
                with pytest.raises(StreamTimeoutError) as caught:
                    await work(stream)
                assert (caught.value.clock, stream.status, sum(last_of_chunk)) == ("total", "timed_out", 1)

        def running(stream: Any) -> bool:  # until the thread that keeps the time has looked
            return stream._interrupter.reason is None

        last_of_chunk: list[bool] = []
        run(mode, go)


def test_the_first_clock_names_itself(mode: str) -> None:
    cases = [
        ({"idle_timeout": 0.2, "total_timeout": 15}, "idle"),
        ({"idle_timeout": 15, "total_timeout": 0.2}, "total"),
    ]
    for options, clock in cases:
        with serve(REPLY.stall(after_events=4, pings=0.03)) as server:

            async def go() -> Any:
                async with client_for(mode, server) as client:
                    with pytest.raises(StreamTimeoutError) as caught:
                        async for _ in items_of(streamkit.stream_text(client, retries=0, **options, **PARAMS)):  # noqa: B023
                            pass
                    return caught.value.clock

            assert run(mode, go) == clock
    print(f"{len(cases)} cases")


@pytest.mark.parametrize("mode", ONE_FAST)
def test_long_thinking_survives_an_idle_clock(mode: str) -> None:
    """Thinking is content, also where nobody listens to it; so is tool input."""
    thinking = [block_delta(0, "thinking_delta", thinking=f"{n} ") for n in range(20)]
    block = block_start(0, "thinking", thinking="", signature="")
    signed = block_delta(0, "signature_delta", signature="c2ln")
    events = (
        message_start(),
        block,
        *thinking,
        signed,
        block_stop(),
        block_start(1),
        text_delta("So", 1),
        block_stop(1),
        message_delta(),
        MESSAGE_STOP,
    )
    with serve(Reply.events(*events, delay=0.1)) as server:

        async def go() -> Any:
            async with client_for(mode, server) as client:
                stream = streamkit.stream_text(client, idle_timeout=1.8, **PARAMS)
                assert [piece async for piece in items_of(stream)] == ["So"]
                return stream.result

        result = run(mode, go)
    assert result.status == "complete"
    assert result.timing.total > 1.8, "longer than the clock, all in all"
    print("1 case")


def work(seconds: float) -> None:
    """What a consumer does with a piece, and blocks the thread with."""
    time.sleep(seconds)


@pytest.mark.parametrize("mode", ONE_FAST)
def test_a_slow_consumer_does_not_trip_the_idle_clock(mode: str) -> None:
    """Time in the loop's body is the consumer's: with what arrived meanwhile, and with what is still to come."""
    with serve(REPLY, REPLY.stall(after_events=4)) as server:

        async def go() -> None:
            async with client_for(mode, server) as client:
                stream = streamkit.stream_text(client, idle_timeout=1.5, **PARAMS)
                async for _ in items_of(stream):
                    work(1.6)
                    if mode != "sync":
                        await anyio.sleep(0.1)
                assert (stream.status, stream.text) == ("complete", "One two three")
                stream = streamkit.stream_text(client, idle_timeout=1.5, retries=0, **PARAMS)
                seen = 0.0
                with pytest.raises(StreamTimeoutError):  # noqa: PT012
                    async for _ in items_of(stream):
                        work(1.6)
                        seen = stream.result.timing.total
                assert stream.result.timing.total >= seen + 1.5, "the clock begins when the reader waits"

        run(mode, go)
    print("2 cases")


@pytest.mark.parametrize("mode", ONE_FAST)
def test_content_that_comes_just_in_time(mode: str) -> None:
    """Each piece starts the clock anew."""
    with serve(Reply.text([f"{n}" for n in range(9)], delay=0.12)) as server:

        async def go() -> Any:
            async with client_for(mode, server) as client:
                stream = streamkit.stream_text(client, idle_timeout=1.4, **PARAMS)
                async for _ in items_of(stream):
                    pass
                return stream.result

        result = run(mode, go)
    assert (result.status, result.text) == ("complete", "012345678")
    assert result.timing.total > 1.4, "longer than the clock, all in all"
    assert result.timing.longest_gap < 1.4
    print("1 case")


@contextlib.contextmanager
def mute() -> Iterator[str]:
    """A server that takes the request, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("place", "timeout", "retries"),
    [("client", 4, 0), ("client", 6.0, 2), ("client", anthropic.Timeout(None, read=8), 0), ("resource", 12, 1)],
)
def test_total_while_the_response_is_waited_for(mode: str, place: str, timeout: Any, retries: int) -> None:
    """Also where the SDK would try again. A resource does not say what timeout its client has: there it is given."""
    kind: Any = anthropic.Anthropic if mode == "sync" else anthropic.AsyncAnthropic
    with mute() as url:

        async def go() -> Any:
            made = kind(api_key="k", base_url=url, max_retries=retries, timeout=timeout)
            source, given = (made, {}) if place == "client" else (made.beta.messages, {"timeout": timeout})
            stream = streamkit.stream_text(source, total_timeout=0.3, **given, **PARAMS)
            with pytest.raises(StreamTimeoutError) as caught:
                async for _ in items_of(stream):
                    pass
            await awaited(made.close())
            assert caught.value.result is stream.result
            return stream.result

        result = run(mode, go)
    assert (result.status, result.text, result.error.clock) == ("timed_out", "", "total")
    assert 0.3 <= result.timing.total < 0.3 + SLACK
    print("1 case")


def test_the_timeout_of_the_sdk_while_the_response_is_waited_for(mode: str) -> None:
    """What the SDK raises before there is a response goes on as it is, with a clock too."""
    kind: Any = anthropic.Anthropic if mode == "sync" else anthropic.AsyncAnthropic
    with mute() as url:

        async def go() -> None:
            client = kind(api_key="k", base_url=url, max_retries=0, timeout=0.2)
            stream = streamkit.stream_text(client, total_timeout=60, **PARAMS)
            with pytest.raises(anthropic.APITimeoutError) as caught:
                await awaited(stream.open())
            await awaited(client.close())
            assert (type(caught.value), stream.status) == (anthropic.APITimeoutError, "timed_out")

        run(mode, go)


def test_many_clocks_at_once(mode: str) -> None:
    """Each of many streams has its own time, and those whose clocks do not run out end well."""
    count = 24

    async def one(client: Any, number: int, found: dict[int, Any]) -> None:
        idle = 3.0 if number % 2 else 15  # time for 24 streams to get their first text on a loaded machine
        stream = streamkit.stream_text(client, idle_timeout=idle, total_timeout=18, retries=0, **PARAMS)

        async def drain() -> None:
            with contextlib.suppress(StreamTimeoutError):
                async for _ in items_of(stream):
                    pass

        if mode == "sync":
            await anyio.to_thread.run_sync(lambda: anyio.run(drain), limiter=anyio.CapacityLimiter(1))
        else:
            await drain()
        found[number] = stream.result

    async def go() -> dict[int, Any]:
        found: dict[int, Any] = {}
        async with client_for(mode, stalls) as stalling, client_for(mode, slows) as slow:
            async with anyio.create_task_group() as tasks:
                for number in range(count):
                    tasks.start_soon(one, stalling if number % 2 else slow, number, found)
        return found

    with serve(REPLY.stall(after_events=4, pings=0.05), repeat=True) as stalls:
        with serve(Reply.text(["One ", "two ", "three"], delay=0.1), repeat=True) as slows:
            found = run(mode, go)
    assert len(found) == count
    for number, result in found.items():
        assert result.status == ("timed_out" if number % 2 else "complete"), number
        if number % 2:
            assert "One ".startswith(result.text), number
        else:
            assert result.text == "One two three"
    clocks = [thread.name for thread in threading.enumerate() if thread.name.startswith("streamkit-clock")]
    assert len(clocks) <= 1
    print(f"{count} streams")


THOUSAND = """
import resource, threading
from streamkit import stream_text
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
with serve(Reply.text("Hello there").stall(after_events=4), repeat=True) as server:
    client = sdk_client(server)
    streams = [stream_text(client, idle_timeout=60, total_timeout=60, **PARAMS) for _ in range(1000)]
    for stream in streams:
        assert next(stream) == "Hello "
    clocks = [t for t in threading.enumerate() if t.name == "streamkit-clock"]
    for stream in streams:
        stream.close()
assert len(clocks) == 1, clocks
print("1000 streams with clocks, 1 thread")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the limit on open files is another there")
def test_a_thousand_clocks_are_kept_by_one_thread() -> None:
    done = subprocess.run(  # noqa: S603 - this file's own script
        [sys.executable, "-W", "error", "-c", THOUSAND], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    print(done.stdout.strip())


SCRIPT = """
import sys, threading
from streamkit import collect
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client
from tests.support.harness import wait_for_abandoned_requests

def ours():
    wait_for_abandoned_requests()  # the thread of a request ends a moment after its response is there
    return [t for t in threading.enumerate() if t.name != "MainThread" and "testing" not in t.name]

with serve(Reply.text("Hello there", delay=0.01), repeat=True) as server:
    client = sdk_client(server)
    collect(client, **PARAMS)
    assert ours() == [], ours()
    work = [
        threading.Thread(target=lambda: collect(client, idle_timeout=20, total_timeout=30, **PARAMS), name="testing")
        for _ in range(12)
    ]
    [one.start() for one in work]
    [one.join() for one in work]
    found = ours()
assert [t.name for t in found] == ["streamkit-clock"], found
assert found[0].daemon
print("12 clocks, 1 thread")
"""


@pytest.mark.slow
def test_without_a_clock_there_is_no_thread_and_with_many_there_is_one() -> None:
    done = subprocess.run(  # noqa: S603 - this file's own script
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    print(done.stdout.strip())


def test_async_clocks_need_no_thread() -> None:
    before = [thread for thread in threading.enumerate() if thread.name == "streamkit-clock"]
    with serve(REPLY.stall(after_events=4)) as server:
        run("asyncio", lambda: ran_out("asyncio", server, "idle", idle_timeout=0.1))
    assert [thread for thread in threading.enumerate() if thread.name == "streamkit-clock"] == before
    print("1 case")
