"""`streamkit.testing.serve` and `Reply`, through the SDK's own clients, sync and async, and through `http.client`."""

from __future__ import annotations

import asyncio
import base64
import http.client
import itertools
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest

from streamkit.testing import Reply, Request, Server, serve

PARAMS: Any = {"model": "claude-test", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
FIXTURES = sorted((Path(__file__).parent.parent / "fixtures").glob("*.sse"))
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


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Read:
    return request.param


@pytest.fixture(autouse=True)
def no_thread_left() -> Any:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


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


# --- what replies look like -----------------------------------------------------------------------------------------


def test_text(read: Read) -> None:
    with serve(Reply.text(TEXT)) as server:
        texts, message, error = read(server)
    assert error is None
    assert "".join(texts) == TEXT
    assert len(texts) > 3
    assert message.content[0].text == TEXT
    assert (message.stop_reason, message.model, message.id) == ("end_turn", "claude-test", "msg_test")


def test_text_deltas_as_they_are(read: Read) -> None:
    with serve(Reply.text(iter(["a", "", " \n", "b c d"]))) as server:
        texts, message, _ = read(server)
    assert [text for text in texts if text] == ["a", " \n", "b c d"]
    assert message.content[0].text == "a \nb c d"


def test_empty_text_and_a_lone_surrogate() -> None:
    assert Reply.text("").frames[-1].startswith(b"event: message_stop\n")
    data = Reply.text("a\ud83d").frames[3].partition(b"data: ")[2]
    assert json.loads(data)["delta"]["text"] == "a\ud83d"


def test_thinking(read: Read) -> None:
    with serve(Reply.thinking("first,\nthen", "so be it", signature="abc")) as server:
        texts, message, _ = read(server)
    thinking, text = message.content
    assert (thinking.thinking, thinking.signature) == ("first,\nthen", "abc")
    assert text.text == "".join(texts) == "so be it"


@pytest.mark.parametrize("tool_input", [{}, {"harbour": "Brest", "days": [1, 2.5, None, {"ü": "日本"}]}])
def test_tool_use(read: Read, tool_input: dict[str, Any]) -> None:
    with serve(Reply.tool_use("get_tide", tool_input, text="Let me see.", id="toolu_1")) as server:
        texts, message, _ = read(server)
    text, tool = message.content
    assert text.text == "".join(texts) == "Let me see."
    assert (tool.name, tool.input, tool.id) == ("get_tide", tool_input, "toolu_1")
    assert message.stop_reason == "tool_use"


def test_tool_use_starts_with_an_empty_delta_and_has_a_stable_id() -> None:
    reply = Reply.tool_use("get_tide", {"a": "b"})
    assert reply == Reply.tool_use("get_tide", {"a": "b"})
    assert reply != Reply.tool_use("get_tide", {"a": "c"})
    assert b'"partial_json":""' in reply.frames[3]
    assert b'"type":"text"' not in reply.body


def test_blocks_come_out_as_they_went_in(read: Read) -> None:
    citation = {
        "type": "char_location",
        "cited_text": "wet",
        "document_index": 0,
        "document_title": "Tides",
        "start_char_index": 0,
        "end_char_index": 3,
    }
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "tides"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "text", "text": "It is wet.", "citations": [citation]},
    ]
    with serve(Reply.blocks(*blocks)) as server:
        _, message, error = read(server)
    assert error is None
    assert content(message) == blocks
    assert message.stop_reason == "end_turn"


def test_beta_blocks() -> None:
    blocks = [
        {"type": "compaction", "content": "what was said"},
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "look", "input": {"page": 3}, "server_name": "log"},
    ]
    with serve(Reply.blocks(*blocks)) as server:
        with server.client().beta.messages.stream(**PARAMS) as stream:
            message = stream.get_final_message()
    assert content(message) == blocks
    assert server.requests[0].path.startswith("/v1/messages")


def test_events_are_framed_as_they_are() -> None:
    reply = Reply.events({"type": "odd", "text": "ü"}, {"no": "type"})
    assert reply.frames == ('event: odd\ndata: {"type":"odd","text":"ü"}\n\n'.encode(), b'data: {"no":"type"}\n\n')
    assert reply.body == b"".join(reply.frames)
    with serve(reply) as server, raw(server) as response:
        assert response.read() == reply.body


