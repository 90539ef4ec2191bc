"""A process or an event loop that stood still: what was sent meanwhile counts, and no timeout expires for it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import streamkit
from streamkit import StreamTimeoutError
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, async_sdk_client
from tests.support.harness import run

pytestmark = pytest.mark.filterwarnings(
    # The HTTP library leaves generators behind when a body is not read to its end, and trio says so.
    "ignore:Async generator 'http:ResourceWarning",
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

STOPPED = """
import sys
import anthropic, streamkit
from tests.support.clients import PARAMS

client = anthropic.Anthropic(api_key="k", base_url=sys.argv[1], max_retries=0)
stream = streamkit.stream_text(client, retries=0, idle_timeout=1.5, **PARAMS)
try:
    with stream:
        for piece in stream:
            print(piece, flush=True)
except streamkit.StreamTimeoutError:
    pass
print(stream.status, flush=True)
"""


def stop_for(seconds: float, process: Any) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    threading.Event().wait(seconds)
    os.kill(process.pid, signal.SIGCONT)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process cannot be stopped here")
@pytest.mark.parametrize("before_headers", [False, True], ids=["reading", "opening"])
def test_a_process_that_was_stopped(before_headers: bool) -> None:
    pieces = [f"{number}" for number in range(6)]
    # Stopped for longer than the timeout, while the rest of the reply arrives.
    reply = Reply.text(pieces, delay=0.1)
    with serve(reply) as server:
        process = subprocess.Popen(  # noqa: S603 - this file's own script
            [sys.executable, "-c", STOPPED, server.url], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process:
            if before_headers:
                while not server.requests:
                    threading.Event().wait(0.001)
            else:
                assert process.stdout.readline() == "0\n"
            stop_for(3, process)
            output, _ = process.communicate(timeout=30)
    lines = output.split()
    assert lines[-1] == "complete", lines
    assert lines[:-1] == (pieces if before_headers else pieces[1:])


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("clock", ["idle", "total"])
def test_a_loop_that_another_task_blocks(loop: str, clock: str) -> None:
    pieces = [f"{number}" for number in range(6)]

    async def main() -> None:
        async with async_sdk_client(server) as client:
            stream = streamkit.stream_text(client, retries=0, **{f"{clock}_timeout": 1.5}, **PARAMS)
            assert await stream.__anext__() == "0"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.until_done)
                await anyio.sleep(0.05)
                time.sleep(2.5)  # noqa: ASYNC251 - what another task does to the loop
            assert (stream.status, stream.text) == ("complete", "".join(pieces))

    with serve(Reply.text(pieces, delay=0.05)) as server:
        run(loop, main)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_loop_that_another_task_blocks_does_not_keep_a_timeout_from_expiring(loop: str) -> None:
    async def main() -> None:
        async with async_sdk_client(server) as client:
            stream = streamkit.stream_text(client, retries=0, idle_timeout=3.0, **PARAMS)
            assert await stream.__anext__() == "One "

            async def block() -> None:
                while stream.status == "streaming":  # to the limit of `run`, if the timeout never expires
                    time.sleep(0.15)  # noqa: ASYNC251
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(block)
                with pytest.raises(StreamTimeoutError):
                    await stream.__anext__()

    with serve(Reply.text(["One ", "two"]).stall(after_events=4)) as server:
        run(loop, main)


def test_data_that_keeps_coming_does_not_keep_the_total_time_from_ending() -> None:
    """Where all that is read is there already, the loop gets no turn to look at its timers."""

    async def events() -> Any:
        from streamkit._sdk.models import event_factory
        from tests.support.events import block_start, message_start, text_delta

        make = event_factory(False)
        yield make(message_start())
        yield make(block_start())
        while True:
            yield make(text_delta("word "))

    async def main() -> None:
        stream = streamkit.stream_text(events(), total_timeout=0.3)  # type: ignore[call-overload]
        with pytest.raises(StreamTimeoutError) as caught:
            async for _ in stream:
                pass
        assert caught.value.clock == "total"
        assert 0.3 <= caught.value.result.timing.total < 10

    asyncio.run(asyncio.wait_for(main(), 20))
