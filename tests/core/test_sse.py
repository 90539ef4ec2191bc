"""`streamkit._core.sse`: bytes to event dicts, whatever the chunks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamkit._core import sse as core_sse
from streamkit._core.sse import ProtocolViolation, SSEDecoder
from tests.support.bodies import FIXTURES
from tests.support.events import PING, sse
from tests.support.events import text_delta as api_text_delta
from tests.support.in_memory import Events, decode, ready


def each_event(body: bytes) -> list[bytes]:
    """The body in chunks that end where an event may: the usual way in which it arrives."""
    return [part + b"\n\n" for part in body.split(b"\n\n")[:-1]] + [body.rpartition(b"\n\n")[2]]


def whole(body: bytes) -> Events:
    """The events of a healthy body; the same byte by byte."""
    events, wrong = decode([body])
    assert wrong is None
    assert decode(single(body)) == decode(each_event(body)) == (events, None)
    return events


def single(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


def refused(body: bytes) -> str:
    """What is wrong with a body; the same byte by byte."""
    events, wrong = decode([body])
    assert wrong is not None
    assert decode(single(body)) == decode(each_event(body)) == (events, wrong)
    return wrong


def by_json(path: Path) -> Events:
    """The events of a fixture by the plainest reading: the JSON of each `data:` line."""
    lines = path.read_bytes().replace(b"\r\n", b"\n").split(b"\n")
    return [json.loads(line[5:]) for line in lines if line.startswith(b"data:")]


def test_a_chunk_for_each_event_of_a_recording(recording: Path) -> None:
    body = recording.read_bytes()
    assert decode(each_event(body)) == decode([body])


def test_fixture_whole_and_byte_by_byte(recorded: Path) -> None:
    assert whole(recorded.read_bytes()) == by_json(recorded)


def test_fixture_in_every_two_parts(recorded: Path) -> None:
    body, expected = recorded.read_bytes(), by_json(recorded)
    for at in range(len(body) + 1):
        assert decode([body[:at], body[at:]]) == (expected, None), at


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_line_ends(recorded: Path, ends: bytes) -> None:
    body = recorded.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", ends)
    assert whole(body) == by_json(recorded)
    for size in (2, 3, 7):
        assert decode([body[i : i + size] for i in range(0, len(body), size)]) == (by_json(recorded), None)


def cut_up(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[a:b] for a, b in pairwise(ends)]


@given(st.sampled_from(FIXTURES), st.lists(st.integers(0, 10**6), max_size=30))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_fixture_in_random_chunks(path: Path, cuts: list[int]) -> None:
    assert decode(cut_up(path.read_bytes(), cuts)) == (by_json(path), None)


LINES = [
    b"",
    b"event: x",
    b"event:",
    b"data: {}",
    b'data: {"type":"y"}',
    b"data:",
    b"data",
    b": c",
    b"id",
    b"\xef\xbb\xbf",
]
SOUP = st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b""])), max_size=12)


@given(SOUP, st.lists(st.integers(0, 200), max_size=8))
@example([(b"data: {}", b"\r"), (b"", b"\n"), (b"", b"\r"), (b"", b"\n")], [9])
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_soup_of_lines_is_the_same_in_any_chunks(soup: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    body = b"".join(line + end for line, end in soup)
    assert decode(cut_up(body, cuts)) == decode([body])
    assert decode(single(body)) == decode([body])


def by_standard(body: bytes) -> Events:
    """Interpret an event stream as the standard words it, line by line; healthy JSON objects only."""
    events, data, name = Events(), list[str](), ""
    lines = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode().split("\n")
    for line in [*lines[:-1], lines[-1], ""]:
        if not line:
            if "".join(data):
                event = json.loads("\n".join(data))
                event.setdefault("type", name)
                events.append(event)
            data, name = [], ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    return events


BEFORE = [b"event: x", b"event:y", b": c", b"id: 3", b"odd: field", b"event"]
DATA = [[b'data: {"a":1}'], [b'data:{"a":', b"data: 2}"], [b"data: {", b"data", b'data: "type":"z"}']]


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(BEFORE), max_size=3),
            st.sampled_from(DATA),
            st.lists(st.sampled_from([b"event: w", b":", b"retry: 9"]), max_size=2),
        ),
        max_size=5,
    ),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=200, deadline=None, derandomize=True)
def test_frames_are_read_as_the_standard_says(frames: Any, end: bytes, bom: bool, last_blank: bool) -> None:
    body = b"".join(b"".join(line + end for line in [*before, *data, *after]) + end for before, data, after in frames)
    if not last_blank:
        body = body.removesuffix(end)
    assert whole(b"\xef\xbb\xbf" * bom + body) == by_standard(body)


def test_a_byte_order_mark_is_dropped_once() -> None:
    body = b"\xef\xbb\xbf" + sse(PING)
    for at in range(len(body) + 1):
        assert decode([body[:at], body[at:]]) == ([PING], None)
    # A second one is part of a field's name, and the field unknown.
    assert whole(b"\xef\xbb\xbf\xef\xbb\xbfevent: z\ndata: {}\n\n") == [{"type": ""}]


@pytest.mark.parametrize("part", [b"\xef", b"\xef\xbb", b"\xef\xbb\xbf", b""])
def test_a_body_of_a_byte_order_mark_alone(part: bytes) -> None:
    assert whole(part) == []


def test_the_type_inside_the_data_decides() -> None:
    assert whole(b'event: pong\ndata: {"type":"ping"}\n\n') == [{"type": "ping"}]
    assert whole(b'data: {"type":"ping"}\n\n') == [{"type": "ping"}]
    assert whole(b'event: ping\ndata: {"a":1}\n\n') == [{"a": 1, "type": "ping"}]
    assert whole(b'data: {"a":1}\n\n') == [{"a": 1, "type": ""}]
    # The last `event:` line counts, wherever it stands.
    assert whole(b"event: a\ndata: {}\nevent: b\n\n") == [{"type": "b"}]


def test_an_event_name_holds_for_one_event() -> None:
    assert whole(b"event: ping\n\ndata: {}\n\n") == [{"type": ""}]


def test_comments_unknown_fields_and_empty_data_are_no_events() -> None:
    noise = b": hello\n\nid: 7\nretry: 10\nfoo: bar\nfoo\n\nevent: ping\n\ndata:\n\ndata\n\n\n\n\n"
    assert whole(noise + sse(PING) + noise) == [PING]


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"type":\ndata:  "ping"}',
        b"event: ping\ndata:{\ndata:}",
        b'data: {\n: c\ndata: "type": "ping"\nid\ndata: }',
    ],
)
def test_data_on_several_lines_is_joined_by_newlines(frame: bytes) -> None:
    assert whole(frame + b"\n\n") == [PING]


def test_a_newline_between_data_lines_is_part_of_the_data() -> None:
    assert "not JSON" in refused(b'data: {"type":"pi\ndata: ng"}\n\n')


def test_only_one_space_after_the_colon_is_dropped() -> None:
    assert whole(b"event:  x\ndata:  {}\n\n") == [{"type": " x"}]


def test_an_event_that_says_error_in_plain_words() -> None:
    events = whole(b"event: error\ndata: upstream gone\n\n")
    assert events == [{"type": "error", "error": {"type": "api_error", "message": "upstream gone"}}]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{oops}", "not JSON"),
        (b'{"type":"ping"', "not JSON"),
        (b'{"type":"ping"} x', "not JSON"),
        (b"[DONE]", "not JSON"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":"\xe2\x82"}', "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"ping"', "not a JSON object"),
        (b"1", "not a JSON object"),
        (b"[" * 5000 + b"]" * 5000, "not a JSON object"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_data_that_is_no_json_object_is_refused(data: bytes, said: str) -> None:
    events, wrong = decode([sse(PING) + b"event: x\ndata: " + data + b"\n\n" + sse(PING)])
    assert events == [PING], "what came before counts"
    assert wrong is not None
    if len(data) != 10_000:  # whether 5,000 levels are too deep is for the interpreter to say
        assert said in wrong
    assert len(wrong) < 400


def test_an_excerpt_says_that_it_was_shortened() -> None:
    wrong = refused(b"data: " + b"x" * 300 + b"\n\n")
    assert "x" * 80 + "…" in wrong
    assert "x" * 81 not in wrong
    assert "…" not in refused(b"data: " + b"x" * 80 + b"\n\n")


def test_lone_surrogates_and_deep_nesting_that_jiter_refuses() -> None:
    assert whole(b'data: {"type":"x","a":"\\ud83d|\\ude00"}\n\n') == [{"type": "x", "a": "\ud83d|\ude00"}]
    deep = whole(b'data: {"type":"x","a":' + b"[" * 400 + b"]" * 400 + b"}\n\n")[0]["a"]
    depth = 0
    while deep:
        deep, depth = deep[0], depth + 1
    assert depth == 399


def test_characters_are_kept_as_they_are() -> None:
    said = "\u2028\u2029\x85\x0b\x0c\x1c wörld 😀 \ufeff"
    event = api_text_delta(said)
    body = b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
    assert whole(body) == [event], "line ends of other standards are no line ends here"


@pytest.mark.parametrize("rest", [b"", b"\n", b"\r", b"\r\n", b"\nid: 1", b"\n: comm"])
def test_a_last_event_without_its_blank_line_counts(rest: bytes) -> None:
    assert whole(sse(PING) + b'event: message_stop\ndata: {"type":"message_stop"}' + rest) == [
        PING,
        {"type": "message_stop"},
    ]


# What is nearly the usual text delta, and must not be taken for it.
HEADS = [
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":',
    'data: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": ',
    'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm","text":',
    'data: {"type":"content_block_delta","index":0,"text":"more","delta":{"type":"text_delta","text":',
    'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"first","text":',
    'data: {"type":"content_block_delta",\ndata: "index":0,"delta":{"type":"text_delta","text":',
    ': "text":"x"\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":',
    'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":',
    'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","index":0,"text":',
    'data: {"type":"content_block_start","index":0,"delta":{"type":"text_delta","text":',
]
SAID = ['"a"', '""', '"\\""', '"\\\\"', '"é\\u00e9}"', '"a","text":"b"', '"a', 'a"', "5", '"a\tb"', '"a\nb"', '"a"\r']
SAID += ['"\\ud800"', '"}}"']
TAILS = ["}}", "}   }", "}}  ", "}", "}}}", ',"x":1}}', '},"index":5}', "}\n}", "}\r}", "} \t}", "}}\nid: 5"]
TAILS += ['}}\ndata: "y"}}']
frames = st.builds("{}{}{}\n\n".format, st.sampled_from(HEADS), st.sampled_from(SAID), st.sampled_from(TAILS))


OTHER_ORDER = 'data: {"type":"content_block_delta","index":0,"delta":{"text":'
frames |= st.sampled_from([f'{OTHER_ORDER}"a","type":"text_delta"}}}}\n\n', f'{OTHER_ORDER}"b"}}}}\n\n'])


@given(st.lists(frames, max_size=6), st.sampled_from(HEADS[:2]), st.integers(0, 2000))
@settings(max_examples=300, deadline=None, derandomize=True)
@example([f'{OTHER_ORDER}"a","type":"text_delta"}}}}\n\n', f'{OTHER_ORDER}"b"}}}}\n\n'], HEADS[0], 0)
@example([f'{HEADS[1]}"a"}}}}\n\n'] * 2, HEADS[1], 250)
def test_what_is_nearly_a_text_delta(odd: list[str], head: str, cut: int) -> None:
    """After a text delta in the same form, which is what the decoder compares with."""
    body = (head + '"One "}}\n\n' + "".join(odd)).encode()
    expected = decode([body])
    assert decode(each_event(body)) == expected
    assert decode([*each_event(body[:cut]), *each_event(body[cut:])]) == expected


@pytest.mark.parametrize("head", HEADS[:2])
def test_the_short_way_is_taken(head: str) -> None:
    decoder = SSEDecoder()
    decoder.feed(f'{head}"One "}}}}\n\n'.encode())
    assert len(list(ready(decoder))) == 1
    for said, end in (('"two "', "}}"), ('"\\u00e9"', "}          }"), ('""', "}}")):
        assert decoder.matcher.match(f"{head}{said}{end}\n\n".encode()) == json.loads(said)
    decoder.feed(b": not at its end")
    assert decoder.matcher.match(f'{head}"three"}}}}\n\n'.encode()) is None, "in the middle of an event"


def test_a_last_event_cut_at_each_byte_is_no_event() -> None:
    body = sse(api_text_delta("é😀"))
    last = body.index(b"}}\n") + 2
    for at in range(len(body)):
        events, wrong = decode([sse(PING), body[:at]])
        assert wrong is None
        assert events == [PING, *([api_text_delta("é😀")] if at >= last else [])], at


def test_after_the_end_there_is_nothing_more() -> None:
    decoder = SSEDecoder()
    decoder.feed(sse(PING))
    decoder.end()
    assert list(ready(decoder)) == [PING]
    decoder.end()
    assert list(ready(decoder)) == []


def test_the_largest_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_sse, "MAX_EVENT_BYTES", 100)
    just = b"data: {}" + b" " * 90  # 98 bytes, 100 with its blank line
    assert whole(just + b"\n\n") == [{"type": ""}]
    assert len(whole(sse(PING) * 50)) == 50, "a limit for one event, not for the body"
    _, wrong = decode(single(just + b"   " + b"\n\n"))
    assert wrong == "an event is larger than 100 bytes"
    monkeypatch.setattr(core_sse, "MAX_EVENT_BYTES", 200)
    events, wrong = decode([sse(api_text_delta("a")), sse(api_text_delta("b")), sse(api_text_delta("c" * 200))])
    assert (len(events), wrong) == (2, "an event is larger than 200 bytes")


def test_a_body_without_a_line_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_sse, "MAX_EVENT_BYTES", 1000)
    decoder = SSEDecoder()
    for _ in range(10):
        decoder.feed(b"x" * 100)
    with pytest.raises(ProtocolViolation, match="larger than 1000 bytes"):
        decoder.feed(b"x")


def test_the_largest_event_is_the_same_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_sse, "MAX_EVENT_BYTES", 100)
    body = b"data: {}" + b" " * 200 + b"\n\n"
    byte_by_byte = decode(single(body))
    assert decode([body]) == byte_by_byte
    assert decode([body[:-1], body[-1:]]) == byte_by_byte
    assert decode([body[:50], body[50:]]) == byte_by_byte


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"<html><body>Bad gateway</body></html>", b"<html><body>Bad gateway</body></html>"),
        (b"\n\n<!DOCTYPE html>\n<p>\n\n</p>", b"<!DOCTYPE html>\n<p>"),
        (b'{"type":"error","error":{"type":"x"}}', b'{"type":"error","error":{"type":"x"}}'),
        (b"\xef\xbb\xbf<p>\r\n\r\n", b"<p>"),
        (b"upstream connect error", b"upstream connect error"),
        (b"eventual consistency", b"eventual consistency"),
        (b"x" * 500, b"x" * 500),
        (b"", b""),
        (b"\n\n\n", b""),
        (b"event", b""),
        (b"dat", b""),
        (b"r", b""),
        (b":", b""),
        (b"data: {\"typ", b""),
        (b"event: message_start\nda", b""),
        (b": comment\n\nid: 1\n\nretry: 5\n\n", b""),
        (b"data: {}\n\n", b""),
    ],
)  # fmt: skip
def test_the_head_of_a_body_that_is_no_event_stream(body: bytes, head: bytes) -> None:
    for chunks in ([body], single(body)):
        decoder = SSEDecoder()
        for chunk in chunks:
            decoder.feed(chunk)
            list(ready(decoder))
        decoder.end()
        list(ready(decoder))
        assert decoder.non_sse_prefix == head


MESSAGE = {"type": "message", "id": "msg_1", "content": [{"type": "text", "text": "\n data: x\r\n\n"}]}
ENDED = {"type": "message_delta", "delta": {}, "usage": {}}
FAILED = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}


@pytest.mark.parametrize("after", [b"", b"\n", b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("before", [b"", b"\n", b"\r\n\r\n", b" ", b"\xef\xbb\xbf", b": ping\n\n"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MESSAGE, [{"type": "message_start", "message": MESSAGE}, ENDED]),
        ({**MESSAGE, "usage": None}, [{"type": "message_start", "message": {**MESSAGE, "usage": None}}, ENDED]),
        (
            {**MESSAGE, "usage": {"output_tokens": 7}},
            [
                {"type": "message_start", "message": {**MESSAGE, "usage": {"output_tokens": 7}}},
                {**ENDED, "usage": {"output_tokens": 7}},
            ],
        ),
        (FAILED, [FAILED]),
        ({"type": "list", "data": []}, []),
        ({}, []),
    ],
    ids=lambda value: repr(value)[-30:],
)
def test_a_body_that_is_one_json_object(
    value: dict[str, Any], expected: list[Any], indent: int | None, before: bytes, after: bytes
) -> None:
    body = before + json.dumps(value, indent=indent).encode() + after
    for chunks in ([body], single(body)):
        decoder, found = SSEDecoder(), []
        for chunk in chunks:
            decoder.feed(chunk)
            found += ready(decoder)
        decoder.end()
        found += ready(decoder)
        assert found == expected
        assert decoder.unstreamed == (value.get("type") == "message")


@pytest.mark.parametrize("body", [b'{"type": "message"', b"{oops}", b'{"type": "message"} {}', b'["message"]'])
def test_a_body_that_is_not_quite_one_json_object(body: bytes) -> None:
    decoder = SSEDecoder()
    decoder.feed(body)
    decoder.end()
    assert (list(ready(decoder)), decoder.unstreamed, decoder.non_sse_prefix) == ([], False, body)


@pytest.mark.parametrize("over", [1, 2])
def test_the_limit_is_the_same_on_the_short_way(over: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that is one text delta is refused from the same size on as an event that was fed."""
    head, end = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":', b"}\n\n"
    head += b'{"type":"text_delta","text":"'
    monkeypatch.setattr(core_sse, "MAX_EVENT_BYTES", 500)
    decoder = SSEDecoder()
    decoder.feed(head + b'x"}' + end)
    decoder.parse(decoder.frames.popleft())
    size = 500 + over - len(head) - len(b'"}' + end)
    chunk = head + b"x" * size + b'"}' + end
    refused = over == 2
    assert (decoder.matcher.match(chunk) is None) == refused
    assert (decoder.matcher.match_frame(chunk[:-2]) is None) == refused
    with pytest.raises(ProtocolViolation) if refused else contextlib.nullcontext():
        decoder.parse(chunk[:-2])
