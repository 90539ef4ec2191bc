"""Many at once on one client: each stream gets its own status and its own text, and no connection stays behind."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import anthropic
import anyio
import pytest

from streamkit import (
    BufferSink,
    StreamAPIError,
    StreamConnectionError,
    StreamProtocolError,
    StreamResult,
    StreamTruncatedError,
    UsageMeter,
    collect,
    stream_text,
)
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, async_client_for, async_sdk_client, sdk_client
from tests.support.harness import backend_of

# ruff: noqa: E501 - the table
FAULTS = {
    "none": (lambda reply, after: reply, "complete", None),
    "cut": (lambda reply, after: reply.cut(after_events=after), "disconnected", StreamTruncatedError),
    "reset": (lambda reply, after: reply.reset(after_events=after), "disconnected", StreamConnectionError),
    "error": (lambda reply, after: reply.error("overloaded_error", after_events=after), "failed", StreamAPIError),
    "garbage": (lambda reply, after: reply.garbage(b"data: {oops\n\n", after_events=after), "failed", StreamProtocolError),
    "stop early": (lambda reply, after: reply.stall(after_events=after), "interrupted", None),
}  # fmt: skip


class Work:
    """So many replies, a third of them with a fault, and what each must give."""

    def __init__(self, count: int, words: int = 12) -> None:
        dice = random.Random(7)
        self.replies, self.expected = list[Reply](), dict[str, tuple[str, str, Any, str]]()
        for number in range(count):
            pieces = [f"{number}.{n} " for n in range(words)]
            fault = "none" if number % 3 else dice.choice([name for name in FAULTS if name != "none"])
            make, status, error = FAULTS[fault]
            after = dice.randint(4, 2 + words)  # within the text: message_start, ping, content_block_start, text
            name = f"msg_{number}"
            self.replies.append(make(Reply.text(pieces, message_id=name, delay=0.001 * (number % 4)), after))
            text = "".join(pieces) if fault == "none" else "".join(pieces[: after - 3])
            self.expected[name] = (fault, status, error, text)
        self.results: list[StreamResult[Any, Any]] = []

    def leaves(self, message: Any, text: str) -> bool:
        """Whether the consumer of this reply stops here of its own accord."""
        fault, _, _, wanted = self.expected[message.id]
        return fault == "stop early" and text == wanted

    def check(self) -> str:
        assert len(self.results) == len(self.expected)
        seen = set()
        for result in self.results:
            assert result.message is not None
            name = result.message.id
            fault, status, error, text = self.expected[name]
            assert (result.status, type(result.error) if result.error else None) == (status, error), (name, fault)
            assert result.text == text, (name, fault)
            assert result.message.content[0].text == text
            assert result.attempts == 1
            seen.add(name)
        assert len(seen) == len(self.expected), "a reply was given to two streams"
        return f"{len(seen)} streams, {sum(fault != 'none' for fault, *_ in self.expected.values())} with a fault"


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["asyncio", "trio", "aiohttp"])
@pytest.mark.filterwarnings("ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning")
def test_async_streams(mode: str, count: int) -> None:
    work, meter = Work(count), UsageMeter()

    async def one(client: Any) -> None:
        sink = BufferSink()
        stream = stream_text(client, sinks=[sink, meter], retries=0, **PARAMS)
        try:
            async with stream:
                text = ""
                async for piece in stream:
                    text += piece
                    if work.leaves(stream.message, text):
                        break
        except anthropic.APIError as error:
            assert error is stream.result.error  # noqa: PT017
        assert sink.text == stream.text
        assert sink.result is stream.result
        work.results.append(stream.result)

    async def go() -> None:
        async with async_client_for(mode, server, timeout=60) as client:
            with anyio.fail_after(100):
                async with anyio.create_task_group() as tasks:
                    for _ in work.replies:
                        tasks.start_soon(one, client)
            assert_no_connection_in_use(client)

    with serve(*work.replies) as server:
        anyio.run(go, backend=backend_of(mode))
        assert len(server.requests) == count
    print(work.check())
    assert meter.total.streams == count


def test_threads() -> None:
    """32 threads on one client, one stream after the other in each."""
    work, meter, wrong = Work(192), UsageMeter(), list[BaseException]()
    turns = threading.Semaphore(192)

    def run(client: Any) -> None:
        try:
            while turns.acquire(blocking=False):
                sink = BufferSink()
                stream = stream_text(client, sinks=[sink, meter], retries=0, **PARAMS)
                text = ""
                try:
                    with stream:
                        for piece in stream:
                            text += piece
                            if work.leaves(stream.message, text):
                                break
                except anthropic.APIError as error:
                    assert error is stream.result.error  # noqa: PT017
                assert sink.text == stream.text == text
                work.results.append(stream.result)
        except BaseException as error:
            wrong.append(error)

    with serve(*work.replies) as server:
        client = sdk_client(server, timeout=60)
        threads = [threading.Thread(target=run, args=(client,)) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert wrong == []
        assert not any(thread.is_alive() for thread in threads)
        assert len(server.requests) == 192
        assert_no_connection_in_use(client)
    print(work.check())
    assert meter.total.streams == 192


def cpu(count: int) -> float:
    """CPU seconds that so many concurrent streams take, server included."""
    words = [f"{n} " for n in range(120)]

    async def go() -> None:
        async with async_sdk_client(server, timeout=120) as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(count):
                    tasks.start_soon(lambda: collect(client, **PARAMS))

    with serve(Reply.text(words), repeat=True) as server:
        began = time.process_time()
        anyio.run(go)
        return time.process_time() - began


@pytest.mark.slow
def test_twice_the_streams_take_twice_the_time() -> None:
    cpu(20)
    ratios = []
    for _ in range(3):
        once, twice = cpu(100), cpu(200)
        ratios.append(twice / once)
    print(f"3 runs: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert min(ratios) <= 3, "four times the time would be quadratic; a busy machine adds up to a fourth"
