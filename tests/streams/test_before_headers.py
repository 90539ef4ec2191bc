"""While the response is waited for: `cancel()`, the two timeouts, and what `collect` gives back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from signal import default_int_handler
from typing import Any

import anthropic
import anyio
import pytest

import streamkit
from streamkit import BufferSink, StreamTimeoutError
from streamkit.testing import Reply, Server, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, client_for, open_connections_in_use
from tests.support.harness import awaited, read_all, run, timed_out_once, wait_for_abandoned_requests, wait_until

PAUSE = 4  # seconds


def busy(seconds: int) -> Reply:
    """A refusal after which the SDK pauses, by its own hand, before it sends the request again."""
    return Reply.http_error(429, headers={"retry-after": str(seconds)})


SOURCES: dict[str, Callable[[Any], tuple[Any, dict[str, Any]]]] = {
    "client": lambda client: (client, PARAMS),
    "resource": lambda client: (client.messages, PARAMS),
    "beta": lambda client: (client.beta.messages, PARAMS),
    "options": lambda client: (client.with_options(timeout=50).messages, PARAMS),
    "timeout": lambda client: (client.messages, {**PARAMS, "timeout": 50}),
    "helper": lambda client: (client, {**PARAMS, "output_format": dict}),
    "manager": lambda client: (client.messages.stream(**PARAMS), {}),
    "beta manager": lambda client: (client.beta.messages.stream(**PARAMS), {}),
}


async def drained(stream: Any) -> BaseException | None:
    """Read a stream to its end in a `with` block, and return what it raised."""
    try:
        await read_all(stream)
    except (anthropic.APIError, KeyboardInterrupt) as error:
        return error
    return None


@contextlib.contextmanager
def once_asked(server: Server, act: Callable[[], None]) -> Iterator[list[float]]:
    """Act from another thread as soon as the server has the first request. Gives the moment of that."""
    acted: list[float] = []

    def wait() -> None:
        wait_until(lambda: bool(server.requests))
        threading.Event().wait(0.05)  # the answer is there, and the SDK pauses
        acted.append(time.monotonic())
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    yield acted
    thread.join(20)


@pytest.mark.parametrize("source", SOURCES)
def test_cancel_while_the_sdk_pauses(mode: str, source: str) -> None:
    """The loop ends quietly and at once, and no further request is sent."""
    sink = BufferSink()

    async def main() -> None:
        async with client_for(mode, server, max_retries=2) as client:
            given, params = SOURCES[source](client)
            stream = streamkit.stream_text(given, sinks=sink, **params)
            with once_asked(server, stream.cancel) as acted:
                assert await drained(stream) is None
            assert time.monotonic() - acted[0] < PAUSE - 0.5, "the pause is not waited for"
            assert (stream.status, stream.result.error, stream.text) == ("interrupted", None, "")
            assert sink.result is stream.result
            wait_for_abandoned_requests()
            if mode != "sync":
                await anyio.sleep(PAUSE + 0.2)  # longer than the pause: what was cancelled leaves no task
            if mode != "aiohttp":
                assert_no_connection_in_use(client)

    with serve(busy(PAUSE), repeat=True) as server:
        run(mode, main)
        assert len(server.requests) == 1


@contextlib.contextmanager
def slow_to_answer() -> Iterator[tuple[str, threading.Semaphore, threading.Event, list[bytes]]]:
    """A server that answers once it may.

    Gives its URL, a semaphore that is released at each request, the event that allows the answers, and what was read
    after each answer.
    """
    asked, may, closed = threading.Semaphore(0), threading.Event(), list[bytes]()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            request = b""
            while not request.endswith(b"}"):
                received = sock.recv(65536)
                if not received:
                    return
                request += received
            asked.release()
            may.wait(20)
            body = Reply.text("Too late").body
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + body)
            sock.settimeout(20)
            closed.append(sock.recv(1))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                start(answer, listener.accept()[0])

    def start(target: Callable[..., None], *args: Any) -> None:
        threads.append(threading.Thread(target=target, args=args, daemon=True))
        threads[-1].start()

    start(accept)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked, may, closed
    finally:
        may.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(20)


@contextlib.contextmanager
def when_asked(asked: threading.Semaphore, act: Callable[[], object]) -> Iterator[None]:
    """Act from another thread as soon as the server has the next request."""

    def wait() -> None:
        if asked.acquire(timeout=20):
            act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


@contextlib.contextmanager
def handling_alarms(handler: Callable[..., object]) -> Iterator[Callable[[], None]]:
    """Handle SIGALRM in this thread. Gives a function that sends the signal, from any thread."""
    signal: Any = pytest.importorskip("signal")
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("no alarms here")
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield partial(signal.pthread_kill, threading.get_ident(), signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_abandoned_request_is_closed_as_soon_as_it_answers() -> None:
    with slow_to_answer() as (url, asked, may, closed):
        client = anthropic.Anthropic(api_key="k", base_url=url)
        stream = streamkit.stream_text(client, **PARAMS)
        with when_asked(asked, stream.cancel), stream:
            assert list(stream) == []
        assert stream.status == "interrupted"
        may.set()
        wait_for_abandoned_requests()
        assert_no_connection_in_use(client)
        client.close()
    assert closed == [b""], "the connection was closed, not kept"


def test_cancel_in_a_signal_handler_while_the_response_is_waited_for() -> None:
    with slow_to_answer() as (url, asked, _, _):
        client = anthropic.Anthropic(api_key="k", base_url=url)
        stream = streamkit.stream_text(client, **PARAMS)
        before = set(threading.enumerate())
        with handling_alarms(lambda *_: stream.cancel()) as alarm, when_asked(asked, alarm):
            assert list(stream) == []
        assert stream.status == "interrupted"
        left = {thread.name for thread in set(threading.enumerate()) - before}
        assert "streamkit-request" in left, "the response is still waited for, by nobody but this thread"


@pytest.mark.parametrize("source", [*SOURCES, "streamed"])
@pytest.mark.parametrize("clock", ["idle", "total"])
def test_a_timeout_while_the_sdk_pauses(mode: str, source: str, clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further request is sent, although the pause ends."""
    # A late timeout is not put off: the pause is not much longer than the timeout.
    monkeypatch.setattr("streamkit._io.interrupt.EXTENSION", 0.0)
    options: dict[str, Any] = {f"{clock}_timeout": 0.8}

    async def main() -> None:
        async with client_for(mode, server, max_retries=2) as client:
            if source == "streamed":
                began = time.monotonic()
                create = streamkit.streamed(client.messages.create, retries=0, **options)
                with pytest.raises(StreamTimeoutError) as caught:
                    await awaited(create(**PARAMS))
                error, took = caught.value, time.monotonic() - began
            else:
                given, params = SOURCES[source](client)
                retries = {"retries": 0} if params else {}
                stream = streamkit.stream_text(given, **options, **retries, **params)
                found = await drained(stream)
                assert isinstance(found, StreamTimeoutError)
                assert stream.result is found.result
                error, took = found, stream.result.timing.total
            assert (error.clock, error.result.status, error.result.attempts) == (clock, "timed_out", 1)
            assert took >= 0.8
            wait_for_abandoned_requests()
            if mode != "aiohttp":
                assert_no_connection_in_use(client)

    with serve(busy(3), repeat=True) as server:
        run(mode, main)
        assert len(server.requests) <= 1  # none, where the timeout expires before it is sent


