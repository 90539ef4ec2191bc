# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit", "rich"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""Text into a `rich` console: as it is, without markup, highlighting or wrapping of its own.

`uv run examples/rich_console.py` installs `rich` for this script alone.
"""

from _connect import connect
from rich.console import Console

from streamkit import stream_text

# Brackets would be read as markup, and numbers coloured, if the console were left to its habits.
CANNED = "Take [bold] steps: 3 at most. A list in Python is [1, 2, 3]."


def main() -> None:
    console = Console()
    with connect(CANNED) as client:
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
