"""The sink that prints text into a rich console as it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TextIO, cast

from rich import get_console
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from streamkit import Sink, StdoutSink, StreamResult

from ._parse import Cleaner

_DIM = Style(dim=True)


class RichSink(Sink):
    """A sink that prints the text into a rich console as it is: no markup, emoji codes, highlighting or word wrap.

    `console` is by default the one that `rich.print` uses. With `thinking=True` the thinking is printed too, dim where
    the console shows styles, and not if `NO_COLOR` is set. If the text does not end with a newline, the sink adds one
    when the stream is over.

    Line ends become newlines, and other control characters except tabs are left out, so that no escape sequence of a
    reply reaches a terminal. Characters that the output's encoding lacks are replaced. If the reader of a pipe goes
    away, the stream ends as if by `cancel()`, and the console prints nothing more.
    """

    def __init__(self, console: Console | None = None, thinking: bool = False) -> None:
        self._console = get_console() if console is None else console
        self._thinking = thinking
        self._reset()

    def _reset(self) -> None:
        self._end = ""  # the last two characters of the output
        self._in_thinking = False
        self._cleaner = Cleaner()
        self._file = _ConsoleFile(self._console)
        self._output = StdoutSink(cast("TextIO", self._file), end="")  # cancels the stream if nobody reads the output

    def write(self, text: str) -> None:
        """Print `text`."""
        self._put(text, in_thinking=False)

    def thinking(self, text: str) -> None:
        """Print the thinking, if the sink was made with `thinking=True`."""
        if self._thinking:
            self._put(text, in_thinking=True)

    def finish(self, result: StreamResult[Any, Any]) -> None:  # noqa: ARG002 - the text is out already
        """Print a newline, unless the output is empty or ends with one already."""
        with suppress(BrokenPipeError):  # too late to cancel the stream
            self._print(self._cleaner.finish())
            if self._end and not self._end.endswith("\n"):
                self._print("\n")
        self._reset()  # for the next stream

    def _put(self, text: str, *, in_thinking: bool) -> None:
        if in_thinking != self._in_thinking:
            self._print(self._cleaner.finish())
            if self._end:  # a blank line, of which the stream's separator may have a part
                newlines = _count_newlines(self._end[::-1]) + _count_newlines(text)
                self._print("\n" * (2 - newlines))
            self._in_thinking = in_thinking
        self._print(self._cleaner.feed(text))

    def _print(self, text: str) -> None:
        if not text:
            return
        self._end = (self._end + text)[-2:]
        text = _encodable(text, self._console.file)
        if self._console.is_jupyter:  # where the console would put each piece into a block of its own
            self._console.file.write(text)
            self._console.file.flush()
            return
        is_dim = self._in_thinking and not text.isspace() and not self._console.no_color
        self._file.style = _DIM if is_dim else None
        self._output.write(text)


class _ConsoleFile:
    """A console as a file. Raises `BrokenPipeError` if the reader of a pipe goes away."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.style: Style | None = None  # of the text that is written next

    def write(self, text: str) -> None:
        was_quiet = self._console.quiet
        try:
            # Segments, unlike a string, keep tabs and white space as they are; soft_wrap leaves the terminal to wrap.
            self._console.print(Segments([Segment(text, self.style)]), end="", soft_wrap=True)
        except SystemExit as error:
            if was_quiet or not self._console.quiet:
                raise  # of a signal handler, for example
            # rich from 13.8 on ends the program, and prints nothing more on this console.
            raise BrokenPipeError("the reader of the output has closed it") from error

    def flush(self) -> None:
        pass  # the console has


def _count_newlines(text: str) -> int:
    return len(text) - len(text.lstrip("\n"))


def _encodable(text: str, file: TextIO | Any) -> str:
    """Replace what the file cannot encode. The console would keep it, and fail again at each print that follows."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    try:
        text.encode(encoding, getattr(file, "errors", None) or "strict")
    except UnicodeEncodeError:
        text = text.encode(encoding, "replace").decode(encoding)
    return text
