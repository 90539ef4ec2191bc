"""Every cut: a body that ends anywhere, in good order or not, gets the right verdict and keeps all that arrived.

What is right is worked out here anew, as plainly as can be: split at blank lines, parse, add up.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import anyio
import jiter
import pytest
from anthropic.types import RawMessageStreamEvent
from anthropic.types.beta import BetaRawMessageStreamEvent

from streamkit import (
    StreamAPIError,
    StreamConnectionError,
    StreamError,
    StreamProtocolError,
    StreamResult,
    StreamTruncatedError,
    collect,
)
from streamkit._core.sse import EventDecoder
from streamkit._io.sync_stream import TextStream
from streamkit._options import Options
from streamkit._sdk.sources import Source
from streamkit.testing import Reply, serve
from tests.conftest import BETA, FIXTURES, PARAMS, async_sdk, ending, opened, sdk, sse, start, text

LARGE = 20_000  # bytes beyond which not each cut of a recording is made


class Body:
    """A stream of the SDK without HTTP, as far as streamkit looks: a response whose bytes arrive, then end or break."""

    def __init__(self, *chunks: bytes, breaks: bool = False, beta: bool = False) -> None:
        self.chunks, self.breaks = chunks, breaks
        self.response, self.headers = self, {"content-type": "text/event-stream"}
        self.is_closed = False
        self.__orig_class__ = anthropic.Stream[BetaRawMessageStreamEvent if beta else RawMessageStreamEvent]

    def iter_bytes(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.breaks:
            raise ConnectionResetError("Connection reset by peer")

    __next__ = iter_bytes  # a stream has one

    def close(self) -> None:
        self.is_closed = True


def play(*chunks: bytes, breaks: bool = False, beta: bool = False) -> tuple[list[str], StreamResult[Any, Any]]:
    """The text that is yielded, and the result."""
    body, given = Body(*chunks, breaks=breaks, beta=beta), []
    stream = TextStream(Source(lambda _: lambda: body, is_async=False, retries=0), Options())  # type: ignore[var-annotated]
    failure: StreamError | None = None
    try:
        with stream:
            given.extend(iter(stream))
    except StreamError as error:
        failure = error
    assert stream.result.error is failure
    assert failure is None or failure.result is stream.result
    assert body.is_closed
    return given, stream.result


# What is right.


@dataclass
class Reading:
    """What a body says up to one of its events."""

    text: str = ""
    thinking: str = ""
    blocks: tuple[dict[str, Any], ...] | None = None
    whole_tools: tuple[str, ...] = ()
    output_tokens: int | None = None
    end: str = ""  # "", "reason", "stop" or "error"
    wrong: bool = False


def events_of(body: bytes) -> tuple[list[dict[str, Any] | None], bytes]:
    """The events that arrived whole, and what is left."""
    *frames, rest = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
    return [parsed(frame) for frame in frames], rest


@cache
def parsed(frame: bytes) -> dict[str, Any] | None:
    """The event of a frame; None for one without data, {} for what is no JSON."""
    lines = [line[5:].removeprefix(b" ") for line in frame.split(b"\n") if line.startswith(b"data:")]
    if not b"\n".join(lines):
        return None
    try:
        return json.loads(b"\n".join(lines))
    except ValueError:
        return {}


def read(events: list[dict[str, Any] | None]) -> list[Reading]:
    """What the body says before the first event, and after each of them."""
    found = [Reading()]
    head: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    pieces: dict[int, str] = {}
    closed: dict[int, bool] = {}
    said: list[str] = []
    thought: list[str] = []
    between = False
    tokens, end, wrong = None, "", False

    def say(words: str) -> None:
        nonlocal between
        if words:
            said.append("\n\n" + words if between and said else words)
            between = False

    for event in events:
        kind = "" if event is None else event.get("type", "?")
        if end in ("stop", "error") or wrong:
            pass
        elif event == {}:
            wrong = True
        elif kind == "error":
            end = "error"
        elif kind == "message_start":
            head = event["message"]
            tokens = head["usage"]["output_tokens"]
            for index, block in enumerate(head["content"]):
                blocks[index], pieces[index], closed[index] = block, "", True
                say(block.get("text") or "")
        elif kind == "content_block_start":
            index, block = event["index"], dict(event["content_block"])
            blocks[index], pieces[index], closed[index] = block, "", False
            if block["type"] == "text":
                say(block["text"])
            else:
                between = bool(said)
                thought.append(block.get("thinking") or "" if block["type"] == "thinking" else "")
        elif kind == "content_block_delta":
            index, change = event["index"], event["delta"]
            block = dict(blocks[index])
            match change["type"]:
                case "text_delta":
                    block["text"] = (block.get("text") or "") + change["text"]
                    say(change["text"])
                case "thinking_delta":
                    block["thinking"] = (block.get("thinking") or "") + change["thinking"]
                    thought.append(change["thinking"])
                case "signature_delta":
                    block["signature"] = change["signature"]
                case "citations_delta" if block["type"] == "text":
                    block["citations"] = [*(block.get("citations") or []), change["citation"]]
                case "compaction_delta":
                    block |= {"content": change.get("content"), "encrypted_content": change.get("encrypted_content")}
                case "input_json_delta":
                    pieces[index] += change["partial_json"]
                    if pieces[index]:
                        block["input"] = so_far(pieces[index])
            blocks[index] = block
        elif kind == "content_block_stop":
            closed[event["index"]] = True
        elif kind == "message_delta":
            tokens = event.get("usage", {}).get("output_tokens", tokens)
            end = "reason" if event["delta"].get("stop_reason") else end
        elif kind == "message_stop":
            end = "stop"
        tools = [
            block["id"]
            for index, block in blocks.items()
            if block["type"] == "tool_use" and (closed[index] or end) and end != "error" and whole(pieces[index])
        ]
        content = tuple(blocks.values()) if head else None
        found.append(Reading("".join(said), "".join(thought), content, tuple(tools), tokens, end, wrong))
    return found


@cache
def so_far(piece: str) -> Any:
    try:
        return jiter.from_json(piece.encode(), partial_mode=True)
    except ValueError:
        return None  # not looked at


def whole(piece: str) -> bool:
    try:
        json.loads(piece or "{}")
    except ValueError:
        return False
    return True


def verdict(reading: Reading, breaks: bool) -> tuple[str, type[StreamError] | None]:
    if reading.wrong:
        return "failed", StreamProtocolError
    if reading.end == "error":
        return "failed", StreamAPIError
    if reading.end == "stop" or (reading.end == "reason" and not breaks):
        return "complete", None
    return "disconnected", StreamConnectionError if breaks else StreamTruncatedError


class Expected:
    """What each cut of a body must give."""

    def __init__(self, body: bytes) -> None:
        events, rest = events_of(body)
        self.body = body
        self.readings = read([*events, parsed(rest)])
        self.lf = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") == body

    def at(self, cut: int, breaks: bool) -> Reading:
        body = self.body[:cut]
        if self.lf:
            count, rest = body.count(b"\n\n"), body[body.rfind(b"\n\n") + 2 if b"\n\n" in body else 0 :]
        else:
            events, rest = events_of(body)
            count = len(events)
        # A last event without its blank line counts where the body ended in good order.
        return self.readings[count + (not breaks and bool(parsed(rest)))]


def check(found: StreamResult[Any, Any], given: list[str], right: Reading, breaks: bool) -> None:
    status, kind = verdict(right, breaks)
    assert (found.status, type(found.error) if found.error else None) == (status, kind)
    assert found.text == right.text == "".join(given)
    assert found.thinking == right.thinking
    assert (found.message is None) == (right.blocks is None)
    if found.message is not None:
        mine = [block.to_dict(warnings=False) for block in found.message.content]
        assert len(mine) == len(right.blocks)
        for block, wanted in zip(mine, right.blocks, strict=True):
            unknown = {"input": block["input"]} if "input" in wanted and wanted["input"] is None else {}
            assert block == {**wanted, **unknown}
    assert tuple(tool.id for tool in found.tool_uses) == right.whole_tools
    assert found.usage.output_tokens == (right.output_tokens or 0)
    assert found.ok <= (found.status == "complete")
    assert found.usage_final <= bool(right.end)


def cuts_of(body: bytes, some: int) -> list[int]:
    """Both sides of each event's end, and so many other places."""
    ends = [
        at + near for at in range(1, len(body)) if body[at - 1 : at + 1] in (b"\n\n", b"\r\n") for near in (0, 1, 2)
    ]
    others = random.Random(1).sample(range(len(body)), min(some, len(body)))
    return sorted({0, len(body), *others, *(cut for cut in ends if cut <= len(body))})


