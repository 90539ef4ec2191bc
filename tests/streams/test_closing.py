"""The four functions, sync and async, on asyncio and trio, with the SDK's real client over real sockets."""

# ruff: noqa: PT012, PT031 - the whole life of a stream stands under one `raises`
from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import socket
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import streamkit
from streamkit import (
    AsyncSink,
    BufferSink,
    CallbackSink,
    Sink,
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamResult,
    StreamTimeoutError,
    StreamTruncatedError,
    UsageMeter,
)
from streamkit.testing import Reply, Server, record, serve
from tests.conftest import (
    BETA,
    FIXTURES,
    PARAMS,
    PING,
    STOP,
    async_sdk,
    closed,
    delta,
    ending,
    free,
    opened,
    sdk,
    settled,
    sse,
    start,
    text,
    tool,
)

pytestmark = [
    pytest.mark.anyio,
    # The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
    pytest.mark.filterwarnings("ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning"),
]

# message_start, ping, content_block_start, "One ", "two ", "three", content_block_stop, message_delta, message_stop
REPLY = Reply.text(["One ", "two ", "three"])
TEXT = "One two three"
SOON = {"retry-after": "0.001"}


class Live:
    """A stream of either kind, with the same methods: those of async, and the members of both."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.is_async = hasattr(stream, "__anext__")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    async def call(self, sync_name: str, async_name: str, *args: Any) -> Any:
        if self.is_async:
            return await getattr(self.stream, async_name)(*args)
        return getattr(self.stream, sync_name)(*args)

    async def open(self) -> Live:
        assert await self.call("open", "open") is self.stream
        return self

    async def next(self) -> Any:
        if self.is_async:
            return await self.stream.__anext__()
        for item in self.stream:
            return item
        raise StopAsyncIteration

    async def until_done(self) -> StreamResult:
        return await self.call("until_done", "until_done")

    async def close(self) -> None:
        await self.call("close", "aclose")

    aclose = close

    async def __aenter__(self) -> Live:  # noqa: PYI034
        assert await self.call("__enter__", "__aenter__") is self.stream
        return self

    async def __aexit__(self, *error: object) -> None:
        assert await self.call("__exit__", "__aexit__", *error) is None

    def __aiter__(self) -> Live:
        return self

    async def __anext__(self) -> Any:
        return await self.next()


class Kit:
    """Clients and the four functions, of the kind that the test runs with."""

    def __init__(self, mode: str) -> None:
        self.is_async = mode != "sync"
        self._clients: list[anthropic.AsyncAnthropic] = []

    def client(self, server: Server, **options: Any) -> Any:
        if not self.is_async:
            return sdk(server, **options)
        self._clients.append(async_sdk(server, **options))
        return self._clients[-1]

    async def aclose(self) -> None:
        for client in self._clients:
            await client.close()

    def _source(self, source: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if isinstance(source, Server):
            source = self.client(source)
        return source, ({**PARAMS, **options} if hasattr(source, "messages") or hasattr(source, "create") else options)

    def text(self, source: Any, **options: Any) -> Live:
        source, options = self._source(source, options)
        return Live(streamkit.stream_text(source, **options))

    def events(self, source: Any, **options: Any) -> Live:
        source, options = self._source(source, options)
        return Live(streamkit.stream_events(source, **options))

    async def collect(self, source: Any, **options: Any) -> StreamResult:
        source, options = self._source(source, options)
        return await self.call(streamkit.collect, source, **options)

    async def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await settled(function(*args, **options))


@pytest.fixture(params=["sync", "asyncio", "trio"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def anyio_backend(mode: str) -> str:
    return "trio" if mode == "trio" else "asyncio"


@pytest.fixture
async def kit(mode: str, anyio_backend: str) -> AsyncIterator[Kit]:
    kit = Kit(mode)
    yield kit
    await kit.aclose()


class Log(Sink):
    """Keeps every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def write(self, text: str) -> None:
        self.calls.append(("write", text))

    def thinking(self, text: str) -> None:
        self.calls.append(("thinking", text))

    def event(self, event: Any) -> None:
        self.calls.append(("event", event.type))

    def finish(self, result: StreamResult) -> None:
        self.calls.append(("finish", result.status))

    def of(self, method: str) -> list[Any]:
        return [value for name, value in self.calls if name == method]


@contextlib.contextmanager
def raw_server(*parts: bytes) -> Iterator[tuple[str, threading.Event]]:
    """A server for one connection that sends this body, then waits for the client to leave. Gives its URL, and
    the event that is set when the client has left.
    """
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65536)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                connection.sendall(head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts))
                with contextlib.suppress(OSError):
                    while connection.recv(65536):
                        pass
                gone.set()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", gone
    assert gone.wait(5), "the connection was not closed"
    thread.join()


# What a stream says of itself.


async def test_members_before_in_and_after(kit: Kit) -> None:
    with serve(REPLY) as server:
        stream = kit.text(server)
        assert (stream.text, stream.status, stream.message, stream.request_id) == ("", "streaming", None, None)
        assert (stream.usage.input_tokens, stream.result.status, stream.partial_output) == (0, "streaming", None)
        assert server.requests == [], "making a stream sends nothing"
        seen = ""
        async with stream:
            assert len(server.requests) == 1
            assert str(stream.request_id).startswith("req_")
            assert stream.text == ""
            async for piece in stream:
                seen += piece
                assert stream.text == stream.result.text == seen
                assert stream.message.content[0].text == seen
                assert (stream.status, stream.usage.output_tokens) == ("streaming", 1)
                assert not stream.result.usage_final
            assert stream.status == "complete"
        assert (stream.text, stream.status, stream.usage.output_tokens) == (TEXT, "complete", 3)
        assert stream.result is stream.result
        assert stream.result.message == stream.message
        assert f"complete, {len(TEXT)} characters" in repr(stream.stream)


async def test_members_after_break(kit: Kit) -> None:
    log = Log()
    with serve(REPLY) as server:
        async with kit.text(server, sinks=log) as stream:
            async for _ in stream:
                break
    assert (stream.status, stream.text, stream.result.error) == ("interrupted", "One ", None)
    assert stream.message.content[0].text == "One "
    assert (stream.usage.input_tokens, stream.result.usage_final) == (10, False)
    assert log.of("write") == ["One "]
    assert log.of("finish") == ["interrupted"]


async def test_members_after_an_exception_in_the_loop(kit: Kit) -> None:
    log, raised = Log(), ZeroDivisionError("x")
    with serve(REPLY) as server:
        stream = kit.text(server, sinks=log)
        with pytest.raises(ZeroDivisionError) as caught:
            async with stream:
                await stream.next()
                raise raised
    assert caught.value is raised
    assert (stream.status, stream.text, stream.result.error) == ("interrupted", "One ", raised)
    assert log.of("finish") == ["interrupted"]


async def test_iteration_without_with(kit: Kit) -> None:
    with serve(REPLY) as server:
        stream = kit.text(server)
        assert [piece async for piece in stream] == ["One ", "two ", "three"]
        assert stream.status == "complete"
        assert [piece async for piece in stream] == [], "a stream at its end stays there"
        assert (await stream.until_done()).ok
        assert (await stream.open()).status == "complete"
        await stream.close()
        await stream.close()
        assert stream.result.ok


SDK_READS = [path for path in FIXTURES if path.stem != "no_event_lines"]  # which the SDK passes over
each_that_the_sdk_reads = pytest.mark.parametrize("path", SDK_READS, ids=lambda path: path.stem)


@each_that_the_sdk_reads
async def test_events_are_those_of_the_sdk(kit: Kit, path: Path) -> None:
    with serve(Reply.recorded(path), repeat=True) as server:
        client = kit.client(server)
        resource = client.beta.messages if path.stem in BETA else client.messages
        if kit.is_async:
            async with await resource.create(**PARAMS, stream=True) as raw:
                expected = [event async for event in raw]
        else:
            with resource.create(**PARAMS, stream=True) as raw:
                expected = list(raw)
        async with kit.events(resource) as stream:
            given = [event async for event in stream]
    if not any(event.type == "weather_report" for event in expected):  # older versions of the SDK leave it out
        given = [event for event in given if event.type != "weather_report"]
    assert [type(event) for event in given] == [type(event) for event in expected]
    assert [event.to_dict(warnings=False) for event in given] == [event.to_dict(warnings=False) for event in expected]


async def test_unknown_events_pass_through(kit: Kit) -> None:
    odd = {"type": "weather_report", "sky": "clear"}
    with serve(Reply.events(start(), odd, opened(), text("x"), closed(), ending(), STOP)) as server:
        async with kit.events(server) as stream:
            given = [event async for event in stream]
    assert [event.type for event in given][:3] == ["message_start", "weather_report", "content_block_start"]
    assert given[1].sky == "clear"


