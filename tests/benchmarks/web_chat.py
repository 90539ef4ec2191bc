"""What the server of examples/web_chat takes while many replies run at once.

    python tests/benchmarks/web_chat.py [--chats 200] [--redis]

One worker. Each chat has one reply of 300 words, one each 30 ms, and one viewer. Prints the CPU time of the server for
a word, the share of a core, the memory, the open files, and with --redis the memory of Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from streamkit.testing import Reply, serve
from tests.support.redis import redis_server
from tests.support.web_chat import API, Browser, ChatServer, chat_server, new_id, user_message

WORDS, DELAY = 300, 0.03
TICKS = os.sysconf("SC_CLK_TCK")


def run_api(port: Any, done: Any) -> None:
    """The API, in a process of its own."""
    with serve(Reply.text(["word "] * WORDS, delay=DELAY), repeat=True) as server:
        port.put(server.url)
        done.wait()


class Elsewhere:
    """The address of an API in another process."""

    def __init__(self, url: str) -> None:
        self.url = url


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def megabytes(pid: int) -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def view(client: httpx.AsyncClient) -> bytes:
    """The end of a reply."""
    body = {"id": new_id(), "message": user_message("Hi")}
    async with client.stream("POST", "/api/chat", json=body) as response:
        found = [chunk async for chunk in response.aiter_bytes()]
    return b"".join(found)[-500:]


async def load(server: ChatServer, cookies: httpx.Cookies, chats: int) -> None:
    pid = server.process.pid
    options: dict[str, Any] = {"base_url": server.url, "cookies": cookies, "trust_env": False, "timeout": 60}
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None), **options) as client:
        await view(client)
        idle, started, at = megabytes(pid), cpu_seconds(pid), time.monotonic()
        viewers = [asyncio.ensure_future(view(client)) for _ in range(chats)]
        await asyncio.sleep(WORDS * DELAY * 0.7)
        files, busy = len(os.listdir(f"/proc/{pid}/fd")), megabytes(pid)
        ends = await asyncio.gather(*viewers)
        used, took = cpu_seconds(pid) - started, time.monotonic() - at
    cut = [end for end in ends if b'"status":"complete"' not in end]
    if cut:
        raise SystemExit(f"{len(cut)} of {chats} replies are not complete, such as {cut[0].decode()}")
    print(f"{chats} chats, {WORDS} words each, in {took:.1f} s (at best {WORDS * DELAY:.1f} s)")
    print(f"CPU: {used / chats / WORDS * 1e6:.0f} us a word, {used / took:.0%} of a core")
    print(f"memory: {idle:.0f} MB idle, {(busy - idle) / chats * 1000:.0f} kB more for a chat")
    print(f"open files: {files}, {files / chats:.2f} a chat")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chats", type=int, default=200)
    parser.add_argument("--redis", action="store_true")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    url, done = context.Queue(), context.Event()
    process = context.Process(target=run_api, args=(url, done))
    process.start()
    with contextlib.ExitStack() as stack:
        stack.callback(done.set)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        env = {}
        if options.redis:
            redis = stack.enter_context(redis_server())
            env = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
        api: Any = API(Elsewhere(url.get()))  # type: ignore[arg-type]
        server = stack.enter_context(chat_server(api, folder, **env))
        with Browser(server.url) as browser:
            asyncio.run(load(server, browser.client.cookies, options.chats))
        if options.redis:
            asyncio.run(print_redis(redis))
    process.join()


async def print_redis(redis: Any) -> None:
    async with redis.client() as client:
        info = await client.info()
        print(f"Redis: {info['used_memory_peak'] / 1e6:.1f} MB at most, {info['total_commands_processed']} commands")


if __name__ == "__main__":
    main()
