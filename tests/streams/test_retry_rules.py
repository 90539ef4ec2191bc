"""Trying again: only before content, as often as allowed and no more, and nobody sees that it happened."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamTimeoutError,
    StreamTruncatedError,
)
from streamkit.testing import Reply, Server, serve
from tests.support.clients import PARAMS, client_for
from tests.support.events import MESSAGE_STOP, block_start, block_stop, message_delta, message_start, text_delta
from tests.support.harness import awaited, cancelled_once, has_started, items_of, run, timed_out_once
from tests.support.sinks import Log

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

# message_start, ping, content_block_start, "One ", "two ", "three", content_block_stop, message_delta, message_stop
REPLY = Reply.text(["One ", "two ", "three"], headers={"retry-after": "0.001"})
TEXT = "One two three"

# What may be tried again: when it comes before content, with the error that it is and the options that it takes.
EARLY: dict[str, tuple[Reply, type[StreamError], dict[str, Any]]] = {
    **{
        f"{kind} after {count}": (REPLY.error(kind, after_events=count), StreamAPIError, {})
        for kind in ("overloaded_error", "api_error", "rate_limit_error", "timeout_error")
        for count in (0, 2)
    },
    "reset at once": (REPLY.reset(after_events=0), StreamConnectionError, {}),
    "reset after the start": (REPLY.reset(after_events=1), StreamConnectionError, {}),
    "reset after a ping": (REPLY.reset(after_events=2), StreamConnectionError, {}),
    "cut after a stray end of a block": (
        Reply.events(block_stop(), headers={"retry-after": "0.001"}),
        StreamTruncatedError,
        {},
    ),
    "empty": (REPLY.cut(after_events=0), StreamTruncatedError, {}),
    "cut after the start": (REPLY.cut(after_events=1), StreamTruncatedError, {}),
    "cut in the start": (REPLY.cut(after_bytes=60), StreamTruncatedError, {}),
    "cut in the first block": (REPLY.cut(after_bytes=len(b"".join(REPLY.frames[:2])) + 50), StreamTruncatedError, {}),
    "silence": (REPLY.stall(after_events=1), StreamTimeoutError, {"idle_timeout": 60}),
    "pings": (REPLY.stall(after_events=1, pings=0.03), StreamTimeoutError, {"idle_timeout": 60}),
}
# What may not: the same a moment later, or for good.
NO_DEADLINE: dict[str, tuple[Reply, type[StreamError]]] = {
    **{
        kind: (REPLY.error(kind, after_events=1), StreamAPIError)
        for kind in ("invalid_request_error", "authentication_error", "permission_error", "unheard_of_error")
    },
    "error after a block began": (REPLY.error("overloaded_error", after_events=3), StreamAPIError),
    "reset after a block began": (REPLY.reset(after_events=3), StreamConnectionError),
    "cut after a block began": (REPLY.cut(after_events=3), StreamTruncatedError),
    "error after text": (REPLY.error("overloaded_error", after_events=5), StreamAPIError),
    "reset after text": (REPLY.reset(after_events=5), StreamConnectionError),
    "cut after text": (REPLY.cut(after_events=5), StreamTruncatedError),
    "reset after the reason": (REPLY.reset(after_events=8), StreamConnectionError),
    "text in the start, then cut": (
        Reply.events(message_start({"type": "text", "text": "One "}), headers={"retry-after": "0.001"}),
        StreamTruncatedError,
    ),
    "garbage": (REPLY.garbage(b"data: {oops\n\n", after_events=1), StreamProtocolError),
    "out of order": (Reply.events(text_delta("x")), StreamProtocolError),
    "HTML": (Reply.recorded(b"<html>", content_type="text/html"), StreamProtocolError),
}  # fmt: skip


async def drain(stream: Any, items: list[Any]) -> None:
    async for item in items_of(stream):
        items.append(item)  # noqa: PERF401 - all that came stays, also when it breaks


async def read(
    mode: str, server: Server, client: dict[str, Any] | None = None, timeouts: int = 0, **options: Any
) -> tuple[Any, Log, list[str]]:
    """The stream after its end, what its sink got, and the types of the events that it gave.

    In as many attempts as `timeouts`, the idle timeout expires as soon as the message has started.
    """
    log, given = Log(), list[Any]()
    async with client_for(mode, server, **(client or {})) as one:
        stream = streamkit.stream_events(one, sinks=log, **options, **PARAMS)
        stalls = [partial(has_started, stream, number + 1) for number in range(timeouts)]
        with timed_out_once(stream, *stalls), contextlib.suppress(StreamError):
            await drain(stream, given)
    return stream, log, [event.type for event in given]


@pytest.mark.parametrize("name", EARLY)
def test_before_content(mode: str, name: str) -> None:
    """As often as allowed, then it is raised; and if it goes well in the end, that is all that is seen."""
    reply, kind, options = EARLY[name]
    cases = 0
    for allowed, fails in [(0, 1), (1, 1), (2, 2), (2, 3), (1, 2)]:
        timeouts = min(fails, allowed + 1) if kind is StreamTimeoutError else 0
        with serve(*[reply] * fails, REPLY) as server:
            stream, log, given = run(
                mode,
                lambda: read(mode, server, retries=allowed, timeouts=timeouts, **options),  # noqa: B023
            )
            assert len(server.requests) == stream.result.attempts == min(fails, allowed) + 1
            assert len({request.body for request in server.requests}) == 1
        assert given == log.of("event")
        assert given.count("message_start") <= 1
        assert log.of("finish") == [stream.status]
        if fails <= allowed:
            assert (stream.status, stream.text, "".join(log.of("write"))) == ("complete", TEXT, TEXT)
            assert stream.result.error is None
            assert given == ["message_start", "content_block_start", *["content_block_delta"] * 3,
                             "content_block_stop", "message_delta", "message_stop"]  # fmt: skip
        else:
            assert type(stream.result.error) is kind
            assert stream.result.error.retryable
            assert log.of("write") == []
        cases += 1
    print(f"{cases} cases")


@pytest.mark.parametrize("name", NO_DEADLINE)
def test_never(mode: str, name: str) -> None:
    """After content, and what would fail again: raised at once, with all that came."""
    reply, kind = NO_DEADLINE[name]
    with serve(reply, REPLY) as server:
        stream, log, given = run(mode, lambda: read(mode, server, retries=5))
        assert len(server.requests) == stream.result.attempts == 1
    assert type(stream.result.error) is kind
    assert given == log.of("event")
    assert log.of("finish") == [stream.status] != ["complete"]
    assert "".join(log.of("write")) == stream.text
    assert TEXT.startswith(stream.text)
    assert bool(stream.text) is ("text" in name or "reason" in name)
    print("1 case")


def test_content_that_is_no_text_counts(mode: str) -> None:
    """Thinking, and a tool use that has only begun."""
    blocks = [
        block_start(0, "thinking", thinking="", signature=""),
        block_start(0, "tool_use", id="t", name="x", input={}),
    ]
    for block in blocks:
        with serve(Reply.events(message_start(), block), REPLY) as server:
            stream, _, _ = run(mode, lambda: read(mode, server, retries=3))
            assert len(server.requests) == 1
        assert type(stream.result.error) is StreamTruncatedError
        assert len(stream.message.content) == 1
    print(f"{len(blocks)} cases")


def test_an_empty_reply_that_is_whole_is_not_tried_again(mode: str) -> None:
    with serve(Reply.events(message_start(), message_delta(), MESSAGE_STOP), REPLY) as server:
        stream, log, given = run(mode, lambda: read(mode, server, retries=3))
        assert len(server.requests) == 1
    assert (stream.status, stream.text, log.of("finish")) == ("complete", "", ["complete"])
    assert given == ["message_start", "message_delta", "message_stop"]
    print("1 case")


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_a_client_gives_its_own_number(mode: str, max_retries: int) -> None:
    """By default; `retries` has the last word; and what `with_options` says counts."""
    cut = REPLY.cut(after_events=1)
    cases = [({}, max_retries), ({"retries": 0}, 0), ({"retries": 2}, 2)]
    for options, retries in cases:
        with serve(cut, repeat=True) as server:
            stream, _, _ = run(mode, lambda: read(mode, server, {"max_retries": max_retries}, **options))  # noqa: B023
            assert len(server.requests) == retries + 1
        assert stream.status == "disconnected"

    async def derived() -> None:
        async with client_for(mode, server, max_retries=7) as client:
            with contextlib.suppress(StreamTruncatedError):
                await drain(streamkit.stream_text(client.with_options(max_retries=max_retries), **PARAMS), [])

    with serve(cut, repeat=True) as server:
        run(mode, derived)
        assert len(server.requests) == max_retries + 1
    print(f"{len(cases) + 1} cases")


@pytest.mark.parametrize("way", ["raw", "manager", "entered"])
def test_an_opened_stream_is_not_ours_to_retry(mode: str, way: str) -> None:
    async def go() -> None:
        async with client_for(mode, server, max_retries=4) as client:
            made: Any
            if way == "raw":
                made = client.messages.create(stream=True, **PARAMS)
                made = made if mode == "sync" else await made
            else:
                made = client.messages.stream(**PARAMS)
                if way == "entered":
                    made = made.__enter__() if mode == "sync" else await made.__aenter__()
            with pytest.raises(TypeError, match="retries="):
                streamkit.stream_text(made, retries=1)
            stream = streamkit.stream_text(made)
            with pytest.raises(StreamTruncatedError):
                await drain(stream, [])
            assert stream.result.attempts == 1

    with serve(REPLY.cut(after_events=1), REPLY) as server:
        run(mode, go)
        assert len(server.requests) == 1
    print("1 case")


def test_retry_after_is_honoured(mode: str) -> None:
    """What the response asks for, and neither sooner nor after a pause of the library's own."""
    cases = 0
    # The library's own pause is at most 0.5 s for one retry, and at least 5.6 s for four retries together.
    for asked, retries, low, high in [("0.01", 4, 0.04, 5.0), ("1.2", 1, 1.2, 6.0)]:
        failing = Reply.text(["One"], headers={"retry-after": asked}).error("overloaded_error", after_events=1)
        with serve(*[failing] * retries, REPLY) as server:
            began = time.monotonic()
            stream, _, _ = run(mode, lambda: read(mode, server, retries=retries))  # noqa: B023 - it is called at once
            took = time.monotonic() - began
        assert (stream.text, stream.result.attempts) == (TEXT, retries + 1)
        assert low <= stream.result.timing.total <= took < high
        cases += 1
    print(f"{cases} cases")