@each_that_the_sdk_reads
async def test_the_message_is_that_of_the_sdk(kit: Kit, path: Path) -> None:
    with serve(Reply.recorded(path), repeat=True) as server:
        client = kit.client(server)
        resource = client.beta.messages if path.stem in BETA else client.messages
        result = await kit.collect(resource, separator="")
        manager = resource.stream(**PARAMS)
        if kit.is_async:
            async with manager as stream:
                expected = await stream.get_final_message()
        else:
            with manager as stream:
                expected = stream.get_final_message()
    assert result.text == "".join(block.text for block in expected.content if block.type == "text")
    if tuple(int(part) for part in anthropic.__version__.split(".")[:2]) >= (2, 12):  # older ones keep less
        wanted = expected.to_dict(warnings=False)
        for block in wanted["content"]:
            block.pop("parsed_output", None)
        assert result.message is not None
        assert result.message.to_dict(warnings=False) == wanted


async def test_a_body_without_event_lines(kit: Kit) -> None:
    path = next(path for path in FIXTURES if path.stem == "no_event_lines")
    with serve(Reply.recorded(path)) as server:
        result = await kit.collect(server)
    assert result.ok
    assert len(result.text) > 10


# Opening.


async def test_a_refused_request_fails_in_open(kit: Kit) -> None:
    log = Log()
    with serve(Reply.http_error(429, message="Slow down")) as server:
        stream = kit.text(server, sinks=log)
        with pytest.raises(anthropic.RateLimitError, match="Slow down") as caught:
            await stream.open()
        assert not isinstance(caught.value, StreamError)
        assert (stream.status, stream.result.error, stream.result.attempts) == ("failed", caught.value, 1)
        assert log.calls == [("finish", "failed")]
        await stream.close()
        assert log.calls == [("finish", "failed")]
        with pytest.raises(RuntimeError, match=r"ended \(failed\): make a new one|closed"):
            await stream.open()
        assert len(server.requests) == 1


@pytest.mark.parametrize("way", ["with", "next", "until_done", "collect"])
async def test_a_refused_request_fails_whatever_opens_the_stream(kit: Kit, way: str) -> None:
    log = Log()
    with serve(Reply.http_error(401)) as server:
        stream = kit.text(server, sinks=log)
        with pytest.raises(anthropic.AuthenticationError):
            if way == "with":
                async with stream:
                    pass
            elif way == "next":
                await stream.next()
            elif way == "until_done":
                await stream.until_done()
            else:
                await kit.collect(server, sinks=log)
    assert log.calls == [("finish", "failed")]


async def test_a_server_that_is_not_there(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = kit.client(server)
    stream = kit.text(client)
    with pytest.raises(anthropic.APIConnectionError) as caught:
        await stream.open()
    assert not isinstance(caught.value, StreamError)
    assert (stream.status, stream.request_id) == ("disconnected", None)


async def test_open_once_open_does_nothing(kit: Kit) -> None:
    with serve(REPLY) as server:
        stream = await kit.text(server).open()
        await stream.open()
        async with stream:
            assert await stream.next() == "One "
            await stream.open()
            assert (await stream.until_done()).text == TEXT
        assert len(server.requests) == 1


# Faults.

FAULTS: dict[str, tuple[Reply, type[StreamError], type[Exception], str]] = {
    name: (reply, kind, sdk_kind, status)
    for reply, kind, sdk_kind, status, name in [
        (REPLY.cut(after_events=5), StreamTruncatedError, anthropic.APIConnectionError, "disconnected", "cut"),
        (
            REPLY.cut(after_bytes=len(b"".join(REPLY.frames[:5])) + 9),
            *(StreamTruncatedError, anthropic.APIConnectionError, "disconnected", "cut in an event"),
        ),
        (REPLY.reset(after_events=5), StreamConnectionError, anthropic.APIConnectionError, "disconnected", "reset"),
        (REPLY.error("api_error", after_events=5), StreamAPIError, anthropic.APIStatusError, "failed", "error event"),
        *(
            (REPLY.garbage(garbage, after_events=5), StreamProtocolError, anthropic.APIError, "failed", name)
            for name, garbage in {
                "bad JSON": b"event: message_delta\ndata: {oops\n\n",
                "bad UTF-8": b'event: message_delta\ndata: {"a":"\xff"}\n\n',
                "no object": b"event: message_delta\ndata: []\n\n",
                "out of order": sse(text("x", 9)),
                "second start": sse(start()),
                "type no text": b'data: {"type":["x"]}\n\ndata: oops\n\n',
                "text no text": sse(opened(1, text=5)),
            }.items()
        ),
    ]
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_after_content(kit: Kit, fault: str) -> None:
    """Everything that came before is there, in one error that the SDK's handlers catch; and nothing is sent again."""
    reply, kind, sdk_kind, status = FAULTS[fault]
    log, pieces = Log(), []
    with serve(reply, REPLY) as server:
        client = kit.client(server)
        stream = kit.text(client, sinks=log, retries=2)
        with pytest.raises(sdk_kind) as caught:
            async with stream:
                async for piece in stream:
                    pieces.append(piece)  # noqa: PERF401
        assert len(server.requests) == 1, "never again after content"
        free(client)
    error: Any = caught.value
    assert type(error) is kind
    assert pieces == ["One ", "two "]
    assert error.result is stream.result
    assert (stream.status, stream.result.error) == (status, error)
    assert stream.text == error.result.text == "".join(log.of("write")) == "One two "
    assert error.result.message.content[0].text == "One two "
    assert log.of("finish") == [status]
    assert error.request.url.path == "/v1/messages"


async def test_an_error_event_says_what_the_api_said(kit: Kit) -> None:
    with serve(REPLY.error("rate_limit_error", after_events=4, message="Busy")) as server:
        with pytest.raises(StreamAPIError, match="rate_limit_error: Busy") as caught:
            await kit.collect(server)
    error = caught.value
    assert (error.type, error.status_code, error.retryable) == ("rate_limit_error", 429, True)
    assert error.body == {"type": "error", "error": {"type": "rate_limit_error", "message": "Busy"}}
    assert error.request_id == error.result.request_id


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (b"<html>Bad gateway</html>", "text/html", StreamProtocolError),
        (b'{"oops": 1}', "application/json", StreamProtocolError),
        (b"", "text/event-stream", StreamTruncatedError),
        (b": only a comment\n\n", "text/event-stream", StreamTruncatedError),
        (b"event: message_st", "text/event-stream", StreamTruncatedError),
    ],
)
async def test_a_body_that_is_no_stream_of_events(kit: Kit, body: bytes, content_type: str, kind: Any) -> None:
    with serve(Reply.recorded(body, content_type=content_type)) as server:
        with pytest.raises(kind) as caught:
            await kit.collect(server, retries=0)
    assert type(caught.value) is kind
    if kind is StreamProtocolError:
        assert content_type in str(caught.value)
        assert body.decode()[:10] in str(caught.value)
    assert caught.value.result.text == ""


@pytest.mark.parametrize("rest", [b"data: [DONE]\n\n", sse(PING), b"garbage", sse(start()), b"data: {oops\n\n"])
async def test_what_follows_the_end_is_ignored(kit: Kit, rest: bytes) -> None:
    for reply in (REPLY.garbage(rest, after_events=len(REPLY.frames)), Reply.recorded(REPLY.body + rest, [10**6])):
        with serve(reply) as server:
            client = kit.client(server)
            result = await kit.collect(client)
            free(client)
        assert (result.status, result.text, result.error) == ("complete", TEXT, None)


async def test_a_reset_after_the_end_is_ignored(kit: Kit) -> None:
    with serve(REPLY.reset(after_events=len(REPLY.frames))) as server:
        assert (await kit.collect(server)).ok


async def test_a_server_that_never_ends_the_body_does_not_hold_up_what_was_read(kit: Kit) -> None:
    """After `message_stop` the stream is over, also if the line stays open; with a read timeout for the rest."""
    with serve(REPLY.stall(after_events=len(REPLY.frames))) as server:
        client = kit.client(server, timeout=1.0)
        assert (await kit.collect(client)).ok
        free(client)


async def test_a_body_that_ends_after_its_stop_reason_is_complete(kit: Kit) -> None:
    with serve(REPLY.cut(after_events=len(REPLY.frames) - 1)) as server:
        result = await kit.collect(server)
    assert (result.status, result.stop_reason, result.ok) == ("complete", "end_turn", True)


async def test_breaking_at_the_last_event_is_complete(kit: Kit) -> None:
    """After `message_stop` the verdict stands, whatever the consumer does then."""
    log = Log()
    with serve(REPLY) as server:
        async with kit.events(server, sinks=log) as stream:
            async for event in stream:
                if event.type == "message_stop":
                    break
    assert (stream.status, stream.result.error) == ("complete", None)
    assert log.of("finish") == ["complete"]


# Trying again.


def early(name: str) -> Reply:
    """A reply that fails before its first content."""
    made = Reply.recorded(REPLY.body, headers=SOON)
    return {
        "error event": lambda: made.error("overloaded_error", after_events=2),
        "error at once": lambda: made.error("api_error", after_events=0),
        "cut": lambda: made.cut(after_events=2),
        "cut at once": lambda: made.cut(after_events=0),
        "reset": lambda: made.reset(after_events=1),
    }[name]()


