"""The replies of the benchmarks over HTTP, their server, and the contenders that read them, sync and async."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import anthropic

import streamkit
from streamkit.testing import Reply, serve

if __package__:
    from . import limits
else:  # run as a script
    import limits  # type: ignore[no-redef]

PARAMS, words = limits.PARAMS, limits.words

REPLIES: dict[str, Callable[[], Reply]] = {
    "burst": lambda: Reply.text(words(5000), pings=False),
    "paced": lambda: Reply.text(words(600), pings=False, delay=0.001),
    "thinking": lambda: Reply.thinking("".join(words(5000)), "So.", pings=False),
    "tool": lambda: Reply.recorded(b"".join(limits.tool_input(50_000))),
}


def run_server(told: Any, done: Any, names: list[str]) -> None:
    """The address of each reply."""
    with ExitStack() as stack:
        told.put({name: stack.enter_context(serve(REPLIES[name](), repeat=True)).url for name in names})
        done.wait()


def events_in(reply: str) -> int:
    return len(REPLIES[reply]().frames)


Contender = Callable[[Any], Any]


def by_events(client: anthropic.Anthropic) -> None:
    with client.messages.create(stream=True, **PARAMS) as stream:
        for _ in streamkit.stream_text(event for event in stream):  # type: ignore[call-overload]
            pass


async def floor_async(client: anthropic.AsyncAnthropic) -> None:
    async with await client.messages.create(stream=True, **PARAMS) as stream:
        async for _ in stream.response.aiter_bytes():
            pass


async def text_stream_async(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(**PARAMS) as stream:
        async for _ in stream.text_stream:
            pass


async def raw_async(client: anthropic.AsyncAnthropic) -> None:
    async with await client.messages.create(stream=True, **PARAMS) as stream:
        async for _ in stream:
            pass


async def collected_async(client: anthropic.AsyncAnthropic) -> None:
    await streamkit.collect(client, **PARAMS)


def reading_async(function: Callable[..., Any], **options: Any) -> Contender:
    async def run(client: anthropic.AsyncAnthropic) -> None:
        async with function(client, **options, **PARAMS) as stream:
            async for _ in stream:
                pass

    return run
