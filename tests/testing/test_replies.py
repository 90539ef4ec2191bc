"""Replies: their events, their chunks, and how they look to a real client."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from streamkit.testing import Reply, serve
from tests.support.bodies import FIXTURES
from tests.support.testing_server import PARAMS, TEXT, Read, content, http_chunks, raw, read_sync

pytestmark = pytest.mark.usefixtures("no_thread_left")


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


# --- wrong arguments ------------------------------------------------------------------------------------------------

ONE = Reply.text("a")