EARLY = ["error event", "error at once", "cut", "cut at once", "reset"]


@pytest.mark.parametrize("name", EARLY)
async def test_a_fault_before_content_is_tried_again(kit: Kit, name: str) -> None:
    log = Log()
    with serve(early(name), early(name), REPLY) as server:
        client = kit.client(server)
        async with kit.events(client, retries=2, sinks=log) as stream:
            given = [event.type async for event in stream]
        assert len(server.requests) == 3
        assert server.requests[0].json == server.requests[2].json
        free(client)
    assert (stream.status, stream.text, stream.result.attempts, stream.result.error) == ("complete", TEXT, 3, None)
    assert given.count("message_start") == 1
    assert log.of("event") == given
    assert log.of("write") == ["One ", "two ", "three"]
    assert log.of("finish") == ["complete"]


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("retries", [0, 1])
async def test_no_more_retries_than_allowed(kit: Kit, name: str, retries: int) -> None:
    log = Log()
    with serve(*[early(name)] * 4) as server:
        stream = kit.text(server, retries=retries, sinks=log)
        with pytest.raises(StreamError) as caught:
            await stream.until_done()
        assert len(server.requests) == stream.result.attempts == retries + 1
    assert caught.value.retryable
    assert caught.value.result.message is None or caught.value.result.message.content == []
    assert log.of("finish") == [stream.status]


@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_the_retries_of_a_client_are_its_own(kit: Kit, max_retries: int) -> None:
    with serve(early("cut"), repeat=True) as server:
        with pytest.raises(StreamTruncatedError):
            await kit.collect(kit.client(server, max_retries=max_retries))
        assert len(server.requests) == max_retries + 1


@pytest.mark.parametrize("way", ["resource", "streamed"])
async def test_the_retries_of_other_sources_are_two(kit: Kit, way: str) -> None:
    with serve(early("cut"), repeat=True) as server:
        messages = kit.client(server, max_retries=5).messages
        with pytest.raises(StreamTruncatedError):
            if way == "resource":
                await kit.collect(messages)
            else:
                await kit.call(streamkit.streamed(messages.create), **PARAMS)
        assert len(server.requests) == 3


@pytest.mark.parametrize("fault", ["invalid_request_error", "garbage", "html"])
async def test_what_would_fail_again_is_not_tried_again(kit: Kit, fault: str) -> None:
    reply = {
        "invalid_request_error": REPLY.error("invalid_request_error", after_events=1),
        "garbage": REPLY.garbage(b"data: oops\n\n", after_events=1),
        "html": Reply.recorded(b"<html></html>", content_type="text/html"),
    }[fault]
    with serve(reply, REPLY) as server:
        with pytest.raises(StreamError) as caught:
            await kit.collect(server, retries=2)
        assert len(server.requests) == 1
    assert not caught.value.retryable


async def test_the_events_before_a_last_failure_are_given(kit: Kit) -> None:
    given, log = [], Log()
    with serve(early("error event")) as server:
        with pytest.raises(StreamAPIError):
            async with kit.events(server, retries=0, sinks=log) as stream:
                async for event in stream:
                    given.append(event.type)  # noqa: PERF401
    assert given == log.of("event") == ["message_start"]
    given.clear()
    with serve(early("error event"), early("error event")) as server:
        with pytest.raises(StreamAPIError):
            async with kit.events(server, retries=1) as stream:
                async for event in stream:
                    given.append(event.type)  # noqa: PERF401
    assert given == ["message_start"], "of the last one only"


async def test_a_request_that_is_refused_when_it_is_tried_again(kit: Kit) -> None:
    log = Log()
    with serve(early("cut"), Reply.http_error(400)) as server:
        stream = kit.text(server, retries=2, sinks=log)
        with pytest.raises(anthropic.BadRequestError):
            await stream.until_done()
        assert len(server.requests) == 2
    assert (stream.status, log.calls) == ("failed", [("finish", "failed")])


async def test_a_stream_that_somebody_else_opened_is_not_tried_again(kit: Kit) -> None:
    with serve(early("cut"), REPLY) as server:
        raw = await kit.call(kit.client(server).messages.create, **PARAMS, stream=True)
        with pytest.raises(StreamTruncatedError):
            await kit.collect(raw)
        assert len(server.requests) == 1


async def test_cancel_ends_the_wait_for_the_next_try(kit: Kit) -> None:
    reply = Reply.recorded(REPLY.body, headers={"retry-after": "50"}).error("overloaded_error", after_events=1)
    with serve(reply, REPLY) as server:
        stream = kit.text(server, retries=1)
        async with _reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(_until, lambda: stream.message is not None and stream.result.attempts == 1)
            stream.cancel()
        assert given == []
        assert len(server.requests) == 1
    assert (stream.status, stream.result.error) == ("interrupted", None)


async def test_total_timeout_ends_the_wait_for_the_next_try(kit: Kit) -> None:
    reply = Reply.recorded(REPLY.body, headers={"retry-after": "50"}).error("overloaded_error", after_events=1)
    with serve(reply, REPLY) as server:
        with pytest.raises(StreamTimeoutError) as caught:
            await kit.collect(server, retries=1, total_timeout=0.2)
        assert len(server.requests) == 1
    assert caught.value.clock == "total"


def _until(condition: Callable[[], bool]) -> None:
    """Look again and again, without a pause, until it holds."""
    while not condition():
        threading.Event().wait(0.001)


@contextlib.asynccontextmanager
async def _reading_elsewhere(stream: Live) -> AsyncIterator[list[Any]]:
    """Read a stream to its end, in a thread of its own where it is sync, in a task of its own where it is async."""
    given: list[Any] = []

    def drain() -> None:
        given.extend(stream.stream)

    async def read() -> None:
        if stream.is_async:
            async for item in stream.stream:
                given.append(item)  # noqa: PERF401
        else:
            await anyio.to_thread.run_sync(drain)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            yield given


# Clocks.


@pytest.mark.parametrize("pings", [None, 0.02])
async def test_idle_timeout_in_silence_and_under_pings(kit: Kit, pings: float | None) -> None:
    log = Log()
    with serve(REPLY.stall(after_events=4, pings=pings)) as server:
        client = kit.client(server)
        stream = kit.text(client, idle_timeout=0.45, sinks=log)
        with pytest.raises(anthropic.APITimeoutError) as caught:
            await stream.until_done()
        free(client)
    error: Any = caught.value
    assert (type(error), error.clock, error.retryable) == (StreamTimeoutError, "idle", True)
    assert "0.45" in str(error)
    assert (stream.status, error.result.text, log.of("finish")) == ("timed_out", "One ", ["timed_out"])


async def test_idle_timeout_does_not_run_while_content_arrives(kit: Kit) -> None:
    thinking = [delta(0, "thinking_delta", thinking=f"{n} ") for n in range(8)]
    begin = (start(), opened(0, "thinking", thinking="", signature=""))
    reply = Reply.events(*begin, *thinking, closed(), ending(), STOP, delay=0.1)
    with serve(reply) as server:
        result = await kit.collect(server, idle_timeout=0.7)
    assert result.status == "complete"
    assert result.thinking == "0 1 2 3 4 5 6 7 "


async def test_idle_timeout_before_content_is_tried_again(kit: Kit) -> None:
    with serve(Reply.recorded(REPLY.body, headers=SOON).stall(after_events=1, pings=0.02), REPLY) as server:
        result = await kit.collect(server, idle_timeout=0.4, retries=1)
        assert len(server.requests) == 2
    assert (result.text, result.attempts) == (TEXT, 2)


async def test_total_timeout(kit: Kit) -> None:
    with serve(REPLY.stall(after_events=4, pings=0.02), REPLY) as server:
        client = kit.client(server)
        stream = kit.text(client, total_timeout=0.6, retries=2)
        with pytest.raises(StreamTimeoutError) as caught:
            await stream.until_done()
        assert len(server.requests) == 1
        free(client)
    assert (caught.value.clock, stream.status, stream.text) == ("total", "timed_out", "One ")


async def test_total_timeout_before_content_is_not_tried_again(kit: Kit) -> None:
    with serve(REPLY.stall(after_events=1), REPLY) as server:
        with pytest.raises(StreamTimeoutError) as caught:
            await kit.collect(server, total_timeout=0.2, retries=2)
        assert len(server.requests) == 1
    assert caught.value.clock == "total"


async def test_total_timeout_that_ran_out_while_the_request_was_sent(kit: Kit) -> None:
    """The same for sync and async: `open` fails, or the first read does."""
    reply = Reply.recorded(REPLY.body, headers={"retry-after": "0.3"})
    failing = Reply.http_error(500, headers={"retry-after": "0.3"})
    with serve(failing, reply) as server:
        stream = kit.text(kit.client(server, max_retries=1), total_timeout=0.1)
        async with contextlib.aclosing(stream):
            with pytest.raises(StreamTimeoutError) as caught:
                await stream.open()
    assert caught.value.clock == "total"
    assert stream.status == "timed_out"