def test_options_of_the_message(read: Read) -> None:
    usage = {"input_tokens": 5, "output_tokens": 44, "cache_read_input_tokens": 3}
    reply = Reply.text("a b", usage=usage, stop_sequence="END", model="claude-other", message_id="msg_9")
    start = json.loads(reply.frames[0].partition(b"data: ")[2])
    assert start["message"]["usage"]["output_tokens"] == 1
    with serve(reply, Reply.text("a b", stop_reason="max_tokens")) as server:
        _, message, _ = read(server)
        _, second, _ = read(server)
    assert message.usage.to_dict(exclude_unset=True) == {"cache_creation_input_tokens": 0, **usage}
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    assert (message.model, message.id) == ("claude-other", "msg_9")
    assert second.stop_reason == "max_tokens"


def test_pings_are_optional() -> None:
    assert Reply.text("a").frames[1] == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert b"ping" not in Reply.text("a", pings=False).body


def test_response_headers() -> None:
    odd = Reply.text("a", headers={"X-Extra": "1", "Cache-Control": "private"}, status=203, content_type="text/plain")
    with serve(Reply.text("a"), Reply.text("a"), odd) as server:
        with raw(server) as one, raw(server) as two, raw(server) as three:
            pass
    assert one.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert one.headers["cache-control"] == "no-cache"
    assert one.headers["transfer-encoding"] == "chunked"
    assert one.headers["request-id"].startswith("req_")
    assert one.headers["request-id"] != two.headers["request-id"]
    assert (three.status, three.headers["x-extra"], three.headers["content-type"]) == (203, "1", "text/plain")
    assert three.headers.get_all("cache-control") == ["private"]


# --- how it is cut into chunks --------------------------------------------------------------------------------------


def test_one_chunk_per_event() -> None:
    reply = Reply.text(TEXT)
    with serve(reply) as server:
        assert http_chunks(server) == [*reply.frames, b""]


def test_chunk_size(read: Read) -> None:
    reply = Reply.text(TEXT, chunk_size=7)
    with serve(reply, repeat=True) as server:
        chunks = http_chunks(server)
        assert b"".join(chunks) == reply.body
        assert {len(chunk) for chunk in chunks[:-2]} == {7}
        assert "".join(read(server)[0]) == TEXT


def test_split_utf8(read: Read) -> None:
    reply = Reply.text(TEXT).split_utf8()
    characters = [char for char in TEXT if len(char.encode()) > 1]
    with serve(reply, repeat=True) as server:
        chunks = http_chunks(server)
        assert b"".join(chunks) == reply.body
        assert len(chunks) - 1 == len(characters) + 1
        for chunk in chunks[:-2]:
            with pytest.raises(UnicodeDecodeError):
                chunk.decode()
        assert "".join(read(server)[0]) == TEXT


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("chunk_sizes", [None, [7, 1, 300]])
def test_recorded(path: Path, chunk_sizes: list[int] | None) -> None:
    body = path.read_bytes()
    for source in (path, str(path), body):
        reply = Reply.recorded(source, chunk_sizes)
        assert reply.body == body
    with serve(reply) as server:
        chunks = http_chunks(server)[:-1]
    assert b"".join(chunks) == body
    if chunk_sizes is None:
        assert tuple(chunks) == reply.frames
        assert all(frame.endswith((b"\n\n", b"\n\r\n")) for frame in reply.frames)
    else:
        sizes = [len(chunk) for chunk in chunks]
        assert sizes[:-1] == list(itertools.islice(itertools.cycle(chunk_sizes), len(sizes) - 1))


def test_recorded_frames_of_any_line_end() -> None:
    body = b"data: 1\r\n\r\ndata: 2\r\rdata: 3\n\n\ndata: 4\n\r\ndata: 5\r\nmore: 5\r\n\r\n: tail"
    assert Reply.recorded(body).frames == (
        b"data: 1\r\n\r\n",
        b"data: 2\r\r",
        b"data: 3\n\n\n",
        b"data: 4\n\r\n",
        b"data: 5\r\nmore: 5\r\n\r\n",
        b": tail",
    )
    assert Reply.recorded(b"").frames == ()


def test_delay_comes_between_events() -> None:
    """The first event is there at once: the client has read it while the server waits before the second."""
    with serve(Reply.text("a b c", delay=3600)) as server:
        with raw(server) as response:
            assert response.readline() == b"event: message_start\n"
    # Leaving did not wait for the hour.
    with serve(Reply.text("a b c", delay=0.001)) as server:
        assert read_sync(server)[0] == ["a ", "b ", "c"]


