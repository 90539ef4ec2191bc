"""`RedisLog`: several `Replies`, each with a client of its own as in a process of its own, and a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import pytest
import redis.asyncio
import redis.exceptions

from streamkit import AsyncEventStream, stream_events
from streamkit.testing import Reply, serve
from streamkit.web import AISDK, RedisLog, Replies, ReplyActive, ReplyFrames
from streamkit.web._redis_batch import Batch
from tests.support.clients import PARAMS, async_client_for
from tests.support.harness import ignores_generators_left_behind
from tests.support.redis import RedisServer, needs_redis, proxy, redis_server
from tests.support.reply_bodies import frames_of, numbers, read_until, whole, without_ids
from tests.support.web import RUN, of_type, until

pytestmark = [pytest.mark.anyio, ignores_generators_left_behind, needs_redis]
WORDS = Reply.text("They push water aside.")
STALLED = WORDS.stall(after_events=5)  # after "They " and "push "
LONG = Reply.text("a " * 300, delay=0.005)
LEASE = 10.0  # Redis and each process may stand still for seconds on a busy machine
SHORT = 1.0  # for tests that wait for its end


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Workers:
    """Several `Replies` over one Redis, and streams of the server's replies."""

    def __init__(self, server: RedisServer, client: anthropic.AsyncAnthropic, prefix: str) -> None:
        self.server, self.client, self.prefix = server, client, prefix
        self.streams: list[AsyncEventStream[Any, Any, Any]] = []
        self._closing: list[Any] = []

    def replies(self, *, client: Any = None, lease: float = LEASE, **options: Any) -> Replies:
        client = client or self.server.client()
        made = Replies(RedisLog(client, prefix=self.prefix, lease=lease), **options)
        self._closing += [made, client]
        return made

    def stream(self, **options: Any) -> AsyncEventStream[Any, Any, Any]:
        self.streams.append(stream_events(self.client, **{**PARAMS, **options}))
        return self.streams[-1]

    async def start(self, replies: Replies, key: str = "chat") -> ReplyFrames:
        return await replies.start(key, self.stream(), AISDK())

    async def aclose(self) -> None:
        for one in self._closing:
            await one.aclose()


@contextlib.asynccontextmanager
async def workers(server: RedisServer, *served: Reply) -> AsyncIterator[Workers]:
    with serve(*served) as api:
        async with async_client_for("asyncio", api) as client:
            with anyio.fail_after(30):
                made = Workers(server, client, f"test-{secrets.token_hex(4)}")
                try:
                    yield made
                finally:
                    await made.aclose()
                assert all(stream.status not in ("pending", "streaming") for stream in made.streams)


async def resumed(replies: Replies, key: str = "chat", after: int | str = 0) -> ReplyFrames:
    frames = await replies.resume(key, AISDK(), after)
    assert frames is not None
    return frames


def metadata(body: bytes) -> dict[str, Any]:
    found = of_type(without_ids(body), "finish", "message-metadata")
    return dict(found[0]["messageMetadata"])


async def test_resuming_in_another_process_after_each_event(shared: RedisServer) -> None:
    async with workers(shared, STALLED) as one:
        a, b = one.replies(), one.replies()
        body = await read_until(await one.start(a), b"push")
        held = await resumed(b)
        assert await read_until(held, b"push") == body
        for count in range(len(frames_of(body))):
            head = b"".join(frames_of(body)[:count])
            assert head + await read_until(await resumed(b, after=count), b"push") == body
        assert await b.stop("chat") is True
        rest = await whole(held)
        assert metadata(rest)["status"] == "interrupted"
        assert await whole(await resumed(a)) == body + rest
        assert await b.stop("chat") is False


async def test_a_finished_reply(shared: RedisServer) -> None:
    async with workers(shared, WORDS) as one:
        a, b, c = one.replies(), one.replies(), one.replies(client=shared.client(decode_responses=True))
        assert await b.resume("chat", AISDK()) is None
        body = await whole(await one.start(a))
        assert metadata(body)["status"] == "complete"
        for replies in (a, b, c):
            assert await whole(await resumed(replies)) == body
            assert await replies.resume("chat", AISDK(), len(frames_of(body))) is None
        await a.aclose()
        assert await whole(await resumed(b)) == body


async def test_following_a_long_reply(shared: RedisServer) -> None:
    async with workers(shared, LONG) as one:
        a, b = one.replies(), one.replies()
        mine = await one.start(a)
        theirs = await resumed(b)
        bodies: list[bytes] = []

        async def read(frames: ReplyFrames) -> None:
            bodies.append(await whole(frames))

        async with anyio.create_task_group() as group:
            group.start_soon(read, mine)
            group.start_soon(read, theirs)
        assert bodies[0] == bodies[1]
        assert numbers(bodies[0]) == list(range(1, len(numbers(bodies[0])) + 1))
        async with shared.client() as client:
            (name,) = await keys(one, ":*}:*")
            assert 3 <= await client.xlen(name) < 150  # frames were joined


