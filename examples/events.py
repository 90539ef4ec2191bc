# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""The raw events of a reply that thinks, speaks and calls a tool."""

from _connect import connect
from anthropic.types import ToolParam

from streamkit import stream_events
from streamkit.testing import Reply

TIDES: ToolParam = {
    "name": "get_tide",
    "description": "The height of the tide in a harbour, in metres.",
    "input_schema": {"type": "object", "properties": {"harbour": {"type": "string"}}, "required": ["harbour"]},
}
CANNED = Reply.blocks(
    {"type": "thinking", "thinking": "The tool knows the tide.", "signature": "c2lnbmVk"},
    {"type": "text", "text": "Let me look it up."},
    {"type": "tool_use", "id": "toolu_01", "name": "get_tide", "input": {"harbour": "Brest"}},
    delay=0.005,
)


def main() -> None:
    with connect(CANNED) as client:
        stream = stream_events(
            client,
            model="claude-sonnet-5-5",
            max_tokens=4000,
            thinking={"type": "enabled", "budget_tokens": 2000},
            tools=[TIDES],
            messages=[{"role": "user", "content": "How high is the tide in Brest?"}],
        )
        with stream:
            for event in stream:
                if event.type == "content_block_start":
                    print(f"\n{event.content_block.type}: ", end="", flush=True)
                elif event.type == "content_block_delta":
                    if event.delta.type == "text_delta":
                        print(event.delta.text, end="", flush=True)
                    elif event.delta.type == "thinking_delta":
                        print(event.delta.thinking, end="", flush=True)
                    elif event.delta.type == "input_json_delta":
                        print(event.delta.partial_json, end="", flush=True)

    # Pieces of JSON are for the eye; the parsed input is in the result.
    result = stream.result
    for use in result.tool_uses:
        print(f"\n\ncall {use.name}({use.input})")
    print(f"stopped for {result.stop_reason}, after {len(result.thinking)} characters of thinking")


if __name__ == "__main__":
    main()
