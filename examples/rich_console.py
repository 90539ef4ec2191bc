# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit", "rich"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""Text in a `rich` console as it is, between other output of the console. For Markdown, see markdown.py.

`uv run examples/rich_console.py` installs `rich` for this script alone.
"""

from _connect import connect
from rich.console import Console

from streamkit import collect
from streamkit.rich import RichSink

# Brackets would be read as markup, and numbers coloured, if the console were left to its habits.
CANNED = "Take [bold] steps: 3 at most. A list in Python is [1, 2, 3]."


def main() -> None:
    console = Console()
    with connect(CANNED) as client:
        result = collect(
            client,
            sinks=RichSink(console),
            model="claude-sonnet-5-5",
            max_tokens=300,
            messages=[{"role": "user", "content": "How do I climb a ladder in Python?"}],
        )
    console.rule(f"{result.status}, {result.usage.output_tokens} output tokens")


if __name__ == "__main__":
    main()
