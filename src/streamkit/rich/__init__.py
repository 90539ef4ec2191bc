"""Replies in a terminal, with `rich`: Markdown that is drawn while it arrives, and plain text."""

from importlib.util import find_spec

if find_spec("rich") is None:
    raise ModuleNotFoundError(
        'streamkit.rich needs the package rich: pip install "anthropic-streamkit[rich]"', name="rich"
    )

from ._markdown import Markdown
from ._plain import RichSink
from ._sink import MarkdownSink

__all__ = ["Markdown", "MarkdownSink", "RichSink"]
