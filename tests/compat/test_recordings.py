"""Recorded replies, played back over real HTTP: what streamkit makes of them is what the SDK makes of them.

The recordings are not part of the project. Where the folder is absent, the project's own fixtures stand in.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest

import streamkit
from streamkit.testing import Reply, serve
from tests.support.bodies import RECORDINGS
from tests.support.clients import NEWEST_SDK, async_sdk_client

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
PARAMS: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "Hello"}],
}

NO_EVENT_LINES = "no frame has an `event:` line, which the SDK needs: it yields nothing and fails an assert"
NO_LAST_LINE = "the last frame lacks its blank line: the SDK's raw iterator drops it, and with it `message_stop`"
BETA_ONLY = "a block that only the beta client knows: the stable SDK does not apply its deltas"
CUT = "cut before the end of the message, which the SDK reports as success"
SAYS_ERROR = "an `error` event: the SDK raises a bare APIStatusError, streamkit a StreamAPIError that is one"

# Where streamkit and the newest SDK differ, because the SDK is wrong there; by the start of the file's name.
# "stable" and "beta" is the client, "message" the final message, "events" the raw events.
EXPECTED: dict[tuple[str, str], str] = {
    **{(name, kind): NO_EVENT_LINES for name in ("0066", "0070", "0072", "0078", "0081") for kind in ("*",)},
    **{(name, "events"): NO_LAST_LINE for name in (
        "0106", "0110", "0131", "0136", "0142", "0148", "0152", "0460", "0463", "1190", "1258", "1260",
    )},
    **{(name, "stable message"): BETA_ONLY for name in ("0030", "0131", "1031", "1032")},
    ("1049", "*"): CUT,
    ("0079", "*"): SAYS_ERROR,
    ("no_event_lines.sse", "*"): NO_EVENT_LINES,
    ("beta_compaction.sse", "stable message"): BETA_ONLY,
    ("beta_mcp.sse", "stable message"): BETA_ONLY,
}  # fmt: skip
if not NEWEST_SDK:
    EXPECTED["0136", "*"] = "older SDKs do not know the fallback block, and keep the first model's name"
    EXPECTED["unknown_things.sse", "events"] = "older SDKs drop events of an unknown type"

# What SDKs older than the newest do not accumulate or do not know; compared without these, and without None.
OLDER_SDKS_LACK = {"stop_details", "output_tokens_details", "container", "encrypted_content", "iterations"}


def recordings() -> list[Path]:
    index = RECORDINGS / "index.jsonl"
    files = [FIXTURES / path.name for path in sorted(FIXTURES.glob("*.sse"))]
    if index.exists():
        files += [RECORDINGS / json.loads(line)["file"] for line in index.read_text("utf-8").splitlines()]
    return files


@pytest.fixture(scope="module")
def client() -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="test", base_url="http://127.0.0.1:1", max_retries=0) as client:
        yield client


def attempt(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The value, or the exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's, about blocks that the stable client does not know
        try:
            return function(*args, **kwargs)
        except Exception as error:
            return error


def as_dict(message: Any) -> Any:
    if isinstance(message, Exception):
        return message
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = message.to_dict()
    for block in made["content"]:
        block.pop("parsed_output", None)
    return made if NEWEST_SDK else without(made)


def without(value: Any) -> Any:
    """A value as an older SDK can be compared with it."""
    if isinstance(value, dict):
        return {k: without(v) for k, v in value.items() if v is not None and k not in OLDER_SDKS_LACK}
    return [without(item) for item in value] if isinstance(value, list) else value


def bare(events: Any) -> Any:
    """Events as the SDK's helpers hand them on: they drop what a stop event carries beyond its index."""
    if isinstance(events, Exception):
        return events
    stops = ("content_block_stop", "message_stop")
    return [(event.type, getattr(event, "index", None)) if event.type in stops else event for event in events]


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        return False
    return bool(ours == theirs)


def by_sdk(resource: Any) -> tuple[Any, Any]:
    def final() -> Any:
        with resource.stream(**PARAMS) as stream:
            return stream.get_final_message()

    def raw() -> Any:
        with resource.create(stream=True, **PARAMS) as stream:
            return list(stream)

    return as_dict(attempt(final)), attempt(raw)


def by_bytes(resource: Any) -> dict[str, Any]:
    return {
        "message": as_dict(attempt(lambda: streamkit.collect(resource, retries=0, **PARAMS).message)),
        "events": attempt(lambda: list(streamkit.stream_events(resource, retries=0, **PARAMS))),
    }


