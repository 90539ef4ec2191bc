"""Text into a `rich` console: as it is, without markup, highlighting or wrapping of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anthropic
from rich.console import Console

from streamkit import stream_text
from streamkit.testing import Reply, serve

# Brackets would be read as markup, and numbers coloured, if the console were left to its habits.
CANNED = Reply.text("Take [bold] steps: 3 at most. A list in Python is [1, 2, 3].", delay=0.005)


@contextmanager
def connect() -> Iterator[anthropic.Anthropic]:
    """A client: of the API where a key is set, else of a server on this machine."""
    if os.environ.get("ANTHROPIC_API_KEY"):
        with anthropic.Anthropic() as client:
            yield client
    else:
        print("ANTHROPIC_API_KEY is not set: a server on this machine answers instead.", file=sys.stderr)
        with serve(CANNED) as server:
            yield server.client()


def main() -> None:
    console = Console()
    with connect() as client:
        stream = stream_text(
            client,
            model="claude-sonnet-5-5",
            max_tokens=300,
            messages=[{"role": "user", "content": "How do I climb a ladder in Python?"}],
        )
        with stream:
            for text in stream:
                # soft_wrap leaves line ends to the terminal, which sees the pieces as one line.
                console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
    console.print()
    console.rule(f"{stream.status}, {stream.usage.output_tokens} output tokens")


if __name__ == "__main__":
    main()
