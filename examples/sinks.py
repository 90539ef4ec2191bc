# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""Sinks: places that a reply goes to while it arrives, several at once."""

from typing import Any

from _connect import connect

from streamkit import BufferSink, CallbackSink, Sink, StdoutSink, StreamResult, UsageMeter, collect


class LongestPiece(Sink):
    """A sink of one's own: override what you need, the rest costs nothing."""

    def __init__(self) -> None:
        self.longest = ""

    def write(self, text: str) -> None:
        """Compare one more piece."""
        self.longest = max(self.longest, text, key=len)

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """Say what was found. Called once, whatever ended the stream: also the place to stop a spinner."""
        print(f"longest piece: {self.longest!r} ({result.status})")


def main() -> None:
    buffer, meter = BufferSink(), UsageMeter()
    arrivals: list[str] = []
    with connect("A sink hears every piece once, in order.", repeat=True) as client:
        for _ in range(2):
            collect(
                client,
                # A sink serves one stream at a time. A class makes a new one for each; the meter may be shared.
                sinks=[StdoutSink, LongestPiece, buffer, meter, CallbackSink(on_text=arrivals.append)],
                model="claude-sonnet-5-5",
                max_tokens=200,
                messages=[{"role": "user", "content": "What does a sink hear?"}],
            )
    print(f"the buffer holds the last answer, {len(buffer.chunks)} pieces; the callback got {len(arrivals)}")
    print(f"the meter counted {meter.total.output_tokens} output tokens in {meter.total.streams} streams")


if __name__ == "__main__":
    main()
