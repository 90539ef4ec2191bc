"""The sink that shows a reply as Markdown in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

from rich import get_console
from rich.console import Console

from streamkit import Sink, StdoutSink, StreamError, StreamResult

from ._console import follows_stdout, is_plain
from ._live import LiveReply
from ._markdown import UnitRenderer
from ._parse import Cleaner


class MarkdownSink(Sink):
    """A sink that shows a reply as Markdown while it arrives, on `console` or on rich's global console.

    What is finished is printed once and stays in the scrollback; only the block that is being written is drawn again,
    at most 12 times a second, by a thread that lives as long as the stream. In the end the screen shows what
    `console.print(Markdown(text))` prints. What the program prints on the console meanwhile goes above that block.

    `thinking=True` shows the thinking too, dim. With `status=True` a line below the text says what the reply waits for
    while no text arrives, with the elapsed time and the least number of tokens so far; and if the stream does not end
    as `"complete"`, a last line says how it ended. The other options are those of `Markdown`, for example
    `code_theme="ansi_dark"`; an unknown one raises `TypeError`.

    Where the output is not a terminal, or `TERM=dumb` or `NO_COLOR` is set, the text is written as it is, by a
    `StdoutSink`. Control characters of the model are left out everywhere, but for line ends and tabs.

    The methods raise `RuntimeError` if another `MarkdownSink` draws on the console, and `OSError` or `ValueError` if
    the terminal is closed.
    """

    def __init__(
        self, console: Console | None = None, *, thinking: bool = False, status: bool = True, **markdown_options: Any
    ) -> None:
        UnitRenderer("", **markdown_options)  # raises `TypeError` for an unknown option
        self._console = console
        self._shows_thinking = thinking
        self._has_status = status
        self._options = markdown_options
        self._reply: Sink | None = None  # while a stream uses this sink

    def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        """Show that the reply is awaited, or a retry."""
        self._begin().attempt(number, delay, error)

    def write(self, text: str) -> None:
        """Show `text`."""
        self._begin().write(text)

    def thinking(self, text: str) -> None:
        """Show that the model thinks and, if the sink was made with `thinking=True`, what it thinks."""
        self._begin().thinking(text)

    def tool_input(self, block: Any, piece: str) -> None:
        """Show that the model uses a tool."""
        self._begin().tool_input(block, piece)

    def finish(self, result: StreamResult[Any, Any]) -> None:
        """Show the rest of the text, and how the stream ended if it is not complete."""
        try:
            if self._reply is not None:
                self._reply.finish(result)
        finally:
            self._reply = None

    def _begin(self) -> Sink:
        if self._reply is None:
            console = self._console or get_console()
            if is_plain(console):
                self._reply = _PlainReply(console, thinking=self._shows_thinking)
            else:
                # Assigned first: after an interrupt in `start`, `finish` has to know of it.
                self._reply = reply = LiveReply(console, self._shows_thinking, self._has_status, self._options)
                try:
                    reply.start()
                except Exception:
                    self._reply = None
                    raise
        return self._reply


class _PlainReply(StdoutSink):
    """The text as it is, without control characters."""

    def __init__(self, console: Console, *, thinking: bool) -> None:
        super().__init__(None if follows_stdout(console) else cast("TextIO", console.file), thinking=thinking)
        self._text, self._thoughts = Cleaner(), Cleaner()

    def write(self, text: str) -> None:
        self._show(super().thinking, self._thoughts.finish())
        self._show(super().write, self._text.feed(text))

    def thinking(self, text: str) -> None:
        self._show(super().write, self._text.finish())
        self._show(super().thinking, self._thoughts.feed(text))

    def finish(self, result: StreamResult[Any, Any]) -> None:
        with suppress(BrokenPipeError):  # too late to cancel the stream
            self._show(super().thinking, self._thoughts.finish())
            self._show(super().write, self._text.finish())
        super().finish(result)

    @staticmethod
    def _show(show: Callable[[str], None], text: str) -> None:
        if text:
            show(text)
