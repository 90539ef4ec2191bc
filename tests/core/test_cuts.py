"""Every cut: a body that ends anywhere, in good order or not, gets the right status and keeps all that arrived."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamkit._core.sse import SSEDecoder
from streamkit._io.sync_stream import TextStream
from streamkit._options import Options
from streamkit._sdk.sources import Source
from tests.support.bodies import BETA
from tests.support.events import block_start, message_delta, message_start, sse, text_delta
from tests.support.in_memory import Body, play
from tests.support.second_reading import Expected, check

LARGE = 20_000  # bytes beyond which not each cut of a recording is made


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
    decoder = SSEDecoder()
    decoder.feed(body)
    if not breaks:
        decoder.end()
    return decoder.non_sse_prefix, *decoder.frames


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
    stream = TextStream(Source(lambda _: lambda: source, is_async=False, max_retries=0), Options())  # type: ignore[var-annotated]
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
    before = (message_start(), block_start(), text_delta("Hello"))
    for reason, breaks, complete in [("end_turn", False, True), ("end_turn", True, False), (None, False, False)]:
        for tail in (b"", b"\n\n", b": bye\n\n", b"event: message_st", b"event: message_stop\n", b"data: [DO"):
            given, found = play(sse(*before, message_delta(reason)) + tail, breaks=breaks)
            assert (found.status == "complete") is complete, (reason, breaks, tail)
            assert "".join(given) == found.text == "Hello"
            cases += 1
    print(f"{cases} cases")
