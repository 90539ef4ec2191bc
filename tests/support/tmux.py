"""A renderer in a real terminal, tmux, whose window changes its size."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("tmux needs POSIX", allow_module_level=True)

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
NOT_INHERITED = ("TMUX", "NO_COLOR", "COLUMNS", "LINES")
REPOSITORY = Path(__file__).parents[2]


def drive() -> None:
    """Run inside of tmux: do what each line on the first file says, and answer on the second once it is on the screen.

    The terminal's answer to a question for the cursor shows that the terminal has taken in all that came before.
    """
    import termios
    import tty

    from rich.console import Console

    from streamkit.rich._renderer import Renderer

    orders, answers, document = (Path(name) for name in sys.argv[1:4])
    text, at = document.read_text(encoding="utf-8"), 0
    attributes = termios.tcgetattr(0)
    tty.setcbreak(0)
    console = Console(force_terminal=True, color_system="truecolor", legacy_windows=False)
    renderer = Renderer(console)

    def put(output: str) -> None:
        if output:
            os.write(1, output.encode())
        os.write(1, b"\x1b[6n")
        answer = b""
        while not answer.endswith(b"R"):
            answer += os.read(0, 100)

    with orders.open(encoding="utf-8") as lines, answers.open("w", encoding="utf-8") as replies:
        for line in lines:
            word, _, argument = line.strip().partition(" ")
            if word == "feed":
                renderer.feed(text[at : at + int(argument)])
                at += int(argument)
                put(renderer.frame())
            elif word == "finish":
                renderer.feed(text[at:])
                put(renderer.finish())
            print(*os.get_terminal_size(1), file=replies, flush=True)
    termios.tcsetattr(0, termios.TCSADRAIN, attributes)


class Tmux:
    """A tmux server of its own with one window in which `drive` runs."""

    def __init__(self, folder: Path, text: str, columns: int, lines: int) -> None:
        self._folder = folder
        document = folder / "document.md"
        document.write_text(text, encoding="utf-8")
        orders, answers = folder / "orders", folder / "answers"
        os.mkfifo(orders)
        os.mkfifo(answers)
        code = "from tests.support.tmux import drive; drive()"
        command = [sys.executable, "-c", code, str(orders), str(answers), str(document)]
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", str(columns), "-y", str(lines), *command)
        self._orders = orders.open("w", encoding="utf-8")
        self._answers = answers.open(encoding="utf-8")
        self._tmux("set-option", "-g", "history-limit", "100000")

    def _tmux(self, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        return subprocess.run(  # noqa: S603
            ["tmux", "-S", str(self._folder / "socket"), *arguments],  # noqa: S607
            check=True,
            capture_output=True,
            encoding="utf-8",
            cwd=REPOSITORY,
            env={**environment, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}", "LC_ALL": "C.UTF-8"},
            timeout=60,
        ).stdout

    def _order(self, line: str) -> tuple[int, int]:
        print(line, file=self._orders, flush=True)
        columns, lines = self._answers.readline().split()
        return int(columns), int(lines)

    def feed(self, size: int) -> None:
        """Let so many further characters arrive, and draw a frame."""
        self._order(f"feed {size}")

    def finish(self) -> None:
        self._order("finish")

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the window, and wait until the program knows."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))
        while self._order("size") != (columns, lines):
            pass

    def rows(self) -> list[str]:
        """The rows of the scrollback and the screen."""
        rows = [row.rstrip() for row in self._tmux("capture-pane", "-p", "-S", "-").split("\n")]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def words(self) -> list[str]:
        """The words, where rows that the terminal wrapped are joined."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-").split()

    def close(self) -> None:
        self._orders.close()
        self._answers.close()
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")


@contextlib.contextmanager
def tmux(text: str, columns: int, lines: int) -> Iterator[Tmux]:
    """A window of that size in which the text is going to be streamed."""
    with tempfile.TemporaryDirectory() as folder:
        window = Tmux(Path(folder), text, columns, lines)
        watchdog = threading.Timer(120, window.close)
        watchdog.start()
        try:
            yield window
        finally:
            watchdog.cancel()
            window.close()
