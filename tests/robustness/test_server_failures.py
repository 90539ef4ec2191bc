"""Servers that misbehave: each gets its name, nothing that arrived is lost, and nothing hangs or passes for whole.

By bytes and by events, sync and async, over real sockets.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import (
    BufferSink,
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamResult,
    StreamTimeoutError,
    StreamTruncatedError,
)
from streamkit.testing import Reply, serve
from tests.support.clients import NEWEST_SDK, PARAMS, async_client_for, async_sdk_client, sdk_client
from tests.support.events import (
    MESSAGE_STOP,
    PING,
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
from tests.support.harness import run

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
    "ignore:Pydantic serializer warnings",
)

A, B = text_delta("One "), text_delta("two")
HEAD = (message_start(), block_start(), A)
TAIL = (B, block_stop(), message_delta(), MESSAGE_STOP)
WHOLE = sse(*HEAD, *TAIL)
DONE, HALF = ("complete", None, "One two"), ("failed", StreamProtocolError, "One ")
Seen = tuple[str, "type[StreamError] | None", str]


@dataclass(frozen=True)
class ServerFailure:
    """What it sends, and what is seen: of a reader by bytes, and of one by events where that is not the same."""

    reply: Reply
    seen: Seen
    by_events: Seen | None = None
    client: tuple[tuple[str, Any], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    ways: tuple[str, ...] = ("bytes", "helper", "raw")

    def seen_by(self, way: str) -> Seen:
        return self.by_events or self.seen if way != "bytes" else self.seen


def body(data: bytes, **options: Any) -> Reply:
    return Reply.recorded(data, **options)


def between(*events: Any) -> Reply:
    """These events after the first piece of text; the rest follows."""
    return body(sse(*HEAD, *events, *TAIL))


def lines(end: bytes) -> Reply:
    return body(WHOLE.replace(b"\n", end))


def as_json(value: Any, indent: int | None = None) -> Reply:
    return body(json.dumps(value, indent=indent).encode(), content_type="application/json")


GONE = ("disconnected", StreamTruncatedError, "")
RESET = ("disconnected", StreamConnectionError, "")
NO_STREAM = ("failed", StreamProtocolError, "")
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
ERROR = ("failed", StreamAPIError, "One ")
STAGES = {
    "the headers": 0,
    "message_start": 1,
    "content_block_start": 2,
    "the first text": 3,
    "the second text": 4,
    "content_block_stop": 5,
    "message_delta": 6,
    "message_stop": 7,
}
MESSAGE = {
    **message_start({"type": "text", "text": "One "}, {"type": "text", "text": "two"}, stop_reason="end_turn")[
        "message"
    ],
    "usage": {"input_tokens": 3, "output_tokens": 7},
}
EMOJI = sse(message_start(), block_start(), text_delta("Ünïcödé 👩‍🚀"), block_stop(), message_delta(), MESSAGE_STOP)


def at_each_stage() -> dict[str, ServerFailure]:
    failures = {}
    for stage, count in STAGES.items():
        said = ["", "", "", "One ", "One two", "One two", "One two", "One two"][count]
        ends = ("complete", None) if count >= 6 else ("disconnected", StreamTruncatedError)
        breaks = ("complete", None) if count >= 7 else ("disconnected", StreamConnectionError)
        failures[f"ends after {stage}"] = ServerFailure(body(WHOLE).cut(after_events=count), (*ends, said))
        failures[f"reset after {stage}"] = ServerFailure(body(WHOLE).reset(after_events=count), (*breaks, said))
    return failures


# ruff: noqa: E501 - the table
# fmt: off
FAILURES: dict[str, ServerFailure] = {
    **at_each_stage(),
    # No stream at all.
    "empty body": ServerFailure(body(b""), GONE),
    "only comments": ServerFailure(body(b": hello\n\n: still here\n\n"), GONE),
    "HTML": ServerFailure(body(b"<html>\n\n<p>Sign in</p></html>", content_type="text/html"), NO_STREAM, GONE),
    "HTML as events": ServerFailure(body(b"<!DOCTYPE html>\n<html></html>\n"), NO_STREAM, GONE),
    "JSON": ServerFailure(as_json({"object": "list", "data": []}), NO_STREAM, GONE),
    "a complete message as JSON": ServerFailure(as_json(MESSAGE), ("failed", StreamProtocolError, "One two"), GONE),
    "a complete message as JSON, indented": ServerFailure(as_json(MESSAGE, 2), ("failed", StreamProtocolError, "One two"), GONE),
    "half a message as JSON": ServerFailure(as_json(MESSAGE).cut(after_bytes=90), NO_STREAM, GONE),
    "an error as JSON": ServerFailure(as_json(OVERLOADED), ("failed", StreamAPIError, ""), GONE),
    "binary": ServerFailure(body(bytes(range(256)) * 4, content_type="application/octet-stream"), NO_STREAM),
    # Not JSON, not UTF-8.
    "bad JSON": ServerFailure(between(b"event: content_block_delta\ndata: {oops\n\n"), HALF),
    "JSON that is cut": ServerFailure(between(sse(B)[:-4] + b"\n\n"), HALF),
    "a JSON array": ServerFailure(between(b'event: content_block_delta\ndata: [1, 2]\n\n'), HALF),
    "a JSON string": ServerFailure(between(b'event: content_block_delta\ndata: "text"\n\n'), HALF),
    "null": ServerFailure(between(b"event: content_block_delta\ndata: null\n\n"), HALF),
    "NaN": ServerFailure(between(b'event: ping\ndata: {"type": "ping", "x": NaN}\n\n'), DONE),
    "bad UTF-8": ServerFailure(between(b'event: content_block_delta\ndata: {"type": "\xff\xfe"}\n\n'), HALF),
    "half a character at the end": ServerFailure(
        body(sse(*HEAD) + b'event: content_block_delta\ndata: {"a": "\xf0\x9f'), ("disconnected", StreamTruncatedError, "One "),
        HALF,
    ),
    "characters split between chunks": ServerFailure(body(EMOJI).split_utf8(), ("complete", None, "Ünïcödé 👩‍🚀")),
    # The framing.
    "CRLF": ServerFailure(lines(b"\r\n"), DONE),
    "CR": ServerFailure(lines(b"\r"), DONE),
    "CRLF, byte by byte": ServerFailure(replace(lines(b"\r\n"), chunk_sizes=(1,)), DONE),
    "a byte-order mark": ServerFailure(body(b"\xef\xbb\xbf" + WHOLE), DONE, NO_STREAM),
    "comments": ServerFailure(between(b": keep-alive\n\n:\n\n"), DONE),
    "a comment in an event": ServerFailure(between(b": note\n" + sse(text_delta("and "))), ("complete", None, "One and two")),
    "data in several lines": ServerFailure(
        between(b'event: content_block_delta\ndata: {"type":"content_block_delta",\ndata: "index":0,\n'
                b'data:"delta":{"type":"text_delta","text":"and "}}\n\n'), ("complete", None, "One and two"),
    ),
    "unknown fields": ServerFailure(between(b"id: 7\nretry: 10\nfoo: bar\nbaz\n" + sse(text_delta("and "))), ("complete", None, "One and two")),
    "no space after the colon": ServerFailure(body(WHOLE.replace(b": ", b":")), DONE),
    "no event lines": ServerFailure(
        body(b"".join(line + b"\n\n" for line in WHOLE.split(b"\n") if line.startswith(b"data"))), DONE, GONE
    ),
    "the wrong event lines": ServerFailure(
        body(WHOLE.replace(b"event: content_block_delta", b"event: message_start")), DONE,
    ),
    "blank lines in between": ServerFailure(body(b"\n\n" + WHOLE.replace(b"\n\n", b"\n\n\n\n")), DONE),
    "no blank line at the end": ServerFailure(body(WHOLE.rstrip()), DONE),
    "[DONE] at the end": ServerFailure(body(WHOLE + b"data: [DONE]\n\n"), DONE),
    "[DONE] in the middle": ServerFailure(between(b"data: [DONE]\n\n"), HALF, DONE),
    "events after the end": ServerFailure(body(WHOLE + sse(text_delta("three"), message_start(), message_delta(), PING)), DONE),
    "garbage after the end": ServerFailure(body(WHOLE + b"\xff\xff{"), DONE),
    # Out of order.
    "a delta for an index that was never opened": ServerFailure(between(text_delta("x", 9)), HALF),
    "a block stop for an index that was never opened": ServerFailure(between(block_stop(9)), DONE, HALF),
    "a block stop before the message": ServerFailure(body(sse(block_stop(), *HEAD, *TAIL)), DONE),
    "text before the message": ServerFailure(body(sse(A, *HEAD, *TAIL)), NO_STREAM),
    "a block before the message": ServerFailure(body(sse(block_start(), *HEAD, *TAIL)), NO_STREAM),
    "message_stop before the message": ServerFailure(body(sse(MESSAGE_STOP, *HEAD, *TAIL)), NO_STREAM),
    "a block that is never closed": ServerFailure(body(sse(*HEAD, B, message_delta(), MESSAGE_STOP)), DONE),
    "a second message inside the first": ServerFailure(between(message_start()), HALF),
    "two messages": ServerFailure(body(WHOLE + WHOLE), DONE),
    "a block opened twice": ServerFailure(between(block_start()), DONE),
    "message_stop without a stop reason": ServerFailure(body(sse(*HEAD, B, block_stop(), MESSAGE_STOP)), DONE),
    "text after the end of its block": ServerFailure(body(sse(*HEAD, block_stop(), B, message_delta(), MESSAGE_STOP)), DONE),
    "text after the stop reason": ServerFailure(body(sse(*HEAD, block_stop(), message_delta(), B, MESSAGE_STOP)), DONE),
    # What nobody knows.
    "an unknown event": ServerFailure(between({"type": "hologram", "x": 1}), DONE),
    "an unknown delta": ServerFailure(between(block_delta(0, "hologram_delta", x=1)), DONE),
    "an unknown block": ServerFailure(between(block_start(1, "hologram", x=1), block_stop(1)), DONE),
    "an unknown block with deltas": ServerFailure(
        between(block_start(1, "hologram"), block_delta(1, "hologram_delta", x=1), text_delta("and ", 1), block_stop(1)),
        ("complete", None, "One \n\nand two"),
    ),
    "an unknown block between texts": ServerFailure(
        body(sse(*HEAD, block_stop(), block_start(1, "hologram"), block_stop(1), block_start(2), text_delta("two", 2), message_delta(), MESSAGE_STOP)),
        ("complete", None, "One \n\ntwo"),
    ),
    "an unknown stop reason": ServerFailure(body(sse(*HEAD, B, block_stop(), message_delta("tired"), MESSAGE_STOP)), DONE),
    # Malformed events.
    "a delta without its delta": ServerFailure(between({"type": "content_block_delta", "index": 0}), HALF),
    "a delta without its type": ServerFailure(between({"type": "content_block_delta", "index": 0, "delta": {}}), HALF),
    "a delta whose text is a number": ServerFailure(between(block_delta(0, "text_delta", text=5)), HALF),
    "a delta whose text is null": ServerFailure(between(block_delta(0, "text_delta", text=None)), HALF),
    "a block that is not an object": ServerFailure(between({"type": "content_block_start", "index": 1, "content_block": "x"}), HALF),
    "a block without a type": ServerFailure(between({"type": "content_block_start", "index": 1, "content_block": {}}, block_stop(1)), DONE),
    "an index that is an object": ServerFailure(between({**block_start(), "index": {}}), HALF),
    "a message that is not an object": ServerFailure(body(sse({"type": "message_start", "message": "x"})), NO_STREAM),
    "an empty message": ServerFailure(body(sse({"type": "message_start", "message": {}}, *HEAD[1:], *TAIL)), DONE),
    "usage that is not an object": ServerFailure(between({**message_delta(None), "usage": 7}), HALF),
    "a stop reason that is not a string": ServerFailure(between(message_delta(["x"])), HALF),  # type: ignore[arg-type]
    "an event whose type is not a string": ServerFailure(between(b'event: ping\ndata: {"type": ["x"]}\n\n'), HALF, DONE),
    "an event without a type": ServerFailure(between(b'event: odd\ndata: {"x": 1}\n\n'), DONE, HALF if NEWEST_SDK else DONE),
    # Errors of the API.
    "an error first": ServerFailure(body(sse(OVERLOADED)), ("failed", StreamAPIError, "")),
    "an error in the middle": ServerFailure(between(OVERLOADED), ERROR),
    "an error after the stop reason": ServerFailure(body(sse(*HEAD, B, block_stop(), message_delta(), OVERLOADED)), ("failed", StreamAPIError, "One two")),
    "an error after the end": ServerFailure(body(WHOLE + sse(OVERLOADED)), DONE),
    "an error as plain text": ServerFailure(between(b"event: error\ndata: upstream timed out\n\n"), ERROR),
    "an error that is null": ServerFailure(between(b'event: error\ndata: {"type":"error","error":null}\n\n'), ERROR),
    "an error that is a string": ServerFailure(between(b'event: error\ndata: {"type":"error","error":"busy"}\n\n'), ERROR),
    "an error without a type": ServerFailure(between(b'event: error\ndata: {"message":"busy"}\n\n'), ERROR),
    "an error without data": ServerFailure(between(b"event: error\n\n"), DONE, ERROR),
    "an error of an unknown type": ServerFailure(
        between({"type": "error", "error": {"type": ["x"], "message": {"a": 1}}}), ERROR
    ),
    # The transport.
    "one byte at a time": ServerFailure(body(WHOLE, chunk_size=1), DONE),
    "slowly": ServerFailure(body(WHOLE, chunk_size=40, delay=0.002), DONE),
    "all at once": ServerFailure(body(WHOLE, chunk_size=10**6), DONE),
    "gzip": ServerFailure(body(gzip.compress(WHOLE), headers={"content-encoding": "gzip"}, chunk_size=20), DONE),
    "gzip that is cut": ServerFailure(
        body(gzip.compress(WHOLE)[:-30], headers={"content-encoding": "gzip"}), ("disconnected", StreamTruncatedError, "?")
    ),
    "plain text that is declared as gzip": ServerFailure(body(WHOLE, headers={"content-encoding": "gzip"}), NO_STREAM),
    # Silence.
    "silence": ServerFailure(body(WHOLE).stall(after_events=3), ("timed_out", StreamTimeoutError, "One "), client=(("timeout", 4),)),
    "silence from the start": ServerFailure(body(WHOLE).stall(after_events=0), ("timed_out", StreamTimeoutError, ""), client=(("timeout", 4),)),
    "silence inside an event": ServerFailure(
        body(WHOLE).stall(after_bytes=len(sse(*HEAD)) + 30), ("timed_out", StreamTimeoutError, "One "), client=(("timeout", 4),)
    ),
    "only pings": ServerFailure(
        body(WHOLE).stall(after_events=3, pings=0.02), ("timed_out", StreamTimeoutError, "One "), options=(("idle_timeout", 4),)
    ),
    "silence after the end": ServerFailure(body(WHOLE).stall(after_events=7), DONE, client=(("timeout", 4),)),
}
# fmt: on


async def read(way: str, mode: str, url: Any, failure: ServerFailure, **more: Any) -> StreamResult[Any, Any]:
    """Everything that one way of reading gives."""
    options = {**dict(failure.options), **more}
    is_async = mode != "sync"
    settings = dict(failure.client)
    client: Any = async_client_for(mode, url, **settings) if is_async else sdk_client(url, **settings)
    try:
        if way == "bytes":
            given = streamkit.collect(client, on_error="return", retries=0, **options, **PARAMS)
            return await given if is_async else given
        if way == "helper":
            if is_async:
                async with client.messages.stream(**PARAMS) as stream:
                    return await streamkit.collect(stream, on_error="return", **options)
            with client.messages.stream(**PARAMS) as stream:
                return streamkit.collect(stream, on_error="return", **options)
        if is_async:
            async with await client.messages.create(stream=True, **PARAMS) as raw:
                return await streamkit.collect(Handed(raw, is_async), on_error="return", **options)
        with client.messages.create(stream=True, **PARAMS) as raw:
            return streamkit.collect(Handed(raw, is_async), on_error="return", **options)
    finally:
        if is_async:
            await client.close()


def Handed(raw: Any, is_async: bool) -> Any:  # noqa: N802 - stands for a class of the user's
    """What somebody's own wrapper looks like: an iterator of the SDK's events."""

    class Wrapper:
        response = raw.response  # what a clock wakes a blocked reader by

        def __iter__(self) -> Any:
            return self

        __aiter__ = __iter__

        if is_async:

            async def __anext__(self) -> Any:
                return await raw.__anext__()

            async def close(self) -> None:
                await raw.close()

        else:

            def __next__(self) -> Any:
                return next(raw)

            def close(self) -> None:
                raw.close()

    return Wrapper()


def check(result: StreamResult[Any, Any], seen: Seen) -> None:
    status, kind, said = seen
    error = result.error
    assert (result.status, type(error) if error else None) == (status, kind), repr(error)
    assert said in ("?", result.text)
    assert (error is None) == (status == "complete")
    if isinstance(error, StreamError):
        assert str(error)
        assert error.result is result
    repr(result)
    _ = result.ok, result.new_messages()
    if result.message is not None and said != "?":
        spoken = "".join(getattr(block, "text", "") or "" for block in result.message.content)
        # In another order where the pieces of two blocks alternate.
        assert sorted(spoken) == sorted(result.text.replace("\n\n", ""))


# What the SDK's helper makes of it, which adds the message up itself.
OTHERWISE: dict[tuple[str, str], Seen] = {
    ("an empty message", "helper"): NO_STREAM,
    # The SDK's raw iterator hands it on.
    ("a block stop for an index that was never opened", "raw"): DONE,
}
if not NEWEST_SDK:
    OTHERWISE["a block stop before the message", "helper"] = NO_STREAM


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("way", ["bytes", "helper", pytest.param("raw", marks=pytest.mark.slow)])
def test_a_server_failure(name: str, way: str) -> None:
    failure = FAILURES[name]
    count = 0
    with serve(failure.reply, repeat=True) as server:
        for mode in ("sync", "asyncio", "aiohttp"):
            sink = BufferSink()
            result = run(mode, lambda mode=mode, sink=sink: read(way, mode, server, failure, sinks=sink))
            assert (sink.text, sink.result) == (result.text, result)
            check(result, OTHERWISE.get((name, way), failure.seen_by(way)))
            count += 1
        assert len(server.requests) == count
    print(f"{count} cases")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("beta", [False, True], ids=["stable", "beta"])
def test_a_server_that_does_not_stream(is_async: bool, beta: bool) -> None:
    """Nothing of the message is lost, and it does not pass for a stream."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_tide", "input": {"at": "Brest"}}
    content = [{"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "text", "text": "Look"}, use]
    message = {**MESSAGE, "content": content, "stop_reason": "tool_use", "stop_sequence": None}

    async def reading() -> tuple[StreamResult[Any, Any], list[str], list[str]]:
        text, kinds = list[str](), list[str]()
        sink = streamkit.CallbackSink(text.append, on_event=lambda event: kinds.append(event.type))
        client: Any = (async_sdk_client if is_async else sdk_client)(server)
        resource = client.beta.messages if beta else client.messages
        given = streamkit.collect(resource, on_error="return", sinks=sink, **PARAMS)
        result = await given if is_async else given
        if is_async:
            await client.close()
        return result, text, kinds

    with serve(as_json(message)) as server:
        result, text, kinds = run("asyncio", reading)
    assert (result.status, result.ok, result.attempts) == ("failed", False, 1)
    assert isinstance(result.error, StreamProtocolError)
    assert "the server did not stream" in str(result.error)
    assert (result.text, result.thinking, text) == ("Look", "Hm", ["Look"])
    assert kinds == ["message_start", "message_delta"]
    assert result.message is not None
    assert [block.to_dict() for block in result.message.content] == content
    assert (result.stop_reason, result.message.stop_reason) == ("tool_use", "tool_use")
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage_final) == (3, 7, True)
    assert [item.input for item in result.tool_uses] == [{"at": "Brest"}]


@pytest.mark.parametrize("kind", ["overloaded_error", "invalid_request_error"])
def test_an_error_as_json_is_retried_like_an_event(kind: str) -> None:
    failed = as_json({"type": "error", "error": {"type": kind, "message": "Busy"}})
    failed = replace(failed, headers=(("retry-after", "0.001"),))
    with serve(failed, body(WHOLE)) as server:
        result = streamkit.collect(sdk_client(server), on_error="return", retries=1, **PARAMS)
    assert (result.status, result.attempts) == (("complete", 2) if kind == "overloaded_error" else ("failed", 1))


# What has no end.


@contextlib.contextmanager
def endless(head: bytes, piece: bytes) -> Iterator[tuple[str, list[int]]]:
    """A server that sends `head`, then `piece` again and again, until nobody reads. Gives its URL and the bytes sent."""
    sent = [0]

    def answer() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.recv(65536)
            headers = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
            connection.sendall(headers + head)
            while sent[0] < 200 * 2**20:
                connection.sendall(piece)
                sent[0] += len(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", sent
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"x" * 65536),
        (b'event: content_block_delta\ndata: {"type": "content_block_delta", "text": "', b"x" * 65536),
        (b"", b": comment\n" * 6000),
        (b"", b"data: x\r\n" * 6000),
    ],
    ids=["no line ends", "one event", "comments", "lines"],
)
def test_what_never_ends_is_refused_and_takes_no_more_than_its_share(is_async: bool, head: bytes, piece: bytes) -> None:
    with endless(sse(*HEAD) + head, piece) as (url, sent):
        tracemalloc.start()
        try:
            result = run("asyncio", lambda: read_url(is_async, url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    check(result, HALF)
    assert "larger than" in str(result.error)
    assert sent[0] < 40 * 2**20, "read on after the limit"
    assert peak < 90 * 2**20
    print(f"1 case: {sent[0] >> 20} MB sent, at most {peak >> 20} MB in memory")


async def read_url(is_async: bool, url: str) -> StreamResult[Any, Any]:
    if is_async:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
            return await streamkit.collect(client, on_error="return", retries=0, **PARAMS)
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as sync_client:
        return streamkit.collect(sync_client, on_error="return", retries=0, **PARAMS)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_an_event_of_16_mb(encoding: str) -> None:
    """Too large in many chunks, and too large in one that was small on the wire."""
    data = sse(*HEAD, text_delta("x" * 2**24), *TAIL)
    reply = body(data, chunk_size=65536)
    if encoding:
        reply = body(gzip.compress(data), headers={"content-encoding": "gzip"})
    with serve(reply, repeat=True) as server:
        for is_async in (False, True):
            result = run("asyncio", lambda is_async=is_async: read_url(is_async, server.url))
            check(result, HALF)
            assert "an event is larger than" in str(result.error)
    print("2 cases")


def test_an_event_of_14_mb_is_an_event() -> None:
    with serve(body(sse(*HEAD, text_delta("x" * 14 * 2**20), *TAIL), chunk_size=65536)) as server:
        result = run("asyncio", lambda: read_url(False, server.url))
    assert (result.status, len(result.text)) == ("complete", 14 * 2**20 + 7)
    print("1 case")


def test_tool_input_of_a_block_that_is_never_closed() -> None:
    """Whole if it is, and else named as what it is: never half an input that passes for a whole one."""
    cases = 0
    for raw, whole in [('{"a": 1}', True), ('{"a": 1', False), ("", True), ("{", False)]:
        for tail in ((message_delta("tool_use"), MESSAGE_STOP), (message_delta("tool_use"),), (MESSAGE_STOP,)):
            with serve(body(sse(message_start(), tool_use_start(), input_delta(raw), *tail))) as server:
                result = run("asyncio", lambda server=server: read_url(False, server.url))
            assert result.status == "complete"
            assert len(result.tool_uses) == whole
            assert [item.raw for item in result.invalid_tool_input] == ([] if whole else [raw])
            assert bool(result.new_messages()) is whole
            cases += 1
    print(f"{cases} cases")


def shown(seen: Seen) -> str:
    status, kind, said = seen
    return f"`{status}`" + (f", `{kind.__name__}`" if kind else "") + (f", {said!r}" if said not in ("", "?") else "")


def table() -> str:
    """What is seen of each failure, as the docs have it."""
    rows = [
        f"| {name} | {shown(failure.seen)} | {'the same' if failure.by_events is None else shown(failure.by_events)} |"
        for name, failure in FAILURES.items()
    ]
    return "\n".join(
        ["| what the server sends | read by bytes | read by the SDK's events |", "|---|---|---|", *rows, ""]
    )


@pytest.mark.skipif(not NEWEST_SDK, reason="the table is that of the newest SDK")
def test_the_table_of_server_failures_is_the_one_that_is_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "server-failures.md").read_text("utf-8")
    assert page.endswith(f"\n\n{table()}"), f"the table in docs/server-failures.md should be:\n{table()}"
