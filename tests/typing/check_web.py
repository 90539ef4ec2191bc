"""What type checkers make of `streamkit.web`. Checked, never run."""

from __future__ import annotations

import anthropic
from anthropic.types import MessageParam
from typing_extensions import assert_type

from streamkit import stream_events, stream_text
from streamkit.web import AGUI, AISDK, AsyncFrames, Frames, HTTPError, http_error, sse, to_messages

question = to_messages([])
assert_type(question, list[MessageParam])


def sync(client: anthropic.Anthropic) -> None:
    frames = sse(stream_events(client, model="m", max_tokens=1, messages=question), AISDK(), ping=1)
    assert_type(frames, Frames)
    for frame in frames:
        assert_type(frame, bytes)
    sse(stream_text(client, model="m", max_tokens=1, messages=question), AISDK())  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


async def asynchronous(client: anthropic.AsyncAnthropic) -> None:
    stream = await stream_events(client, model="m", max_tokens=1, messages=question).open()
    frames = sse(stream, AGUI(thread_id="t", run_id="r"), detach=True)
    assert_type(frames, AsyncFrames)
    async for frame in frames:
        assert_type(frame, bytes)
    await frames.aclose()
    sse(stream, AISDK)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


def refused(error: anthropic.APIError) -> None:
    assert_type(http_error(error), HTTPError)
    status, text = http_error(error)
    assert_type(status, int)
    assert_type(text, str)
