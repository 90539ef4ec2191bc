"""Cancellation at every `await`, on asyncio and trio: by the task, by a scope, by a timeout, by another task."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import types
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, NamedTuple

import anthropic
import anyio
import anyio.lowlevel
import pytest

import streamkit
from streamkit import AsyncSink, StreamError, StreamResult
from streamkit.testing import Reply, Server, serve
from tests.support.clients import PARAMS, async_client_for, open_connections_in_use
from tests.support.harness import backend_of
from tests.support.sinks import ResultLog

PIECES = ["One ", "two ", "three"]
TEXT = "".join(PIECES)
CHUNKS = ("", *PIECES)  # httpx gives each event as the server sends it; aiohttp joins those that it has read
JOINED_CHUNKS = {"".join(PIECES[start:end]) for end in range(4) for start in range(end + 1)}
REPLY = Reply.text(PIECES)
STALLS = REPLY.stall(after_events=4)  # after "One "
EARLY = Reply.recorded(REPLY.body, headers={"retry-after": "0.001"}).cut(after_events=1)


@types.coroutine
def at_suspension(
    coroutine: Coroutine[Any, Any, Any], chosen: dict[int, Callable[[], object]], counted: list[int]
) -> Generator[Any, Any, Any]:
    """Await a coroutine, and call what is chosen for its n-th suspension while it is suspended there."""
    step: Callable[..., Any] = coroutine.send
    value: Any = None
    while True:
        try:
            waits_for = step(value)
        except StopIteration as end:
            return end.value
        counted[0] += 1
        chosen.get(counted[0], bool)()
        try:
            step, value = coroutine.send, (yield waits_for)
        except BaseException as error:
            step, value = coroutine.throw, error


class AsyncResultLog(AsyncSink):
    """Like `ResultLog`, with a suspension before and after each call."""

    def __init__(self) -> None:
        self.text = ""
        self.results: list[StreamResult] = []

    async def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        await anyio.lowlevel.checkpoint()

    async def write(self, text: str) -> None:
        await anyio.lowlevel.checkpoint()
        self.text += text
        await anyio.lowlevel.checkpoint()

    async def finish(self, result: StreamResult) -> None:
        self.results.append(result)
        await anyio.lowlevel.checkpoint()


class Use:
    def __init__(self, client: anthropic.AsyncAnthropic, way: Way) -> None:
        self.sinks: list[Any] = [ResultLog(), AsyncResultLog()] if way.async_sinks else [ResultLog(), ResultLog()]
        self._client, self._way = client, way
        self.stream: Any = None
        self.got: list[str] = []
        self.drained = False
        self.left = False  # the block was left by itself
        self.timeout: anyio.CancelScope | None = None  # of a test: expires soon after an item was taken

    @property
    def options(self) -> dict[str, Any]:
        return {**PARAMS, "sinks": self.sinks, "retries": len(self._way.replies) - 1, **self._way.options}

    def make(self) -> Any:
        function = streamkit.stream_events if self._way.events else streamkit.stream_text
        self.stream = function(self._client, **self.options)
        return self.stream

    async def collect(self) -> None:
        self.drained = True
        await streamkit.collect(self._client, **self.options)

    def take(self, item: Any) -> None:
        if self.timeout is not None:
            self.timeout.deadline = anyio.current_time() + 0.1
        if isinstance(item, str):
            self.got.append(item)
        elif item.type == "content_block_delta":
            self.got.append(item.delta.text)


async def in_with(use: Use) -> None:
    async with use.make() as stream:
        async for item in stream:
            use.take(item)


async def with_break(use: Use) -> None:
    async with use.make() as stream:
        async for item in stream:
            use.take(item)
            if use.got:
                break


async def with_awaits(use: Use) -> None:
    async with use.make() as stream:
        await anyio.lowlevel.checkpoint()
        async for item in stream:
            use.take(item)
            await anyio.lowlevel.checkpoint()


async def bare(use: Use) -> None:
    """Without `with`: what is cancelled in the library's own code is closed all the same."""
    async for item in use.make():
        use.take(item)


