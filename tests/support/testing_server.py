"""Clients of the testing server: the SDK's, the standard library's, and a bare socket."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Callable
from contextlib import closing, contextmanager
from typing import Any

import anthropic
import pytest

from streamkit.testing import Server

PARAMS: Any = {"model": "claude-test", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}


TEXT = "Hello  there,\n\n wörld 😀!\t日本語 "


Read = Callable[[Server], tuple[list[str], "anthropic.types.Message | None", "BaseException | None"]]


def read_sync(server: Server) -> tuple[list[str], Any, BaseException | None]:
    """Text pieces, the message, and what was raised, as the SDK's own sync stream gives them."""
    texts: list[str] = []
    try:
        with server.client(max_retries=0).messages.stream(**PARAMS) as stream:
            texts.extend(stream.text_stream)
            return texts, stream.get_final_message(), None
    except Exception as error:
        return texts, None, error


def read_async(server: Server) -> tuple[list[str], Any, BaseException | None]:
    async def main() -> tuple[list[str], Any, BaseException | None]:
        texts: list[str] = []
        async with server.async_client(max_retries=0) as client:
            try:
                async with client.messages.stream(**PARAMS) as stream:
                    async for text in stream.text_stream:
                        texts.append(text)  # noqa: PERF401 - what came before an error counts
                    return texts, await stream.get_final_message(), None
            except Exception as error:
                return texts, None, error

    return asyncio.run(main())


def content(message: Any) -> list[dict[str, Any]]:
    """The content blocks as dicts, without what the SDK adds to them."""
    return message.to_dict(exclude_none=True, warnings=False)["content"]


@contextmanager
def raw(server: Server, method: str = "POST", path: str = "/v1/messages", body: bytes = b'{"stream": true}') -> Any:
    """The response, as the standard library's client sees it."""
    with closing(http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)) as connection:
        connection.request(method, path, body)
        with connection.getresponse() as response:
            yield response


def http_chunks(server: Server) -> list[bytes]:
    """The body, one item per HTTP chunk."""
    with closing(socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30)) as sock:
        sock.sendall(b'POST /v1/messages HTTP/1.1\r\nconnection: close\r\ncontent-length: 15\r\n\r\n{"stream":true}')
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    rest, chunks = data.partition(b"\r\n\r\n")[2], []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return chunks


def read_until_reset(response: http.client.HTTPResponse) -> bytes:
    got: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        got.extend(iter(lambda: response.read1(65536), b""))
    return b"".join(got)
