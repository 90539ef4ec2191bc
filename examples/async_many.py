"""Many replies at once in one thread, and one meter for what they cost together."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic

from streamkit import StreamResult, UsageMeter, collect
from streamkit.testing import Reply, serve

WORDS = ("ebb", "flood", "neap", "spring", "slack", "bore", "surge", "swell")


@asynccontextmanager
async def connect() -> AsyncIterator[anthropic.AsyncAnthropic]:
    """A client: of the API where a key is set, else of a server on this machine."""
    if os.environ.get("ANTHROPIC_API_KEY"):
        async with anthropic.AsyncAnthropic() as client:
            yield client
    else:
        print("ANTHROPIC_API_KEY is not set: a server on this machine answers instead.", file=sys.stderr)
        with serve(Reply.text("A word that sailors know well.", delay=0.005), repeat=True) as server:
            async with server.async_client() as client:
                yield client


async def main() -> None:
    meter = UsageMeter()
    async with connect() as client:

        async def explain(word: str) -> StreamResult:
            return await collect(
                client,
                sinks=meter,
                on_error="return",  # one broken stream must not take the others with it
                model="claude-sonnet-5-5",
                max_tokens=100,
                messages=[{"role": "user", "content": f"In one sentence: what is a {word}, at sea?"}],
            )

        results = await asyncio.gather(*(explain(word) for word in WORDS))
    for word, result in zip(WORDS, results, strict=True):
        print(f"{word}: {result.text} ({result.status})")
    total = meter.total
    print(f"{total.streams} streams, {total.output_tokens} output tokens, {total.not_final} of them not final")


if __name__ == "__main__":
    asyncio.run(main())