async def test_the_read_timeout_of_the_sdk(kit: Kit) -> None:
    with serve(REPLY.stall(after_events=4)) as server:
        client = kit.client(server, timeout=0.5)
        with pytest.raises(StreamTimeoutError) as caught:
            await kit.collect(client)
        free(client)
    assert (caught.value.clock, caught.value.result.status, caught.value.result.text) == ("read", "timed_out", "One ")
    assert isinstance(caught.value.__cause__, Exception)


async def test_clocks_that_do_not_run_out_change_nothing(kit: Kit) -> None:
    with serve(REPLY, repeat=True) as server:
        client = kit.client(server)
        for _ in range(3):
            assert (await kit.collect(client, idle_timeout=30, total_timeout=60.5)).text == TEXT
        assert server.connections == 1


# cancel()


async def test_cancel_before_open_sends_nothing(kit: Kit) -> None:
    log = Log()
    with serve(REPLY) as server:
        stream = kit.text(server, sinks=log)
        stream.cancel()
        stream.cancel()
        async with stream:
            assert [piece async for piece in stream] == []
        assert server.requests == []
    assert (stream.status, stream.result.error, stream.text) == ("interrupted", None, "")
    assert log.calls == [("finish", "interrupted")]


async def test_cancel_wakes_a_reader_that_is_blocked(kit: Kit) -> None:
    log = Log()
    with serve(REPLY.stall(after_events=4)) as server:
        client = kit.client(server)
        stream = kit.text(client, sinks=log)
        async with _reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(_until, lambda: stream.text == "One ")
            await anyio.to_thread.run_sync(stream.cancel)  # from a thread, also where the stream is async
            stream.cancel()
        free(client)
    assert given == ["One "]
    assert (stream.status, stream.result.error, stream.text) == ("interrupted", None, "One ")
    assert log.of("finish") == ["interrupted"]
    stream.cancel()
    assert stream.status == "interrupted"


