"""`RedisLog` and a worker that is killed or stopped, and the real clients of browsers that resume its reply."""

from __future__ import annotations

import contextlib
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest

from streamkit import stream_events
from streamkit.testing import Reply, Server, serve
from streamkit.web import AISDK, RedisLog, Replies, ReplyActive
from tests.support.clients import PARAMS, async_client_for
from tests.support.npm import AI_SDK, needs_node, read_with
from tests.support.redis import RedisServer, needs_redis, redis_server
from tests.support.reply_bodies import read_until, whole, without_ids
from tests.support.reply_worker import Worker, worker
from tests.support.web import of_type
from tests.web.test_redis import resumed

if sys.platform == "win32":
    pytest.skip("signals need POSIX", allow_module_level=True)

pytestmark = [pytest.mark.anyio, needs_redis]
WORDS = Reply.text("They push water aside.")
STALLED = WORDS.stall(after_events=5)  # after "They " and "push "
LEASE = 3.0
LOST = "The server was lost in the middle of the reply. Please try again."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Two:
    """A worker with a running reply, and `Replies` in this process that follow it."""

    def __init__(self, api: Server, server: RedisServer, other: Worker, replies: Replies, log: RedisLog) -> None:
        self.api, self.server, self.other, self.replies, self.log = api, server, other, replies, log
        self.client = log.client

    def send(self, number: int) -> None:
        self.other.process.send_signal(number)

    async def entries(self) -> int:
        """How many entries the streams of Redis have."""
        names = [name async for name in self.client.scan_iter("*}:*")]
        return sum([await self.client.xlen(name) for name in names])


@contextlib.asynccontextmanager
async def two(*served: Reply, lease: float = LEASE) -> AsyncIterator[Two]:
    with serve(*served) as api, redis_server() as server:
        prefix = secrets.token_hex(4)
        client = server.client()
        log = RedisLog(client, prefix=prefix, lease=lease)
        replies = Replies(log)
        try:
            with worker(server, prefix, lease, api) as other:
                with anyio.fail_after(30):
                    await anyio.to_thread.run_sync(other.wait_for, "push")
                    yield Two(api, server, other, replies, log)
        finally:
            await replies.aclose()
            await client.aclose()


def text_of(body: bytes) -> str:
    return "".join(one["delta"] for one in of_type(without_ids(body), "text-delta"))


async def test_a_worker_that_is_killed() -> None:
    async with two(STALLED, WORDS) as one:
        frames = await resumed(one.replies)
        body = await read_until(frames, b"push")
        one.send(signal.SIGKILL)
        started = time.monotonic()
        body += await whole(frames)
        assert time.monotonic() - started < LEASE + 5  # the point is that it is told, without any timeout of a client
        assert text_of(body) == "They push "
        assert of_type(without_ids(body), "message-metadata")[0]["messageMetadata"] == {
            "status": "disconnected",
            "error": "server_lost",
            "usageFinal": False,
        }
        assert of_type(without_ids(body), "error")[0]["errorText"] == LOST
        assert await whole(await resumed(one.replies)) == body
        patient = Replies(RedisLog(one.client, prefix=one.log.prefix, lease=60))
        assert await whole(await resumed(patient)) == body  # at once: this lease has ended
        await patient.aclose()
        async with async_client_for("asyncio", one.api) as client:
            again = await whole(await one.replies.start("chat", stream_events(client, **PARAMS), AISDK()))
        assert text_of(again) == "They push water aside."


@pytest.mark.parametrize("taken_over", [False, True], ids=["", "taken over"])
async def test_a_worker_that_is_stopped_for_longer_than_the_lease(taken_over: bool) -> None:
    long = Reply.text(["They ", "push ", *["water "] * 2000], delay=0.01)
    async with two(long, WORDS) as one:
        frames = await resumed(one.replies)
        await read_until(frames, b"push")
        one.send(signal.SIGSTOP)
        assert of_type(without_ids(await whole(frames)), "error")[0]["errorText"] == LOST
        expected = b""
        if taken_over:
            async with async_client_for("asyncio", one.api) as client:
                expected = await whole(await one.replies.start("chat", stream_events(client, **PARAMS), AISDK()))
        count = await one.entries()
        one.send(signal.SIGCONT)
        await anyio.to_thread.run_sync(one.other.wait_for, "end interrupted")  # it stopped its stream
        assert await one.entries() == count  # and has written nothing
        if taken_over:
            assert await whole(await resumed(one.replies)) == expected


async def test_a_worker_that_is_stopped_for_less_than_the_lease() -> None:
    async with two(Reply.text("They push " + "water " * 100, delay=0.01), lease=15) as one:
        frames = await resumed(one.replies)
        body = await read_until(frames, b"push")
        one.send(signal.SIGSTOP)
        one.send(signal.SIGCONT)
        body += await whole(frames)
        assert text_of(body) == "They push " + "water " * 100
        assert of_type(without_ids(body), "finish")


async def test_another_process_waits_for_the_lease() -> None:
    async with two(STALLED, *[WORDS] * 2) as one:
        async with async_client_for("asyncio", one.api) as client:
            one.send(signal.SIGKILL)
            with pytest.raises(ReplyActive):
                await one.replies.start("chat", stream_events(client, **PARAMS), AISDK())
            assert await one.replies.stop("chat") is True  # ends with the lease
            await whole(await one.replies.start("chat", stream_events(client, **PARAMS), AISDK()))


@needs_node
async def test_the_clients_of_browsers_are_told_of_a_lost_worker() -> None:
    async with two(STALLED) as one:
        frames = await resumed(one.replies)
        body = await read_until(frames, b"push")
        one.send(signal.SIGKILL)
        body += await whole(frames)
    for client in AI_SDK:
        (found,) = read_with(client, [{"body": body.decode()}])
        reply = found["messages"][-1]
        assert (found["status"], found["error"]) == ("error", LOST)
        assert [part["text"] for part in reply["parts"] if part["type"] == "text"] == ["They push "]
        assert reply["metadata"]["status"] == "disconnected"
