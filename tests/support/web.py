"""Streams for `streamkit.web`, with and without HTTP, and what is in its frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio

from streamkit import EventStream, StreamResult
from streamkit._io.sync_stream import EventStream as _EventStream
from streamkit._options import Options
from streamkit._sdk.sources import Source
from streamkit.web import AGUI, AISDK, Protocol
from tests.support.in_memory import Body

RUN = AGUI(thread_id="thread-1", run_id="run-1")
PROTOCOLS: tuple[Protocol, ...] = (AISDK(), RUN)


def stream_from_memory(*chunks: bytes, beta: bool = False) -> EventStream[Any, Any, Any]:
    """A stream of events whose body is in memory, and ends cleanly."""
    body = Body(*chunks, beta=beta)
    return _EventStream(Source(lambda _: lambda: body, is_async=False, max_retries=0), Options(separator=""))


def encoded(protocol: Protocol, *chunks: bytes, beta: bool = False) -> tuple[bytes, StreamResult[Any, Any]]:
    """The frames for a body, by the encoder alone, and the result of the stream."""
    encoder, stream = protocol.encoder(), stream_from_memory(*chunks, beta=beta)
    frames = encoder.start()
    try:
        for event in stream:
            frames += encoder.event(event)
    except Exception as error:
        frames += encoder.finish(stream.result, error)
    else:
        frames += encoder.finish(stream.result)
    assert all(frame.startswith(b"data: ") and frame.endswith(b"\n\n") and frame.count(b"\n") == 2 for frame in frames)
    return b"".join(frames), stream.result


def payloads(body: bytes) -> list[dict[str, Any]]:
    """The JSON of the frames of a body, without comments and `[DONE]`."""
    found = [frame.removeprefix("data: ") for frame in body.decode().split("\n\n") if frame.startswith("data: ")]
    return [json.loads(one) for one in found if one != "[DONE]"]


def of_type(body: bytes, *kinds: str) -> list[dict[str, Any]]:
    """The frames of some types."""
    return [one for one in payloads(body) if one["type"] in kinds]


def types(body: bytes) -> list[str]:
    """The types of the frames, in order, those of a run once."""
    found = [str(one["type"]) for one in payloads(body)]
    return [one for number, one in enumerate(found) if number == 0 or found[number - 1] != one]


async def until(condition: Callable[[], bool]) -> None:
    """Look again and again until the condition holds."""
    while not condition():  # noqa: ASYNC110 - there is no event for it
        await anyio.sleep(0.001)