def by_events(resource: Any) -> dict[str, Any]:
    def entered() -> Any:
        with resource.stream(**PARAMS) as stream:
            return streamkit.collect(stream).message

    def events_entered() -> Any:
        with resource.stream(**PARAMS) as stream:
            return list(streamkit.stream_events(stream))

    def events_handed_on() -> Any:
        with resource.create(stream=True, **PARAMS) as stream:
            return list(streamkit.stream_events(event for event in stream))

    return {
        "message": as_dict(attempt(entered)),
        "events": attempt(events_handed_on),
        "bare-events": bare(attempt(events_entered)),
    }


async def attempt_async(function: Any) -> Any:
    """The same as `attempt`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return await function()
        except Exception as error:
            return error


async def by_bytes_async(resource: Any) -> dict[str, Any]:
    async def collected() -> Any:
        return (await streamkit.collect(resource, retries=0, **PARAMS)).message

    async def events() -> Any:
        async with streamkit.stream_events(resource, retries=0, **PARAMS) as stream:
            return [event async for event in stream]

    return {"message": as_dict(await attempt_async(collected)), "events": await attempt_async(events)}


async def by_events_async(resource: Any) -> dict[str, Any]:
    async def entered() -> Any:
        async with resource.stream(**PARAMS) as stream:
            return (await streamkit.collect(stream)).message

    async def events_entered() -> Any:
        async with resource.stream(**PARAMS) as stream:
            return [event async for event in streamkit.stream_events(stream)]

    async def events_handed_on() -> Any:
        async with await resource.create(stream=True, **PARAMS) as stream:
            stand_in: Any = (event async for event in stream)
            return [event async for event in streamkit.stream_events(stand_in)]

    return {
        "message": as_dict(await attempt_async(entered)),
        "events": await attempt_async(events_handed_on),
        "bare-events": bare(await attempt_async(events_entered)),
    }


def differs(path: Path, kind: str, what: str) -> str | None:
    """The reason why this file differs here, if there is one."""
    name = path.name if path.parent == FIXTURES else path.name[:4]
    for key in ("*", what, f"{kind} {what}"):
        if (name, key) in EXPECTED:
            return EXPECTED[name, key]
    return None


def cases() -> Iterator[Any]:
    """Each recording, with each client and both ways in.

    In the short run: all fixtures, what differs, and each fourth of the others, where their path is not another's.
    """
    for number, path in enumerate(recordings()):
        alike = differs(path, "stable", "message") is None
        for kind in ("stable", "beta"):
            for way in ("bytes", "events"):
                short = (kind, way) == ("stable", "bytes") and (path.parent == FIXTURES or number % 4 == 0)
                slow = alike and not short
                marks = [pytest.mark.slow] if slow else []
                yield pytest.param(path, kind, way, id=f"{path.name}-{kind}-{way}", marks=marks)


@pytest.mark.parametrize(("path", "kind", "way"), list(cases()))
def test_same_as_the_sdk(path: Path, kind: str, way: str, client: anthropic.Anthropic) -> None:
    def of(client: Any) -> Any:
        return client.messages if kind == "stable" else client.beta.messages

    read, read_async = (by_bytes, by_bytes_async) if way == "bytes" else (by_events, by_events_async)
    with serve(Reply.recorded(path.read_bytes(), chunk_sizes=[4096]), repeat=True) as server:
        resource = of(client.with_options(base_url=server.url))
        message, events = by_sdk(resource)

        async def in_async() -> dict[str, Any]:
            async with async_sdk_client(server) as async_client:
                return await read_async(of(async_client))

        found = {"sync": read(resource), "async": anyio.run(in_async)}
    for source, answers in found.items():
        for what, answer in answers.items():
            wanted = {"message": message, "events": events, "bare-events": bare(events)}[what]
            reason = differs(path, kind, what.removeprefix("bare-"))
            if reason is None:
                assert same(answer, wanted), f"{source} {what}: {answer!r} is not the SDK's {wanted!r}"
            elif way == "bytes" and NEWEST_SDK:
                assert not same(answer, wanted), f"{source} {what} is the SDK's after all: {reason}"


def test_the_recordings_are_there() -> None:
    if not (RECORDINGS / "index.jsonl").exists():
        pytest.skip(f"the recordings are not beside the project ({os.path.relpath(RECORDINGS, HERE.parents[1])})")
    assert len(recordings()) > 400
    unknown = [name for name, _ in EXPECTED if not any(path.name.startswith(name) for path in recordings())]
    assert unknown == []