# --- the server -----------------------------------------------------------------------------------------------------


def test_keep_alive() -> None:
    with serve(Reply.text("one two"), repeat=True) as server:
        client = server.client()
        for _ in range(100):
            with client.messages.stream(**PARAMS) as stream:
                assert stream.get_final_text() == "one two"
        assert server.connections == 1
        assert len(server.requests) == 100


def test_keep_alive_async() -> None:
    async def main(server: Server) -> None:
        async with server.async_client() as client:
            for _ in range(20):
                async with client.messages.stream(**PARAMS) as stream:
                    assert await stream.get_final_text() == "one two"

    with serve(Reply.text("one two"), repeat=True) as server:
        asyncio.run(main(server))
        assert (server.connections, len(server.requests)) == (1, 20)


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
            with pytest.raises(anthropic.BadRequestError, match="no whole message"):
                server.client().messages.create(**PARAMS)


# --- faults ---------------------------------------------------------------------------------------------------------


def test_cut_is_a_clean_end(read: Read) -> None:
    reply = Reply.text("a b c d")
    with serve(reply.cut(after_events=5), reply.cut(after_bytes=20), reply.cut(after_events=0), repeat=True) as server:
        assert http_chunks(server) == [*reply.frames[:5], b""]
        assert http_chunks(server) == [reply.body[:20], b""]
        assert http_chunks(server) == [b""]
        assert read(server)[0] == ["a ", "b "]


@pytest.mark.parametrize("after", [{"after_events": 6}, {"after_bytes": 700}, {"after_events": 0}])
def test_reset_delivers_what_came_before(after: dict[str, int], read: Read) -> None:
    reply = Reply.text("a b c d")
    cut = reply.cut(**after)
    with serve(reply.reset(**after), repeat=True) as server:
        with raw(server) as response:
            assert read_until_reset(response) == cut.body
        texts, _, error = read(server)
        assert error is not None
    with serve(cut) as server:
        assert texts == read(server)[0]


def test_reset_delivers_more_than_the_buffers_hold() -> None:
    reply = Reply.text(["x" * 10_000] * 1_000)
    with serve(reply.reset(after_bytes=len(reply.body))) as server:
        with raw(server) as response:
            assert read_until_reset(response) == reply.body


def test_stall_is_silent() -> None:
    with serve(Reply.text("a b c").stall(after_events=5), Reply.text("a").stall(after_bytes=30)) as server:
        client = server.client(timeout=0.6, max_retries=0)
        for expected in (["a ", "b "], []):
            texts: list[str] = []
            with pytest.raises(Exception, match="timed out"):
                with client.messages.stream(**PARAMS) as stream:
                    texts.extend(stream.text_stream)
            assert texts == expected


def test_stall_with_pings_goes_on_until_the_client_leaves() -> None:
    reply = Reply.text("a b c").stall(after_events=5, pings=0.001)
    with serve(reply) as server:
        with server.client(timeout=30).messages.create(stream=True, **PARAMS) as stream:
            body = stream.response.iter_bytes()
            got = b""
            while got.count(b"event: ping") < 20:
                got += next(body)
    assert got.startswith(reply.body)


def test_error_event(read: Read) -> None:
    reply = Reply.text("a b c")
    with serve(
        reply.error("overloaded_error", after_events=5), reply.error("odd", after_events=0, message="No.")
    ) as server:
        texts, _, error = read(server)
        assert texts == ["a ", "b "]
        assert isinstance(error, anthropic.APIStatusError)
        assert error.body == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        _, _, error = read(server)
        assert isinstance(error, anthropic.APIStatusError)
        assert error.body == {"type": "error", "error": {"type": "odd", "message": "No."}}


def test_error_event_with_any_body() -> None:
    reply = Reply.text("a").error("odd", after_events=1, body=b"<html>\xff")
    assert reply.frames[1:] == (b"event: error\ndata: <html>\xff\n\n",)


def test_garbage_goes_in_and_the_rest_follows(read: Read) -> None:
    reply = Reply.text("a b c")
    with serve(reply.garbage(b": a comment\n\n", after_events=5), reply.garbage(b"\xff\xfe", after_events=2)) as server:
        assert read(server)[0] == ["a ", "b ", "c"]
        assert http_chunks(server) == [*reply.frames[:2], b"\xff\xfe", *reply.frames[2:], b""]


