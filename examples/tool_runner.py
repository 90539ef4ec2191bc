# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""The SDK's tool runner: it runs the tools between the turns, while every turn goes through the same sinks."""

import anthropic
from _connect import connect

from streamkit import BufferSink, StdoutSink, UsageMeter, collect
from streamkit.testing import Reply

CANNED = (
    Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me look up Brest."),
    Reply.tool_use("get_tide", {"harbour": "Calais"}, text="And Calais."),
    Reply.text("High water is at 6.5 m in Brest and at 7.2 m in Calais."),
)


@anthropic.beta_tool
def get_tide(harbour: str) -> str:
    """The height of high water in a harbour."""
    print(f"  (the tool is asked for {harbour})")
    return {"Brest": "6.5 m", "Calais": "7.2 m"}.get(harbour, "unknown")


def main() -> None:
    last, meter = BufferSink(), UsageMeter()
    with connect(*CANNED) as client:
        runner = client.beta.messages.tool_runner(
            model="claude-sonnet-5-5",
            max_tokens=300,
            messages=[{"role": "user", "content": "How high is high water in Brest and in Calais?"}],
            tools=[get_tide],
            stream=True,
        )
        # Read each turn to its end: the runner takes its tool calls from the same stream. A turn that breaks off
        # raises, and so ends the loop before a tool runs on half an input.
        for turn in runner:
            collect(turn, sinks=[StdoutSink(), last, meter])
    print(f"{meter.total.streams} turns, {meter.total.output_tokens} output tokens; the last answer: {last.text!r}")


if __name__ == "__main__":
    main()
