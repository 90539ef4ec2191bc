"""A real Redis server on a free port, which a test may stop and start, and a proxy that loses answers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import wait_until
from tests.support.web_servers import free_port

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class RedisServer:
    """A server whose data are in memory, unless it is told to write them to a file."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *options]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)  # noqa: S603
        wait_until(self._answers)

    def stop(self) -> None:
        """Kill the server: what it has in memory is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def client(self, **options: Any) -> Any:
        """A client with the defaults of redis-py. Has to be closed."""
        import redis.asyncio

        return redis.asyncio.Redis(**{"port": self.port, **options})

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(100).startswith(b"+PONG")
        return False


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Proxy:
    """Passes on what a client and Redis send. Once `lose` is set, it loses the next answer and the connection."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.lose = False
        self.lost = 0
        self._target = target

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        answers = asyncio.ensure_future(self._answer(far_reader, writer))
        try:
            while data := await reader.read(65536):
                far_writer.write(data)
        finally:
            far_writer.close()
            writer.close()
            answers.cancel()

    async def _answer(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await far_reader.read(65536):
            if self.lose:
                self.lose = False
                self.lost += 1
                break
            writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    made = Proxy(target)
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