async def drained(use: Use) -> None:
    use.drained = True
    stream = use.make()
    try:
        await stream.until_done()
    finally:
        await stream.aclose()


async def collected(use: Use) -> None:
    await use.collect()


class Way(NamedTuple):
    use: Callable[[Use], Coroutine[Any, Any, None]]
    replies: tuple[Reply, ...] = (REPLY,)
    events: bool = False
    async_sinks: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012

    def __str__(self) -> str:
        more = "_clocks" if self.options else ""
        more += "_retried" if len(self.replies) > 1 else ""
        return self.use.__name__ + "_events" * self.events + "_sinks" * self.async_sinks + more


CLOCKS = {"idle_timeout": 60, "total_timeout": 60}
WAYS = [
    Way(in_with),
    Way(in_with, events=True),
    Way(in_with, async_sinks=True),
    Way(in_with, options=CLOCKS),
    Way(in_with, replies=(EARLY, REPLY)),
    Way(in_with, replies=(EARLY, REPLY), options=CLOCKS, async_sinks=True),
    Way(with_break, async_sinks=True),
    Way(with_awaits),
    Way(bare),
    Way(drained),
    Way(collected),
    Way(collected, async_sinks=True),
]


def in_use(client: anthropic.AsyncAnthropic) -> list[Any]:
    """What a client's pool takes for in use: connections, and requests that are not over."""
    pool: Any = getattr(client._client._transport, "_pool", None)  # aiohttp has none
    return [*open_connections_in_use(client), *getattr(pool, "_requests", ())]


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Nothing of ours is left to the garbage collector; what trio says of the HTTP library's generators passes."""
    gc.collect()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
        gc.collect()
    for warning in warned:
        said = str(warning.message)
        assert "streamkit" not in said, said
        assert said.startswith("Async generator 'http"), said


def before_the_response(use: Use) -> bool:
    """Whether the stream ended while the SDK was still sending the request."""
    results = [sink.results[0] for sink in use.sinks if sink.results]
    return bool(results) and all(result.timing.response is None for result in results)


def check(use: Use, client: anthropic.AsyncAnthropic, *, whole: bool, lenient: bool = False) -> None:
    if before_the_response(use) and (left := in_use(client)):
        # Cut off in the SDK's own call, which gave us nothing to close: its HTTP library keeps what it cannot use.
        assert [type(one).__name__ for one in left] == ["AsyncHTTPConnection"], left
        assert not left[0].is_available(), left
        return
    assert lenient or in_use(client) == [], "the connection is in use after the block"
    times = [len(sink.results) for sink in use.sinks]
    assert times[0] <= 1, f"a sink was finished {times} times"
    assert len(set(times)) == 1, f"sinks were finished {times} times"
    assert not streamkit._core.dispatch._owners, "a sink is in use for ever"
    if use.stream is not None:
        assert use.stream.status == "complete" if whole else use.stream.status in ("interrupted", "complete")
        assert times[0] == 1
    chunks = CHUNKS if hasattr(client._client._transport, "_pool") else JOINED_CHUNKS
    results = [*(sink.results[0] for sink in use.sinks if sink.results), use.stream and use.stream.result]
    for result in results:
        if result is None:
            continue
        assert result.status == "complete" if whole else result.status in ("interrupted", "complete")
        assert TEXT.startswith(result.text)
        assert result.text == TEXT or result.status != "complete"
        for seen in ([] if use.drained else ["".join(use.got)]) + [sink.text for sink in use.sinks]:
            assert result.text.startswith(seen)
            assert result.text[len(seen) :] in chunks, "more than one chunk ahead"
        assert result.message is None or result.message.to_dict()["role"] == "assistant"


