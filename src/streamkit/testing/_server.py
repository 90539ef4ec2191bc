"""The loopback server of `streamkit.testing`: HTTP/1.1 on a socket, a thread for each connection."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import secrets
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ._reply import Reply, framed, unstreamed
from ._request import Request, RequestError, read_request

if sys.platform == "linux":
    import fcntl
    import termios

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from typing_extensions import Self

# Where messages are created: at the API, on Bedrock, on Vertex.
_ENDPOINT = re.compile(r"/messages$|/model/[^/]+/invoke(-with-response-stream)?$|/models/[^/]+:(streamR|r)awPredict$")
_WAIT = 5.0  # seconds that leaving the server, or a reset, waits for a thread or a peer that does not react


class _Connection:
    """One client's TCP connection, served by a thread of its own until either side ends it."""

    def __init__(self, sock: socket.socket, answer: Callable[[Request], Reply], closing: threading.Event) -> None:
        self._sock, self._answer, self._closing = sock, answer, closing
        self._file = sock.makefile("rb")
        self.thread = threading.Thread(target=self._run, name="streamkit-testing", daemon=True)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):  # the client was first
            self._sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with contextlib.suppress(OSError), self._sock, self._file:  # a client may leave at any moment
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while request := read_request(self._file):
                    if (
                        not self._write(self._answer(request))
                        or request.headers.get("connection", "").lower() == "close"
                    ):
                        break
            except RequestError as error:
                self._refuse(error)

    def _refuse(self, error: RequestError) -> None:
        """Say what is wrong with the request, and end the connection."""
        self._write(Reply.http_error(error.status, message=error.message, headers={"connection": "close"}))
        self._sock.shutdown(socket.SHUT_WR)
        # A socket that is closed with unread bytes resets the connection, and the client may lose the answer.
        deadline = time.monotonic() + _WAIT
        self._sock.settimeout(_WAIT)
        while self._sock.recv(65536) and time.monotonic() < deadline:
            pass

    def _write(self, reply: Reply) -> bool:
        """Send the reply. Returns whether the connection can be used again."""
        headers = {"content-type": reply.content_type, "cache-control": "no-cache", "transfer-encoding": "chunked"}
        headers.update((name.lower(), value) for name, value in reply.headers)
        if "x-amzn-requestid" not in headers:
            headers.setdefault("request-id", f"req_{secrets.token_hex(12)}")
        lines = [f"HTTP/1.1 {reply.status} {http.client.responses.get(reply.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._sock.sendall("\r\n".join([*lines, "\r\n"]).encode())
        chunks = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in reply.chunks]
        for number, chunk in enumerate(chunks):
            if number and reply.delay and self._closing.wait(reply.delay):
                return False
            self._sock.sendall(chunk)
        if reply.ending == "end":
            self._sock.sendall(b"0\r\n\r\n")
        elif reply.ending == "reset":
            self._reset()
        else:
            self._stall(reply.stall_pings, framed(reply))
        return reply.ending == "end"

    def _reset(self) -> None:
        if sys.platform == "linux":
            # A reset throws away what this side has not delivered: wait until the other side has acknowledged it all.
            for _ in range(int(_WAIT * 1000)):  # pragma: no branch - a peer that never does is not waited for
                if fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)) == bytes(4) or self._closing.wait(0.001):
                    break
        else:  # pragma: no cover - other systems do not say what was acknowledged
            self._closing.wait(0.05)
        self._file.close()  # it holds the socket open
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0))
        self._sock.close()

    def _stall(self, pings: float | None, ping: bytes) -> None:
        self._sock.settimeout(pings)
        while True:
            try:
                if not self._sock.recv(4096):  # the client has gone, or the server goes
                    return
            except TimeoutError:
                self._sock.sendall(b"%x\r\n%b\r\n" % (len(ping), ping))