def check_cuts(path: Path, cuts: Sequence[int], *, each: bool = True) -> str:
    """Check these cuts of a body. But for `each`, a cut that leaves the core what the one before left is not played."""
    body = path.read_bytes()
    expected, beta = Expected(body), any(name in path.name for name in (*BETA, "compaction", "mcp", "fallback"))
    played = 0
    for breaks in (False, True):
        text_before, core_before, right_before = "", None, None
        for cut in cuts:
            right, core = expected.at(cut, breaks), left_to_the_core(body[:cut], breaks)
            if not each and core == core_before:
                assert right is right_before, f"what the core has is the same at {cut}, and should not be"
                continue
            given, found = play(body[:cut], breaks=breaks, beta=beta)
            check(found, given, right, breaks)
            assert found.text.startswith(text_before), f"text that was there at the cut before is gone at {cut}"
            text_before, core_before, right_before = found.text, core, right
            played += 1
    return f"{2 * len(cuts)} cuts of {path.name}, {played} of them different"


def left_to_the_core(body: bytes, breaks: bool) -> tuple[Any, ...]:
    """All that the layers above the decoder learn of a body."""
    decoder = EventDecoder()
    decoder.feed(body)
    if not breaks:
        decoder.end()
    return decoder.foreign, *decoder.waiting


