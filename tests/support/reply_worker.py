"""A worker in a process of its own, which starts a reply in Redis and reads its stream until it is killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from streamkit.testing import Server
from tests.support.redis import RedisServer


async def main(port: str, prefix: str, lease: str, url: str) -> None:
    """Start a reply under the key "chat", tell of each frame, and of the end."""
    import anthropic
    import redis.asyncio

    from streamkit import stream_events
    from streamkit.web import AISDK, RedisLog, Replies
    from tests.support.clients import PARAMS

    replies = Replies(RedisLog(redis.asyncio.Redis(port=int(port)), prefix=prefix, lease=float(lease)))
    stream = stream_events(anthropic.AsyncAnthropic(api_key="test", base_url=url), **PARAMS)
    async for piece in await replies.start("chat", stream, AISDK()):
        print(repr(piece), flush=True)
    print("end", stream.status, flush=True)


class Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait_for(self, text: str) -> str:
        """Return the first line with this text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"the worker ended without {text!r}")


@contextlib.contextmanager
def worker(server: RedisServer, prefix: str, lease: float, api: Server) -> Iterator[Worker]:
    code = "import sys, asyncio; from tests.support.reply_worker import main; asyncio.run(main(*sys.argv[1:]))"
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, str(server.port), prefix, str(lease), api.url],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        cwd=Path(__file__).parents[2],
    )
    try:
        yield Worker(process)
    finally:
        process.kill()
        process.communicate(timeout=20)
