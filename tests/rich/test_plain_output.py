"""Where nothing can be drawn, the Markdown itself is written: pipes, dumb terminals, `NO_COLOR`."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streamkit import BufferSink, collect
from streamkit.rich import MarkdownSink
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client
from tests.support.markdown import cut
from tests.support.markdown_samples import LISTS, PROSE, TABLES
from tests.support.terminal import Recorder

TEXT = PROSE + LISTS + TABLES + "A last line without an end"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(console: Console, text: str = TEXT, reply: Reply | None = None, **options: Any) -> str:
    """The output for a reply."""
    with serve(reply or Reply.thinking("Hm.", text, header_delay=0.2)) as server:
        collect(sdk_client(server), **PARAMS, sinks=MarkdownSink(console, **options), on_error="return")
    output: Any = console.file
    return output.getvalue()


def test_a_file_gets_the_markdown() -> None:
    assert plain(Console(file=io.StringIO(), width=40)) == TEXT + "\n"


@pytest.mark.parametrize("environment", [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"CLICOLOR_FORCE": "1"}, {}])
def test_a_pipe_is_no_terminal_whatever_the_environment(environment: dict[str, str]) -> None:
    console = Console(file=io.StringIO(), _environ={"TERM": "xterm-256color", **environment})
    assert plain(console) == TEXT + "\n"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "unknown"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_terminals_without_control_sequences(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    output = plain(Console(file=Tty()))
    assert output.replace("\r\n", "\n") == TEXT + "\n"
    assert not CONTROLS.search(output)


def test_no_newline_is_added_to_a_text_that_has_one() -> None:
    assert plain(Console(file=io.StringIO()), "a\n") == "a\n"


def test_an_empty_reply_gives_no_output() -> None:
    assert plain(Console(file=io.StringIO()), reply=Reply.text([])) == ""


def test_control_characters_do_not_reach_a_dumb_terminal() -> None:
    output = plain(Console(file=Tty(), _environ={"TERM": "dumb"}), "a \x1b[2J b \x9b2J c \x07 d")
    assert not CONTROLS.search(output)


def test_thinking_is_plain_too() -> None:
    output = plain(Console(file=io.StringIO()), thinking=True)
    assert output.split() == ["Hm.", *TEXT.split()]


def test_what_a_text_ends_with_is_shown_too() -> None:
    """A line end or a character that could go on is held until it is known that it does not."""
    assert plain(Console(file=io.StringIO()), "a\r") == "a\n"
    assert (
        plain(Console(file=io.StringIO()), reply=Reply.thinking("Hm \ud83d", "Yes\ud83d"), thinking=True)
        == "Hm \ufffd\n\nYes\ufffd\n"
    )


def test_an_early_end_says_why_in_plain_words() -> None:
    output = plain(
        Console(file=Tty(), _environ={"TERM": "dumb"}), reply=Reply.text(["One ", "two"]).cut(after_events=5)
    )
    assert output.startswith("One")
    assert not CONTROLS.search(output)


class Closed(Recorder):
    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file.")


@pytest.mark.parametrize("file", [io.StringIO(), Closed(80, 24)], ids=["a file", "a terminal"])
def test_a_closed_file_ends_the_stream_and_no_thread_stays(file: Any) -> None:
    console, buffer = Console(file=file, force_terminal=file.isatty()), BufferSink()
    if isinstance(file, io.StringIO):
        file.close()
    with serve(Reply.text(cut(TEXT, 20))) as server:
        with pytest.raises(ValueError, match="closed"):
            collect(sdk_client(server), **PARAMS, sinks=[MarkdownSink(console), buffer])
    assert buffer.result is not None


PROGRAM = """
import sys, anthropic
from streamkit import collect
from streamkit.rich import MarkdownSink
client = anthropic.Anthropic(api_key="test-key", base_url=sys.argv[1], max_retries=0)
messages = [{"role": "user", "content": "Hi"}]
sink = MarkdownSink()
result = collect(
    client, model="claude-sonnet-5-5", max_tokens=100, messages=messages, sinks=sink, on_error="return"
)
print(result.status, file=sys.stderr)
"""


def run(program: Path, url: str, **options: Any) -> subprocess.Popen[bytes]:
    from tests.robustness.test_signals import environment

    return subprocess.Popen(  # noqa: S603
        [sys.executable, str(program), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(), "FORCE_COLOR": "1"},
        **options,
    )


@pytest.fixture(autouse=True)
def a_usual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_a_program_whose_output_is_a_pipe(program: Path) -> None:
    with serve(Reply.text(cut(TEXT))) as server, run(program, server.url) as process:
        output, errors = process.communicate(timeout=30)
    assert output.decode().replace("\r\n", "\n") == TEXT + "\n"
    assert errors.decode().strip() == "complete"


def test_a_pipe_whose_reader_goes_away(program: Path) -> None:
    """As with `StdoutSink`: it is no error of the program."""
    with serve(Reply.text(cut(TEXT * 40, 40), delay=0.001)) as server, run(program, server.url) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        process.wait(30)
    assert "Exception ignored" not in errors
    assert errors.strip() == "interrupted"