async def by_scope(use: Use, way: Way, chosen: list[int]) -> tuple[int, bool]:
    """Cancel a scope. Returns how many suspensions there were, and whether the cancellation arrived."""
    counted = [0]
    with anyio.CancelScope() as scope:
        await at_suspension(way.use(use), dict.fromkeys(chosen, scope.cancel), counted)
    return counted[0], scope.cancelled_caught


async def by_task(use: Use, way: Way, chosen: list[int]) -> tuple[int, bool]:
    """Cancel asyncio's own task: no shield of a scope holds that up."""
    counted = [0]

    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def run() -> None:
        await at_suspension(way.use(use), dict.fromkeys(chosen, cancel), counted)

    try:
        await asyncio.ensure_future(run())
    except asyncio.CancelledError:
        return counted[0], True
    return counted[0], False


MEANS = {
    "asyncio-scope": by_scope,
    "trio-scope": by_scope,
    "aiohttp-scope": by_scope,
    "asyncio-task": by_task,
    "aiohttp-task": by_task,
}


@pytest.fixture(params=MEANS)
def means(request: pytest.FixtureRequest) -> str:
    return request.param


def every_suspension(way: Way, means: str, more: int | None) -> int:
    """Cancel at each suspension, and again `more` suspensions later. Returns how many there are."""

    mode = means.partition("-")[0]

    async def run() -> int:
        failures: list[str] = []
        counted, n = 1, 0
        while n <= counted:
            chosen = [] if n == 0 else [n] if more is None else [n, n + more]
            # A server for each: a request that was cut off may reach its server late, and would take a reply there.
            with serve(*way.replies) as server:
                async with async_client_for(mode, server) as client:
                    use = Use(client, way)
                    seen, arrived = await MEANS[means](use, way, chosen)
                    # The HTTP library of the SDK before 1.0 closes by itself while it is being read, at the end of the
                    # body and when it is cancelled; where asyncio's own `cancel` cuts that off, it loses the
                    # connection, and no call of ours can mend it.
                    old = type(client._client).__module__.partition(".")[0] == "httpx" and mode == "asyncio"
                    lenient = old and means == "asyncio-task" and (more is not None or len(way.replies) > 1)
                    try:
                        whole = way.use is not with_break and not arrived
                        check(use, client, whole=whole, lenient=lenient and arrived)
                        assert n or not arrived
                    except AssertionError as error:
                        failures.append(f"{n} of {counted}: {error}".split("\n")[0])
                        streamkit._core.dispatch._owners.clear()
            if n == 0:
                counted = seen
            n += 1
        assert failures == [], "\n".join(failures)
        return counted

    with nothing_left_behind():
        return anyio.run(run, backend=backend_of(mode))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_cancelled_at_every_await(way: Way, means: str, capsys: pytest.CaptureFixture[str]) -> None:
    count = every_suspension(way, means, None)
    with capsys.disabled():
        print(f"\n{way}, {means}: {count} suspensions")
    assert count >= 3