@pytest.mark.parametrize("asked", [None, "soon", "Wed, 21 Oct 2099 07:28:00 GMT", "-5", "1e9", "nan", "inf"])
def test_a_pause_of_its_own(asked: str | None) -> None:
    """Without a `retry-after` that makes sense the pause is about half a second, and never for ever."""
    headers = {} if asked is None else {"retry-after": asked}
    failing = Reply.text(["One"], headers=headers).error("overloaded_error", after_events=1)
    with serve(failing, REPLY) as server:
        stream, _, _ = run("asyncio", lambda: read("asyncio", server, retries=1))
    assert stream.text == TEXT
    assert 0.3 < stream.result.timing.total < 5
    print("1 case")


def test_a_refused_request_while_trying_again(mode: str) -> None:
    """The SDK's own exception, and what streamkit knew before it is not lost."""

    async def go() -> Any:
        log = Log()
        async with client_for(mode, server) as client:
            stream = streamkit.stream_text(client, retries=3, sinks=log, **PARAMS)
            with pytest.raises(anthropic.AuthenticationError):
                await drain(stream, [])
        return stream, log

    with serve(REPLY.cut(after_events=1), Reply.http_error(401)) as server:
        stream, log = run(mode, go)
        assert len(server.requests) == 2
    assert (stream.status, stream.result.attempts, log.of("finish")) == ("failed", 2, ["failed"])
    print("1 case")


