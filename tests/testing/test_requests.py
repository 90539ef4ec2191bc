"""Malformed and oversized requests to the server of `streamkit.testing`, over raw sockets."""

from __future__ import annotations

import http.client
import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from streamkit.testing import Reply, Request, Server, serve

LIMIT = 32 * 1024 * 1024
START = b"POST /v1/messages HTTP/1.1\r\n"
BODY = b'{"stream": true}'
GOOD = START + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture
def server() -> Iterator[Server]:
    """A thread of the server that dies of an exception is a warning in pytest, and so a failure of the test."""
    with serve(Reply.text("fine"), repeat=True) as server:
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30)


def read_answer(sock: socket.socket) -> tuple[http.client.HTTPResponse, bytes]:
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response, response.read()


def ask(server: Server, request: bytes) -> tuple[int, str, str]:
    """Status, type and message of the error that answers the request; the connection has to end after it."""
    with connect(server) as sock:
        sock.sendall(request)
        response, body = read_answer(sock)
        assert response.getheader("connection") == "close"
        assert response.getheader("request-id")
        assert sock.recv(1) == b""
    said: dict[str, Any] = json.loads(body)
    assert said["type"] == "error"
    return response.status, said["error"]["type"], said["error"]["message"]


def with_length(length: bytes) -> bytes:
    return START + b"content-length: " + length + b"\r\n\r\n" + BODY


def chunked(*lines: bytes) -> bytes:
    return START + b"\r\n".join((b"transfer-encoding: chunked", b"", *lines, b""))


