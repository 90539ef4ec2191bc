"""A stream that is closed by a sink, by another thread or by another task; whoever closes, it is finished once."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from streamkit import AsyncSink, stream_text
from streamkit.testing import serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, async_sdk_client, sdk_client
from tests.support.harness import run
from tests.support.replies import AT_ONCE, LETTERS
from tests.support.sinks import TextLog

pytestmark = pytest.mark.filterwarnings(
    # The HTTP library leaves generators behind when a body is not read to its end, and trio says so.
    "ignore:Async generator 'http:ResourceWarning",
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)


def test_a_sink_that_closes_the_stream() -> None:
    """That is a cancel: nothing comes after the end, and the loop ends quietly."""
    stream: Any = None

    class Closing(TextLog):
        def write(self, text: str) -> None:
            super().write(text)
            stream.close()

    for reply in (LETTERS, AT_ONCE):
        closing, log = Closing(), TextLog()
        with serve(reply) as server:
            client = sdk_client(server)
            stream = stream_text(client, sinks=[closing, log], **PARAMS)
            got = list(stream)
            assert_no_connection_in_use(client)
        assert closing.calls[-1] == ("interrupted", stream.text)
        assert len([call for call in closing.calls if isinstance(call, tuple)]) == 1
        assert log.calls == closing.calls, "each gets what the other got"
        assert stream.text == stream.result.text
        assert stream.text.startswith("".join(got))
        assert list(stream) == []


def test_close_while_the_reader_is_in_a_sink_and_then_stops() -> None:
    inside, closed_by_other = threading.Event(), threading.Event()

    class Slow(TextLog):
        def write(self, text: str) -> None:
            super().write(text)
            inside.set()
            assert closed_by_other.wait(20)

    log = Slow()
    with serve(LETTERS) as server:
        client = sdk_client(server)
        stream = stream_text(client, sinks=log, **PARAMS)

        def read() -> None:
            for _ in stream:
                break  # without asking again

        with stream:
            thread = threading.Thread(target=read)
            thread.start()
            assert inside.wait(20)
        closed_by_other.set()
        thread.join(20)
        assert_no_connection_in_use(client)
    assert stream.status == "interrupted"
    assert log.calls[-1] == ("interrupted", stream.text)


def test_close_by_a_thread_that_read_before_another_did() -> None:
    inside, goes_on = threading.Event(), threading.Event()

    class Slow(TextLog):
        def write(self, text: str) -> None:
            super().write(text)
            if text == "b":
                inside.set()
                assert goes_on.wait(20)
                self.calls.append("after b")

    log = Slow()
    with serve(AT_ONCE) as server:
        stream = stream_text(sdk_client(server), sinks=log, **PARAMS)
        assert next(stream) == "a"
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        assert inside.wait(20)
        stream.close()
        goes_on.set()
        thread.join(20)
    assert log.calls == ["a", "b", "after b", "c", "d", ("interrupted", "abcd")]


def test_a_sink_that_closes_the_stream_that_is_being_left() -> None:
    stream: Any = None

    class Closing(TextLog):
        def write(self, text: str) -> None:
            super().write(text)
            if text == "c":
                stream.close()

    log = Closing()
    with serve(AT_ONCE) as server:
        stream = stream_text(sdk_client(server), sinks=log, **PARAMS)
        with stream:
            next(stream)
    assert log.calls == ["a", "b", "c", "d", ("interrupted", "abcd")]
    assert stream.text == stream.result.text == "abcd"


def test_aclose_while_the_reader_awaits_a_sink_and_then_stops() -> None:
    async def main(log: TextLog) -> None:
        inside, goes_on = anyio.Event(), anyio.Event()

        class Slow(AsyncSink):
            async def write(self, text: str) -> None:
                inside.set()
                await goes_on.wait()

        async with async_sdk_client(server) as client, anyio.create_task_group() as tasks:
            stream = stream_text(client, sinks=[Slow(), log], **PARAMS)
            tasks.start_soon(stream.__anext__)
            await inside.wait()
            await stream.aclose()
            goes_on.set()
            while tasks.cancel_scope and stream.status == "streaming":
                await anyio.lowlevel.checkpoint()
            assert stream.status == "interrupted"
            await anyio.wait_all_tasks_blocked()
            assert_no_connection_in_use(client)

    for backend in ("asyncio", "trio"):
        log = TextLog()
        with serve(LETTERS) as server:
            run(backend, lambda log=log: main(log))
        assert log.calls[-1][0] == "interrupted"


def test_a_stream_that_is_cancelled_before_it_is_opened() -> None:
    log = TextLog()
    with serve(LETTERS) as server:
        stream = stream_text(sdk_client(server), sinks=log, **PARAMS)
        stream.cancel()
        assert stream.open() is stream
        assert (stream.status, log.calls) == ("interrupted", [("interrupted", "")])
        assert list(stream) == []

        async def main() -> None:
            async with async_sdk_client(server) as client:
                stream = stream_text(client, **PARAMS)
                stream.cancel()
                async with stream:
                    assert stream.status == "interrupted"

        run("asyncio", main)
        assert server.requests == []


@pytest.mark.parametrize("ends", ["idle_timeout", "total_timeout", "cancel"])
def test_a_body_that_goes_on_after_its_message_can_be_left(ends: str) -> None:
    """The message is complete, whatever ends the wait for the end of the body."""
    with serve(LETTERS.stall(after_events=len(LETTERS.frames))) as server:
        client = sdk_client(server, timeout=60)
        stream = stream_text(client, **({} if ends == "cancel" else {ends: 15.0}), **PARAMS)
        thread = threading.Thread(target=stream.until_done)
        thread.start()
        if ends == "cancel":
            while not stream._state.attempt.builder.saw_message_stop:
                threading.Event().wait(0.005)
            stream.cancel()
        thread.join(20)
        assert not thread.is_alive()
        assert_no_connection_in_use(client)
    assert (stream.status, stream.text) == ("complete", "abcd")


# Small things.


def test_an_exception_class_that_is_thrown() -> None:
    with serve(LETTERS, repeat=True) as server:
        stream = stream_text(sdk_client(server), **PARAMS)
        with pytest.raises(ValueError, match=r"^$") as caught:
            stream.throw(ValueError)
        assert caught.value.args == ()

        async def main() -> None:
            async with async_sdk_client(server) as client:
                with pytest.raises(ValueError, match=r"^$") as caught:
                    await stream_text(client, **PARAMS).athrow(ValueError)
                assert caught.value.args == ()

        run("asyncio", main)
