"""Several readers of one stream: the sinks that the guide shows, as it shows them."""

from __future__ import annotations

import ast
import asyncio
import queue
import re
import threading
from pathlib import Path
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, async_sdk_client, sdk_client
from tests.support.harness import run

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
PIECES = [f"{number} " for number in range(40)]
REPLY = Reply.text(PIECES)
ENDINGS = {
    "complete": (REPLY, None),
    "truncated": (REPLY.cut(after_events=10), streamkit.StreamTruncatedError),
    "error": (REPLY.error("overloaded_error", after_events=10), streamkit.StreamAPIError),
    "refused": (Reply.http_error(401), anthropic.AuthenticationError),
}


def shown(heading: str) -> dict[str, Any]:
    """The classes and functions of a section of the guide."""
    section = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading + "\n")]
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    defined = [
        node
        for node in ast.parse(blocks).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    namespace: dict[str, Any] = {"asyncio": asyncio, "Sink": streamkit.Sink, "AsyncSink": streamkit.AsyncSink}
    exec(compile(ast.Module(defined, []), str(GUIDE), "exec"), namespace)  # noqa: S102 - our own page
    return namespace


GUIDED = shown("Several readers")
ToQueue, Broadcast, serve_client = GUIDED["ToQueue"], GUIDED["Broadcast"], GUIDED["serve_client"]


@pytest.fixture(params=ENDINGS)
def ending(request: pytest.FixtureRequest) -> tuple[Reply, type[Exception] | None]:
    return ENDINGS[request.param]


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
def test_threads_get_all_the_text_and_the_end(mode: str, ending: tuple[Reply, type[Exception] | None]) -> None:
    reply, error = ending
    received: list[list[Any]] = [[], []]
    queues: list[queue.Queue[Any]] = [queue.Queue(), queue.Queue(1)]  # the second one holds the stream up

    def read(pieces: queue.Queue[Any], items: list[Any]) -> None:
        while not items or isinstance(items[-1], str):
            items.append(pieces.get(timeout=20))

    readers = [threading.Thread(target=read, args=pair) for pair in zip(queues, received, strict=True)]
    for reader in readers:
        reader.start()
    sinks = [ToQueue(pieces) for pieces in queues]
    with serve(reply) as server:

        async def main() -> Any:
            async with async_sdk_client(server) as client:
                return await streamkit.collect(client, sinks=sinks, retries=0, **PARAMS)

        def drain() -> Any:
            return (
                run(mode, main)
                if mode != "sync"
                else streamkit.collect(sdk_client(server), sinks=sinks, retries=0, **PARAMS)
            )

        if error is None:
            drain()
        else:
            with pytest.raises(error):
                drain()
    for reader in readers:
        reader.join(20)
    for *text, result in received:
        assert "".join(text) == result.text
        assert text == PIECES[: len(text)]
        assert type(result.error) is (error or type(None))
    assert received[0][-1] is received[1][-1]


def test_the_readers_of_a_cut_stream_got_something() -> None:
    # So that the comparison above is not one of nothing with nothing.
    pieces: queue.Queue[Any] = queue.Queue()
    with serve(ENDINGS["truncated"][0]) as server:
        streamkit.collect(sdk_client(server), sinks=ToQueue(pieces), on_error="return", **PARAMS)
    items = [pieces.get_nowait() for _ in range(pieces.qsize())]
    assert len(items) > 2
    assert (items[0], items[-1].status) == ("0 ", "disconnected")


def broadcast_to(server: Any, sink: Any) -> asyncio.Task[Any]:
    async def main() -> Any:
        async with async_sdk_client(server) as client:
            return await streamkit.collect(client, sinks=sink, retries=0, on_error="return", **PARAMS)

    return asyncio.ensure_future(main())


@pytest.mark.parametrize("kind", ["complete", "truncated", "error"])
def test_each_client_gets_all_but_the_slow_one_and_the_one_that_left(kind: str) -> None:
    class Leaving(Broadcast):  # type: ignore[misc, valid-type]
        async def write(self, text: str) -> None:
            await super().write(text)
            if text == PIECES[2]:  # as a closed connection ends a handler
                gone.cancel()
                await asyncio.wait([gone])
                assert len(self.clients) == 1  # the slow one has been dropped by now

    async def main() -> None:
        nonlocal gone
        sink = Leaving()
        fast, slow, leaving = sink.join(), sink.join(2), sink.join()
        reader = asyncio.create_task(serve_client(sink, fast))
        gone = asyncio.create_task(serve_client(sink, leaving))
        result = await broadcast_to(server, sink)
        assert result.text.startswith("".join(PIECES[:4]))
        assert await reader == (result.text, result.status)
        assert await serve_client(sink, slow) == ("", "too slow")
        assert gone.cancelled()
        assert sink.clients == set()

    gone: asyncio.Task[Any]
    with serve(ENDINGS[kind][0]) as server:
        run("asyncio", main)


def test_a_client_may_come_late_and_gets_the_end() -> None:
    class Late(Broadcast):  # type: ignore[misc, valid-type]
        async def write(self, text: str) -> None:
            if text == PIECES[20]:
                queues.append(self.join())
            await super().write(text)

    queues: list[Any] = []

    async def main() -> None:
        sink = Late()
        await broadcast_to(server, sink)
        assert await serve_client(sink, queues[0]) == ("".join(PIECES[20:]), "complete")

    with serve(REPLY) as server:
        run("asyncio", main)


def test_waiting_for_the_slowest_holds_the_stream_up() -> None:
    written = 0

    class Waiting(Broadcast):  # type: ignore[misc, valid-type]
        async def write(self, text: str) -> None:
            nonlocal written
            written += 1
            await self.wait(text)

        async def finish(self, result: Any) -> None:
            await self.wait(result)

        async def wait(self, item: Any) -> None:
            for pieces in list(self.clients):
                await pieces.put(item)

    async def main() -> None:
        sink = Waiting()
        fast, slow = sink.join(), sink.join(1)
        reader = asyncio.create_task(serve_client(sink, fast))
        streaming = broadcast_to(server, sink)
        taken, ahead = 0, []
        while isinstance(await slow.get(), str):
            taken += 1
            ahead.append(written - taken)
        result = await streaming
        assert (result.status, taken) == ("complete", len(PIECES))
        assert await reader == (result.text, "complete")
        assert max(ahead) <= 2  # one piece in the queue, and one that waits for room

    with serve(REPLY) as server:
        run("asyncio", main)
