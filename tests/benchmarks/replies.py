"""The cost of `Replies`: CPU time above that of `stream_events`, and what Redis has to do.

    python tests/benchmarks/replies.py [--rounds 5]

Needs redis-server. First the CPU time of an event for `Replies` in memory, in µs, next to `sse`. Then, over Redis: the
time of an append while 50 replies write at once, the bytes of a frame in Redis, and the delay until a viewer in another
`Replies` gets a frame.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import anthropic

sys.path.insert(0, str(Path(__file__).parents[2]))

from streamkit import stream_events
from streamkit.testing import Reply, serve
from streamkit.web import AISDK, RedisLog, Replies, sse
from streamkit.web._redis_calls import RedisCalls
from tests.benchmarks import contenders, limits
from tests.support.redis import RedisServer, redis_server

FRAME = b'id: 01234567-1000\ndata: {"type":"text-delta","id":"0","delta":" some text"}\n\n'

REPLIES = 50  # that write at once


async def drain(frames: Any) -> int:
    size = 0
    async for piece in frames:
        size += len(piece)
    return size


async def events(client: anthropic.AsyncAnthropic) -> None:
    async with stream_events(client, **limits.PARAMS) as stream:
        async for _ in stream:
            pass


async def frames(client: anthropic.AsyncAnthropic) -> None:
    await drain(sse(stream_events(client, **limits.PARAMS), AISDK()))


async def replies(client: anthropic.AsyncAnthropic) -> None:
    made = Replies()
    await drain(await made.start("chat", stream_events(client, **limits.PARAMS), AISDK()))
    await made.aclose()


async def in_memory(rounds: int) -> None:
    with limits.elsewhere(contenders.run_server, ["burst", "paced"]) as where:
        for reply in ("burst", "paced"):
            async with anthropic.AsyncAnthropic(api_key="test", base_url=where[reply]) as client:
                spent: dict[str, list[float]] = {}
                for _ in range(rounds + 1):
                    for run in (events, frames, replies):
                        started = time.process_time()
                        await run(client)
                        spent.setdefault(run.__name__, []).append(time.process_time() - started)
            base, *others = (
                statistics.median(times[1:]) * 1e6 / contenders.events_in(reply) for times in spent.values()
            )
            for name, cost in zip(("sse", "Replies"), others, strict=True):
                print(f"{reply:5}  {name:8} {base:6.1f} + {cost - base:5.1f} µs an event", flush=True)


async def appends(server: RedisServer) -> None:
    """The costs of appends and reads, of many replies at once as in a busy process."""
    async with server.client() as client:
        calls = RedisCalls(RedisLog(client, lease=60))
        for joined, count in ((1, 300), (20, 50)):
            found = [await calls.acquire(f"chat {joined} {number}", 60) for number in range(REPLIES)]
            leases = [lease for lease in found if lease is not None]
            before = (await client.info("memory"))["used_memory"]
            redis_before, spent, started = await redis_cpu(client), time.process_time(), time.perf_counter()
            for number in range(count):
                first, frames = number * joined + 1, [FRAME] * joined
                await asyncio.gather(*(calls.append(lease, first, frames, ended=False) for lease in leases))
            each = 1e6 / count / REPLIES
            took, spent = (time.perf_counter() - started) * each, (time.process_time() - spent) * each
            redis_spent = (await redis_cpu(client) - redis_before) * each
            used = (await client.info("memory"))["used_memory"] - before
            print(
                f"append of {joined:2} frames: {took:.0f} µs (CPU of this process {spent:.0f} µs, of Redis "
                f"{redis_spent:.0f} µs), {used / joined / count / REPLIES:.0f} bytes for a frame of {len(FRAME)}",
                flush=True,
            )
            redis_before = await redis_cpu(client)
            after = (count - 1) * joined
            for _ in range(count):
                await asyncio.gather(*(calls.read(one.key, one.reply, after, viewed=True) for one in leases))
            redis_spent = (await redis_cpu(client) - redis_before) * each
            print(f"read of {joined:2} frames: CPU of Redis {redis_spent:.0f} µs", flush=True)


async def redis_cpu(client: Any) -> float:
    """Return the CPU time that Redis has taken, in seconds."""
    found = await client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


async def delays(server: RedisServer) -> None:
    """How much later than a viewer in the process that reads the stream another one gets each frame."""
    with serve(Reply.text("a " * 300, delay=0.03)) as api:
        async with api.async_client() as client, server.client() as one, server.client() as two:
            owner, other = Replies(RedisLog(one)), Replies(RedisLog(two))
            mine = await owner.start("chat", stream_events(client, **limits.PARAMS), AISDK())
            theirs = await other.resume("chat", AISDK())
            assert theirs is not None

            async def note(body: Any) -> list[float]:
                times: list[float] = []
                async for piece in body:
                    times += [time.perf_counter()] * piece.count(b"\n\n")
                return times

            first, second = await asyncio.gather(note(mine), note(theirs))
            late = sorted(b - a for a, b in zip(first, second, strict=True))
            print(
                f"a viewer in another process gets a frame {statistics.median(late) * 1e3:.1f} ms later "
                f"(99 %: {late[len(late) * 99 // 100] * 1e3:.1f} ms)",
                flush=True,
            )
            await owner.aclose()
            await other.aclose()


async def main(rounds: int) -> None:
    await in_memory(rounds)
    with redis_server() as server:
        await appends(server)
        await delays(server)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
