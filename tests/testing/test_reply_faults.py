"""Faults of replies, and wrong arguments."""

from __future__ import annotations

import json
from collections.abc import Callable

import anthropic
import pytest

from streamkit.testing import Reply, serve
from tests.support.testing_server import PARAMS, Read, http_chunks, raw, read_until_reset

pytestmark = pytest.mark.usefixtures("no_thread_left")


BOATS = ["They ", "push ", "water"]


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
        client = server.client(timeout=4, max_retries=0)  # which also ends the wait for the headers
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


# --- after some text ------------------------------------------------------------------------------------------------

TOOL = {"type": "tool_use", "id": "toolu_1", "name": "get_tide", "input": {"say": "push"}}


@pytest.mark.parametrize(
    ("after_text", "received"),
    [("They", ["They "]), ("They push", ["They ", "push "]), ("ey pu", ["They ", "push "]), ("h w", BOATS)],
)
def test_cut_after_the_event_that_completes_a_text(after_text: str, received: list[str], read: Read) -> None:
    reply = Reply.text("They push water")
    with serve(reply.cut(after_text=after_text)) as server:
        assert read(server)[0] == received


def test_each_fault_after_some_text() -> None:
    reply = Reply.text("They push water aside.")
    place = {"after_events": 5}
    assert reply.cut(after_text="They push") == reply.cut(**place)
    assert reply.reset(after_text="They push") == reply.reset(**place)
    assert reply.stall(after_text="They push", pings=1) == reply.stall(pings=1, **place)
    assert reply.error("api_error", after_text="They push") == reply.error("api_error", **place)
    assert reply.garbage(b"!", after_text="They push") == reply.garbage(b"!", **place)


@pytest.mark.parametrize(
    "reply",
    [
        Reply.events(
            {"type": "message_start", "message": {"content": [{"type": "text", "text": "They pu"}]}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "sh"}},
            {"type": "message_stop"},
        ),
        Reply.events(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "They "}},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "push"}},
            {"type": "message_stop"},
        ),
        Reply.events({"text": "They push"}, {"delta": {"type": "text_delta", "text": "They push"}}, {"more": "They"}),
        Reply.recorded(b"data: [1]\n\n" + Reply.text(["They push"], pings=False).frames[2] + b": more\n\n"),
    ],
    ids=["in message_start", "in content_block_start", "unusual events", "frames that are not events"],
)
def test_text_counts_wherever_it_comes(reply: Reply) -> None:
    assert reply.cut(after_text="They push").frames == reply.frames[:2]
    assert reply.aws().cut(after_text="They push").frames == reply.aws().frames[:2]


def test_only_text_counts_as_text() -> None:
    reply = Reply.blocks({"type": "thinking", "thinking": "push"}, TOOL, {"type": "text", "text": "They push"})
    assert reply.cut(after_text="push").frames == reply.frames[:-3]


def test_text_after_a_fault_is_found_in_what_is_sent() -> None:
    reply = Reply.text("They push water").garbage(b"!", after_text="They").aws()
    assert reply.reset(after_text="push").frames == reply.frames[:6]
    with pytest.raises(ValueError, match="'They '"):
        reply.cut(after_text="They").cut(after_text="push")


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
        (lambda: serve("text"), TypeError, "got 'text'"),
        (ONE.cut, TypeError, "exactly one"),
        (ONE.reset, TypeError, "exactly one"),
        (lambda: ONE.stall(after_events=1, after_bytes=1), TypeError, "exactly one"),
        (lambda: ONE.cut(after_events=len(ONE.frames) + 1), ValueError, f"at most {len(ONE.frames)}"),
        (lambda: ONE.cut(after_events=-1), ValueError, "at least 0"),
        (lambda: ONE.cut(after_text="b"), ValueError, "part of the text 'a' for after_text, got 'b'"),
        (lambda: ONE.reset(after_text="b"), ValueError, "after_text"),
        (lambda: ONE.stall(after_text="b"), ValueError, "after_text"),
        (lambda: ONE.error("odd", after_text="b"), ValueError, "after_text"),
        (lambda: ONE.garbage(b"!", after_text="b"), ValueError, "after_text"),
        (lambda: ONE.cut(after_text=""), ValueError, "some text"),
        (lambda: ONE.cut(after_text=b"a"), TypeError, "expected a str for after_text"),
        (lambda: ONE.cut(after_text="a", after_bytes=1), TypeError, "got after_bytes and after_text"),
        (lambda: ONE.error("odd"), TypeError, "exactly one of after_events, after_text, got none"),
        (lambda: ONE.garbage(b"!", after_events=1, after_text="a"), TypeError, "exactly one"),
        (lambda: ONE.cut(after_bytes=1.5), TypeError, "expected an int for "),
        (lambda: ONE.cut(after_bytes=True), TypeError, "expected an int for "),
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
        (lambda: Reply.text("a", header_delay=-1), ValueError, "0 to .* seconds for header_delay"),
        (lambda: Reply.text("a", header_delay=3e6), ValueError, "0 to .* seconds for header_delay"),
        (lambda: Reply.http_error(429, header_delay="1"), TypeError, "seconds"),
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
        (lambda: Reply.http_error("400"), TypeError, "expected an int for "),
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