@pytest.mark.parametrize("more", [1, *(pytest.param(more, marks=pytest.mark.slow) for more in (2, 3))])
@pytest.mark.parametrize("task", ["asyncio-task", "aiohttp-task"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_cancelled_again_while_it_closes(way: Way, task: str, more: int) -> None:
    """A second cancellation, for those who cannot wait."""
    assert every_suspension(way, task, more) >= 3


# From outside, while the reader waits for what does not come.


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


def stalled(mode: str, test: Callable[[Use, Server, anthropic.AsyncAnthropic], Awaitable[None]]) -> None:
    """Run a test with a stream that stalls after "One "."""

    async def run() -> None:
        async with async_client_for(mode, server) as client:
            use = Use(client, Way(in_with, async_sinks=True))
            with anyio.fail_after(30):
                await test(use, server, client)
            check(use, client, whole=False)
            assert (use.stream.status, use.stream.text) == ("interrupted", "One ")
            server._used_count = 1
            assert (await streamkit.collect(client, **PARAMS)).text == TEXT, "the next request is not harmed"

    with serve(STALLS, REPLY) as server, nothing_left_behind():
        anyio.run(run, backend=backend_of(mode))


@pytest.mark.parametrize("inside", [True, False])
def test_a_timeout(mode: str, inside: bool) -> None:
    """Around the block, and inside it around the loop."""

    async def test(use: Use, server: Server, client: anthropic.AsyncAnthropic) -> None:
        with contextlib.ExitStack() as outer:
            if not inside:
                scope = use.timeout = outer.enter_context(anyio.move_on_after(None))
            async with use.make() as stream:
                if inside:
                    scope = use.timeout = outer.enter_context(anyio.move_on_after(None))
                    with outer.pop_all():
                        async for item in stream:
                            use.take(item)
                else:
                    async for item in stream:
                        use.take(item)
        assert scope.cancelled_caught
        assert use.got == ["One "]

    stalled(mode, test)


def test_a_timeout_that_raises(mode: str) -> None:
    async def test(use: Use, server: Server, client: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(TimeoutError):
            with anyio.fail_after(None) as use.timeout:
                await in_with(use)
        assert isinstance(use.stream.result.error, BaseException)

    stalled(mode, test)


def test_waiting_for_one_item_ends_the_stream_with_a_verdict() -> None:
    """`asyncio.wait_for` cancels what it waits for: the stream is over, and says so."""

    async def test(use: Use, server: Server, client: anthropic.AsyncAnthropic) -> None:
        async with use.make() as stream:
            use.take(await asyncio.wait_for(stream.__anext__(), 20))
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(stream.__anext__(), 0.2)
            assert stream.status == "interrupted"
            with pytest.raises(RuntimeError, match="interrupted"):
                await stream.__anext__()

    stalled("asyncio", test)


def test_waiting_for_each_item_in_time_is_harmless(mode: str) -> None:
    async def run() -> None:
        async with async_client_for(mode, server) as client:
            use = Use(client, Way(in_with))
            async with use.make() as stream:
                with contextlib.suppress(StopAsyncIteration):
                    while True:
                        if mode != "trio":
                            use.take(await asyncio.wait_for(stream.__anext__(), 20))
                        else:
                            with anyio.fail_after(20):
                                use.take(await stream.__anext__())
            check(use, client, whole=True)
            assert use.got == PIECES

    with serve(REPLY) as server, nothing_left_behind():
        anyio.run(run, backend=backend_of(mode))


@pytest.mark.parametrize("means", ["aclose", "cancel", "both"])
@pytest.mark.parametrize("moment", ["reading", "opening"])
def test_from_another_task(mode: str, means: str, moment: str) -> None:
    """The reader's loop ends quietly."""

    async def test(use: Use, server: Server, client: anthropic.AsyncAnthropic) -> None:
        ended = anyio.Event()
        first = anyio.Event()

        async def read() -> None:
            async with use.make() as stream:
                async for item in stream:
                    use.take(item)
                    first.set()
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await first.wait()
            if means != "cancel":
                await use.stream.aclose()
            if means != "aclose":
                use.stream.cancel()
            await ended.wait()
        assert use.stream.result.error is None

    if moment == "reading":
        stalled(mode, test)
        return

    async def opening() -> None:
        """While the request is on its way: the answer is not waited for in vain."""
        async with async_client_for(mode, server) as client:
            use = Use(client, Way(in_with, async_sinks=True))
            stream = use.make()
            async with anyio.create_task_group() as tasks:

                async def stop() -> None:
                    while not server.requests:
                        await anyio.lowlevel.checkpoint()
                    if means != "cancel":
                        await stream.aclose()
                    if means != "aclose":
                        stream.cancel()

                tasks.start_soon(stop)
                async for item in stream:
                    use.take(item)
                    await anyio.lowlevel.checkpoint()
            await stream.aclose()
            check(use, client, whole=False)

    with serve(REPLY) as server, nothing_left_behind():
        anyio.run(opening, backend=backend_of(mode))
