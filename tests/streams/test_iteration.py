"""Reading a stream: what comes out, what its members say meanwhile, and the generator protocol."""

# ruff: noqa: PT012 - the whole life of a stream stands under one `raises`
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import streamkit
from streamkit.testing import Reply, serve
from tests.support.bodies import BETA, FIXTURES, each_that_the_sdk_reads
from tests.support.clients import NEWEST_SDK, PARAMS, assert_no_connection_in_use, sdk_client
from tests.support.events import MESSAGE_STOP, block_start, block_stop, message_delta, message_start, text_delta
from tests.support.harness import Harness, ignores_generators_left_behind, is_reading, reading_elsewhere, wait_until
from tests.support.replies import REPLY, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


async def test_members_before_in_and_after(harness: Harness) -> None:
    with serve(REPLY) as server:
        stream = harness.text(server)
        assert (stream.text, stream.status, stream.message, stream.request_id) == ("", "pending", None, None)
        assert (stream.usage.input_tokens, stream.result.status, stream.partial_output) == (0, "pending", None)
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


async def test_members_after_break(harness: Harness) -> None:
    log = Log()
    with serve(REPLY.stall(after_events=4)) as server:
        async with harness.text(server, sinks=log) as stream:
            async for _ in stream:
                break
    assert (stream.status, stream.text, stream.result.error) == ("interrupted", "One ", None)
    assert stream.message.content[0].text == "One "
    assert (stream.usage.input_tokens, stream.result.usage_final) == (10, False)
    assert log.of("write") == ["One "]
    assert log.of("finish") == ["interrupted"]


async def test_members_after_an_exception_in_the_loop(harness: Harness) -> None:
    log, raised = Log(), ZeroDivisionError("x")
    with serve(REPLY.stall(after_events=4)) as server:
        stream = harness.text(server, sinks=log)
        with pytest.raises(ZeroDivisionError) as caught:
            async with stream:
                await stream.next()
                raise raised
    assert caught.value is raised
    assert (stream.status, stream.text, stream.result.error) == ("interrupted", "One ", raised)
    assert log.of("finish") == ["interrupted"]


async def test_iteration_without_with(harness: Harness) -> None:
    with serve(REPLY) as server:
        stream = harness.text(server)
        assert [piece async for piece in stream] == ["One ", "two ", "three"]
        assert stream.status == "complete"
        assert [piece async for piece in stream] == [], "a stream at its end stays there"
        assert (await stream.until_done()).ok
        assert (await stream.open()).status == "complete"
        await stream.close()
        await stream.close()
        assert stream.result.ok


@each_that_the_sdk_reads
async def test_events_are_those_of_the_sdk(harness: Harness, path: Path) -> None:
    with serve(Reply.recorded(path), repeat=True) as server:
        client = harness.client(server)
        resource = client.beta.messages if path.stem in BETA else client.messages
        if harness.is_async:
            async with await resource.create(**PARAMS, stream=True) as raw:
                expected = [event async for event in raw]
        else:
            with resource.create(**PARAMS, stream=True) as raw:
                expected = list(raw)
        async with harness.events(resource) as stream:
            given = [event async for event in stream]
    if not any(event.type == "weather_report" for event in expected):  # older versions of the SDK leave it out
        given = [event for event in given if event.type != "weather_report"]
    assert [type(event) for event in given] == [type(event) for event in expected]
    assert [event.to_dict(warnings=False) for event in given] == [event.to_dict(warnings=False) for event in expected]


async def test_unknown_events_pass_through(harness: Harness) -> None:
    odd = {"type": "weather_report", "sky": "clear"}
    with serve(
        Reply.events(message_start(), odd, block_start(), text_delta("x"), block_stop(), message_delta(), MESSAGE_STOP)
    ) as server:
        async with harness.events(server) as stream:
            given = [event async for event in stream]
    assert [event.type for event in given][:3] == ["message_start", "weather_report", "content_block_start"]
    assert given[1].sky == "clear"


