"""A program in a pseudo-terminal, in the foreground of a session of its own, as a shell would start it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

from typing_extensions import Self

from tests.support.terminal import Recorder, _tokens

NOT_INHERITED = ("COLUMNS", "LINES", "NO_COLOR", "PYTHONUNBUFFERED")
WATCHDOG = 60.0  # seconds
MARK = b"\x05"

# The leader of the session: it puts the program in the foreground, reports each stop, and lets it go on when told to.
SHELL = """
import fcntl, os, signal, sys, termios
reports, orders = int(sys.argv[1]), int(sys.argv[2])
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = os.fork()
if not child:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.close(reports), os.close(orders)
    os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
os.write(reports, b"pid %d\\n" % child)
while True:
    _, status = os.waitpid(child, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        break
    os.tcsetpgrp(0, os.getpgrp())
    os.write(reports, b"stopped\\n")
    os.read(orders, 1)
    os.tcsetpgrp(0, child)
    os.kill(child, signal.SIGCONT)
os.tcsetpgrp(0, os.getpgrp())
os.write(reports, b"exit %d\\n" % os.waitstatus_to_exitcode(status))
os.read(orders, 1)  # stay: when the leader of the session ends, the terminal drops what is not read yet
"""


class PtyProgram:
    """A Python program whose terminal is a `Recorder`.

    `read_until` reads its output and its reports: each a word and a number.
    """

    def __init__(self, arguments: list[str], environment: dict[str, str], columns: int = 80, lines: int = 24) -> None:
        self.output = b""
        self.reports = ""
        self._leader, self._follower = pty.openpty()
        fcntl.ioctl(self._follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        # By default Ctrl-C and Ctrl-Z discard what the terminal has not read yet, which may be half of a frame.
        modes = termios.tcgetattr(self._follower)
        modes[3] |= termios.NOFLSH
        termios.tcsetattr(self._follower, termios.TCSANOW, modes)
        self.modes = termios.tcgetattr(self._follower)
        # rich would believe the sizes in the environment.
        environment = {name: value for name, value in environment.items() if name not in NOT_INHERITED}
        self._reports, write_end = os.pipe()
        read_end, self._orders = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", SHELL, str(write_end), str(read_end), *arguments],
            stdin=self._follower,
            stdout=self._follower,
            stderr=self._follower,
            env={**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            pass_fds=(write_end, read_end),
        )
        os.close(write_end)
        os.close(read_end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if (pid := self.report("pid")) is not None and self.report("exit") is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for descriptor in (self._leader, self._follower, self._reports, self._orders):
            os.close(descriptor)

    def read_until(self, condition: Callable[[], object]) -> None:
        """Read output and reports until the condition holds, or the program has ended."""
        deadline = time.monotonic() + WATCHDOG
        while not condition():
            ready, _, _ = select.select([self._leader, self._reports], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited in vain: {self.output!r}"
            if self._leader in ready:
                self.output += os.read(self._leader, 65536)
            elif self._reports in ready:
                more = os.read(self._reports, 1000).decode()
                self.reports += more
                if not more:
                    return

    def read_rest(self) -> None:
        """Read what is still on its way to the terminal, now that the program does not write to it."""
        os.write(self._follower, MARK)
        while not self.output.endswith(MARK):
            self.output += os.read(self._leader, 65536)
        self.output = self.output.removesuffix(MARK)

    def report(self, word: str) -> int | None:
        """The number of the last report of that name, as `exit`; `None` before it."""
        for line in reversed(self.reports.splitlines()):
            if line.split()[0] == word:
                return int([*line.split(), "0"][1])
        return None

    def press(self, key: bytes) -> None:
        """Press a key: a byte into the terminal."""
        os.write(self._leader, key)

    def kill(self, number: int) -> None:
        self.read_until(lambda: self.report("pid") is not None)
        pid = self.report("pid")
        assert pid is not None
        os.kill(pid, number)

    def go_on(self) -> None:
        """Let a stopped program go on, in the foreground."""
        self.reports = self.reports.replace("stopped\n", "")
        os.write(self._orders, b"\n")

    def terminal_modes(self) -> list[object]:
        return termios.tcgetattr(self._follower)


def screen_after(output: bytes, columns: int, lines: int) -> Recorder:
    """A terminal that got all of this output, with the checks at its end."""
    recorder = Recorder(columns, lines)
    text = output.decode("utf-8", "replace").replace("\r\n", "\n")
    for token in _tokens(text):
        recorder._apply(token)
    return recorder