def test_faults_combine() -> None:
    reply = Reply.text("ü b c", chunk_size=5).garbage(b"!", after_events=1).reset(after_events=3)
    assert reply.frames[1] == b"!"
    assert (reply.ending, len(reply.frames)) == ("reset", 3)
    assert reply.cut(after_events=2).ending == "end"
    assert {len(chunk) for chunk in reply.chunks[:-1]} == {5}


@pytest.mark.parametrize(
    ("status", "kind", "error_class"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.AuthenticationError),
        (403, "permission_error", anthropic.PermissionDeniedError),
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.APIStatusError),
        (418, "invalid_request_error", anthropic.APIStatusError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (503, "api_error", anthropic.APIStatusError),
        (529, "overloaded_error", anthropic.APIStatusError),
    ],
)
def test_http_error(status: int, kind: str, error_class: type[anthropic.APIStatusError], read: Read) -> None:
    with serve(Reply.http_error(status, headers={"retry-after": "7"}, message="No.")) as server:
        _, _, error = read(server)
    assert isinstance(error, error_class)
    assert (error.status_code, error.response.headers["retry-after"]) == (status, "7")
    assert error.body == {"type": "error", "error": {"type": kind, "message": "No."}}
    assert error.request_id is not None


def test_http_error_with_a_type_of_its_own_is_retried() -> None:
    refused = Reply.http_error(429, "odd_error", headers={"retry-after-ms": "1"})
    with serve(refused, Reply.text("fine")) as server:
        with server.client(max_retries=1).messages.stream(**PARAMS) as stream:
            assert stream.get_final_text() == "fine"
        assert len(server.requests) == 2
    assert json.loads(refused.body)["error"]["type"] == "odd_error"


# --- wrong arguments ------------------------------------------------------------------------------------------------

ONE = Reply.text("a")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (serve, ValueError, "at least one reply"),
        (lambda: serve("text"), TypeError, "not 'text'"),
        (ONE.cut, TypeError, "exactly one"),
        (ONE.reset, TypeError, "exactly one"),
        (lambda: ONE.stall(after_events=1, after_bytes=1), TypeError, "exactly one"),
        (lambda: ONE.cut(after_events=len(ONE.frames) + 1), ValueError, f"at most {len(ONE.frames)}"),
        (lambda: ONE.cut(after_events=-1), ValueError, "at least 0"),
        (lambda: ONE.cut(after_bytes=1.5), TypeError, "must be an int"),
        (lambda: ONE.cut(after_bytes=True), TypeError, "must be an int"),
        (lambda: ONE.stall(after_events=1, pings=0), ValueError, "more than 0"),
        (lambda: ONE.stall(after_events=1, pings="1"), TypeError, "seconds"),
        (lambda: ONE.error("odd", after_events=99), ValueError, "at most"),
        (lambda: ONE.garbage("text", after_events=1), TypeError, "bytes"),
        (lambda: ONE.garbage(b"", after_events=99), ValueError, "at most"),
        (lambda: Reply.text("a", delays=1), TypeError, "unknown option: delays"),
        (lambda: Reply.events({}, pings=False), TypeError, "unknown option: pings"),
        (lambda: Reply.text("a", delay=-1), ValueError, "seconds"),
        (lambda: Reply.text("a", delay=float("nan")), ValueError, "seconds"),
        (lambda: Reply.text("a", delay="1"), TypeError, "seconds"),
        (lambda: Reply.text("a", chunk_size=0), ValueError, "at least 1"),
        (lambda: Reply.text("a", status=99), ValueError, "at least 200"),
        (lambda: Reply.text("a", headers={"a": "b\r\nc: d"}), ValueError, "header"),
        (lambda: Reply.text("a", headers={"a b": "c"}), ValueError, "header"),
        (lambda: Reply.text(b"a"), TypeError, "str"),
        (lambda: Reply.text(5), TypeError, "iterable"),
        (lambda: Reply.blocks({"text": "a"}), TypeError, "'type'"),
        (lambda: Reply.blocks({"type": "text"}), ValueError, "'text'"),
        (lambda: Reply.recorded(b"a", [1], chunk_size=1), TypeError, "not both"),
        (lambda: Reply.recorded(b"a", [0]), ValueError, "at least 1"),
        (lambda: Reply.http_error(200), ValueError, "at least 400"),
        (lambda: Reply.http_error("400"), TypeError, "must be an int"),
    ],
)
def test_wrong_arguments(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_replies_do_not_change() -> None:
    with pytest.raises(AttributeError):
        ONE.delay = 1.0  # type: ignore[misc]
    assert ONE.cut(after_events=1) != ONE
    assert Reply.text("a") == ONE
    assert hash(ONE) == hash(Reply.text("a"))


# --- the framing of AWS ---------------------------------------------------------------------------------------------


def aws_messages(body: bytes) -> list[tuple[dict[str, str], Any]]:
    """Headers and payload of each message, as botocore reads them; it checks both sums of each."""
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is not installed")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(body)
    return [(message.headers, json.loads(message.payload)) for message in buffer]


def events_of(body: bytes) -> list[Any]:
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data:")]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_framing_of_aws_holds_the_same_events(path: Path) -> None:
    reply = Reply.recorded(path)
    messages = aws_messages(reply.aws().body)
    assert [json.loads(base64.b64decode(payload["bytes"])) for _, payload in messages] == events_of(reply.body)
    chunk = {":event-type": "chunk", ":message-type": "event", ":content-type": "application/json"}
    assert all(headers == chunk for headers, _ in messages)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("overloaded_error", "serviceUnavailableException"),
        ("rate_limit_error", "throttlingException"),
        ("validationException", "validationException"),
    ],
)
def test_an_error_is_an_exception_in_the_framing_of_aws(kind: str, name: str) -> None:
    exception = {":exception-type": name, ":message-type": "exception", ":content-type": "application/json"}
    for reply in (
        ONE.error(kind, after_events=2, message="No.").aws(),
        ONE.aws().error(kind, after_events=2, message="No."),
    ):
        assert aws_messages(reply.body)[2:] == [(exception, {"message": "No."})]