async def keys(one: Workers, pattern: str) -> list[str]:
    async with one.server.client(decode_responses=True) as client:
        return [name async for name in client.scan_iter(f"{one.prefix}{pattern}")]


async def test_one_running_reply_a_key(shared: RedisServer) -> None:
    async with workers(shared, STALLED, WORDS, WORDS, WORDS) as one:
        a, b = one.replies(), one.replies()
        await read_until(await one.start(a), b"push")
        for replies in (a, b):
            with pytest.raises(ReplyActive, match="already running under the key 'chat'"):
                await one.start(replies)
            assert one.streams[-1].status == "interrupted"
        assert await b.stop("chat") is True
        for replies in (b, a, b):  # the next one may begin as soon as a viewer sees the end
            await read_until(await one.start(replies), b"[DONE]")
        first = await resumed(a)
        assert await whole(await resumed(b)) == await whole(first)


async def test_a_reply_is_kept_for_a_while(shared: RedisServer) -> None:
    async with workers(shared, WORDS) as one:
        a, b = one.replies(keep=0.3), one.replies(keep=0.3)
        await whole(await one.start(a))
        assert await one.replies().resume("chat", AISDK()) is not None
        while await b.resume("chat", AISDK()) is not None:
            pass
        await until(lambda: not a._replies)
        assert await a.resume("chat", AISDK()) is None


async def test_many_viewers_of_one_reply(shared: RedisServer) -> None:
    async with workers(shared, LONG) as one:
        a, b = one.replies(), one.replies()
        mine = await one.start(a)
        bodies: list[bytes] = []

        async def view() -> None:
            bodies.append(await whole(await resumed(b)))

        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(view)
            body = await whole(mine)
        assert bodies == [body] * 300


async def test_viewers_of_many_replies(shared: RedisServer) -> None:
    """Each reply has a viewer of its own in the other process, and each process needs only a few connections."""
    async with workers(shared, *[Reply.text("a " * 20, delay=0.02)] * 200) as one:
        names = f"{one.prefix}-a", f"{one.prefix}-b"
        a, b = (one.replies(client=shared.client(client_name=name), lease=10, detached=60) for name in names)

        async def view(key: str) -> None:
            mine = await one.start(a, key)
            theirs = await resumed(b, key)
            assert await whole(theirs) == await whole(mine)

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(view, f"chat {number}")
        assert {stream.status for stream in one.streams} == {"complete"}
        async with shared.client() as admin:
            connected = [client["name"] for client in await admin.client_list()]
        assert all(0 < connected.count(name) <= 11 for name in names)


async def test_keys_may_have_any_characters(shared: RedisServer) -> None:
    async with workers(shared, *[WORDS] * 4) as one:
        a, b = one.replies(), one.replies()
        for key in ("user:1/chat", "{}", "}{a", "ünï \ud800\n"):
            body = await whole(await one.start(a, key))
            assert await whole(await resumed(b, key)) == body
        assert all(name.startswith(f"{one.prefix}:{{") and name.count("{") == 1 for name in await keys(one, "*"))


async def test_nothing_is_left_in_redis(shared: RedisServer) -> None:
    async with workers(shared, WORDS) as one:
        await whole(await one.start(one.replies(keep=60)))
        async with shared.client() as client:
            for name in await keys(one, "*"):
                assert 0 < await client.pttl(name) <= (60 + LEASE) * 1000


@pytest.mark.parametrize("option", [(), ("--appendonly", "yes", "--appendfsync", "always")], ids=["lost", "kept"])
async def test_a_restart_of_redis(option: tuple[str, ...]) -> None:
    with redis_server() as server:
        server.stop()
        server.start(*option)
        async with workers(server, LONG) as one:
            a, b = one.replies(), one.replies()
            mine, theirs = await one.start(a), await resumed(b)
            head = await read_until(theirs, b'"a "')
            server.stop()
            server.start(*option)
            body = await whole(mine)
            assert metadata(body)["status"] == "complete"
            assert head + await whole(theirs) == body
            assert await whole(await resumed(b)) == body