def test_the_retries_of_the_sdk_are_inside_each_of_ours(mode: str) -> None:
    """Two reopenings, in each of which the SDK tries twice to get a response."""
    busy = Reply.http_error(529, headers={"retry-after": "0.001"})
    cut = REPLY.cut(after_events=1)
    with serve(busy, cut, busy, cut, busy, REPLY) as server:
        stream, _, _ = run(mode, lambda: read(mode, server, {"max_retries": 1}, retries=2))
        assert len(server.requests) == 6
    assert (stream.text, stream.result.attempts) == (TEXT, 3)
    print("1 case")


def has_failed(stream: Any) -> bool:
    """Whether the first reply is there: it holds nothing but a failure."""
    return stream.message is not None


PATIENT = Reply.text(["One"], headers={"retry-after": "30"}).error("overloaded_error", after_events=1)


def test_cancel_ends_the_wait(mode: str) -> None:
    async def go() -> Any:
        log = Log()
        async with client_for(mode, server) as client:
            stream = streamkit.stream_events(client, retries=3, sinks=log, **PARAMS)
            with cancelled_once(stream, has_failed):
                began = time.monotonic()
                items: list[Any] = []
                await drain(stream, items)
                took = time.monotonic() - began
        return stream.result, log, items, took

    with serve(PATIENT, REPLY) as server:
        result, log, items, took = run(mode, go)
        assert len(server.requests) == 1
    assert (result.status, result.error, items, log.of("finish")) == ("interrupted", None, [], ["interrupted"])
    assert took < 10
    print("1 case")