class Server:
    """The server that `serve` makes: a context manager, for one use. Leaving it ends all its connections and threads.

    `url` is the address for a client, `requests` the list of requests so far, `connections` the number of TCP
    connections so far.
    """

    def __init__(self, replies: Iterable[Reply], repeat: bool) -> None:
        self._replies, self._repeat = tuple(replies), repeat
        for reply in self._replies:
            if not isinstance(reply, Reply):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"serve() takes replies such as Reply.text('...'), not {reply!r}")
        if not self._replies:
            raise ValueError("serve() needs at least one reply, such as Reply.text('...')")
        self.requests: list[Request] = []
        self.connections: int = 0
        self.url: str = ""
        self._used = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: list[_Connection] = []
        self._clients: list[Anthropic] = []

    def __enter__(self) -> Self:
        if self.url:
            raise RuntimeError("a server is used once: call serve() again")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        self._acceptor = threading.Thread(target=self._accept, name="streamkit-testing", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        # A last connection, to wake `accept`: closing the socket does not everywhere.
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._acceptor.join(_WAIT)
        self._listener.close()
        for connection in self._open:
            connection.hang_up()
        for connection in self._open:
            connection.thread.join(_WAIT)
        for client in self._clients:
            client.close()

    def client(self, **kwargs: Any) -> Anthropic:
        """Make an SDK client for this server, which is closed with it. `kwargs` are those of `anthropic.Anthropic`."""
        import anthropic  # noqa: PLC0415 - the server itself needs no SDK

        client = anthropic.Anthropic(**self._client_options(kwargs, anthropic.DefaultHttpxClient))
        self._clients.append(client)
        return client

    def async_client(self, **kwargs: Any) -> AsyncAnthropic:
        """Make an async SDK client for this server. Close it yourself: `async with server.async_client() as client`."""
        import anthropic  # noqa: PLC0415 - the server itself needs no SDK

        return anthropic.AsyncAnthropic(**self._client_options(kwargs, anthropic.DefaultAsyncHttpxClient))

    def _client_options(self, kwargs: dict[str, Any], http_client: Callable[..., object]) -> dict[str, Any]:
        options: dict[str, Any] = {"api_key": "test-key", "base_url": self.url, **kwargs}
        if "http_client" not in options:  # a proxy that the environment names cannot reach this server
            options["http_client"] = http_client(mounts={"all://127.0.0.1": None})
        return options

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing.is_set():
                sock.close()
                return
            self.connections += 1  # before anything is answered, so that who has an answer sees the right number
            connection = _Connection(sock, self._answer, self._closing)
            connection.thread.start()
            self._open = [*(one for one in self._open if one.thread.is_alive()), connection]

    def _answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            path = request.path.partition("?")[0]
            if request.method != "POST" or not _ENDPOINT.search(path):
                return Reply.http_error(404, message=f"no such endpoint here: {request.method} {request.path}")
            try:
                streamed = request.json.get("stream") is True
            except AttributeError:
                return Reply.http_error(400, message="the body of the request is not a JSON object")
            except ValueError as error:
                return Reply.http_error(400, message=f"the body of the request is not JSON: {error}")
            given, self._used = self._used, self._used + 1
            if given >= len(self._replies) and not self._repeat:
                text = f"serve() was given {len(self._replies)} replies, all used: give it more, or repeat=True"
                return Reply.http_error(400, message=text)
        reply = self._replies[given % len(self._replies)]
        if "/model/" not in path:
            return reply if streamed else unstreamed(reply)
        # Bedrock, which has a framing and a header of its own, and a path for what others have in the body.
        reply = reply.aws() if path.endswith("-with-response-stream") else unstreamed(reply)
        return replace(reply, headers=(("x-amzn-requestid", str(uuid.uuid4())), *reply.headers))


def serve(*replies: Reply, repeat: bool = False) -> Server:
    """Serve these replies, one for each request, on a free port of this machine.

    A request too many gets HTTP 400 that says so; with `repeat` the replies start over instead. Raises ValueError
    without a reply, TypeError for what is no `Reply`.
    """
    return Server(replies, repeat)
