"""The loopback server of `streamkit.testing`: HTTP/1.1 on a socket, with one thread per connection."""

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

from ._json_reply import as_json_reply
from ._reply import Reply, frame_for
from ._request import Request, RequestError, read_request

if sys.platform == "linux":
    import fcntl
    import termios

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from typing_extensions import Self

# The paths under which messages are created: at the API, on Bedrock, on Vertex.
_ENDPOINT = re.compile(r"/messages$|/model/[^/]+/invoke(-with-response-stream)?$|/models/[^/]+:(streamR|r)awPredict$")
_WAIT = 5.0  # how many seconds leaving the server, or a reset, waits for a thread or a client that does not react


class _Connection:
    """A TCP connection of a client, served by a thread of its own until either side closes it."""

    def __init__(self, sock: socket.socket, answer: Callable[[Request], Reply], closing: threading.Event) -> None:
        self._sock, self._answer, self._closing = sock, answer, closing
        self._file = sock.makefile("rb")
        self.thread = threading.Thread(target=self._run, name="streamkit-testing", daemon=True)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):  # the client may have closed the connection already
            self._sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with contextlib.suppress(OSError), self._sock, self._file:  # a client may disconnect at any moment
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
        """Reply with the error, and end the connection."""
        self._write(Reply.http_error(error.status, message=error.message, headers={"connection": "close"}))
        self._sock.shutdown(socket.SHUT_WR)
        # Closing a socket with unread bytes resets the connection, and the client may lose the reply: read them first.
        deadline = time.monotonic() + _WAIT
        self._sock.settimeout(_WAIT)
        while self._sock.recv(65536) and time.monotonic() < deadline:
            pass

    def _write(self, reply: Reply) -> bool:
        """Send the reply. Returns `True` if the connection can be used again."""
        if reply.header_delay and not self._wait(reply.header_delay):
            return False
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
            self._stall(reply.stall_pings, frame_for(reply))
        return reply.ending == "end"

    def _wait(self, seconds: float) -> bool:
        """Wait, and return `False` as soon as either side has closed the connection."""
        deadline = time.monotonic() + seconds
        self._sock.settimeout(seconds)
        try:
            if not self._sock.recv(1, socket.MSG_PEEK):
                return False
        except TimeoutError:
            return True
        finally:
            self._sock.settimeout(None)
        # The client has sent its next request already, and `recv` would return at once again.
        return not self._closing.wait(deadline - time.monotonic())

    def _reset(self) -> None:
        if sys.platform == "linux":
            # A reset discards bytes that were not delivered: wait until the client has acknowledged all of them.
            for _ in range(int(_WAIT * 1000)):  # pragma: no branch - gives up on a client that never acknowledges
                if fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)) == bytes(4) or self._closing.wait(0.001):
                    break
        else:  # pragma: no cover - other systems do not tell how much was acknowledged
            self._closing.wait(0.05)
        self._file.close()  # the socket stays open as long as its file does
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0))
        self._sock.close()

    def _stall(self, pings: float | None, ping: bytes) -> None:
        self._sock.settimeout(pings)
        while True:
            try:
                if not self._sock.recv(4096):  # the client or the server has closed the connection
                    return
            except TimeoutError:
                self._sock.sendall(b"%x\r\n%b\r\n" % (len(ping), ping))


class Server:
    """The server that `serve` makes: a context manager, for one use. Leaving it ends all its connections and threads.

    `url` is the address for a client, `requests` the list of requests so far, `connection_count` the number of TCP
    connections so far.
    """

    def __init__(self, replies: Iterable[Reply], repeat: bool, strict: bool) -> None:
        self._replies, self._repeat, self._strict = tuple(replies), repeat, strict
        for reply in self._replies:
            if not isinstance(reply, Reply):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"expected replies such as Reply.text('...'), got {reply!r}")
        if not self._replies:
            raise ValueError("expected at least one reply, such as Reply.text('...'), got none")
        self.requests: list[Request] = []
        self.connection_count: int = 0
        self.url: str = ""
        self._used_count = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._connections: list[_Connection] = []
        self._clients: list[Anthropic] = []

    def __enter__(self) -> Self:
        if self.url:
            raise RuntimeError("a server can be entered only once: call serve() for a new one")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        self._acceptor = threading.Thread(target=self._accept, name="streamkit-testing", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._closing.set()
        # Open a last connection to wake `accept`: on some systems closing the socket does not.
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._acceptor.join(_WAIT)
        self._listener.close()
        for connection in self._connections:
            connection.hang_up()
        for connection in self._connections:
            connection.thread.join(_WAIT)
        for client in self._clients:
            client.close()
        if self._strict and error_type is None:
            self._require_all_used()

    def _require_all_used(self) -> None:
        unused = self._replies[self._used_count :]
        if unused:
            lines = [f"  {number}: {reply!r}" for number, reply in enumerate(unused, self._used_count + 1)]
            count = len(self._replies)
            raise AssertionError("\n".join([f"{len(unused)} of {count} replies were never requested:", *lines]))

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
        if "http_client" not in options:  # bypass a proxy of the environment: it cannot reach this server
            options["http_client"] = http_client(mounts={"all://127.0.0.1": None})
        return options

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing.is_set():
                sock.close()
                return
            self.connection_count += 1  # before the reply, so that a client with a reply sees the right number
            connection = _Connection(sock, self._answer, self._closing)
            connection.thread.start()
            self._connections = [*(one for one in self._connections if one.thread.is_alive()), connection]

    def _answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            path = request.path.partition("?")[0]
            if request.method != "POST" or not _ENDPOINT.search(path):
                text = f"expected POST to a messages endpoint, got {request.method} {request.path}"
                return Reply.http_error(404, message=text)
            try:
                streamed = request.json.get("stream") is True
            except AttributeError:
                return Reply.http_error(400, message="the body of the request is not a JSON object")
            except ValueError as error:
                return Reply.http_error(400, message=f"the body of the request is not JSON: {error}")
            number, self._used_count = self._used_count, self._used_count + 1
            if number >= len(self._replies) and not self._repeat:
                text = f"serve() got {len(self._replies)} replies, all used: pass more, or repeat=True"
                return Reply.http_error(400, message=text)
        reply = self._replies[number % len(self._replies)]
        if "/model/" not in path:
            return reply if streamed else as_json_reply(reply)
        # Bedrock has a framing and a request id header of its own, and names the streaming in the path.
        reply = reply.aws() if path.endswith("-with-response-stream") else as_json_reply(reply)
        return replace(reply, headers=(("x-amzn-requestid", str(uuid.uuid4())), *reply.headers))


def serve(*replies: Reply, repeat: bool = False, strict: bool = False) -> Server:
    """Serve these replies, one for each request, on a free port of this machine.

    A request beyond the last reply gets HTTP 400 with an explanation; with `repeat` the replies start over instead.
    With `strict`, leaving the server raises `AssertionError` if a reply was never requested, unless another exception
    is on its way. Raises `ValueError` without a reply, and `TypeError` for an object that is not a `Reply`.

    The server also answers on the paths of Bedrock and Vertex. A request to Bedrock gets its reply in the framing of
    AWS, with the request id in `x-amzn-requestid`.
    """
    return Server(replies, repeat, strict)