async def test_cancel_in_the_loop_ends_it_quietly(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = kit.client(server)
        async with kit.text(client) as stream:
            given = []
            async for piece in stream:
                given.append(piece)
                stream.cancel()
        free(client)
    assert given == ["One "]
    assert (stream.status, stream.result.error) == ("interrupted", None)


async def test_cancel_in_a_sink(kit: Kit) -> None:
    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        stream: Live
        stream = kit.text(server, sinks=CallbackSink(on_text=lambda _: stream.cancel()))
        result = await stream.until_done()
    assert result.status == "interrupted"
    assert "One two three".startswith(result.text)


async def test_cancel_when_it_is_late(kit: Kit) -> None:
    with serve(REPLY, repeat=True) as server:
        client = kit.client(server)
        stream = kit.text(client)
        await stream.until_done()
        stream.cancel()
        assert (stream.status, stream.result.ok) == ("complete", True)
        async with kit.events(client) as events:
            async for event in events:
                if event.type == "message_stop":
                    events.cancel()
        assert events.status == "complete"
        assert (await kit.collect(client)).ok
        assert server.connections <= 2  # a late cancel may cost the connection, and nothing else


# Wrong use of a stream.


async def test_two_readers_on_one_stream(kit: Kit) -> None:
    with serve(REPLY.stall(after_events=4)) as server:
        stream = kit.text(server)
        async with _reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(_until, lambda: stream.text == "One ")
            await anyio.to_thread.run_sync(_until, lambda: _turn_taken(stream))
            for way in (stream.next, stream.open, stream.until_done):
                with pytest.raises(RuntimeError, match="one reader at a time; hand the text on with a sink"):
                    await way()
            assert stream.status == "streaming", "the first reader goes on"
            stream.cancel()
    assert given == ["One "]


def _turn_taken(stream: Live) -> bool:
    return bool(stream._reading)


@pytest.mark.parametrize("chunks", [None, [10**6]], ids=["event by event", "in one chunk"])
async def test_iterating_after_close(kit: Kit, chunks: Any) -> None:
    with serve(Reply.recorded(REPLY.body, chunks), repeat=True) as server:
        client = kit.client(server)
        async with kit.text(client) as stream:
            assert await stream.next() == "One "
        left = kit.text(client)
        await left.next()
        await left.close()
        for one in (stream, left):
            for way in (one.next, one.open, one.until_done):
                with pytest.raises(RuntimeError, match="this stream is closed: read it before"):
                    await way()
            assert (one.text, one.status) == ("One " if chunks is None else TEXT, "interrupted")


class Leaving(BaseException):
    """What a loop's body may raise."""


async def _leave(stream: Live, way: str) -> None:
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
async def test_what_has_arrived_counts_when_the_consumer_leaves(kit: Kit, mode: str, way: str) -> None:
    """Also what it had not asked for yet; but a reply that was not read to its end is not complete."""
    log, buffer = Log(), BufferSink()
    sinks: list[Any] = [log, buffer]
    awaited = kit.is_async and (mode, way) != ("trio", "drop")  # on trio a finaliser can start nothing
    if awaited:
        sinks.append(AsyncLog("late", []))
    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        await _leave(kit.text(server, sinks=sinks), way)
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
    if awaited:
        assert [(method, value) for _, method, value in sinks[-1].calls if method != "event"] == [
            (method, value) for method, value in log.calls if method != "event"
        ]


async def test_a_sink_that_raises_at_what_was_left(kit: Kit) -> None:
    class Picky(Log):
        def write(self, text: str) -> None:
            super().write(text)
            if text == "two ":
                raise ZeroDivisionError

    picky, log = Picky(), Log()
    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        stream = kit.text(server, sinks=[picky, log])
        with pytest.raises(ZeroDivisionError):
            async with stream:
                await stream.next()
    assert picky.of("write") == ["One ", "two "]
    assert log.of("write") == ["One "]
    assert picky.of("finish") == log.of("finish") == ["failed"]
    assert (stream.status, type(stream.result.error)) == ("failed", ZeroDivisionError)


async def test_what_was_left_may_be_broken(kit: Kit) -> None:
    body = (
        sse(start(), opened(), text("One "))
        + b": a comment\n\n"
        + sse(text("two "))
        + b"data: {oops\n\n"
        + sse(text("x"))
    )
    with serve(Reply.recorded(body, [10**6])) as server:
        async with kit.text(server) as stream:
            await stream.next()
    assert (stream.text, stream.status, stream.result.error) == ("One two ", "interrupted", None)


async def test_iterating_after_a_failure(kit: Kit) -> None:
    with serve(REPLY.cut(after_events=4)) as server:
        stream = kit.text(server)
        with pytest.raises(StreamTruncatedError):
            await stream.until_done()
        with pytest.raises(RuntimeError, match=r"has ended \(disconnected\): make a new one"):
            await stream.next()
        assert (stream.status, stream.text) == ("disconnected", "One ")


async def test_closing_before_opening(kit: Kit) -> None:
    log = Log()
    with serve(REPLY) as server:
        stream = kit.text(server, sinks=log)
        await stream.close()
        await stream.close()
        with pytest.raises(RuntimeError, match="closed"):
            await stream.open()
        assert server.requests == []
    assert (stream.status, log.calls) == ("interrupted", [("finish", "interrupted")])


async def test_close_from_elsewhere_wakes_the_reader(kit: Kit) -> None:
    log = Log()
    with serve(REPLY.stall(after_events=4)) as server:
        client = kit.client(server)
        stream = kit.text(client, sinks=log)
        async with _reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(_until, lambda: stream.text == "One " and _turn_taken(stream))
            await stream.close()
        free(client)
    assert given == ["One "]
    assert (stream.status, stream.result.error, log.of("finish")) == ("interrupted", None, ["interrupted"])


# The generator protocol.


def test_yield_from_gives_the_result(mode: str) -> None:
    if mode != "sync":
        pytest.skip("`yield from` is for sync generators")

    def relay(stream: Any) -> Iterator[str]:
        result = yield from stream
        yield f"<{result.status}, {result.usage.output_tokens}>"

    with serve(REPLY, repeat=True) as server:
        client = sdk(server)
        assert list(relay(streamkit.stream_text(client, **PARAMS))) == ["One ", "two ", "three", "<complete, 3>"]
        stream = streamkit.stream_text(client, **PARAMS)
        relayed: Any = relay(stream)
        assert next(relayed) == "One "
        relayed.close()
        assert (stream.status, stream.text) == ("interrupted", "One ")
        free(client)
        stream = streamkit.stream_text(client, **PARAMS)
        relayed = relay(stream)
        assert next(relayed) == "One "
        with pytest.raises(ZeroDivisionError, match="thrown"):
            relayed.throw(ZeroDivisionError("thrown"))
        assert (stream.status, type(stream.result.error)) == ("interrupted", ZeroDivisionError)
        with pytest.raises(StopIteration) as stopped:
            stream = streamkit.stream_text(client, **PARAMS)
            while True:
                next(stream)
        assert stopped.value.value is stream.result


async def test_send_and_throw(kit: Kit) -> None:
    log = Log()
    with serve(REPLY, repeat=True) as server:
        client = kit.client(server)
        async with kit.text(client, sinks=log) as stream:
            assert await stream.call("send", "asend", None) == "One "
            with pytest.raises(TypeError, match="takes no values"):
                await stream.call("send", "asend", "x")
            assert await stream.call("send", "asend", None) == "two "
            thrown = KeyError("mine")
            with pytest.raises(KeyError) as caught:
                await stream.call("throw", "athrow", thrown)
            assert caught.value is thrown
            assert (stream.status, stream.result.error) == ("interrupted", thrown)
        for arguments in ((KeyError,), (KeyError, "x"), (KeyError, KeyError("x")), (KeyError, "x", None)):
            other = kit.text(client)
            with pytest.raises(KeyError):
                await other.call("throw", "athrow", *arguments)
            assert other.status == "interrupted"
        free(client)
    assert log.of("finish") == ["interrupted"]


# Dropping, closing, keeping alive.


async def test_a_stream_that_is_dropped_warns_and_closes_its_connection(kit: Kit) -> None:
    log = Log()
    body = sse(start(), opened(), text("One "))
    with raw_server(body) as (url, gone), serve(REPLY) as server:
        stream: Any = kit.text(kit.client(server).with_options(base_url=url), sinks=log)
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
        stream = streamkit.stream_text(async_sdk(server), sinks=[log, Awaited()], **PARAMS)
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


async def test_a_stream_that_was_never_opened_or_was_closed_is_dropped_in_silence(kit: Kit) -> None:
    with serve(REPLY, repeat=True) as server:
        client = kit.client(server)
        kit.text(client)
        await kit.text(client).until_done()
        async with kit.text(client) as stream:
            await stream.next()
        del stream
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gc.collect()


async def test_leaving_closes_the_connection_at_once(kit: Kit) -> None:
    with raw_server(sse(start(), opened(), text("One "))) as (url, gone), serve(REPLY) as server:
        async with kit.text(kit.client(server).with_options(base_url=url)) as stream:
            await stream.next()
        await anyio.to_thread.run_sync(gone.wait, 5)
        assert gone.is_set()


async def test_a_hundred_replies_over_one_connection(kit: Kit) -> None:
    with serve(REPLY, repeat=True) as server:
        client = kit.client(server)
        for number in range(100):
            if number % 3 == 0:
                assert (await kit.collect(client)).text == TEXT
            elif number % 3 == 1:
                async with kit.text(client) as stream:
                    assert "".join([piece async for piece in stream]) == TEXT
            else:
                async with kit.events(client.messages) as stream:
                    assert len([event async for event in stream]) == len(REPLY.frames) - 1
        assert len(server.requests) == 100
        assert server.connections == 1
        free(client)


# Streams that somebody else opened.


async def test_a_raw_stream(kit: Kit) -> None:
    with serve(REPLY) as server:
        raw = await kit.call(kit.client(server).messages.create, **PARAMS, stream=True)
        stream = kit.text(raw)
        assert [piece async for piece in stream] == ["One ", "two ", "three"]
        assert stream.result.ok
        assert stream.request_id == raw.response.headers["request-id"]


async def test_a_manager_that_is_not_entered(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = kit.client(server)
        stream = kit.text(client.messages.stream(**PARAMS))
        assert server.requests == []
        assert (await stream.until_done()).text == TEXT
        assert len(server.requests) == 1
        free(client)


async def test_an_entered_stream_still_answers(kit: Kit) -> None:
    log = Log()
    with serve(REPLY) as server:
        manager = kit.client(server).messages.stream(**PARAMS)
        if kit.is_async:
            async with manager as entered:
                result = await kit.collect(entered, sinks=log)
                final = await entered.get_final_message()
        else:
            with manager as entered:
                result = await kit.collect(entered, sinks=log)
                final = entered.get_final_message()
    assert result.text == final.content[0].text == TEXT
    assert final.usage.output_tokens == result.usage.output_tokens == 3
    assert log.of("write") == ["One ", "two ", "three"]
    assert set(log.of("event")) <= {
        f"{a}_{b}" for a in ("message", "content_block") for b in ("start", "delta", "stop")
    }


async def test_an_entered_stream_that_is_left_early(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = kit.client(server)
        manager = client.messages.stream(**PARAMS)
        if kit.is_async:
            async with manager as entered, kit.text(entered) as stream:
                assert await stream.next() == "One "
        else:
            with manager as entered:
                async with kit.text(entered) as stream:
                    assert await stream.next() == "One "
        free(client)
    assert (stream.status, stream.text) == ("interrupted", "One ")


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("cut in an event", "type no text")])
async def test_faults_of_an_entered_stream(kit: Kit, fault: str) -> None:
    reply, kind, sdk_kind, status = FAULTS[fault]
    with serve(reply) as server:
        manager = kit.client(server).messages.stream(**PARAMS)
        with pytest.raises(sdk_kind) as caught:
            if kit.is_async:
                async with manager as entered:
                    await kit.collect(entered)
            else:
                with manager as entered:
                    await kit.collect(entered)
    error: Any = caught.value
    assert type(error) is kind
    assert (error.result.text, error.result.status) == ("One two ", status)


@each_that_the_sdk_reads
async def test_by_bytes_and_by_events_give_the_same(kit: Kit, path: Path) -> None:
    with serve(Reply.recorded(path), repeat=True) as server:
        client = kit.client(server)
        resource = client.beta.messages if path.stem in BETA else client.messages
        logs = (Log(), Log())
        by_bytes = await kit.collect(resource, sinks=logs[0])
        manager = resource.stream(**PARAMS)
        if kit.is_async:
            async with manager as entered:
                by_events = await kit.collect(entered, sinks=logs[1])
        else:
            with manager as entered:
                by_events = await kit.collect(entered, sinks=logs[1])
    odd = ("event", "weather_report")  # which older versions of the SDK leave out
    assert [call for call in logs[0].calls if call != odd] == [call for call in logs[1].calls if call != odd]
    assert by_bytes.message is not None
    assert by_bytes.message.to_dict(warnings=False) == by_events.message.to_dict(warnings=False)
    fields = ("text", "thinking", "tool_uses", "usage", "usage_final", "stop_reason", "stop_details", "status", "ok")
    for field in (*fields, "error", "invalid_tool_input", "attempts"):
        assert getattr(by_bytes, field) == getattr(by_events, field), field
    assert by_bytes.new_messages() == by_events.new_messages()


async def test_the_tool_runner_runs_its_tools(kit: Kit) -> None:
    asked = []
    replies = (Reply.tool_use("tide", {"harbour": "Brest"}, text="Let me see."), Reply.text("High at noon."))
    with serve(*replies) as server:
        client, texts, results = kit.client(server), [], []
        if kit.is_async:

            @anthropic.beta_async_tool
            async def tide(harbour: str) -> str:
                """When the tide is high."""
                asked.append(harbour)
                return "noon"

            runner = client.beta.messages.tool_runner(**PARAMS, tools=[tide], stream=True)
            async for opened_stream in runner:
                stream = kit.text(opened_stream)
                texts += [piece async for piece in stream]
                results.append(stream.result)
        else:

            @anthropic.beta_tool
            def tide(harbour: str) -> str:
                """When the tide is high."""
                asked.append(harbour)
                return "noon"

            for opened_stream in client.beta.messages.tool_runner(**PARAMS, tools=[tide], stream=True):
                stream = kit.text(opened_stream)
                texts += [piece async for piece in stream]
                results.append(stream.result)
        assert asked == ["Brest"]
        assert "".join(texts) == "Let me see.High at noon."
        assert [result.ok for result in results] == [True, True]
        assert [type(result.message) for result in results] == [anthropic.types.beta.BetaMessage] * 2
        assert [use.input for use in results[0].tool_uses] == [{"harbour": "Brest"}]
        answer = server.requests[1].json["messages"][-1]["content"][0]
        assert answer["type"] == "tool_result"
        assert answer["tool_use_id"] == results[0].tool_uses[0].id
        assert "noon" in str(answer["content"])


# collect() and streamed()


async def test_collect_returns_or_raises(kit: Kit) -> None:
    with serve(REPLY.cut(after_events=5), repeat=True) as server:
        client = kit.client(server)
        with pytest.raises(StreamTruncatedError) as caught:
            await kit.collect(client, on_error="raise")
        result = await kit.collect(client, on_error="return")
        assert isinstance(result.error, StreamTruncatedError)
        assert result.text == caught.value.result.text == "One two "
        assert result.error.result is result
        free(client)


@pytest.mark.parametrize("error", [ZeroDivisionError(), anthropic.APIError("a sink's", request=None, body=None)])  # type: ignore[arg-type]
async def test_collect_raises_what_a_sink_raises(kit: Kit, error: Exception) -> None:
    def fail(_: str) -> None:
        raise error

    with serve(REPLY) as server:
        with pytest.raises(type(error)) as caught:
            await kit.collect(kit.client(server), on_error="return", sinks=CallbackSink(fail))
    assert caught.value is error


@pytest.mark.parametrize("on_interrupt", ["raise", "return"])
def test_collect_on_interrupt(mode: str, on_interrupt: Any) -> None:
    if mode != "sync":
        pytest.skip("async code is interrupted by cancelling its task")

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    log = Log()
    with serve(REPLY, repeat=True) as server:
        client = sdk(server)
        options: Any = {"sinks": [log, CallbackSink(interrupt)], "on_interrupt": on_interrupt, **PARAMS}
        if on_interrupt == "raise":
            with pytest.raises(KeyboardInterrupt):
                streamkit.collect(client, **options)
        else:
            result = streamkit.collect(client, **options)
            assert (result.status, result.text, type(result.error)) == ("interrupted", "One ", KeyboardInterrupt)
        free(client)
    assert log.of("finish") == ["interrupted"]


async def test_streamed_gives_the_same_message(kit: Kit, recorded: Path) -> None:
    with serve(Reply.recorded(recorded), repeat=True) as server:
        client = kit.client(server)
        resource = client.beta.messages if recorded.stem in BETA else client.messages
        sink = BufferSink()
        message = await kit.call(streamkit.streamed(resource.create, sinks=sink), **PARAMS)
        result = await kit.collect(resource)
        assert message == result.message
        assert type(message) is type(result.message)
        assert sink.text == result.text
        assert server.requests[0].json == server.requests[1].json


async def test_streamed_goes_beyond_the_limit_of_the_sdk(kit: Kit) -> None:
    params = {**PARAMS, "max_tokens": 64000}
    with serve(REPLY) as server:
        create = kit.client(server).messages.create
        with pytest.raises(ValueError, match="Streaming is required"):
            await kit.call(create, **params)
        message = await kit.call(streamkit.streamed(create), **params)
        assert message.content[0].text == TEXT
        assert server.requests[0].json["max_tokens"] == 64000


async def test_streamed_hands_on_a_call_that_streams_itself(kit: Kit) -> None:
    log = Log()
    with serve(REPLY, REPLY) as server:
        create = streamkit.streamed(kit.client(server).messages.create, sinks=log)
        raw = await kit.call(create, **PARAMS, stream=True)
        assert isinstance(raw, (anthropic.Stream, anthropic.AsyncStream))
        assert await kit.collect(raw)
        assert log.calls == []
        assert (await kit.call(create, **PARAMS, stream=False)).content[0].text == TEXT
        assert log.of("finish") == ["complete"]


async def test_streamed_raises_on_anything_but_a_whole_reply(kit: Kit) -> None:
    with serve(REPLY.cut(after_events=5)) as server:
        with pytest.raises(StreamTruncatedError) as caught:
            await kit.call(streamkit.streamed(kit.client(server).messages.create), **PARAMS)
        assert caught.value.result.text == "One two "


async def test_streamed_around_what_gives_no_stream(kit: Kit) -> None:
    def create(**kwargs: Any) -> str:
        return "no stream"

    async def create_async(**kwargs: Any) -> str:
        return "no stream"

    sink = BufferSink()
    with pytest.raises(TypeError, match="the call returned str, no stream"):
        await kit.call(streamkit.streamed(create_async if kit.is_async else create, sinks=sink), **PARAMS)
    assert sink.result is not None
    assert sink.result.status == "failed"


async def test_streamed_around_what_gives_events_of_its_own(kit: Kit) -> None:
    """Without a response there are no bytes, and no headers."""
    with serve(REPLY) as server:
        client = kit.client(server)

        def create(**kwargs: Any) -> Any:
            return (event for event in client.messages.create(**kwargs))

        async def create_async(**kwargs: Any) -> Any:
            stream = await client.messages.create(**kwargs)
            return (event async for event in stream)

        sink = BufferSink()
        wrapped = streamkit.streamed(create_async if kit.is_async else create, sinks=sink)
        message = await kit.call(wrapped, **PARAMS)
    assert (message.content[0].text, sink.text) == ("One two three", "One two three")


def test_an_interrupt_while_the_request_is_sent() -> None:
    def create(**kwargs: Any) -> Any:
        raise KeyboardInterrupt

    sink = BufferSink()
    with pytest.raises(KeyboardInterrupt):
        streamkit.streamed(create, sinks=sink)(**PARAMS)
    assert sink.result is not None
    assert (sink.result.status, sink.result.attempts) == ("interrupted", 1)


async def test_streamed_looks_like_what_it_wraps(kit: Kit) -> None:
    with serve(REPLY) as server:
        create = kit.client(server).messages.create
        wrapped = streamkit.streamed(create)
        assert wrapped.__name__ == "create"
        assert inspect.signature(wrapped) == inspect.signature(create)
        assert inspect.iscoroutinefunction(wrapped) == kit.is_async
        with pytest.raises(TypeError, match="wraps a function"):
            streamkit.streamed("create")  # type: ignore[type-var]
        with pytest.raises(TypeError, match="model: no option of streamed"):
            streamkit.streamed(create, model="x")
        with pytest.raises(TypeError):
            await kit.call(wrapped, **PARAMS, nonsense=1)
        assert server.requests == []


# Wrong use.


async def test_an_unknown_parameter_is_refused_before_a_request_is_sent(kit: Kit) -> None:
    log = Log()
    with serve(REPLY) as server:
        for extra in ({"nonsense": 1}, {"nonsense": 1, "output_format": int}):
            with pytest.raises(TypeError, match="nonsense"):
                await kit.text(server, sinks=log, **extra).open()
        assert server.requests == []
    assert log.calls == [("finish", "failed")] * 2


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "stream": ({"stream": True}, TypeError, "always streamed"),
    "retries below 0": ({"retries": -1}, ValueError, "retries= takes 0 or more"),
    "retries no number": ({"retries": "2"}, TypeError, "retries= takes a whole number"),
    "retries bool": ({"retries": True}, TypeError, "retries= takes a whole number"),
    "retries float": ({"retries": 1.0}, TypeError, "retries= takes a whole number"),
    "idle 0": ({"idle_timeout": 0}, ValueError, "idle_timeout= takes seconds above 0"),
    "idle below 0": ({"idle_timeout": -1}, ValueError, "idle_timeout= takes seconds above 0"),
    "idle nan": ({"idle_timeout": float("nan")}, ValueError, "idle_timeout= takes seconds above 0"),
    "idle no number": ({"idle_timeout": "1"}, TypeError, "idle_timeout= takes seconds"),
    "total 0": ({"total_timeout": 0.0}, ValueError, "total_timeout= takes seconds above 0"),
    "total bool": ({"total_timeout": True}, TypeError, "total_timeout= takes seconds"),
    "separator": ({"separator": None}, TypeError, "separator= takes a str"),
    "separator no text": ({"separator": 5}, TypeError, "separator= takes a str"),
    "sinks": ({"sinks": 5}, TypeError, "sinks= takes a sink"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_option(kit: Kit, name: str) -> None:
    options, kind, said = WRONG[name]
    with serve(REPLY) as server:
        for way in (kit.text, kit.events, kit.collect):
            with pytest.raises(kind) as caught:
                await kit.call(way, server, **options)
            assert said in str(caught.value)
        if name != "stream":
            with pytest.raises((TypeError, ValueError)):
                await kit.call(streamkit.streamed(kit.client(server).messages.create, **options), **PARAMS)
        assert server.requests == []


async def test_a_wrong_option_of_collect(kit: Kit) -> None:
    with serve(REPLY) as server:
        with pytest.raises(ValueError, match='on_error= takes "raise" or "return"'):
            await kit.collect(server, on_error="ignore")
        if kit.is_async:
            with pytest.raises(TypeError, match="on_interrupt= is for sync sources"):
                await kit.collect(server, on_interrupt="return")
        else:
            with pytest.raises(ValueError, match='on_interrupt= takes "raise" or "return"'):
                await kit.collect(server, on_interrupt="x")
        assert server.requests == []


async def test_parameters_beside_an_opened_stream(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = kit.client(server)
        if not kit.is_async:  # an async one holds a coroutine, which warns when it is not awaited
            manager = client.messages.stream(**PARAMS)
            with pytest.raises(TypeError, match="max_tokens, model: an opened stream takes no request parameters"):
                kit.text(manager, model="x", max_tokens=5)
            assert server.requests == []
        raw = await kit.call(client.messages.create, **PARAMS, stream=True)
        with pytest.raises(TypeError, match="model: an opened stream takes no request parameters"):
            kit.text(raw, model="x")
        with pytest.raises(TypeError, match="retries= needs a source that can be opened again"):
            kit.text(raw, retries=1)
        assert (await kit.collect(raw)).ok


async def test_a_stream_that_was_read_already(kit: Kit) -> None:
    with serve(REPLY) as server:
        raw = await kit.call(kit.client(server).messages.create, **PARAMS, stream=True)
        assert (await kit.collect(raw)).ok
        with pytest.raises(RuntimeError, match="hand it over before reading from it"):
            kit.text(raw)


async def test_raw_response_wrappers(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = kit.client(server)
        for wrapper in (client.messages.with_raw_response, client.messages.with_streaming_response):
            with pytest.raises(TypeError, match="with_raw_response and with_streaming_response are no sources"):
                streamkit.stream_text(wrapper, **PARAMS)
        with pytest.raises(TypeError, match="no sources"):
            streamkit.stream_text(client.with_raw_response, **PARAMS)
        assert server.requests == []


async def test_streamed_around_a_raw_response_wrapper_sends_nothing(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = kit.client(server)
        with pytest.raises(TypeError):
            await kit.call(streamkit.streamed(client.messages.with_raw_response.create), **PARAMS)
        assert server.requests == []
        free(client)


def nothing() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "NoneType is no source: hand in a client"),
        ("client", "str is no source"),
        (5, "int is no source"),
        (anthropic, "module is no source"),
        (anthropic.Anthropic, r"Anthropic is a class: hand in an object, Anthropic\(\.\.\.\)"),
        (anthropic.MessageStreamManager, "is a class"),
        (print, "is no source"),
        ([], "list is no source"),
    ],
    ids=repr,
)
def test_what_is_no_source(source: Any, said: str) -> None:
    for function in (streamkit.stream_text, streamkit.stream_events, streamkit.collect):
        with pytest.raises(TypeError, match=said):
            function(source, **PARAMS)
        with pytest.raises(TypeError, match=said):
            function(source)


async def test_a_coroutine_is_no_source(kit: Kit) -> None:
    with serve(REPLY) as server:
        client = async_sdk(server)
        coroutine = client.messages.create(**PARAMS, stream=True)
        with pytest.raises(TypeError, match="a coroutine is no source: await the call that made it"):
            streamkit.stream_text(coroutine)
        coroutine.close()
        assert server.requests == []
        if kit.is_async:
            await client.close()


@pytest.mark.parametrize("source", [nothing, lambda: open(__file__, encoding="utf-8")], ids=["generator", "file"])  # noqa: SIM115
def test_an_iterator_of_something_else(source: Callable[[], Any]) -> None:
    with contextlib.closing(source()) as given:
        with pytest.raises((TypeError, StreamProtocolError), match=r"no event|no source"):
            streamkit.collect(given)


# Sinks.


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
async def test_a_sink_that_raises(kit: Kit, where: str, kind: Any, way: str) -> None:
    if kind is AsyncFailing and not kit.is_async:
        pytest.skip("a sync stream refuses an AsyncSink")
    error = ZeroDivisionError("in a sink")
    failing, before, after = kind(where, error), Log(), Log()
    with serve(Reply.thinking("Hm", TEXT)) as server:
        client = kit.client(server)
        options: Any = {"sinks": [before, failing, after]}
        with pytest.raises(ZeroDivisionError) as caught:
            if way == "collect":
                await kit.collect(client, **options)
            elif way == "bare":
                async for _ in kit.text(client, **options):
                    pass
            else:
                async with kit.text(client, **options) as stream:
                    async for _ in stream:
                        pass
        free(client)
    assert caught.value is error
    status = "complete" if where == "finish" else "failed"
    assert before.of("finish") == after.of("finish") == failing.finished == [status]
    if where == "write":
        assert len(before.of("write")) == 1
        assert after.of("write") == []


async def test_a_sink_that_raises_the_same_error_again_at_its_end(kit: Kit) -> None:
    error = ZeroDivisionError("in a sink")

    class Broken(Sink):
        def write(self, text: str) -> None:
            raise error

        def finish(self, result: StreamResult) -> None:
            raise error

    with serve(REPLY) as server:
        with pytest.raises(ZeroDivisionError) as caught:
            await kit.collect(server, sinks=Broken())
    assert caught.value is error
    assert error.__context__ is None


async def test_a_sink_that_raises_stop_iteration(kit: Kit) -> None:
    with serve(REPLY) as server:
        with pytest.raises((StopIteration, RuntimeError)):
            await kit.collect(server, sinks=Failing("write", StopIteration()))


async def test_a_sink_that_raises_in_finish_does_not_hide_why_the_stream_ended(kit: Kit) -> None:
    failing, other = Failing("finish", ZeroDivisionError("second")), Log()
    with serve(REPLY.cut(after_events=4)) as server:
        with pytest.raises(StreamTruncatedError) as caught:
            await kit.collect(server, sinks=[failing, other])
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert failing.finished == other.of("finish") == ["disconnected"]


async def test_two_sinks_that_raise_in_finish(kit: Kit) -> None:
    one, two, other = Failing("finish", KeyError(1)), Failing("finish", KeyError(2)), Log()
    with serve(REPLY) as server:
        with pytest.raises(KeyError, match="1"):
            await kit.collect(server, sinks=[one, two, other])
    assert one.finished == two.finished == other.of("finish") == ["complete"]


class AsyncLog(AsyncSink):
    """Keeps every call, in one list with others, and gives the loop a chance to mix them up."""

    def __init__(self, name: str, calls: list[tuple[str, str, Any]]) -> None:
        self.name, self.calls = name, calls

    async def _note(self, method: str, value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.calls.append((self.name, method, value))

    async def write(self, text: str) -> None:
        await self._note("write", text)

    async def thinking(self, text: str) -> None:
        await self._note("thinking", text)

    async def event(self, event: Any) -> None:
        await self._note("event", event.type)

    async def finish(self, result: StreamResult) -> None:
        await self._note("finish", result.status)


@pytest.mark.parametrize("chunks", [None, [10**6]], ids=["event by event", "in one chunk"])
async def test_async_sinks_get_everything_in_order_before_the_consumer_does(kit: Kit, chunks: Any) -> None:
    calls: list[tuple[str, str, Any]] = []
    plain = CallbackSink(lambda piece: calls.append(("plain", "write", piece)))
    reply = Reply.recorded(Reply.thinking("Hm", "One two").body, chunks)
    with serve(reply) as server:
        sinks = [AsyncLog("a", calls), plain, AsyncLog("b", calls)]
        if not kit.is_async:
            with pytest.raises(TypeError, match="AsyncLog is an AsyncSink and this stream is sync"):
                kit.text(server, sinks=sinks)
            assert server.requests == []
            return
        async with kit.text(server, sinks=sinks) as stream:
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


async def test_a_sink_claimed_twice_is_refused_before_a_request(kit: Kit) -> None:
    sink = BufferSink()
    with serve(REPLY, repeat=True) as server:
        client = kit.client(server)
        async with kit.text(client, sinks=sink) as stream:
            await stream.next()
            with pytest.raises(RuntimeError, match="BufferSink is in use by another stream"):
                await kit.collect(client, sinks=sink)
            assert len(server.requests) == 1
            assert (await stream.until_done()).text == sink.text
        assert (await kit.collect(client, sinks=sink)).ok


async def test_a_meter_counts_each_stream_once(kit: Kit) -> None:
    meter = UsageMeter()
    with serve(REPLY, REPLY.cut(after_events=4), Reply.http_error(400)) as server:
        client = kit.client(server)
        await kit.collect(client, sinks=meter)
        await kit.collect(client, sinks=meter, on_error="return")
        with pytest.raises(anthropic.BadRequestError):
            await kit.collect(client, sinks=meter)
    assert (meter.total.streams, meter.total.not_final, meter.total.output_tokens) == (3, 2, 4)


@pytest.mark.parametrize("separator", ["\n\n", "", "|"])
async def test_the_separator_is_the_same_everywhere(kit: Kit, separator: str) -> None:
    blocks = (opened(0), text("A", 0), closed(0), tool(1), closed(1), opened(2), text("B", 2), text("C", 2), closed(2))
    log = Log()
    with serve(Reply.events(start(), *blocks, ending(), STOP)) as server:
        async with kit.text(server, sinks=log, separator=separator) as stream:
            pieces = [piece async for piece in stream]
    assert pieces == log.of("write") == ["A", separator + "B", "C"]
    assert stream.text == stream.result.text == f"A{separator}BC"
    assert [block.text for block in stream.message.content if block.type == "text"] == ["A", "BC"]


async def test_partial_output_while_it_arrives(kit: Kit) -> None:
    with serve(Reply.text(['{"name": "Br', 'est", "tags": [', "1]}"])) as server:
        async with kit.text(server, output_format=dict[str, Any]) as stream:
            assert stream.partial_output is None
            seen = [stream.partial_output async for _ in stream]
        assert seen == [{"name": "Br"}, {"name": "Brest", "tags": []}, {"name": "Brest", "tags": [1]}]
        assert stream.result.parsed_output == {"name": "Brest", "tags": [1]}


# Cancellation and timeouts from outside.


async def test_a_task_that_is_cancelled_while_it_reads(kit: Kit) -> None:
    if not kit.is_async:
        pytest.skip("for async only")
    calls: list[tuple[str, str, Any]] = []
    log, entered = Log(), anyio.Event()
    with serve(REPLY.stall(after_events=4)) as server:
        client = kit.client(server)
        stream = kit.text(client, sinks=[log, AsyncLog("a", calls)])

        async def read() -> None:
            async with stream.stream:
                async for _ in stream.stream:
                    entered.set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await entered.wait()
                tasks.cancel_scope.cancel()
        free(client)
    assert (stream.status, stream.text, log.of("finish")) == ("interrupted", "One ", ["interrupted"])
    assert isinstance(stream.result.error, BaseException)
    assert calls[-1] == ("a", "finish", "interrupted")


async def test_a_timeout_around_the_loop(kit: Kit) -> None:
    if not kit.is_async:
        pytest.skip("for async only")
    with serve(REPLY.stall(after_events=4)) as server:
        client = kit.client(server)
        stream = kit.text(client)
        with anyio.move_on_after(0.2) as scope:
            await stream.until_done()
        assert scope.cancelled_caught
        assert (stream.status, stream.text) == ("interrupted", "One ")
        free(client)


async def test_a_coroutine_that_is_closed_while_it_waits_between_events(kit: Kit) -> None:
    """GeneratorExit: a coroutine that nobody awaits any more is closed, and may not await."""
    if not kit.is_async:
        pytest.skip("for async only")
    log = Log()

    async def pieces() -> AsyncIterator[str]:
        async with kit.text(server, sinks=log) as stream:
            streams.append(stream)
            async for piece in stream:
                yield piece

    streams: list[Live] = []
    with serve(REPLY) as server:
        generator = pieces()
        assert await generator.__anext__() == "One "
        await generator.aclose()
    assert (streams[0].status, log.of("finish")) == ("interrupted", ["interrupted"])


# What is not the API's own event stream.


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


def stand_in(kit: Kit, *items: Any) -> Any:
    return (AsyncStandIn if kit.is_async else StandIn)(*(item if callable(item) else made(item) for item in items))


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


async def test_a_stand_in_without_a_response(kit: Kit) -> None:
    source = stand_in(kit, start(), opened(), text("One "), text("two"), closed(), ending(), STOP)
    async with kit.text(source) as stream:
        assert [piece async for piece in stream] == ["One ", "two"]
    assert (stream.result.ok, stream.request_id, source.closed) == (True, None, True)
    source = stand_in(kit, start(), opened(), text("One "))
    with pytest.raises(StreamTruncatedError):
        await kit.collect(source)
    assert source.closed


@pytest.mark.parametrize("after", [(), (text("two"),)], ids=["at the end", "at the next event"])
async def test_cancel_without_a_socket_counts_at_the_next_event(kit: Kit, after: Any) -> None:
    source = stand_in(kit, start(), opened(), text("One "), lambda: stream.cancel(), *after)  # noqa: PLW0108
    stream = kit.text(source)
    assert [piece async for piece in stream] == ["One "]
    assert (stream.status, stream.result.error, source.closed) == ("interrupted", None, True)


async def test_an_error_of_the_line_after_cancel_is_no_error(kit: Kit) -> None:
    def cancelled() -> None:
        stream.cancel()
        raise OSError("connection gone")

    stream = kit.text(stand_in(kit, start(), opened(), text("One "), cancelled))
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
async def test_errors_of_a_stand_in(kit: Kit, error: Exception, kind: type[StreamError]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(kind) as caught:
        await kit.collect(stand_in(kit, start(), opened(), text("One "), fail))
    assert caught.value.__cause__ is error
    assert caught.value.result.text == "One "


async def test_a_malformed_event_of_a_stand_in(kit: Kit) -> None:
    source = stand_in(kit, start(), opened(), text("One "), {"type": "content_block_delta", "index": 0})
    with pytest.raises(StreamProtocolError) as caught:
        await kit.collect(source)
    assert caught.value.result.text == "One "


async def test_a_body_that_only_the_sdk_can_read(kit: Kit) -> None:
    """As from Bedrock: told by its content type, and read by the SDK's own iterator."""
    log = Log()
    with serve(Reply.recorded(REPLY.body, content_type="application/vnd.amazon.eventstream"), repeat=True) as server:
        client = kit.client(server)
        result = await kit.collect(client, sinks=log)
        free(client)
    assert (result.text, result.ok) == (TEXT, True)
    assert log.of("event")[0] == "message_start"


async def test_recording_what_is_read_by_events(kit: Kit, tmp_path: Path) -> None:
    with serve(REPLY) as server:
        manager = kit.client(server).messages.stream(**PARAMS)
        if kit.is_async:
            async with manager as entered:
                await kit.collect(entered, sinks=record(tmp_path / "x.sse"))
        else:
            with manager as entered:
                await kit.collect(entered, sinks=record(tmp_path / "x.sse"))
    with serve(Reply.recorded(tmp_path / "x.sse")) as server:
        assert (await kit.collect(server)).text == TEXT


class Forever(AsyncSink):
    """Waits for what never comes."""

    async def write(self, text: str) -> None:
        await self

    def __await__(self) -> Iterator[None]:
        while True:
            yield


async def test_a_coroutine_that_is_closed_while_it_waits_finishes_the_plain_sinks(kit: Kit, mode: str) -> None:
    """It may not await any more; but the plain sinks can be finished, and are."""
    if mode != "asyncio":
        pytest.skip("driven by hand: one loop will do")
    log = Log()
    stream = kit.text(stand_in(kit, start(), opened(), text("One ")), sinks=[log, Forever()])
    reading = stream.stream.__anext__()
    reading.send(None)
    reading.close()
    assert (stream.status, stream.text) == ("interrupted", "One ")
    assert log.of("finish") == ["interrupted"]


# Odds and ends.


async def test_a_sink_that_closes_the_stream_it_serves(kit: Kit) -> None:
    """From within the reader: the connection is closed at once, and the reader's loop ends."""
    if kit.is_async:
        pytest.skip("a plain sink cannot await")
    log = Log()
    with serve(REPLY) as server:
        client = kit.client(server)
        stream = kit.text(client, sinks=[CallbackSink(lambda _: stream.stream.close()), log])
        with contextlib.suppress(RuntimeError):
            async for _ in stream:
                pass
        free(client)
    assert (stream.status, log.of("finish")) == ("interrupted", ["interrupted"])


@pytest.mark.parametrize("omitted", [anthropic.NOT_GIVEN, anthropic.omit, None], ids=["NOT_GIVEN", "omit", "None"])
async def test_parameters_that_are_not_given(kit: Kit, omitted: Any) -> None:
    with serve(REPLY) as server:
        result = await kit.collect(server, output_format=omitted, system=anthropic.omit)
        assert (result.text, result.parsed_output, result.parse_error) == (TEXT, None, None)
        assert "system" not in server.requests[0].json
        assert "output_format" not in server.requests[0].json


async def test_partial_output_of_what_is_no_json(kit: Kit) -> None:
    with serve(Reply.text(["Sorry, ", "no."]), REPLY) as server:
        client = kit.client(server)
        async with kit.text(client, output_format=dict[str, Any]) as stream:
            assert [stream.partial_output async for _ in stream] == [None, None]
        assert isinstance(stream.result.parse_error, ValueError)
        async with kit.text(client) as stream:
            await stream.next()
            assert stream.partial_output is None, "none was asked for"


def test_a_retry_after_that_is_a_date_or_too_long_is_replaced_by_the_own_pause(mode: str) -> None:
    if mode != "sync":
        pytest.skip("the core is the same")
    for asked in ("Wed, 21 Oct 2015 07:28:00 GMT", "86400", "-3", "nan"):
        reply = Reply.recorded(REPLY.body, headers={"retry-after": asked}).cut(after_events=1)
        with serve(reply, REPLY) as server:
            assert streamkit.collect(sdk(server), **PARAMS, retries=1, total_timeout=20).attempts == 2


def test_a_reply_cut_at_each_byte_gets_its_verdict(mode: str) -> None:
    """None is silent, and none loses text whose event arrived whole."""
    if mode != "sync":
        pytest.skip("the core is the same")
    body = REPLY.body
    said = body.index(b"message_delta") + body[body.index(b"message_delta") :].index(b"}}\n") + 2
    with serve(*(REPLY.cut(after_bytes=at) for at in range(len(body) + 1))) as server:
        client = sdk(server)
        for at in range(len(body) + 1):
            result = streamkit.collect(client, **PARAMS, retries=0, on_error="return")
            expected = "".join(
                piece for piece in ("One ", "two ", "three") if body[:at].find(f'"{piece}"}}}}'.encode()) >= 0
            )
            assert result.text == expected, at
            assert result.status == ("complete" if at >= said else "disconnected"), at
            assert (result.error is None) == result.ok == (at >= said), at
        assert server.connections == 1
