"""Servers that do what `streamkit.testing` does not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def raw_server(*parts: bytes) -> Iterator[tuple[str, threading.Event]]:
    """A server for one connection that sends this body, then waits for the client to leave. Gives its URL, and
    the event that is set when the client has left.
    """
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65536)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                connection.sendall(head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts))
                with contextlib.suppress(OSError):
                    while connection.recv(65536):
                        pass
                gone.set()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", gone
    assert gone.wait(5), "the connection was not closed"
    thread.join()