@each_that_the_sdk_reads
async def test_the_message_is_that_of_the_sdk(harness: Harness, path: Path) -> None:
    with serve(Reply.recorded(path), repeat=True) as server:
        client = harness.client(server)
        resource = client.beta.messages if path.stem in BETA else client.messages
        result = await harness.collect(resource, separator="")
        manager = resource.stream(**PARAMS)
        if harness.is_async:
            async with manager as stream:
                expected = await stream.get_final_message()
        else:
            with manager as stream:
                expected = stream.get_final_message()
    assert result.text == "".join(block.text for block in expected.content if block.type == "text")
    if NEWEST_SDK:  # older ones keep less
        wanted = expected.to_dict(warnings=False)
        for block in wanted["content"]:
            block.pop("parsed_output", None)
        assert result.message is not None
        assert result.message.to_dict(warnings=False) == wanted


async def test_a_body_without_event_lines(harness: Harness) -> None:
    path = next(path for path in FIXTURES if path.stem == "no_event_lines")
    with serve(Reply.recorded(path)) as server:
        result = await harness.collect(server)
    assert result.ok
    assert len(result.text) > 10


async def test_two_readers_on_one_stream(harness: Harness) -> None:
    with serve(REPLY.stall(after_events=4)) as server:
        stream = harness.text(server)
        async with reading_elsewhere(stream) as given:
            await anyio.to_thread.run_sync(wait_until, lambda: stream.text == "One ")
            await anyio.to_thread.run_sync(wait_until, lambda: is_reading(stream))
            for way in (stream.next, stream.open, stream.until_done):
                with pytest.raises(RuntimeError, match="one reader at a time; use a sink to pass the text on"):
                    await way()
            assert stream.status == "streaming", "the first reader goes on"
            stream.cancel()
    assert given == ["One "]


# The generator protocol.


def test_yield_from_gives_the_result(mode: str) -> None:
    if mode != "sync":
        pytest.skip("`yield from` is for sync generators")

    def relay(stream: Any) -> Iterator[str]:
        result = yield from stream
        yield f"<{result.status}, {result.usage.output_tokens}>"

    with serve(REPLY, repeat=True) as server:
        client = sdk_client(server)
        assert list(relay(streamkit.stream_text(client, **PARAMS))) == ["One ", "two ", "three", "<complete, 3>"]
        stream = streamkit.stream_text(client, **PARAMS)
        relayed: Any = relay(stream)
        assert next(relayed) == "One "
        relayed.close()
        assert (stream.status, stream.text) == ("interrupted", "One ")
        assert_no_connection_in_use(client)
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


async def test_send_and_throw(harness: Harness) -> None:
    log = Log()
    with serve(REPLY, repeat=True) as server:
        client = harness.client(server)
        async with harness.text(client, sinks=log) as stream:
            assert await stream.call("send", "asend", None) == "One "
            with pytest.raises(TypeError, match="takes no values"):
                await stream.call("send", "asend", "x")
            assert await stream.call("send", "asend", None) == "two "
            thrown = KeyError("mine")
            with pytest.raises(KeyError) as caught:
                await stream.call("throw", "athrow", thrown)
            assert caught.value is thrown
            assert (stream.status, stream.result.error) == ("interrupted", thrown)
        for arguments in ((KeyError,), (KeyError, KeyError("x")), (KeyError("x"),), (KeyError, None, None)):
            other = harness.text(client)
            with pytest.raises(KeyError):
                await other.call("throw", "athrow", *arguments)
            assert other.status == "interrupted"
        assert_no_connection_in_use(client)
    assert log.of("finish") == ["interrupted"]


async def test_partial_output_while_it_arrives(harness: Harness) -> None:
    with serve(Reply.text(['{"name": "Br', 'est", "tags": [', "1]}"])) as server:
        async with harness.text(server, output_format=dict[str, Any]) as stream:
            assert stream.partial_output is None
            seen = [stream.partial_output async for _ in stream]
        assert seen == [{"name": "Br"}, {"name": "Brest", "tags": []}, {"name": "Brest", "tags": [1]}]
        assert stream.result.parsed_output == {"name": "Brest", "tags": [1]}


async def test_partial_output_of_what_is_no_json(harness: Harness) -> None:
    with serve(Reply.text(["Sorry, ", "no."]), REPLY) as server:
        client = harness.client(server)
        async with harness.text(client, output_format=dict[str, Any]) as stream:
            assert [stream.partial_output async for _ in stream] == [None, None]
        assert isinstance(stream.result.parse_error, ValueError)
        async with harness.text(client) as stream:
            await stream.next()
            assert stream.partial_output is None, "none was asked for"