def test_an_idle_timeout_before_the_headers_is_retried_like_any_other(mode: str) -> None:
    with serve(busy(8), Reply.text("Hello")) as server:

        async def main() -> None:
            async with client_for(mode, server, max_retries=2) as client:
                stream = streamkit.stream_text(client, idle_timeout=60, retries=1, **PARAMS)
                with timed_out_once(stream, lambda: bool(server.requests)):
                    assert await drained(stream) is None
                assert (stream.text, stream.result.attempts) == ("Hello", 2)

        run(mode, main)
        assert len(server.requests) == 2


def test_a_refused_request_is_returned(mode: str) -> None:
    """In a `gather` one request that is refused must not lose the other results."""
    with serve(Reply.http_error(400, message="too long")) as server:

        async def main() -> None:
            async with client_for(mode, server, max_retries=2) as client:
                sink = BufferSink()
                result = await awaited(streamkit.collect(client, sinks=sink, on_error="return", **PARAMS))
                assert (result.status, type(result.error)) == ("failed", anthropic.BadRequestError)
                assert "too long" in str(result.error)
                assert sink.result is result

        run(mode, main)


@pytest.mark.parametrize("error", [anthropic.APIConnectionError, anthropic.APITimeoutError])
def test_a_request_that_never_got_through_is_returned(mode: str, error: type[Exception]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if error is anthropic.APIConnectionError:
            listener.close()

        async def main() -> None:
            kind: Any = anthropic.Anthropic if mode == "sync" else anthropic.AsyncAnthropic
            client = kind(api_key="k", base_url=url, max_retries=0, timeout=1.0)
            result = await awaited(streamkit.collect(client, on_error="return", **PARAMS))
            await awaited(client.close())
            assert type(result.error) is error
            assert result.status == ("timed_out" if error is anthropic.APITimeoutError else "disconnected")

        run(mode, main)


def test_cancel_in_the_moment_of_a_refusal_ends_it_quietly(mode: str) -> None:
    """`cancel()` came first, though the request failed before anybody looked."""
    if mode == "aiohttp":
        pytest.skip("the hooks are the HTTP library's own")

    def hook(_: object) -> None:
        stream.cancel()

    async def awaited_hook(_: object) -> None:
        stream.cancel()

    with serve(Reply.http_error(400)) as server:
        kind: Any = anthropic.DefaultHttpxClient if mode == "sync" else anthropic.DefaultAsyncHttpxClient
        hooks = {"response": [hook if mode == "sync" else awaited_hook]}
        stream: Any = None

        async def main() -> None:
            nonlocal stream
            async with client_for(mode, server, max_retries=2) as given:
                client = given.with_options(http_client=kind(event_hooks=hooks, trust_env=False))
                stream = streamkit.stream_text(client, **PARAMS)
                assert await drained(stream) is None
                assert (stream.status, stream.result.error) == ("interrupted", None)
                await awaited(client.close())

        run(mode, main)


def test_mistakes_of_the_caller_are_never_returned(mode: str) -> None:
    with serve(Reply.text("Hello"), repeat=True) as server:

        async def main() -> None:
            async with client_for(mode, server, max_retries=2) as client:
                wrong: Any = {"nonsense": 1}
                with pytest.raises(TypeError):
                    await awaited(streamkit.collect(client, on_error="return", **wrong, **PARAMS))

        run(mode, main)


def test_an_interrupt_before_the_headers_is_returned() -> None:
    with slow_to_answer() as (url, asked, may, _):
        client = anthropic.Anthropic(api_key="k", base_url=url)
        sink = BufferSink()
        with handling_alarms(default_int_handler) as alarm:
            with when_asked(asked, alarm):
                result = streamkit.collect(client, sinks=sink, on_interrupt="return", **PARAMS)
            with pytest.raises(KeyboardInterrupt), when_asked(asked, alarm):
                streamkit.collect(client, **PARAMS)
        assert (result.status, type(result.error), result.text) == ("interrupted", KeyboardInterrupt, "")
        assert result is sink.result
        may.set()
        wait_for_abandoned_requests()
        assert_no_connection_in_use(client)


def test_a_context_variable_of_the_caller_is_seen_by_the_request() -> None:
    import contextvars

    seen: list[Any] = []
    variable = contextvars.ContextVar[str]("variable")
    with serve(Reply.text("Hello")) as server:
        hooks = {"request": [lambda _: seen.append(variable.get("unset"))]}
        client = server.client(http_client=anthropic.DefaultHttpxClient(event_hooks=hooks, trust_env=False))
        variable.set("set")
        streamkit.collect(client, **PARAMS)
    assert seen == ["set"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio does not count cancellations there")
def test_a_cancellation_from_outside_in_the_same_moment_goes_on() -> None:
    """`cancel()` takes back its own cancellation of the task, and no other."""

    async def main() -> None:
        async with client_for("asyncio", server, max_retries=2) as client:
            stream = streamkit.stream_text(client, **PARAMS)
            task = asyncio.create_task(drained(stream))
            while not server.requests:  # noqa: ASYNC110 - another thread answers
                await asyncio.sleep(0.001)
            stream.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert stream.status == "interrupted"
            # One that was closed in the middle stays in the list until the next request.
            assert open_connections_in_use(client) == []

    with serve(busy(PAUSE), repeat=True) as server:
        run("asyncio", main)


def test_a_task_that_was_read_for_is_not_cancelled_afterwards() -> None:
    async def main() -> None:
        async with client_for("asyncio", server, max_retries=2) as client:
            stream = streamkit.stream_text(client, **PARAMS)
            with once_asked(server, stream.cancel):
                await drained(stream)
            task: Any = asyncio.current_task()
            if hasattr(task, "cancelling"):
                assert task.cancelling() == 0
            await asyncio.sleep(0.01)

    with serve(busy(PAUSE), repeat=True) as server:
        run("asyncio", main)
