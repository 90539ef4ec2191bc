"""The console that a reply is drawn on, and what else is printed there meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

from rich.console import Console


def is_plain(console: Console) -> bool:
    """Return `True` if text should be written as it is: no terminal, or a user who wants no control sequences."""
    is_terminal = getattr(console.file, "isatty", None)
    return (
        not (
            is_terminal is not None and is_terminal() and console.is_interactive
        )  # FORCE_COLOR makes a pipe a terminal
        or console.is_dumb_terminal
        or console.is_jupyter
        or console.legacy_windows
        or bool(os.environ.get("NO_COLOR"))
    )


def follows_stdout(console: Console) -> bool:
    """Return `True` if the console writes to what `sys.stdout` is at the moment."""
    return console.file is sys.stdout and not console.stderr


def write(file: TextIO, text: str) -> None:
    """Write and flush. Characters that the file's encoding lacks are replaced."""
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = file.encoding or "ascii"
        file.write(text.encode(encoding, "replace").decode(encoding))
    file.flush()


class _SharedFile:
    """The file of a console while a reply is drawn there: what others print goes above the reply."""

    def __init__(self, file: TextIO, print_above: Callable[[str], None]) -> None:
        self._file = file
        self._print_above = print_above

    @property
    def rich_proxied_file(self) -> _SharedFile:
        """The file that rich writes to: not the one behind this one."""
        return self

    def write(self, text: str) -> int:
        self._print_above(text)
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class SharedConsole:
    """A console that one reply takes: other output goes through `print_above` until the console is released."""

    def __init__(self, console: Console, print_above: Callable[[str], None]) -> None:
        self.file = cast("TextIO", console.file)
        self.is_released = False
        self._console = console
        self._print_above = print_above
        # A console without a file of its own looks `sys.stdout` up for each output, as programs replace it.
        self._follows = self.file is (sys.stderr if console.stderr else sys.stdout)

    def take(self) -> None:
        """Take the console. Raises `RuntimeError` if another reply is drawn on the same console or file."""
        if isinstance(self.file, _SharedFile) or _taken.setdefault(id(self.file), self) is not self:
            raise RuntimeError(
                "another MarkdownSink is drawing on this console: let its stream end first, or give this stream a "
                "console with a file of its own"
            )
        self._console.file = _SharedFile(self.file, self._print_above)  # type: ignore[assignment]

    def release(self) -> None:
        """Give the console its file back, if it was taken."""
        self.is_released = True
        if _taken.get(id(self.file)) is self:
            self._console.file = None if self._follows else self.file  # type: ignore[assignment]
            del _taken[id(self.file)]


_taken: dict[int, SharedConsole] = {}  # by the `id` of the file
