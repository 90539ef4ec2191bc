"""Sinks: places that a reply goes to while it arrives, several at once."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic

from streamkit import BufferSink, CallbackSink, Sink, StdoutSink, StreamResult, UsageMeter, collect
from streamkit.testing import Reply, serve


@contextmanager
def connect() -> Iterator[anthropic.Anthropic]:
    """A client: of the API where a key is set, else of a server on this machine."""
    if os.environ.get("ANTHROPIC_API_KEY"):
        with anthropic.Anthropic() as client:
            yield client
    else:
        print("ANTHROPIC_API_KEY is not set: a server on this machine answers instead.", file=sys.stderr)
        with serve(Reply.text("A sink hears every piece once, in order.", delay=0.005), repeat=True) as server:
            yield server.client()


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
    with connect() as client:
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