def test_total_timeout_ends_the_wait(mode: str) -> None:
    with serve(PATIENT, REPLY) as server:
        stream, log, _ = run(mode, lambda: read(mode, server, retries=3, total_timeout=1.5))
        assert len(server.requests) == 1
    error = stream.result.error
    assert (type(error), error.clock, log.of("finish")) == (StreamTimeoutError, "total", ["timed_out"])
    assert 1.5 <= stream.result.timing.total < 10
    print("1 case")


def test_the_idle_clock_does_not_run_while_waiting_to_try_again(mode: str) -> None:
    slow = Reply.text(["One"], headers={"retry-after": "1.8"}).error("overloaded_error", after_events=1)
    with serve(slow, REPLY) as server:
        stream, log, _ = run(mode, lambda: read(mode, server, retries=1, idle_timeout=1.5))
        assert len(server.requests) == 2
    assert (stream.status, stream.text, log.of("finish")) == ("complete", TEXT, ["complete"])
    print("1 case")


def test_each_failed_reply_gives_its_connection_back(mode: str) -> None:
    """A reply that ended in good order leaves a connection that the next one uses."""
    with serve(*[REPLY.error("overloaded_error", after_events=1)] * 3, REPLY) as server:
        stream, _, _ = run(mode, lambda: read(mode, server, retries=3))
        assert (len(server.requests), stream.text) == (4, TEXT)
        assert server.connection_count <= 4
    print("1 case")


def test_streamed_and_collect_try_again_too(mode: str) -> None:
    async def go() -> None:
        async with client_for(mode, server) as client:
            result = await awaited(streamkit.collect(client, retries=1, **PARAMS))
            assert (result.text, result.attempts) == (TEXT, 2)
            message = await awaited(streamkit.streamed(client.messages.create)(**PARAMS))
            assert message.content[0].text == TEXT

    cut = REPLY.cut(after_events=2)
    with serve(cut, REPLY, cut, cut, REPLY) as server:
        run(mode, go)
        assert len(server.requests) == 5
    print("2 cases")


def test_whole_text_in_the_first_event_is_never_doubled(mode: str) -> None:
    """What was held back is given once, whatever came before."""
    whole = Reply.events(message_start(), block_start(0, text="All"), block_stop(), message_delta(), MESSAGE_STOP)
    with serve(REPLY.cut(after_events=2), REPLY.error("api_error", after_events=1), whole) as server:
        stream, log, given = run(mode, lambda: read(mode, server, retries=2))
    assert (stream.text, log.of("write"), given.count("message_start")) == ("All", ["All"], 1)
    print("1 case")
