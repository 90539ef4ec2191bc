"""Signals at many moments, through a pseudo-terminal: the terminal is as it was, and the text so far is there."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

import pyte.modes

from streamkit.testing import Reply, serve
from tests.robustness.test_signals import environment
from tests.support.markdown import cut, whole
from tests.support.pty_program import PtyProgram, screen_after
from tests.support.terminal import BLANK, Row, as_text

# Each word is there once.
TEXT = "".join(
    f"{number}. The **boat{number}** leaves `quay{number}` at the hour{number}, which is the time of the tide\n\n"
    + ("   ```python\n" + f"   code{number} = 1\n" * 1 + "   ```\n\n" if number % 3 == 0 else "")
    for number in range(1, 21)
)
PIECES = cut(TEXT, 16)
REPLY = Reply.text(PIECES, delay=0.01)

PROGRAM = """
import json, signal, sys
import anthropic
from streamkit import stream_text
from streamkit.rich import MarkdownSink

client = anthropic.Anthropic(api_key="test-key", base_url=sys.argv[1], max_retries=0)
messages = [{"role": "user", "content": "Hi"}]
stream = stream_text(client, model="claude-sonnet-5-5", max_tokens=100, messages=messages, sinks=MarkdownSink())
try:
    result = stream.until_done()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter would report it while it exits
except KeyboardInterrupt:
    with open(sys.argv[2], "w") as file:
        json.dump([stream.status, stream.result.text], file)
    sys.exit(130)
"""
COLUMNS, LINES = 60, 12
OUTPUT = 4_500  # bytes: a little less than what the program writes
# Ctrl-C comes in through the terminal, as Ctrl-Z does; the others from another process.
ENDS = {"SIGINT": 130, "SIGTERM": -signal.SIGTERM, "SIGKILL": -signal.SIGKILL}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def rows_of(output: bytes) -> list[Row]:
    """What is in the terminal after all of the output. The terminal is normal: no mode is on, no style is open."""
    text = output.replace(b"^C", b"").replace(b"^Z", b"")  # the echo of the key
    recorder = screen_after(text, COLUMNS, LINES)
    terminal = recorder.terminal
    assert pyte.modes.DECAWM in terminal.mode, "line wrap is off"
    assert pyte.modes.DECTCEM in terminal.mode, "the cursor is hidden"
    assert 2026 << 5 not in terminal.mode, "output is still synchronised"
    assert terminal.cursor.attrs == BLANK, "a style is open"
    assert terminal.cursor.x == 0, f"the cursor is in a row after {output[-300:]!r}"
    return terminal.rows()


def check_text_so_far(rows: list[Row], end: tuple[str, str] | None) -> None:
    """The rows are those of the reply, up to some place; the last few may be of the open block, or the status line."""
    expected = [as_text([row]) for row in whole(TEXT, COLUMNS)]
    found = [as_text([row]) for row in rows]
    settled = max(0, len(found) - 8)
    assert found[:settled] == expected[:settled]
    if end is not None:
        status, received = end
        so_far = [as_text([row]) for row in whole(received, COLUMNS)]
        assert found[: len(so_far)] == so_far
        assert "".join(found[len(so_far) :]) == ("" if status == "complete" else status)


def run(program: Path, url: str, number: str, moment: float) -> bool:
    """Send a signal at that share of the usual output. Whether it came before the end."""
    kept = program.with_name(f"kept-{number}-{moment}")
    with PtyProgram([str(program), url, str(kept)], environment(), COLUMNS, LINES) as child:
        size = 1 + moment * OUTPUT
        child.read_until(lambda: len(child.output) >= size or child.report("exit") is not None)
        if number == "SIGTSTP":
            return stop_and_go_on(child)
        if number == "SIGINT":
            child.press(b"\x03")
        else:
            child.kill(getattr(signal, number))
        child.read_until(lambda: child.report("exit") is not None)
        child.read_rest()
        assert child.terminal_modes() == child.modes
        rows = rows_of(child.output)
        # A signal may come too late, while the interpreter exits.
        in_time = rows != whole(TEXT, COLUMNS)
        assert child.report("exit") in ({ENDS[number]} if in_time else {0, ENDS[number]}), child.output
        assert kept.exists() is (child.report("exit") == 130)
        check_text_so_far(rows, json.loads(kept.read_text()) if kept.exists() else None)
        return in_time


def stop_and_go_on(child: PtyProgram) -> bool:
    child.press(b"\x1a")
    child.read_until(lambda: child.report("stopped") is not None or child.report("exit") is not None)
    child.read_rest()
    stopped = child.report("stopped") is not None
    check_text_so_far(rows_of(child.output), None)
    if stopped:
        child.go_on()
        child.read_until(lambda: child.report("exit") is not None)
        child.read_rest()
    assert child.report("exit") == 0, child.output
    rows = rows_of(child.output)
    # The shell's prompt and the echo of the key may have moved what was open: nothing is lost.
    text = "".join(as_text(rows).split())
    assert "".join(as_text(whole(TEXT, COLUMNS)).split()) in text or stopped
    for number in range(1, 21):
        assert f"quay{number}at" in text
    return stopped


KINDS = [*ENDS, "SIGTSTP"]


@pytest.mark.parametrize("number", KINDS)
def test_signals(program: Path, number: str) -> None:
    moments = (0.2,) if number == "SIGTSTP" else (0.2, 0.6)
    with serve(REPLY, repeat=True) as server:
        assert sum(run(program, server.url, number, moment) for moment in moments) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("number", KINDS)
def test_signals_at_many_moments(program: Path, number: str, part: int, capsys: pytest.CaptureFixture[str]) -> None:
    moments = [place / 30 for place in range(30)][part::2]
    with serve(REPLY, repeat=True) as server:
        in_time = sum(run(program, server.url, number, moment) for moment in moments)
    with capsys.disabled():
        print(f"\n{number}: {len(moments)} signals, {in_time} before the end")
    assert in_time > len(moments) * 3 // 4
