# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""Many replies at once in one thread, and one meter for what they cost together."""

import asyncio

from _connect import connect_async

from streamkit import StreamResult, UsageMeter, collect

WORDS = ("ebb", "flood", "neap", "spring", "slack", "bore", "surge", "swell")


async def main() -> None:
    meter = UsageMeter()
    async with connect_async("A word that sailors know well.", repeat=True) as client:

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
    print(f"{total.streams} streams, {total.output_tokens} output tokens, {total.not_final_streams} of them not final")


if __name__ == "__main__":
    asyncio.run(main())
