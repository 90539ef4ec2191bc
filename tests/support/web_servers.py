"""The recipes of docs/web.md on the real servers, and clients that go away."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from streamkit.testing import Server
from tests.support.harness import wait_until
from tests.support.pages import ROOT, blocks

PAGE = ROOT / "docs" / "web.md"
UVICORN = ("-m", "uvicorn", "--log-level", "warning", "--port", "{port}")
COMMANDS = {
    "fastapi": (*UVICORN, "fastapi_app:app"),
    "litestar": (*UVICORN, "litestar_app:app"),
    "django": (*UVICORN, "--lifespan", "off", "django_app:app"),
    "aiohttp": ("aiohttp_app.py", "{port}"),
    "flask": ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "flask_app:app"),
}
RESUMABLE = (*UVICORN, "replies_app:app")
BODY = json.dumps({"messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}).encode()


def free_port() -> int:
    """A free port below those that the system gives out: the server that is started on it binds it only later."""
    while True:
        port = 11_000 + secrets.randbelow(21_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def running(
    name: str, api: Server, folder: Path, *, edit: Callable[[str], str] = str, **environment: str
) -> Iterator[int]:
    """The recipe of a framework on its server, in a process of its own. Gives the port. `edit` changes the recipe."""
    for block in blocks(PAGE):
        if block.file:
            (folder / block.file).write_text(edit(block.source), encoding="utf-8")
    port = free_port()
    env = {**os.environ, "ANTHROPIC_API_KEY": "sk-secret-key", "ANTHROPIC_BASE_URL": api.url, "NO_PROXY": "127.0.0.1"}
    env |= {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{folder}", **environment}
    command = [sys.executable, *(part.format(port=port) for part in COMMANDS.get(name, RESUMABLE))]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)  # noqa: S603
        try:
            wait_until(lambda: process.poll() is not None or accepts(port))
            assert process.poll() is None, (folder / "log.txt").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(20)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def posted(port: int, body: bytes = BODY, request: str = "POST /chat") -> Iterator[socket.socket]:
    """A connection over which a request has been sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        head = f"{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
        sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        yield sock


def read_until(sock: socket.socket, text: bytes) -> bytes:
    found = b""
    while text not in found:
        piece = sock.recv(65536)
        assert piece, found
        found += piece
    return found


def read_response(port: int, body: bytes = BODY, request: str = "POST /chat") -> tuple[int, bytes]:
    """The status of the response, and all of it."""
    with posted(port, body, request) as sock:
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    return int(data.split(b" ", 2)[1]), data


def seconds_until_closed(api: Server) -> float:
    """How long it takes until no client of the API is connected any more."""
    start = time.monotonic()
    connections: list[Any] = list(api._connections)
    wait_until(lambda: not any(one.thread.is_alive() for one in connections) or time.monotonic() - start > 20)
    return time.monotonic() - start
