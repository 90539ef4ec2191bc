# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit", "genai-prices"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""The price of replies in US dollars: of each reply, also of an unfinished one, and of all replies of a model.

The prices come with the package genai-prices; nothing is downloaded while the program runs.
"""

from decimal import Decimal
from typing import Any

from _connect import connect
from genai_prices import Usage, calc_price, extract_usage

from streamkit import MessageParams, ModelUsage, StreamResult, UsageMeter, collect, stream_text
from streamkit.testing import Reply

SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-4-5"
CACHED = {"input_tokens": 60, "cache_read_input_tokens": 4000, "cache_creation_input_tokens": 900}
CANNED = (
    Reply.text("The sun and the moon pull at the sea.", model=SONNET, usage=CACHED),
    Reply.text("When both pull in one line.", model=HAIKU, usage={"input_tokens": 50, "output_tokens": 400}),
    Reply.text("Once upon a time a herring set out for the Gulf.", model=SONNET).stall(after_text="for the"),
)


def price(result: StreamResult[Any, Any]) -> Decimal:
    """Return the price of a reply, with the attempts that failed before; of an unfinished reply, a lower bound."""
    total = Decimal(0)
    for attempt in (*(error.result for error in result.failed_attempts), result):
        if attempt.message is not None:  # else the API has reported neither model nor usage
            usage = {**attempt.usage.to_dict(), "output_tokens": attempt.min_output_tokens}
            reported = extract_usage({"model": attempt.message.model, "usage": usage}, provider_id="anthropic")
            total += reported.calc_price().total_price
    return total


def price_of_sum(model: str, used: ModelUsage) -> Decimal:
    """Return the price of the tokens that a meter has counted for a model."""
    written, read = used.cache_creation_input_tokens, used.cache_read_input_tokens
    usage = Usage(
        input_tokens=used.input_tokens + written + read,  # for genai-prices the total, for the API the rest
        cache_write_tokens=written,
        cache_read_tokens=read,
        output_tokens=used.output_tokens,
    )
    return calc_price(usage, model, provider_id="anthropic").total_price


def show(name: str, result: StreamResult[Any, Any]) -> None:
    bound = "" if result.usage_final else "at least "
    print(f"{name}: {bound}{result.min_output_tokens} output tokens, {bound}{price(result):.6f} USD")


def question(model: str, text: str) -> MessageParams:
    return {"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": text}]}


def main() -> None:
    meter = UsageMeter()
    with connect(*CANNED) as client:
        show(SONNET, collect(client, sinks=meter, **question(SONNET, "In one sentence: why are there tides?")))
        show(HAIKU, collect(client, sinks=meter, **question(HAIKU, "In one sentence: when is a spring tide?")))

        story = stream_text(client, sinks=meter, **question(SONNET, "Tell me a long story about the sea."))
        with story:
            for _ in story:
                if len(story.text) > 40:
                    break  # the API's final count of tokens does not arrive any more
        show(f"{SONNET}, {story.status}", story.result)

    for model, used in meter.by_model.items():
        bound = "at least " if used.not_final_streams else ""
        print(f"all of {model}: {bound}{price_of_sum(model, used):.6f} USD")


if __name__ == "__main__":
    main()