def test_cuts_of_each_fixture(recorded: Path) -> None:
    print(check_cuts(recorded, cuts_of(recorded.read_bytes(), 150)))


@pytest.mark.slow
def test_every_cut_of_each_fixture(recorded: Path) -> None:
    print(check_cuts(recorded, range(len(recorded.read_bytes()) + 1)))


@pytest.mark.slow
def test_every_cut_of_each_recording(recording: Path) -> None:
    """Each byte of those up to 20 kB; of larger ones each event's end, and 2,000 bytes by chance."""
    body = recording.read_bytes()
    cuts = range(len(body) + 1) if len(body) <= LARGE else cuts_of(body, 2000)
    print(check_cuts(recording, cuts, each=False))


def test_byte_by_byte_is_the_same_as_at_once(recorded: Path) -> None:
    """At each byte, the state that a consumer can see is that of the cut there."""
    body, beta = recorded.read_bytes(), recorded.stem in BETA
    expected, source = Expected(body), Body(*(body[i : i + 1] for i in range(len(body))), beta=beta)
    stream = TextStream(Source(lambda _: lambda: source, is_async=False, retries=0), Options())  # type: ignore[var-annotated]
    whole_text, count = "", 0
    with stream:
        for piece in stream:
            whole_text += piece
            count += 1
            assert stream.text == whole_text
            assert stream.result.status == "streaming"
            assert not stream.result.ok
    assert whole_text == expected.readings[-1].text
    print(f"{count} pieces of {len(body)} bytes")


def test_a_missing_message_stop() -> None:
    """After a `message_delta` with its stop reason a clean end is complete; anything less is not."""
    cases = 0
    before = (start(), opened(), text("Hello"))
    for reason, breaks, complete in [("end_turn", False, True), ("end_turn", True, False), (None, False, False)]:
        for tail in (b"", b"\n\n", b": bye\n\n", b"event: message_st", b"event: message_stop\n", b"data: [DO"):
            given, found = play(sse(*before, ending(reason)) + tail, breaks=breaks)
            assert (found.status == "complete") is complete, (reason, breaks, tail)
            assert "".join(given) == found.text == "Hello"
            cases += 1
    print(f"{cases} cases")


def over_http() -> list[tuple[Path, int, bool]]:
    """A few cuts of each fixture: both ends, both sides of an event's end, and some in between."""
    chosen = []
    for path in FIXTURES:
        size = len(path.read_bytes())
        cuts = {0, 1, size, size - 1, *random.Random(path.name).sample(range(size), 4)}
        chosen += [(path, cut, breaks) for cut in sorted(cuts) for breaks in (False, True)]
    return chosen


def replies(cases: list[tuple[Path, int, bool]]) -> Iterator[Reply]:
    for path, cut, breaks in cases:
        whole = Reply.recorded(path)
        yield whole.reset(after_bytes=cut) if breaks else whole.cut(after_bytes=cut)


def check_http(case: tuple[Path, int, bool], result: StreamResult[Any, Any]) -> None:
    path, cut, breaks = case
    body = path.read_bytes()
    _, found = play(body[:cut], breaks=breaks, beta=path.stem in BETA)
    assert (result.status, type(result.error)) == (found.status, type(found.error)), case
    assert (result.text, result.thinking, result.tool_uses) == (found.text, found.thinking, found.tool_uses)
    assert result.message == found.message


@pytest.mark.parametrize("stable", [True, False], ids=["stable", "beta"])
def test_cuts_over_http(stable: bool) -> None:
    cases = [case for case in over_http() if (case[0].stem not in BETA) is stable]
    with serve(*replies(cases)) as server:
        client = sdk(server)
        source: Any = client if stable else client.beta.messages
        for case in cases:
            check_http(case, collect(source, on_error="return", retries=0, **PARAMS))
        assert len(server.requests) == len(cases)
    print(f"{len(cases)} cuts over HTTP")


def test_cuts_over_http_async() -> None:
    cases = [case for case in over_http() if case[0].stem not in BETA][::2]

    async def run() -> None:
        async with async_sdk(server) as client:
            for case in cases:
                check_http(case, await collect(client, on_error="return", retries=0, **PARAMS))

    with serve(*replies(cases)) as server:
        anyio.run(run)
        assert len(server.requests) == len(cases)
    print(f"{len(cases)} cuts over HTTP, async")
