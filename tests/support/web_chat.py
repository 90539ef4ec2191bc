"""examples/web_chat as a process of its own, its API, and nginx before it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import Self

from streamkit.testing import Reply, Server, serve
from tests.support.examples import EXAMPLES, command, environment
from tests.support.harness import wait_until
from tests.support.web import payloads
from tests.support.web_servers import accepts, free_port

if sys.platform == "win32":
    pytest.skip("the server of the chat is ended by signals", allow_module_level=True)

WEB_CHAT = EXAMPLES / "web_chat"
KEY = "sk-secret-key"
HELLO = Reply.text("Hello there!")
# In every error and header of the API, and so never in what a browser gets.
SECRETS = ("secret", "req_", "request-id", "request_id", "x-api-key", "traceback", "exception", "anthropic", "python")
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def growing(count: int = 2000, delay: float = 0.02) -> Reply:
    """A reply that takes long: word0 word1 word2 ..."""
    return Reply.text([f"word{number} " for number in range(count)], delay=delay)


class API:
    """The API of the chat. Each request gets the replies that were set last, in turn."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def answer(self, *replies: Reply) -> None:
        with self.server._lock:
            self.server._replies, self.server._used_count = replies, 0

    @property
    def open_connections(self) -> int:
        return sum(one.thread.is_alive() for one in self.server._connections)

    def last_messages(self) -> list[tuple[str, str]]:
        """The roles and texts of the last request."""
        found = self.server.requests[-1].json["messages"]
        return [(one["role"], "".join(block["text"] for block in one["content"])) for one in found]


@contextlib.contextmanager
def api_server() -> Iterator[API]:
    with serve(Reply.text("Hello!"), repeat=True) as server:
        yield API(server)


class ChatServer:
    """A running server of the chat."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self.log = port, process, log
        self.url = f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        """End the process as the out-of-memory killer does."""
        self.process.kill()
        self.process.wait(20)

    def kill_workers(self) -> None:
        """Kill all worker processes, but not their supervisor, which starts new ones."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        workers = [pid for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert workers
        for pid in workers:
            os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def chat_server(
    api: API | None, folder: Path, *options: str, home: Path = WEB_CHAT, port: int | None = None, **env: str
) -> Iterator[ChatServer]:
    """The example on a free port. Without an API, it has no key and answers itself."""
    port = port or free_port()
    log = folder / f"chat-{port}.txt"
    key = {} if api is None else {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.server.url}
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            command(home, "--port", port, *options), env=environment({**key, **env}), stdout=output, stderr=output
        )
        try:
            wait_until(lambda: process.poll() is not None or accepts(port))
            assert process.poll() is None, log.read_text()
            yield ChatServer(port, process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


@contextlib.contextmanager
def nginx(*upstreams: int, http_version: str = "1.1", port: int | None = None) -> Iterator[int]:
    """nginx with the settings of deploy.md, on a machine that compresses all else. Gives its port.

    Of several servers, the others stand in for the first.
    """
    page = (WEB_CHAT / "deploy.md").read_text(encoding="utf-8")
    settings = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)[0]
    servers = "; ".join(f"server 127.0.0.1:{one}{' backup' if n else ''}" for n, one in enumerate(upstreams))
    port = port or free_port()
    for old, new in (
        ("server 127.0.0.1:8000", servers),
        ("listen 80", f"listen 127.0.0.1:{port}"),
        ("proxy_http_version 1.1", f"proxy_http_version {http_version}"),
    ):
        assert settings.count(old) == 1
        settings = settings.replace(old, new)
    with tempfile.TemporaryDirectory() as folder:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        head = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"{head}http {{\naccess_log off;\ngzip on;\ngzip_types *;\ngzip_min_length 1;\n{paths}{settings}}}\n",
            encoding="utf-8",
        )
        process = subprocess.Popen([str(NGINX), "-p", folder, "-c", str(config)], stderr=subprocess.PIPE)  # noqa: S603
        try:
            wait_until(lambda: process.poll() is not None or accepts(port))
            assert process.poll() is None, process.communicate()
            yield port
        finally:
            process.kill()
            process.communicate(timeout=20)


def new_id() -> str:
    return uuid.uuid4().hex


def user_message(text: str, id: str | None = None) -> dict[str, Any]:  # noqa: A002
    return {"id": id or new_id(), "role": "user", "parts": [{"type": "text", "text": text}]}


class Browser:
    """A user of the chat, as the page is: with a cookie, and one chat."""

    def __init__(self, url: str, *, chat: str | None = None, cookies: httpx.Cookies | None = None) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, trust_env=False, cookies=cookies)
        self.chat = chat or new_id()
        if cookies is None:
            self.client.get("/")

    def body(self, text: str, id: str | None = None) -> dict[str, Any]:  # noqa: A002
        return {"id": self.chat, "message": user_message(text, id)}

    def ask(self, text: str, id: str | None = None) -> httpx.Response:  # noqa: A002
        """The whole response to a message."""
        return self.client.post("/api/chat", json=self.body(text, id))

    @contextlib.contextmanager
    def asking(self, text: str) -> Iterator[Frames]:
        """The frames of a reply while it arrives."""
        with self.client.stream("POST", "/api/chat", json=self.body(text)) as response:
            yield Frames(response)

    @contextlib.contextmanager
    def resuming(self, after: str | None = None) -> Iterator[Frames]:
        headers = {} if after is None else {"last-event-id": after}
        with self.client.stream("GET", f"/api/chat/{self.chat}/stream", headers=headers) as response:
            yield Frames(response)

    def history(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/api/chat/{self.chat}").raise_for_status().json()
        return found

    def stop(self) -> int:
        return self.client.post(f"/api/chat/{self.chat}/stop").status_code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


class Frames:
    """The frames of a response, one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.last_id = ""
        self.text = ""
        self._chunks = response.iter_bytes()
        self._unread = b""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\n\n" in self._unread:  # one by one: a loop over the frames may end in the middle of a chunk
                frame, _, self._unread = self._unread.partition(b"\n\n")
                yield from self._read(frame)
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            self._unread += chunk

    def _read(self, frame: bytes) -> Iterator[dict[str, Any]]:
        lines = frame.split(b"\n")
        ids = [line[4:].decode() for line in lines if line.startswith(b"id: ")]
        self.last_id = ids[0] if ids else self.last_id
        for payload in payloads(b"".join(line + b"\n\n" for line in lines if line.startswith(b"data: "))):
            self.text += payload.get("delta", "")
            yield payload

    def read_until(self, text: str) -> None:
        for _ in self:
            if text in self.text:
                return
        raise AssertionError(f"ended before {text!r}: {self.text[-200:]!r}")

    def rest(self) -> list[dict[str, Any]]:
        return list(self)


def metadata_of(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """The metadata of a reply, by its frames."""
    found: dict[str, Any] = {}
    for frame in frames:
        found.update(frame.get("messageMetadata", {}))
    return found


def assert_no_secrets(*responses: httpx.Response) -> None:
    for response in responses:
        shown = f"{dict(response.headers)} {response.text}".lower()
        assert not [secret for secret in SECRETS if secret in shown], shown