async def test_an_append_whose_answer_is_lost(shared: RedisServer) -> None:
    async with workers(shared, Reply.text("a " * 5000, delay=0.005)) as one, proxy(shared.port) as wire:
        a, b = one.replies(client=shared.client(port=wire.port)), one.replies()
        mine, theirs = await one.start(a), await resumed(b)
        pieces = []
        for count in range(1, 6):
            wire.lose = True
            while wire.lost < count:
                pieces.append(await anext(mine))
        assert await a.stop("chat")
        body = b"".join(pieces) + await whole(mine)
        assert await whole(theirs) == body
        assert numbers(body) == list(range(1, len(numbers(body)) + 1))


async def test_redis_is_away_for_longer_than_the_lease() -> None:
    with redis_server() as server:
        async with workers(server, LONG.stall(after_events=50)) as one:
            a, b = one.replies(lease=3), one.replies(lease=3)
            mine, theirs = await one.start(a), await resumed(b)
            await read_until(theirs, b'"a "')
            server.stop()
            body = await whole(mine)
            assert (metadata(body)["status"], metadata(body)["error"]) == ("interrupted", "server_lost")
            assert one.streams[0].status == "interrupted"
            assert metadata(await whole(theirs))["error"] == "server_lost"
            with pytest.raises((redis.exceptions.ConnectionError, TimeoutError)):
                await b.resume("chat", AISDK())
            with pytest.raises((redis.exceptions.ConnectionError, TimeoutError)):
                await one.start(b)
            assert one.streams[1].status == "interrupted"
            server.start()
            assert await b.resume("chat", AISDK()) is None
            assert await b.stop("chat") is False
            assert await whole(await resumed(a)) == body  # this process still knows it


async def test_a_first_read_that_fails_is_repeated(shared: RedisServer) -> None:
    async with workers(shared, STALLED) as one, shared.client() as admin:
        a = one.replies()
        body = await read_until(await one.start(a), b"push")
        user = ("ACL", "SETUSER", "viewer")
        await admin.execute_command(*user, "on", "nopass", "~*", "&*", "+@all", "-xrange")
        b = one.replies(client=shared.client(username="viewer", password="any"))  # noqa: S106
        async with anyio.create_task_group() as group:

            async def view() -> None:
                assert await read_until(await resumed(b), b"push") == body

            group.start_soon(view)
            while sum(int(entry["count"]) for entry in await admin.acl_log()) < 3:
                pass
            await admin.execute_command(*user, "+xrange")


async def test_a_loop_that_is_blocked_for_longer_than_a_call_may_take(shared: RedisServer) -> None:
    """The answers of Redis are there when the loop looks at its timers: also while redis-py connects, in 26 turns."""
    async with workers(shared, STALLED) as one:
        a, b = one.replies(lease=60, detached=60), one.replies(lease=SHORT)
        body = await read_until(await one.start(a), b"push")
        async with anyio.create_task_group() as group:

            async def block() -> None:
                while True:
                    time.sleep(0.1)  # noqa: ASYNC251 - the fault of this test
                    await anyio.lowlevel.checkpoint()

            group.start_soon(block)
            assert await read_until(await resumed(b), b"push") == body
            group.cancel_scope.cancel()


async def test_the_news_do_not_arrive(shared: RedisServer) -> None:
    async with workers(shared, LONG) as one:
        a, b = one.replies(), one.replies()
        mine, theirs = await one.start(a), await resumed(b)
        pieces = []
        async with shared.client() as client:
            async for piece in theirs:
                pieces.append(piece)
                await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert b"".join(pieces) == await whole(mine)


async def test_viewers_elsewhere_keep_a_reply_running(shared: RedisServer) -> None:
    async with workers(shared, STALLED) as one:
        a, b = one.replies(lease=3, detached=4), one.replies(lease=3)
        await (await one.start(a)).aclose()
        theirs = await resumed(b)
        with anyio.move_on_after(6):  # longer than a reply goes on without viewers
            await whole(theirs)
        assert one.streams[0].status == "streaming"
        del theirs
        gc.collect()
        await until(lambda: one.streams[0].status != "streaming")
        assert metadata(await whole(await resumed(b)))["error"] == "no_viewers"


@pytest.mark.parametrize("after", [0, 1000])
async def test_a_viewer_that_has_more_than_the_log_is_told_that_the_server_was_lost(
    shared: RedisServer, after: int
) -> None:
    async with workers(shared, STALLED) as one:
        a, b = one.replies(), one.replies()
        await read_until(await one.start(a), b"push")
        theirs = await resumed(b, after=after)
        await b.aclose()
        assert metadata(await whole(theirs))["error"] == "server_lost"