def test_what_is_no_event_in_the_framing_of_aws() -> None:
    framed = ONE.aws()
    assert framed.aws() is framed
    assert Reply.http_error(429).aws() == Reply.http_error(429)
    assert ONE.garbage(b"junk", after_events=1).aws().frames == (framed.frames[0], b"junk", *framed.frames[1:])
    assert Reply.recorded(b": hello\n\n" + ONE.frames[0]).aws().body == framed.frames[0]
    for size in range(1, len(ONE.frames[0]) - 2):  # what is cut stays so
        assert aws_messages(ONE.cut(after_bytes=size).aws().body) == []
    cut = framed.cut(after_bytes=len(framed.frames[0]) + 5)
    assert cut.frames == (framed.frames[0], framed.frames[1][:5])


@pytest.mark.parametrize(
    ("path", "content_type", "header"),
    [
        ("/model/claude:1/invoke-with-response-stream", "application/vnd.amazon.eventstream", "x-amzn-requestid"),
        ("/model/claude:1/invoke", "application/json", "x-amzn-requestid"),
        ("/v1/projects/p/locations/l/publishers/a/models/c@1:streamRawPredict", ONE.content_type, "request-id"),
        ("/v1/projects/p/locations/l/publishers/a/models/c@1:rawPredict", "application/json", "request-id"),
    ],
)
def test_other_platforms_get_what_they_expect(path: str, content_type: str, header: str) -> None:
    asked = b'{"stream": true}' if path.endswith("streamRawPredict") else b"{}"  # Bedrock has it in the path
    with serve(ONE, Reply.http_error(429)) as server:
        with raw(server, path=path, body=asked) as response:
            said = response.read()
            assert response.getheader("content-type") == content_type
            assert [name for name in ("x-amzn-requestid", "request-id") if response.getheader(name)] == [header]
        with raw(server, path=path, body=asked) as response:
            assert (response.status, response.getheader("content-type")) == (429, "application/json")
    if content_type == "application/json":
        assert json.loads(said)["content"] == [{"type": "text", "text": "a"}]
    else:
        assert said == (ONE.aws() if "/model/" in path else ONE).body


def test_pings_in_the_framing_of_aws() -> None:
    reply = ONE.aws().stall(after_events=1, pings=0.01)
    with serve(reply) as server, raw(server) as response:
        ping = ONE.aws().frames[1]
        assert response.read(len(reply.body) + 2 * len(ping)) == reply.body + 2 * ping
