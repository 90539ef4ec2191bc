"""The sink that writes to standard output."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from streamkit._result import StreamResult

from .base import Sink

_DIM, _RESET = "\x1b[2m", "\x1b[0m"


class OutputClosedError(BrokenPipeError):
    """Nobody reads the output of a sink any more. A stream takes this exception as `cancel()`."""


class StdoutSink(Sink):
    """A sink that writes the text to standard output, or to `file`, and flushes each piece.

    When the stream is over, `end` is written unless the output is empty or ends with it already. With `thinking=True`
    the thinking is written too: dim on a terminal, unless the environment has a `NO_COLOR`, or `TERM=dumb`. Characters
    that the file's encoding lacks are replaced. The file is never closed.

    If the reader of a pipe goes away, as `head` does, the stream ends as if by `cancel()`: its status is
    `"interrupted"`. What the program writes to standard output afterwards is discarded.
    """

    def __init__(self, file: TextIO | None = None, end: str = "\n", thinking: bool = False) -> None:
        self._file = file
        self._end = end
        self._thinking = thinking
        self._last = ""  # the last characters of the output
        self._in_thinking = False
        self._closed = False  # the reader of the pipe went away

    def write(self, text: str) -> None:
        """Write and flush `text`."""
        self._put(text, in_thinking=False)

    def thinking(self, text: str) -> None:
        """Write and flush the thinking, if the sink was made with `thinking=True`."""
        if self._thinking:
            self._put(text, in_thinking=True)

    def finish(self, result: StreamResult[Any, Any]) -> None:  # noqa: ARG002 - the text is out already
        """Write `end`, unless the output is empty or ends with it already."""
        with suppress(OutputClosedError):  # too late to cancel the stream
            if self._last and not self._last.endswith(self._end):
                self._put(self._end, in_thinking=self._in_thinking, dim=False)
        self._last = ""
        self._closed = False  # for the next stream

    def _put(self, text: str, *, in_thinking: bool, dim: bool = True) -> None:
        if self._closed:
            return
        if self._last and in_thinking != self._in_thinking:
            text = _missing_newlines(self._last, text) + text
        self._in_thinking = in_thinking
        # Look `sys.stdout` up for each piece: programs and test runners replace it. It is `None` under pythonw.
        file = sys.stdout if self._file is None else self._file
        if file is None:  # pyright: ignore[reportUnnecessaryComparison]
            return
        # Each piece is reset in the same write, so that nothing that comes in between can leave the terminal dim.
        styled = f"{_DIM}{text}{_RESET}" if in_thinking and dim and _shows_styles(file) else text
        try:
            _write(file, styled)
        except BrokenPipeError as error:
            self._closed = True
            if file is sys.stdout:
                _discard_output(file)
            raise OutputClosedError(*error.args) from error
        self._last = (self._last + text)[-max(len(self._end), 2) :]


def _missing_newlines(before: str, after: str) -> str:
    """Return the newlines that a blank line between two texts lacks: the stream separates blocks of text with two."""
    newlines = len(before) - len(before.rstrip("\n")) + len(after) - len(after.lstrip("\n"))
    return "\n" * (2 - newlines)


def _write(file: TextIO, text: str) -> None:
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = file.encoding or "ascii"
        file.write(text.encode(encoding, "replace").decode(encoding))
    file.flush()


def _shows_styles(file: TextIO) -> bool:
    """Return `True` for a terminal whose user has not turned styles off."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    is_terminal = getattr(file, "isatty", None)  # a stand-in for a file may lack the method
    return is_terminal is not None and is_terminal()


def _discard_output(file: TextIO) -> None:
    """Lead standard output to nowhere: the interpreter flushes it at its exit, and would report the pipe once more."""
    with suppress(OSError):  # a stand-in for standard output has no descriptor
        descriptor = file.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
