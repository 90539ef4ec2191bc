"""`repr` of a reply: one short line that says what it is."""

from __future__ import annotations

import pytest

from streamkit.testing import Reply

BOATS = Reply.text("They push water aside.")
TOOL = Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me see.")


@pytest.mark.parametrize(
    ("reply", "description"),
    [
        (BOATS, "<Reply text 'They push water aside.', 10 events>"),
        (BOATS.cut(after_text="They push"), "<Reply text 'They push ', 5 events, cut>"),
        (BOATS.cut(after_bytes=len(BOATS.body) - 5), "<Reply text 'They push water aside.', 10 events, cut>"),
        (BOATS.reset(after_text="They"), "<Reply text 'They ', 4 events, reset>"),
        (BOATS.stall(after_events=4), "<Reply text 'They ', 4 events, stall>"),
        (BOATS.stall(after_events=4, pings=0.5), "<Reply text 'They ', 4 events, stall with pings=0.5>"),
        (BOATS.error("api_error", after_text="They"), "<Reply text 'They ', 5 events, error api_error>"),
        (BOATS.error("odd", after_events=0), "<Reply events, 1 event, error odd>"),
        (BOATS.garbage(b"!", after_events=1), "<Reply text 'They push water aside.', 11 events, 1 not an event>"),
        (
            BOATS.garbage(b"!", after_events=1).garbage(b"data: [1]\n\n", after_events=3).reset(after_events=6),
            "<Reply text 'They ', 6 events, 2 not events, reset>",
        ),
        (BOATS.split_utf8(), "<Reply text 'They push water aside.', 10 events, split UTF-8>"),
        (Reply.text("a", header_delay=2, delay=0.5), "<Reply text 'a', 7 events, header_delay=2, delay=0.5>"),
        (Reply.text("a\nb\u2028", status=203), "<Reply HTTP 203 text 'a\\nb\\u2028', 8 events>"),
        (Reply.text(["x" * 99]), f"<Reply text '{'x' * 40}...', 7 events>"),
        (Reply.text(""), "<Reply text, 6 events>"),
        (Reply.thinking("Hm", "so"), "<Reply thinking+text 'so', 11 events>"),
        (TOOL, "<Reply text+tool_use(get_tide) 'Let me see.', 14 events>"),
        (TOOL.aws().cut(after_text="me"), "<Reply text 'Let me ', 5 events, cut>"),
        (BOATS.error("odd", after_events=1).aws(), "<Reply events, 2 events, error>"),
        (
            BOATS.aws().garbage(b"junk", after_events=1),
            "<Reply text 'They push water aside.', 11 events, 1 not an event>",
        ),
        (Reply.events(), "<Reply events, 0 events, cut>"),
        (Reply.http_error(429), "<Reply HTTP 429 rate_limit_error>"),
        (Reply.http_error(529, header_delay=1), "<Reply HTTP 529 overloaded_error, header_delay=1>"),
        (Reply.recorded(b"<html>", content_type="text/html"), "<Reply HTTP 200 text/html>"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_description(reply: Reply, description: str) -> None:
    assert repr(reply) == description


@pytest.mark.parametrize(
    "reply",
    [
        Reply.blocks(*({"type": f"kind_{n}", "name": "x\ny"} for n in range(50))),
        Reply.text("a").error("e" * 500 + "\n", after_events=2),
        Reply.text("\x00\ud83d" * 500),
        Reply.recorded(b"data: " + b"[" * 100_000 + b"\n\n"),
        Reply.recorded(b"[" * 100_000, content_type="application/json"),
        Reply.events({"type": ["odd"]}, {"type": "content_block_start", "content_block": {"type": {}, "name": ["a"]}}),
        Reply.events({"type": "message_start", "message": {"content": [5, {"type": "text", "text": 5}]}}),
    ],
    ids=range(7),
)
def test_it_is_one_line_of_at_most_120_characters(reply: Reply) -> None:
    line = repr(reply)
    assert len(line) <= 120
    assert line.splitlines() == [line]
    assert line.startswith("<Reply ")
    assert line.endswith(">")
