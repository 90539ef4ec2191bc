"""Code that calls `messages.create` keeps its shape, and streams underneath.

The SDK refuses `max_tokens=64_000` without streaming, as so long an answer may outlast a silent connection.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anthropic

from streamkit import StdoutSink, streamed
from streamkit.testing import Reply, serve


@contextmanager
def connect() -> Iterator[anthropic.Anthropic]:
    """A client: of the API where a key is set, else of a server on this machine."""
    if os.environ.get("ANTHROPIC_API_KEY"):
        with anthropic.Anthropic() as client:
            yield client
    else:
        print("ANTHROPIC_API_KEY is not set: a server on this machine answers instead.", file=sys.stderr)
        with serve(Reply.text("Tin, wax, feathers and a good deal of optimism.", delay=0.005)) as server:
            yield server.client()


def main() -> None:
    with connect() as client:
        # The one line that changes. StdoutSink is handed in as a class: each call gets a sink of its own.
        create = streamed(client.messages.create, sinks=StdoutSink)

        message = create(
            model="claude-sonnet-5-5",
            max_tokens=64_000,
            messages=[{"role": "user", "content": "What are wings made of?"}],
        )
    print(f"{type(message).__name__}: {message.stop_reason}, {message.usage.output_tokens} output tokens")


if __name__ == "__main__":
    main()