MALFORMED = {
    "negative length": (with_length(b"-1"), "content-length in bytes, got '-1'"),
    "length of words": (with_length(b"many"), "got 'many'"),
    "empty length": (with_length(b""), "got ''"),
    "length with a sign": (with_length(b"+16"), "got '+16'"),
    "length with an underscore": (with_length(b"1_6"), "got '1_6'"),
    "length in other digits": (with_length("٣".encode()), "content-length in bytes"),
    "fractional length": (with_length(b"16.0"), "got '16.0'"),
    "long length of words": (with_length(b"x" * 50_000), "xxx..."),
    "two lengths": (with_length(b"16\r\ncontent-length: 17"), "one content-length, got '16, 17'"),
    "length and chunks": (with_length(b"16\r\ntransfer-encoding: chunked"), "got both"),
    "unknown coding": (START + b"transfer-encoding: gzip, chunked\r\n\r\n", "got 'gzip, chunked'"),
    "no size of a chunk": (chunked(b"", b"abc"), "hexadecimal digits, got ''"),
    "negative size of a chunk": (chunked(b"-5", b"abc"), "got '-5'"),
    "size of a chunk with a prefix": (chunked(b"0x5", b"hello", b"0", b""), "got '0x5'"),
    "chunk longer than its size": (chunked(b"2", b"abc", b"0", b""), "end of a chunk of 2 bytes"),
    "header without a colon": (START + b"content-length\r\n\r\n", "got 'content-length'"),
    "header without a name": (START + b": 16\r\n\r\n", "got ': 16'"),
    "header name with a space": (START + b"content-length : 16\r\n\r\n", "got 'content-length : 16'"),
    "folded header": (START + b"a: b\r\n c\r\n\r\n", "got ' c'"),
    "empty request line": (b"\r\n\r\n", "request line"),
    "request line of one word": (b"nonsense\r\n\r\n", "got 'nonsense'"),
    "request line without a version": (b"POST /v1/messages\r\n\r\n", "request line"),
    "request line of four parts": (b"POST /v1/messages ? HTTP/1.1\r\n\r\n", "request line"),
    "another protocol": (b"PRI * HTTP/2.0\r\n\r\n", "got 'PRI * HTTP/2.0'"),
    "bytes of TLS": (b"\x16\x03\x01\x00\x0a\r\n", "request line"),
    "path with bytes": (b"POST /\xff\x00 HTTP/1.1\r\n\r\n", "request line"),
    "long request line": (b"POST /" + b"x" * 70_000, "longer than 65536 bytes"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_refused(name: str, server: Server) -> None:
    request, words = MALFORMED[name]
    status, kind, message = ask(server, request)
    assert (status, kind) == (400, "invalid_request_error")
    assert words in message
    assert len(message) < 200
    assert server.requests == []
    assert read_through(server) == "fine"


def read_through(server: Server) -> str:
    with server.client().messages.stream(model="m", max_tokens=9, messages=[]) as stream:
        return stream.get_final_text()


@pytest.mark.parametrize(
    "length", [LIMIT + 1, 2**31, 2**63, 10**30, 10**5000], ids=["limit", "2^31", "2^63", "30", "5000"]
)
def test_bodies_beyond_the_limit_are_refused(length: int, server: Server) -> None:
    digits = b"1" + b"0" * 5000 if length == 10**5000 else b"%d" % length  # Python converts no more than 4300 digits
    assert ask(server, with_length(digits))[:2] == (413, "request_too_large")
    assert ask(server, chunked(b"%x" % length, b"abc"))[:2] == (413, "request_too_large")


def test_chunks_are_limited_together(server: Server) -> None:
    half = b"%x\r\n%b" % (LIMIT // 2 + 1, b" " * (LIMIT // 2 + 1))
    assert ask(server, chunked(half, half, b"0", b""))[:2] == (413, "request_too_large")


def test_a_client_that_sends_a_whole_body_gets_to_see_the_refusal(server: Server) -> None:
    assert ask(server, with_length(b"%d" % (LIMIT + len(BODY))) + b" " * LIMIT)[:2] == (413, "request_too_large")


def test_a_body_at_the_limit_is_read(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(START + b"content-length: %d\r\n\r\n" % LIMIT + BODY + b" " * (LIMIT - len(BODY)))
        assert read_answer(sock)[0].status == 200


@pytest.mark.parametrize("header", [b"a: " + b"x" * 70_000, b"\r\n".join([b"a: b"] * 100)], ids=["long", "many"])
def test_header_floods_are_refused(header: bytes, server: Server) -> None:
    status, kind, message = ask(server, START + header + b"\r\ncontent-length: 2\r\n\r\n{}")
    assert (status, kind) == (431, "invalid_request_error")
    assert "header" in message


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000], ids=len)
def test_json_nested_too_deeply_is_refused(body: bytes, server: Server) -> None:
    with connect(server) as sock:
        for request in (START + b"content-length: %d\r\n\r\n" % len(body) + body, GOOD):
            sock.sendall(request)
            response, said = read_answer(sock)
            if request is not GOOD:
                assert response.status == 400
                assert json.loads(said)["error"]["message"].startswith("the body of the request is not JSON: ")
        assert response.status == 200  # a body that was read to its end leaves the connection usable
    with pytest.raises(ValueError, match="nested too deeply"):
        assert server.requests[0].json


@pytest.mark.parametrize("body", [b"null", b"[]", b"5"])
def test_json_that_is_not_an_object_is_refused(body: bytes, server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(START + b"content-length: %d\r\n\r\n" % len(body) + body)
        said = json.loads(read_answer(sock)[1])
    assert said["error"]["message"] == "the body of the request is not a JSON object"


def test_chunked_bodies_are_read(server: Server) -> None:
    with connect(server) as sock:
        for lines in (
            (b"5;name=value", BODY[:5], b"00B", BODY[5:], b"0", b"trailer: x", b""),
            (b"10", BODY, b"0", b""),
        ):
            sock.sendall(chunked(*lines))
            response, body = read_answer(sock)
            assert (response.status, b"message_stop" in body) == (200, True)
    assert [request.body for request in server.requests] == [BODY, BODY]
    assert server.connection_count == 1


def test_odd_but_valid_requests_are_read(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(
            b"POST /v1/messages HTTP/1.0\nContent-Length:\t0016 \ncontent-length: 0016\nx:\nY: \xff:\n\n" + BODY
        )
        assert read_answer(sock)[0].status == 200
    headers = {"content-length": "0016", "x": "", "y": "\xff:"}
    assert server.requests == [Request("POST", "/v1/messages", server.requests[0].headers, BODY)]
    assert dict(server.requests[0].headers) == headers


@pytest.mark.parametrize("size", range(0, len(GOOD), 5))
def test_a_client_that_leaves_before_the_end_of_a_request_gets_no_answer(size: int, server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(GOOD[:size])
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert server.requests == []


def test_a_refused_client_that_stays_does_not_hold_up_the_server() -> None:
    with connect_refused() as sock:
        assert sock.recv(1) == b""


def connect_refused() -> socket.socket:
    """A connection whose request was refused, of a server that has ended since."""
    with serve(Reply.text("fine")) as server:
        sock = connect(server)
        sock.sendall(with_length(b"-1"))
        read_answer(sock)
    return sock


def test_random_changes_of_a_request(server: Server) -> None:
    """Whatever the bytes are, the server answers or waits for more, and serves the next client."""
    chance = random.Random(21)
    base = [GOOD, chunked(b"10", BODY, b"0", b"")]
    for _ in range(200):
        data = bytearray(chance.choice(base))
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(data))
            data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        with connect(server) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    assert read_through(server) == "fine"
