"""Several readers of one stream: `Broadcast`, and the sink for threads that a how-to page shows."""

from __future__ import annotations

import ast
import queue
import re
import threading
from pathlib import Path
from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import pytest

import streamkit
from streamkit.testing import Reply, check_sink, serve
from tests.support.clients import PARAMS, async_sdk_client, sdk_client
from tests.support.harness import run

pytestmark = pytest.mark.filterwarnings(
    # The HTTP library leaves generators behind when a body is not read to its end, and trio says so.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "several-readers.md"
PIECES = [f"{number} " for number in range(40)]
REPLY = Reply.text(PIECES)
ENDINGS = {
    "complete": (REPLY, None),
    "truncated": (REPLY.cut(after_events=10), streamkit.StreamTruncatedError),
    "error": (REPLY.error("overloaded_error", after_events=10), streamkit.StreamAPIError),
    "refused": (Reply.http_error(401), anthropic.AuthenticationError),
}


def shown(heading: str) -> dict[str, Any]:
    """The classes and functions of a section of the page."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading + "\n")]
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    defined = [
        node
        for node in ast.parse(blocks).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    namespace: dict[str, Any] = {"Sink": streamkit.Sink}
    exec(compile(ast.Module(defined, []), str(PAGE), "exec"), namespace)  # noqa: S102 - our own page
    return namespace


ToQueue = shown("Threads")["ToQueue"]


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


# Broadcast


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    return request.param


async def send(server: Any, sink: Any, **options: Any) -> Any:
    async with async_sdk_client(server) as client:
        return await streamkit.collect(client, sinks=sink, retries=0, on_error="return", **options, **PARAMS)


async def take(reader: Any, pieces: list[str], ended: list[Any]) -> None:
    """Read to the end, and keep the error that ended the iteration, or `None`."""
    try:
        async for piece in reader:
            pieces.append(piece)  # noqa: PERF401
    except Exception as error:
        ended.append(error)
    else:
        ended.append(None)


def test_each_reader_gets_all_and_the_end(loop: str, ending: tuple[Reply, type[Exception] | None]) -> None:
    reply, error = ending

    async def main() -> None:
        sink = streamkit.Broadcast()
        received: list[list[str]] = [[], [], []]
        ended = list[Any]()
        async with anyio.create_task_group() as tasks:
            for pieces in received[:2]:
                tasks.start_soon(take, sink.reader(), pieces, ended)
            result = await send(server, sink)
        await take(sink.reader(), received[2], ended)
        assert sink.result is result
        assert received[0] == received[1] == PIECES[: len(received[0])]
        assert {"".join(pieces) for pieces in received} == {result.text}
        assert len(received[2]) == bool(result.text), "what came before is one piece"
        assert [type(one) for one in ended] == [error or type(None)] * 3
        assert {id(one) for one in ended} == {id(result.error)}

    with serve(reply) as server:
        run(loop, main)


def test_a_late_reader_gets_what_was_before_and_what_comes(loop: str) -> None:
    class Late(streamkit.AsyncSink):
        async def write(self, text: str) -> None:
            if text == PIECES[20]:
                tasks.start_soon(take, sink.reader(), pieces, ended)
                while not pieces:
                    await anyio.lowlevel.checkpoint()

    pieces, ended = list[str](), list[Any]()
    sink = streamkit.Broadcast(maxsize=1)
    tasks: Any

    async def main() -> None:
        nonlocal tasks
        async with anyio.create_task_group() as tasks:
            await send(server, [sink, Late()])

    with serve(REPLY) as server:
        run(loop, main)
    assert pieces == ["".join(PIECES[:21]), *PIECES[21:]]
    assert ended == [None]


def test_a_slow_reader_is_waited_for(loop: str) -> None:
    written = list[str]()

    async def main() -> None:
        sink = streamkit.Broadcast(maxsize=2)
        slow, fast = list[str](), list[str]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, sink.reader(), fast, list[Any]())
            tasks.start_soon(send, server, [streamkit.CallbackSink(written.append), sink])
            async for piece in sink.reader():
                slow.append(piece)
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()
                # Two that may wait, and one that is being written.
                assert len(written) <= len(slow) + 3
        assert slow == fast == PIECES

    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        run(loop, main)


def test_a_slow_reader_is_dropped_and_the_others_are_not(loop: str) -> None:
    async def main() -> None:
        sink = streamkit.Broadcast(maxsize=2, on_slow="drop")
        fast, ended = list[str](), list[Any]()
        slow = sink.reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, sink.reader(), fast, ended)
            tasks.start_soon(send, server, sink)
            assert await anext(slow) == PIECES[0]
            while not ended:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        with pytest.raises(RuntimeError, match="dropped, as it was more than 2 pieces behind"):
            await anext(slow)
        assert (fast, ended) == (PIECES, [None])

    with serve(REPLY) as server:
        run(loop, main)


@pytest.mark.parametrize("way", ["break", "aclose", "cancel", "forgotten"])
def test_a_reader_that_goes_away_holds_nobody_up(loop: str, way: str) -> None:
    async def leave(sink: Any, left: anyio.Event) -> None:
        if way == "break":
            async for _ in sink.reader():
                break
        elif way == "aclose":
            async with sink.reader() as reader:
                await anext(reader)
            await reader.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(reader)
        elif way == "forgotten":
            reader = sink.reader()
            await anext(reader)
            del reader
        else:
            with anyio.CancelScope() as scope:
                async for _ in sink.reader():
                    scope.cancel()
        left.set()

    async def main() -> None:
        sink = streamkit.Broadcast(maxsize=1)
        sink.reader()  # never iterated: holds nobody up either
        pieces, ended, left = list[str](), list[Any](), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave, sink, left)
            tasks.start_soon(take, sink.reader(), pieces, ended)
            result = await send(server, sink)
        assert left.is_set()
        assert (result.status, pieces, ended) == ("complete", PIECES, [None])
        assert not sink._readers

    with serve(REPLY) as server:
        run(loop, main)


def test_a_reader_whose_wait_is_cut_off_misses_nothing(loop: str) -> None:
    async def main() -> None:
        sink = streamkit.Broadcast()
        reader, pieces = sink.reader(), list[str]()
        with anyio.move_on_after(0.001):
            await anext(reader)
        assert not sink._readers
        await send(server, sink)
        await take(reader, pieces, [])
        assert "".join(pieces) == "".join(PIECES)

    with serve(REPLY) as server:
        run(loop, main)


@pytest.mark.parametrize("status", ["interrupted", "cancelled"])
def test_an_interruption_is_an_error_of_the_reader_and_not_a_cancellation(loop: str, status: str) -> None:
    async def main() -> None:
        sink = streamkit.Broadcast()
        async with async_sdk_client(server) as client:
            stream = streamkit.stream_text(client, sinks=sink, **PARAMS)
            with anyio.CancelScope() as scope:
                async with stream:
                    await anext(stream)
                    if status == "cancelled":
                        scope.cancel()
                        await anyio.sleep(1)
        reader = sink.reader()
        assert await anext(reader) == PIECES[0]
        with pytest.raises(streamkit.StreamError, match="interrupted before its end") as caught:
            await anext(reader)
        assert caught.value.result is stream.result is sink.result

    with serve(REPLY.stall(after_events=4)) as server:
        run(loop, main)


def test_a_broadcast_serves_one_stream(loop: str) -> None:
    async def main() -> None:
        sink = streamkit.Broadcast()
        await send(server, sink)
        with pytest.raises(RuntimeError, match="make one for each stream"):
            await send(server, sink)
        with pytest.raises(RuntimeError, match="make one for each stream"):
            await sink.finish(sink.result)  # type: ignore[arg-type]

    with serve(REPLY, repeat=True) as server:
        run(loop, main)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"maxsize": 0}, ValueError, "expected 1 or more for maxsize=, got 0"),
        ({"maxsize": 1.5}, TypeError, "expected an int for maxsize=, got 1.5"),
        ({"maxsize": True}, TypeError, "expected an int for maxsize=, got True"),
        ({"on_slow": "block"}, ValueError, 'expected "wait" or "drop" for on_slow=, got \'block\''),
    ],
)
def test_what_a_broadcast_refuses(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        streamkit.Broadcast(**options)


def test_a_broadcast_passes_the_conformance_test() -> None:
    check_sink(streamkit.Broadcast)
