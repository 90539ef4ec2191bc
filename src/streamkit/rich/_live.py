"""A reply that is drawn in a terminal while it arrives, by a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from rich.console import Console

from streamkit import Sink, StreamError, StreamResult

from ._console import SharedConsole, write
from ._painter import writes
from ._renderer import Renderer
from ._status import StatusLine

_FRAME = 1 / 12  # seconds from one frame to the next, at least
_LOAD = 10  # times what a frame takes, at least: a huge block or a slow terminal must hold nothing up
_TICK = 0.25  # seconds: the longest wait of the thread
_SUSPENDED = 1.0  # seconds that the thread is late: the program was stopped, and the shell wrote to the terminal


class LiveReply(Sink):
    """Draws a reply, in a thread, so that also the last piece before a pause is seen and the status line moves.

    Nothing is drawn before `start`. The other methods raise what the thread has raised.
    """

    def __init__(
        self, console: Console, shows_thinking: bool, has_status: bool, markdown_options: dict[str, Any]
    ) -> None:
        self._console = SharedConsole(console, self._print_above)
        self._renderer = Renderer(console, **markdown_options)
        self._shows_thinking = shows_thinking
        self._has_status = has_status
        self._status = StatusLine(console.encoding, monotonic())
        # Guards the pieces, the other output and the status, and what the thread and its callers tell each other.
        self._changed = threading.Condition()
        self._pieces: list[tuple[str, bool]] = []
        self._painted = 0  # characters of text that the renderer has
        self._other = ""  # what the program printed on the console meanwhile
        self._is_waiting = False  # for a change
        self._is_over = False
        self._last_line = ""
        self._failure: BaseException | None = None  # of the thread, until it is raised
        self._next_frame_at = 0.0
        self._ended = threading.Event()  # the thread, with all that it writes
        self._thread = threading.Thread(target=self._run, name="streamkit-markdown", daemon=True)
        self._drawer: threading.Thread | None = None

    def start(self) -> None:
        """Take the console and start to draw. Raises `RuntimeError` if another reply is drawn on the same console.

        After an interrupt in here, `finish` ends what was begun.
        """
        self._console.take()
        self._thread.start()

    def attempt(self, number: int, delay: float, error: StreamError | None) -> None:
        if error is not None:
            self._change(lambda: self._status.wait_for_retry(number, monotonic() + delay, error))

    def write(self, text: str) -> None:
        self._change(self._status.hide, (text, False))

    def thinking(self, text: str) -> None:
        self._change(self._status.think, (text, True) if self._shows_thinking else None)

    def tool_input(self, block: Any, piece: str) -> None:  # noqa: ARG002 - only the name is shown
        self._change(lambda: self._status.use_tool(block))

    def finish(self, result: StreamResult[Any, Any]) -> None:
        if self._has_status and result.status != "complete":
            self._last_line = result.status.replace("_", " ")
        if result.status == "interrupted":
            self._add_missing(result.text)
        try:
            self._join_thread()
        except BaseException:  # an interrupt: the thread needs only a moment more for its last frame
            self._join_thread()
            self._ended.wait()  # before Python 3.13, `join` takes a thread for ended once an interrupt came into it
            raise
        self._raise_failure()

    def _add_missing(self, text: str) -> None:
        """Add the end of the text: an interrupt may have come into `write`, or just before it was called."""
        with self._changed:
            received = self._painted + _text_length(self._pieces)
            if len(text) > received:
                self._pieces.append((text[received:], False))

    def _join_thread(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        if self._choose_drawer() is self._thread:
            self._thread.join()
        elif not self._ended.is_set():  # pragma: no branch - its test has a tracer of its own
            self._draw()

    def _choose_drawer(self) -> threading.Thread:
        """Return who draws: the first who asks. If an interrupt came while the thread was started, that is `finish`."""
        with self._changed:
            if self._drawer is None:
                self._drawer = threading.current_thread()
            return self._drawer

    def _run(self) -> None:
        if self._choose_drawer() is self._thread:
            self._draw()

    def _change(self, change: Callable[[], object], piece: tuple[str, bool] | None = None) -> None:
        with self._changed:
            self._raise_failure()
            change()
            if piece is not None:
                self._pieces.append(piece)
            if self._is_waiting:
                self._changed.notify_all()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _draw(self) -> None:
        try:
            try:
                self._draw_frames()
            finally:
                self._release()
        except BaseException as error:  # noqa: BLE001 - raised by the next call
            self._failure = error
        finally:
            self._ended.set()

    def _draw_frames(self) -> None:
        cost = 0.0
        while self._wait_until_due():
            began = monotonic()
            self._paint(self._frame)
            ended = monotonic()
            former, cost = cost, ended - began
            # The smaller of two costs: a single slow frame, as the first one with code, is no reason to pause.
            self._next_frame_at = max(began + _FRAME, ended + _LOAD * min(cost, former))
        # Not in `finish`: there, an interrupt could come in the middle of a write.
        self._paint(partial(self._renderer.finish, self._last_line))

    def _wait_until_due(self) -> bool:
        """Wait until the next frame is due. Returns `False` once the reply is over."""
        with self._changed:
            while not self._is_over:
                now = monotonic()
                has_news = bool(self._pieces) or "\n" in self._other or (self._has_status and self._status.is_visible)
                timeout = min(self._next_frame_at - now, _TICK) if has_news else _TICK
                if timeout <= 0:
                    return True
                self._is_waiting = not has_news
                self._changed.wait(timeout)
                self._is_waiting = False
                if monotonic() - now - timeout > _SUSPENDED:
                    self._renderer.forget_screen()
        return False

    def _paint(self, make: Callable[[str], str]) -> None:
        """Write what `make` returns for the lines of other output."""
        with self._changed:
            pieces, self._pieces = self._pieces, []
            self._painted += _text_length(pieces)
            lines, newline, self._other = self._other.rpartition("\n")
        for text, thinking in pieces:
            self._renderer.feed(text, thinking=thinking)
        for part in writes(make(lines + newline)):
            write(self._console.file, part)

    def _frame(self, above: str) -> str:
        return self._renderer.frame(self._status.text(monotonic()) if self._has_status else "", above)

    def _print_above(self, text: str) -> None:
        """Take what the program prints on the console. The thread writes it, as only one thread can move the cursor."""
        with self._changed:
            if self._console.is_released:
                write(self._console.file, text)
                return
            self._other += text
            if self._is_waiting:
                self._changed.notify_all()

    def _release(self) -> None:
        with self._changed:
            self._console.release()
            other, self._other = self._other, ""
        if other:  # a line without an end, or what was printed since the last frame
            write(self._console.file, other)


def _text_length(pieces: list[tuple[str, bool]]) -> int:
    """Return the number of characters of the pieces that are not thinking."""
    return sum(len(piece) for piece, thinking in pieces if not thinking)