async def test_a_process_that_ends_while_its_viewers_follow(shared: RedisServer) -> None:
    async with workers(shared, STALLED) as one:
        a, b = one.replies(), one.replies()
        await read_until(await one.start(a), b"push")
        theirs = await resumed(b)
        body = await read_until(theirs, b"push")
        await b.aclose()
        body += await whole(theirs)
        assert metadata(body)["error"] == "server_lost"
        assert body.endswith(b"data: [DONE]\n\n")
        assert one.streams[0].status == "streaming"


async def test_a_process_that_ends_while_redis_does_not_answer(shared: RedisServer) -> None:
    async with workers(shared, STALLED) as one, shared.client() as admin:
        a, b = one.replies(), one.replies()
        await read_until(await one.start(a), b"push")
        theirs = await resumed(b)
        reads: Any = b._store._calls._reads  # type: ignore[union-attr]
        await until(lambda: not reads._is_running)
        await admin.execute_command("CLIENT", "PAUSE", 500, "ALL")
        await until(lambda: reads._is_running)
        await b.aclose()
        assert metadata(await whole(theirs))["error"] == "server_lost"
        await until(lambda: not reads._is_running)  # the answer that nobody waits for has come


async def test_replies_that_are_closed_while_redis_does_not_answer(shared: RedisServer) -> None:
    async with workers(shared, WORDS) as one, shared.client() as admin:
        a = one.replies()
        failures: list[str] = []

        async def refused(function: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(RuntimeError, match="these replies are closed") as caught:
                await function()
            failures.append(str(caught.value))

        assert await a.resume("chat", AISDK()) is None
        async with anyio.create_task_group() as group:
            await admin.execute_command("CLIENT", "PAUSE", 500, "ALL")
            group.start_soon(refused, partial(one.start, a))
            group.start_soon(refused, partial(a.resume, "chat", AISDK()))
            await anyio.wait_all_tasks_blocked()
            assert not failures
            await a.aclose()
        assert len(failures) == 2
        assert one.streams[0].status == "interrupted"


async def test_a_follower_ends_with_its_last_viewer(shared: RedisServer) -> None:
    async with workers(shared, STALLED) as one:
        a, b = one.replies(), one.replies()
        await read_until(await one.start(a), b"push")
        theirs = await resumed(b)
        reader: Any = b._store._reader  # type: ignore[union-attr]
        (channel,) = reader._followers
        await theirs.aclose()
        async with shared.client() as admin:
            while reader._followers or reader._listener is not None:
                await admin.publish(channel, 1)  # news of a reply that nobody follows any more
        assert b"push" in await read_until(await resumed(b), b"push")


async def test_a_reply_of_ag_ui(shared: RedisServer) -> None:
    async with workers(shared, WORDS) as one:
        a, b = one.replies(), one.replies()
        mine = await a.start("chat", one.stream(), RUN)
        theirs = await b.resume("chat", RUN)
        assert theirs is not None
        assert await whole(theirs) == await whole(mine)


def test_wrong_arguments() -> None:
    for client in (redis.Redis(), None, redis.asyncio.Redis):
        with pytest.raises(TypeError, match=r"expected a client such as redis\.asyncio\.Redis"):
            RedisLog(client)
    client = redis.asyncio.Redis()
    with pytest.raises(TypeError, match="expected a str for prefix="):
        RedisLog(client, prefix=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"at least 1 second for lease=, got 0\.5"):
        RedisLog(client, lease=0.5)
    with pytest.raises(TypeError, match="expected a RedisLog, got Redis"):
        Replies(client)
    with pytest.raises(ValueError, match=r"at least the lease, 3.0 seconds, for detached=, got 2"):
        Replies(RedisLog(client), detached=2)


def test_trio() -> None:
    async def main() -> None:
        replies = Replies(RedisLog(redis.asyncio.Redis()))
        async with anthropic.AsyncAnthropic(api_key="test") as client:
            stream = stream_events(client, **PARAMS)
            with pytest.raises(RuntimeError, match="RedisLog needs asyncio"):
                await replies.start("chat", stream, AISDK())
            with pytest.raises(RuntimeError, match="RedisLog needs asyncio"):
                await replies.resume("chat", AISDK())
            with pytest.raises(RuntimeError, match="RedisLog needs asyncio"):
                await replies.stop("chat")

    anyio.run(main, backend="trio")


async def test_a_cancelled_call_leaves_the_others_of_its_batch_alone(shared: RedisServer) -> None:
    client = shared.client()
    batch = Batch(client, "return ARGV[1]", 10.0)
    first, second = (asyncio.create_task(batch.call([], (text,))) for text in ("one", "two"))
    await asyncio.sleep(0)  # both wait for their answers
    first.cancel()
    with anyio.fail_after(20):
        assert await second == b"two"
    assert first.cancelled()
    await client.aclose()
