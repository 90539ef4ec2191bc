"""The testing server: connections, requests, and requests that do not stream."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import anthropic
import pytest

from streamkit.testing import Reply, Request, Server, serve
from tests.support.bodies import FIXTURES
from tests.support.harness import wait_until
from tests.support.testing_server import PARAMS, TEXT, Read, content, raw, read_sync

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_keep_alive() -> None:
    with serve(Reply.text("one two"), repeat=True) as server:
        client = server.client()
        for _ in range(100):
            with client.messages.stream(**PARAMS) as stream:
                assert stream.get_final_text() == "one two"
        assert server.connection_count == 1
        assert len(server.requests) == 100


def test_keep_alive_async() -> None:
    async def main(server: Server) -> None:
        async with server.async_client() as client:
            for _ in range(20):
                async with client.messages.stream(**PARAMS) as stream:
                    assert await stream.get_final_text() == "one two"

    with serve(Reply.text("one two"), repeat=True) as server:
        asyncio.run(main(server))
        assert (server.connection_count, len(server.requests)) == (1, 20)


def test_one_request_too_many(read: Read) -> None:
    with serve(Reply.text("one"), Reply.text("two")) as server:
        assert [read(server)[0] for _ in range(2)] == [["one"], ["two"]]
        _, _, error = read(server)
    assert isinstance(error, anthropic.BadRequestError)
    assert "2 replies" in error.message
    assert "repeat=True" in error.message


def test_repeat(read: Read) -> None:
    with serve(Reply.text("one"), Reply.text("two"), repeat=True) as server:
        assert [read(server)[0] for _ in range(5)] == [["one"], ["two"], ["one"], ["two"], ["one"]]


def test_each_reply_is_given_once_to_many_threads() -> None:
    replies = [Reply.text(f"number {n}") for n in range(24)]
    with serve(*replies) as server, ThreadPoolExecutor(8) as pool:
        client = server.client()

        def ask(_: int) -> str:
            with client.messages.stream(**PARAMS) as stream:
                return stream.get_final_text()

        assert sorted(pool.map(ask, range(24))) == sorted(f"number {n}" for n in range(24))


def test_requests_are_kept() -> None:
    with serve(Reply.text("one")) as server:
        client = server.client(default_headers={"X-Mine": "yes"})
        client.messages.create(stream=True, **PARAMS).close()
        request = server.requests[0]
    assert isinstance(request, Request)
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.json == {**PARAMS, "stream": True}
    assert request.headers["X-MINE"] == request.headers["x-mine"] == "yes"
    assert "Content-Type" in request.headers
    assert "no-such" not in request.headers
    assert len(dict(request.headers)) == len(request.headers)
    assert "'x-mine': 'yes'" in repr(request)


def test_the_callers_client_options_win() -> None:
    with serve(Reply.text("one"), Reply.text("two")) as server, anthropic.DefaultHttpxClient() as http_client:
        client = server.client(api_key="mine", timeout=5.0, http_client=http_client)
        assert (client.api_key, client.timeout) == ("mine", 5.0)
        assert str(server.client().base_url).rstrip("/") == server.url
        assert str(server.client(base_url="http://127.0.0.1:9").base_url).startswith("http://127.0.0.1:9")


def test_clients_ignore_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve(Reply.text("direct")) as server:
        assert read(server)[0] == ["direct"]


def test_sync_clients_are_closed_on_exit() -> None:
    with serve(Reply.text("one")) as server:
        client = server.client()
        assert not client.is_closed()
    assert client.is_closed()


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/complete"), ("POST", "/")])
def test_other_endpoints_are_not_found(method: str, path: str) -> None:
    with serve(Reply.text("one")) as server:
        with raw(server, method, path) as response:
            error = json.loads(response.read())
    assert response.status == 404
    assert (error["type"], error["error"]["type"]) == ("error", "not_found_error")


def test_a_body_that_is_no_json_is_refused() -> None:
    with serve(Reply.text("one")) as server:
        for body in (b"{", b"[]", b"\xff"):
            with raw(server, body=body) as response:
                assert response.status == 400
        with raw(server) as response:
            assert response.status == 200


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with serve(Reply.text("one " * 2000), repeat=True) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        for request in (
            b"",
            b"nonsense\r\n\r\n",
            b"\x16\x03\x01\x00",
            b"POST /v1/messages HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        ):
            with socket.create_connection(address) as sock:
                sock.sendall(request)
        for _ in range(3):  # a client that leaves in the middle
            with server.client().messages.create(stream=True, **PARAMS) as stream:
                next(iter(stream))
        with raw(server, body=b"{}") as response:
            response.read()
    assert capfd.readouterr() == ("", "")


def test_a_server_is_used_once() -> None:
    server = serve(Reply.text("one"))
    with server:
        pass
    with pytest.raises(RuntimeError, match="once"), server:
        pass


def test_connections_are_closed_on_exit(read: Read) -> None:
    with serve(Reply.text("one")) as server:
        sock = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30)
        assert read(server)[0] == ["one"]  # the server has accepted the connection before this one
    with sock:
        assert sock.recv(1) == b""


@pytest.mark.parametrize("pings", [None, 0.001])
def test_leaving_while_a_reply_stalls(pings: float | None) -> None:
    with serve(Reply.text("a b c").stall(after_events=5, pings=pings)) as server:
        stream = iter(server.client().messages.create(stream=True, **PARAMS))
        assert next(stream).type == "message_start"
    # `no_thread_left` sees that the threads have ended.


def test_what_a_client_sends_during_a_stall_is_passed_over() -> None:
    with serve(Reply.text("a b c").stall(after_events=1, pings=0.01)) as server:
        with closing(socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30)) as sock:
            sock.sendall(b'POST /v1/messages HTTP/1.1\r\ncontent-length: 15\r\n\r\n{"stream":true}')
            for _ in range(3):
                sock.sendall(b"more")
                seen = b""
                while b"event: ping" not in seen:
                    seen += sock.recv(65536)


def test_leaving_while_a_client_does_not_read() -> None:
    with ExitStack() as stack:
        with serve(Reply.text(["x" * 100_000] * 200)) as server:
            stack.enter_context(raw(server))
        # Here the server is gone, and the connection of the client is still open.


# --- a delay before the status line ---------------------------------------------------------------------------------

ASKED = b'POST /v1/messages HTTP/1.1\r\ncontent-length: 15\r\n\r\n{"stream":true}'
DELAY = 0.3


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30)


@pytest.mark.parametrize(
    "reply",
    [
        Reply.text("one two", header_delay=DELAY),
        Reply.text("one two", header_delay=DELAY).cut(after_text="one"),
        Reply.text("one two", header_delay=DELAY).stall(after_text="one"),
        Reply.text("one two", header_delay=DELAY).split_utf8().aws(),
        Reply.thinking("hm", "so", header_delay=DELAY),
        Reply.tool_use("get_tide", {}, header_delay=DELAY),
        Reply.blocks({"type": "text", "text": "a"}, header_delay=DELAY),
        Reply.events({"type": "ping"}, header_delay=DELAY),
        Reply.recorded(b"data: 1\n\n", header_delay=DELAY),
        Reply.http_error(429, header_delay=DELAY),
    ],
    ids=["text", "cut", "stall", "aws", "thinking", "tool_use", "blocks", "events", "recorded", "http_error"],
)
def test_the_status_line_comes_after_the_header_delay(reply: Reply) -> None:
    with serve(reply) as server, connect(server) as sock:
        began = time.monotonic()
        sock.sendall(ASKED)
        assert sock.recv(9) == b"HTTP/1.1 "
        assert time.monotonic() - began > DELAY - 0.05


def test_the_body_is_that_of_a_reply_without_a_header_delay(read: Read) -> None:
    with serve(Reply.text("one two", header_delay=0.01), Reply.text("one", header_delay=0.01)) as server:
        assert read(server)[0] == ["one ", "two"]
        message = server.client().messages.create(**PARAMS)  # without stream=True
    assert content(message) == [{"type": "text", "text": "one"}]


def test_a_client_that_leaves_during_the_header_delay_is_noticed() -> None:
    with serve(Reply.text("one", header_delay=3600)) as server, connect(server) as sock:
        sock.sendall(ASKED)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""  # the server has closed the connection, an hour too early


def test_leaving_the_server_ends_a_header_delay() -> None:
    with serve(Reply.text("one", header_delay=3600)) as server:
        sock = connect(server)
        sock.sendall(ASKED)
        wait_until(lambda: server.requests)
        assert read_sync(server)[2] is not None  # a second request, which is refused: the first one has its reply
    with sock:
        assert sock.recv(1) == b""


def test_requests_sent_ahead_wait_for_their_header_delays() -> None:
    # More than the server reads at once, so that the second request is still in the socket during the first delay.
    second = b"POST /v1/messages HTTP/1.1\r\nconnection: close\r\ncontent-length: 50000\r\n\r\n{" + b" " * 49_998 + b"}"
    replies = [Reply.events({"type": name}, header_delay=DELAY) for name in ("first", "second")]
    with serve(*replies) as server, connect(server) as sock:
        began = time.monotonic()
        sock.sendall(ASKED + second)
        seen = b"".join(iter(lambda: sock.recv(65536), b""))
        assert time.monotonic() - began > 2 * DELAY - 0.1
    assert seen.count(b"HTTP/1.1 ") == 2
    assert b'"first"' in seen


# --- strict ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeat", [False, True])
def test_strict_lists_the_replies_that_nobody_requested(repeat: bool) -> None:
    replies = [Reply.text("one"), Reply.text("two"), Reply.http_error(429)]
    with pytest.raises(AssertionError) as caught:
        with serve(*replies, repeat=repeat, strict=True) as server:
            read_sync(server)
    assert str(caught.value).splitlines() == [
        "2 of 3 replies were never requested:",
        f"  2: {replies[1]!r}",
        f"  3: {replies[2]!r}",
    ]


def test_strict_is_content_when_each_reply_was_requested() -> None:
    with serve(Reply.text("one"), Reply.text("two"), strict=True) as server:
        assert [read_sync(server)[0] for _ in range(2)] == [["one"], ["two"]]
    with serve(Reply.text("one"), Reply.text("two"), strict=True, repeat=True) as server:
        assert [read_sync(server)[0] for _ in range(3)] == [["one"], ["two"], ["one"]]
    with serve(Reply.text("one")):
        pass  # not strict


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=["ValueError", "KeyboardInterrupt"])
def test_strict_hides_no_exception(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        with serve(Reply.text("one"), strict=True):
            raise error
    assert caught.value is error
    assert caught.value.__context__ is None


def test_strict_still_closes_everything() -> None:
    with pytest.raises(AssertionError, match="1 of 1"):
        with serve(Reply.text("one"), strict=True) as server:
            client = server.client()
    assert client.is_closed()


# --- requests that do not stream ------------------------------------------------------------------------------------


def test_a_request_without_stream_gets_the_message() -> None:
    replies = [
        Reply.text(TEXT, usage={"output_tokens": 7}, chunk_size=3),
        Reply.thinking("hm", "so"),
        Reply.tool_use("get_tide", {"days": [1, 2]}, text="ok"),
        Reply.tool_use("get_tide", {}),
        *[Reply.recorded(path) for path in FIXTURES if path.stem not in ("max_tokens_tool", "no_event_lines")],
    ]
    for reply in replies:
        with serve(reply, reply) as server:
            whole = server.client().beta.messages.create(**PARAMS)
            with server.client().beta.messages.stream(**PARAMS) as stream:
                streamed = stream.get_final_message()
        assert content(whole) == content(streamed)
        assert whole.stop_reason == streamed.stop_reason
        assert whole.usage.output_tokens == streamed.usage.output_tokens


def test_without_stream_an_error_event_is_an_http_error() -> None:
    with serve(Reply.text("a").error("overloaded_error", after_events=2), Reply.http_error(403)) as server:
        client = server.client(max_retries=0)
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            client.messages.create(**PARAMS)
        with pytest.raises(anthropic.PermissionDeniedError):
            client.messages.create(**PARAMS)
    assert overloaded.value.status_code == 529


def test_without_stream_events_that_make_no_message_are_refused() -> None:
    odd = Reply.events({"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "a"}})
    with serve(odd, Reply.events({"type": "message_start"}), Reply.events({"type": "error"})) as server:
        for _ in range(3):
            with pytest.raises(anthropic.BadRequestError, match="expected the events of a complete message"):
                server.client().messages.create(**PARAMS)


# --- wrong arguments ------------------------------------------------------------------------------------------------

ONE = Reply.text("a")
