"""Silences that are not the server's fault, and those that are: pings, quiet blocks, a body that does not end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import StreamTimeoutError
from streamkit._core.message import MessageBuilder
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, client_for, sdk_client
from tests.support.events import (
    MESSAGE_STOP,
    PING,
    block_delta,
    block_start,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    text_delta,
    tool_use_start,
)
from tests.support.harness import awaited, run

pytestmark = pytest.mark.filterwarnings(
    # The HTTP library leaves generators behind when a body is not read to its end, and trio says so.
    "ignore:Async generator 'http:ResourceWarning",
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

SIGNED = block_delta(0, "signature_delta", signature="c2ln")
HIDDEN = block_start(0, "thinking", thinking="", signature="")
SEARCH = tool_use_start(0, "web_search", kind="server_tool_use")
FOUND = block_start(1, "web_search_tool_result", tool_use_id="toolu_0", content=[])
END = (message_delta(), MESSAGE_STOP)


# Blocks that need not send anything for a while.

QUIET: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "thinking that is not shown": (
        [HIDDEN],
        [SIGNED, block_stop(), block_start(1), text_delta("So.", 1), block_stop(1)],
    ),
    "a server tool at work": (
        [SEARCH, input_delta("{}"), block_stop()],
        [FOUND, block_stop(1), block_start(2), text_delta("So.", 2)],
    ),
    "compaction": ([block_start(0, "compaction", content=None)], [block_stop(), block_start(1), text_delta("So.", 1)]),
    "redacted thinking": (
        [block_start(0, "redacted_thinking", data="x")],
        [block_stop(), block_start(1), text_delta("So.", 1)],
    ),
}
STUCK: dict[str, list[dict[str, Any]]] = {
    "before a block": [],
    "in a text": [block_start(), text_delta("So")],
    "in thinking that is shown": [HIDDEN, block_delta(0, "thinking_delta", thinking="Hm")],
    "after thinking": [HIDDEN, SIGNED, block_stop()],
    "in a tool use": [tool_use_start(), input_delta('{"a')],
    "after a server tool": [SEARCH, input_delta("{}"), block_stop(), FOUND],
}


@pytest.mark.parametrize("name", QUIET)
def test_pings_keep_a_block_alive_that_need_not_send_anything(mode: str, name: str) -> None:
    before, after = QUIET[name]
    pings = [PING] * 18
    with serve(Reply.events(message_start(), *before, *pings, *after, *END, delay=0.18)) as server:

        async def main() -> None:
            async with client_for(mode, server) as client:
                result = await awaited(streamkit.collect(client, idle_timeout=3.0, retries=0, **PARAMS))
                assert (result.status, result.text) == ("complete", "So.")
                assert result.timing.total > 3.2, "longer than the timeout"

        run(mode, main)


@pytest.mark.parametrize("name", QUIET)
def test_silence_of_the_line_ends_a_quiet_block_all_the_same(mode: str, name: str) -> None:
    before, _ = QUIET[name]
    with serve(Reply.events(message_start(), *before).stall(after_events=1 + len(before))) as server:

        async def main() -> None:
            async with client_for(mode, server) as client:
                with pytest.raises(StreamTimeoutError) as caught:
                    await awaited(streamkit.collect(client, idle_timeout=0.2, retries=0, **PARAMS))
                assert caught.value.clock == "idle"

        run(mode, main)


@pytest.mark.parametrize("name", STUCK)
def test_pings_keep_nothing_else_alive(mode: str, name: str) -> None:
    events = STUCK[name]
    with serve(Reply.events(message_start(), *events).stall(after_events=1 + len(events), pings=0.03)) as server:

        async def main() -> None:
            async with client_for(mode, server) as client:
                with pytest.raises(StreamTimeoutError) as caught:
                    await awaited(streamkit.collect(client, idle_timeout=0.3, retries=0, **PARAMS))
                assert caught.value.clock == "idle"

        run(mode, main)


def test_where_only_events_are_seen_the_timeout_rests_in_a_quiet_block() -> None:
    pings = [PING] * 18
    reply = Reply.events(
        message_start(), HIDDEN, *pings, SIGNED, block_stop(), block_start(1), text_delta("So.", 1), *END, delay=0.18
    )
    with serve(
        reply, Reply.events(message_start(), block_start(), text_delta("So")).stall(after_events=3, pings=0.03)
    ) as server:
        client = sdk_client(server)
        with client.messages.stream(**PARAMS) as helper:
            assert streamkit.collect(helper, idle_timeout=3.0).text == "So."
        with client.messages.stream(**PARAMS) as helper, pytest.raises(StreamTimeoutError):
            streamkit.collect(helper, idle_timeout=0.3)


def test_when_a_message_may_be_silent() -> None:
    """Step by step, as the last block says."""
    builder = MessageBuilder(beta=True)
    steps: list[tuple[dict[str, Any], bool]] = [
        (message_start(), False),
        (block_start(0, "thinking", thinking="", signature=""), True),
        (SIGNED, True),
        (block_stop(0), False),
        (block_start(1, "thinking", thinking="Shown ", signature=""), False),
        (block_stop(1), False),
        (tool_use_start(2, kind="mcp_tool_use"), True),
        (block_stop(2), True),
        (block_start(3, "mcp_tool_result", tool_use_id="toolu_2", content=[]), False),
        (block_stop(3), False),
        (tool_use_start(4, kind="server_tool_use"), True),
        (message_delta("pause_turn"), False),
    ]
    assert not builder.may_be_silent
    for event, silent in steps:
        builder.apply(event)
        assert builder.may_be_silent is silent, event


# Reading, over every transport.


def test_cancel_wakes_a_reader_at_once(mode: str) -> None:
    async def main() -> None:
        async with client_for(mode, server) as client:
            stream = streamkit.stream_text(client, **PARAMS)
            cancelled: list[float] = []

            def cancel() -> None:
                cancelled.append(time.monotonic())
                stream.cancel()

            if mode == "sync":
                assert next(stream) == "One "
                threading.Timer(0.1, cancel).start()
                assert list(stream) == []
            else:
                assert await stream.__anext__() == "One "
                threading.Timer(0.1, cancel).start()
                assert [piece async for piece in stream] == []
            assert time.monotonic() - cancelled[0] < 5, "the next event never comes"
            assert (stream.status, stream.text, stream.result.error) == ("interrupted", "One ", None)
            await awaited(stream.close() if mode == "sync" else stream.aclose())

    with serve(Reply.text(["One ", "two"]).stall(after_events=4)) as server:
        run(mode, main)


def test_the_total_time_ends_while_data_keeps_coming(mode: str) -> None:
    with serve(Reply.text(["word "] * 1500, delay=0.01)) as server:

        async def main() -> None:
            async with client_for(mode, server) as client:
                result = await awaited(streamkit.collect(client, total_timeout=0.5, on_error="return", **PARAMS))
                assert (result.status, result.error.clock) == ("timed_out", "total")
                assert result.timing.total >= 0.5

        run(mode, main)


# The body goes on after the message.


@contextlib.contextmanager
def never_ending(body: bytes) -> Iterator[str]:
    """A server that sends a whole message and keeps the connection open."""
    kept: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                kept.append(sock)
                request = b""
                while not request.endswith(b"}"):
                    request += sock.recv(65536)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                sock.sendall(head + b"%x\r\n%b\r\n" % (len(body), body))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
        for sock in kept:
            sock.close()


def test_a_body_that_does_not_end_holds_a_whole_reply_up_for_a_moment_only(mode: str) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with never_ending(Reply.text("Hello").body) as url:

        async def main() -> None:
            options: dict[str, Any] = {"api_key": "k", "base_url": url, "timeout": 15.0, "max_retries": 0}
            if mode == "aiohttp":
                pytest.importorskip("aiohttp", reason="the SDK's extra is not installed")
                options["http_client"] = anthropic.DefaultAioHttpClient()
            client: Any = anthropic.Anthropic(**options) if mode == "sync" else anthropic.AsyncAnthropic(**options)
            began = time.monotonic()
            result = await awaited(streamkit.collect(client, **PARAMS))
            took = time.monotonic() - began
            await awaited(client.close())
            assert (result.status, result.text) == ("complete", "Hello")
            assert took < 10, "far less than the read timeout"
            assert result.timing.total <= took - 0.15, "the wait is not part of the reply"

        run(mode, main)
    left = {thread.name for thread in threading.enumerate()} - before
    assert not [name for name in left if "streamkit" in name or "Timer" in name], "no thread is left"


@pytest.mark.usefixtures("without_drain_limit")
def test_a_body_that_ends_late_gives_its_connection_back() -> None:
    """The end of the body comes by itself, a moment after the message."""
    whole = Reply.text("Hello")
    with serve(whole, whole, whole) as server:
        client = sdk_client(server)
        for _ in range(3):
            assert streamkit.collect(client, **PARAMS).text == "Hello"
        assert server.connection_count == 1
