"""Any bytes, in any chunks: the same events, an error of the family or none at all, and a result that can be used."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit import StreamAPIError, StreamConnectionError, StreamProtocolError, StreamResult, StreamTruncatedError
from tests.support.bodies import FIXTURES
from tests.support.events import sse
from tests.support.in_memory import decode, play

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

BODIES = {path.stem: path.read_bytes() for path in FIXTURES}

quick = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

# What event streams are made of.
pieces = st.sampled_from([
    b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"data:", b"data: ", b"event: ", b"id: 1", b"retry: 5", b": note",
    b"\xef\xbb\xbf", b"\xef", b"\xf0\x9f", b"\x00", b"{}", b"[]", b"null", b'"x"', b'{"type":"ping"}', b"[DONE]",
    b'{"type":', b'"message_stop"}', b"error", b"message_start", "Ünï".encode(), b"<html>",
    *(sse(*event) for event in [[{"type": "ping"}], [{"type": "message_stop"}]]),
    *BODIES["text"].split(b"\n"), *BODIES["tool_use"].split(b"\n")[:12],
])  # fmt: skip

bodies = st.one_of(
    st.binary(max_size=300),
    st.lists(st.one_of(pieces, st.binary(max_size=4)), max_size=40).map(b"".join),
    st.sampled_from(sorted(BODIES)).map(BODIES.__getitem__),
)


def chunked(body: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(body) + 1) for cut in at})
    return [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True)]


@given(bodies, st.lists(st.integers(0, 10**6), max_size=30))
@quick
def test_any_chunks_give_the_same_events(body: bytes, at: list[int]) -> None:
    whole = decode([body])
    assert decode(chunked(body, at)) == whole
    assert decode([body[i : i + 1] for i in range(len(body))]) == whole


@given(bodies, st.lists(st.integers(0, 10**6), max_size=5), st.booleans())
@quick
def test_any_bytes_end_in_the_family(body: bytes, at: list[int], breaks: bool) -> None:
    check(*play(*chunked(body, at), breaks=breaks))


def check(given_text: list[str], result: StreamResult[Any, Any]) -> None:
    """A verdict that fits its error, and a result that can be used."""
    assert "".join(given_text) == result.text
    kinds = {
        "complete": (type(None),),
        "disconnected": (StreamConnectionError, StreamTruncatedError),
        "failed": (StreamAPIError, StreamProtocolError),
    }
    assert type(result.error) in kinds[result.status], repr(result.error)
    _ = repr(result), result.ok, result.stop_details, result.timing, str(result.error), repr(result.error)
    json.dumps(result.new_messages())
    again = pickle.loads(pickle.dumps(result))  # noqa: S301
    assert (again.text, again.status, again.message) == (result.text, result.status, result.message)
    if result.message is not None:
        result.message.to_dict(warnings=False)
        repr(result.message)


def mutated(body: bytes, dice: random.Random) -> bytes:
    """A body with a few things wrong: bytes, lines, events, or single values of its JSON."""
    for _ in range(dice.randint(1, 4)):
        at, other = sorted((dice.randint(0, len(body)), dice.randint(0, len(body))))
        near = min(at + dice.randint(1, 12), len(body))
        match dice.randint(0, 8):
            case 0:
                body = body[:at] + dice.randbytes(dice.randint(1, 3)) + body[near:]
            case 1:
                body = body[:at] + body[near:]
            case 2:
                body = body[:at] + body[at:near] * 2 + body[near:]
            case 3:
                frames = body.split(b"\n\n")
                dice.shuffle(frames) if dice.random() < 0.2 else frames.insert(
                    dice.randrange(len(frames)), dice.choice(frames)
                )
                body = b"\n\n".join(frames)
            case 4:
                frames = body.split(b"\n\n")
                frames.pop(dice.randrange(len(frames)))
                body = b"\n\n".join(frames)
            case 5:
                body = (
                    body[:at]
                    + body[at:other].replace(b"\n", dice.choice([b"\r", b"\r\n", b"", b"\n\n"]))
                    + body[other:]
                )
            case _:
                body = revalued(body, dice)
    return body


ODD: list[Any] = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "x",
    "text",
    [],
    {},
    [1],
    ["x"],
    {"type": "text"},
    {"a": {}},
    10**30,
    "\ud800",
]


def revalued(body: bytes, dice: random.Random) -> bytes:
    """One value somewhere in the JSON of one event is another, or gone."""
    frames = body.split(b"\n\n")
    place = dice.randrange(len(frames))
    head, found, data = frames[place].partition(b"data: ")
    try:
        event = json.loads(data)
    except ValueError:
        return body
    spots = list(places(event))
    if not found or not spots:
        return body
    holder, key = dice.choice(spots)
    if dice.random() < 0.2:
        del holder[key]
    else:
        holder[key] = dice.choice(ODD)
    frames[place] = head + found + json.dumps(event).encode()
    return b"\n\n".join(frames)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


def attack(path: Path, count: int) -> int:
    body = path.read_bytes()
    for seed in range(count):
        dice = random.Random(f"{path.name} {seed}")
        bad = mutated(body, dice)
        beta = dice.random() < 0.3
        try:
            check(
                *play(
                    *chunked(bad, [dice.randint(0, len(bad)) for _ in range(3)]), breaks=dice.random() < 0.3, beta=beta
                )
            )
        except BaseException as error:
            raise AssertionError(f"seed {seed}, beta={beta}: {bad[:3000]!r}") from error
    return count


def test_mutated_fixtures(recorded: Path) -> None:
    print(f"{attack(recorded, 150)} mutations of {recorded.name}")


@pytest.mark.slow
def test_many_mutated_fixtures(recorded: Path) -> None:
    print(f"{attack(recorded, 3000)} mutations of {recorded.name}")


@pytest.mark.slow
def test_mutated_recordings(recording: Path) -> None:
    print(f"{attack(recording, 60)} mutations of {recording.name}")
