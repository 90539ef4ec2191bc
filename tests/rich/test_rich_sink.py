"""`RichSink`: the text of a reply in a rich console, as it is."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from typing import Any

import pyte
import pytest
import rich
from rich.console import Console

from streamkit import StreamTruncatedError, collect
from streamkit.rich import RichSink
from streamkit.testing import Reply, check_sink, serve
from tests.support.clients import PARAMS, sdk_client
from tests.support.harness import Harness, ignores_generators_left_behind

THOUGHT = Reply.thinking("Hm", "Yes", pings=False)
# Each would change if rich took the text for markup, an emoji code or something to highlight, or wrapped it.
AWKWARD = "[bold] :smile: 'a' 12 True http://a.b \\[x] " + "long words " * 10 + "  \n\n  two\tthree \n"


def console(width: int = 20, **options: Any) -> Console:
    """A console whose file is a text in memory, and which takes that for a terminal with colours."""
    settings = {"force_terminal": True, "color_system": "truecolor", "legacy_windows": False, "_environ": {}}
    return Console(width=width, **{"file": io.StringIO(), **settings, **options})


def printed(*pieces: str, **options: Any) -> str:
    """What a console gets from a reply that comes in these pieces."""
    shown = console(**options)
    with serve(Reply.text(list(pieces))) as server:
        collect(sdk_client(server), sinks=RichSink(shown), **PARAMS)
    return written(shown)


def written(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "file"])
@pytest.mark.parametrize("size", [1, 7, len(AWKWARD)])
def test_the_text_is_printed_as_it_is(size: int, is_terminal: bool) -> None:
    pieces = [AWKWARD[start : start + size] for start in range(0, len(AWKWARD), size)]
    assert printed(*pieces, force_terminal=is_terminal, soft_wrap=False, markup=True, emoji=True) == AWKWARD


def test_the_terminal_wraps_the_text() -> None:
    text = "潮が満ちる 👍🏽 and a word\tthat\tends\n" * 3
    ours, plain = (pyte.Screen(20, 30) for _ in range(2))
    for screen, output in ((ours, printed(*text)), (plain, text)):
        pyte.Stream(screen).feed(output.replace("\n", "\r\n"))
    assert ours.display == plain.display
    assert "word" in "".join(ours.display)


@pytest.mark.anyio
@ignores_generators_left_behind
async def test_every_kind_of_stream_prints(harness: Harness) -> None:
    shown = console()
    with serve(Reply.text(["Hello ", "there"]), repeat=True) as server:
        for _ in range(2):
            await harness.collect(server, sinks=RichSink(shown))
    assert written(shown) == "Hello there\nHello there\n"


def test_it_works_with_streams_of_every_kind() -> None:
    check_sink(RichSink(console()))


@pytest.mark.parametrize(
    ("text", "end"), [("One", "\n"), ("One\n", ""), ("One\n\n", ""), ("One ", "\n"), ("One\r\n", ""), ("One\r", "")]
)
def test_the_output_ends_with_a_newline(text: str, end: str) -> None:
    assert printed(text) == text.replace("\r\n", "\n").replace("\r", "\n") + end


def test_a_reply_without_text_prints_nothing() -> None:
    shown = console()
    with serve(Reply.tool_use("get_tide", {}), Reply.http_error(400)) as server:
        for _ in range(2):
            collect(sdk_client(server), sinks=RichSink(shown), on_error="return", **PARAMS)
    assert written(shown) == ""


def test_a_reply_that_breaks_off_ends_with_a_newline() -> None:
    sink = RichSink(shown := console())
    with serve(Reply.text(["One ", "two"]).cut(after_text="One"), Reply.text("Three")) as server:
        with pytest.raises(StreamTruncatedError):
            collect(sdk_client(server), sinks=sink, **PARAMS)
        collect(sdk_client(server), sinks=sink, **PARAMS)
    assert written(shown) == "One \nThree\n"


def test_the_style_of_the_console_applies() -> None:
    assert printed("One\n", style="red") == "\x1b[31mOne\n\x1b[0m"


class TestThinking:
    def shown(self, reply: Reply, thinking: bool = True, **options: Any) -> str:
        shown = console(**options)
        with serve(reply) as server:
            collect(sdk_client(server), sinks=RichSink(shown, thinking=thinking), on_error="return", **PARAMS)
        return written(shown)

    def test_is_dim(self) -> None:
        assert self.shown(THOUGHT) == "\x1b[2mHm\x1b[0m\n\nYes\n"

    def test_is_left_out_by_default(self) -> None:
        assert self.shown(THOUGHT, thinking=False) == "Yes\n"

    @pytest.mark.parametrize(
        "options",
        [
            {"_environ": {"NO_COLOR": "1"}},
            {"_environ": {"TERM": "dumb"}, "color_system": "auto"},
            {"force_terminal": False, "color_system": "auto"},
        ],
        ids=["NO_COLOR", "dumb", "file"],
    )
    def test_is_plain_without_styles(self, options: dict[str, Any]) -> None:
        assert self.shown(THOUGHT, **options) == "Hm\n\nYes\n"

    @pytest.mark.parametrize("end", ["", "\n", "\r", "\n\n"])
    @pytest.mark.parametrize("begin", ["", "\n", "\n\n"])
    def test_stands_between_blank_lines(self, end: str, begin: str) -> None:
        blocks = [
            {"type": "text", "text": f"One{end}"},
            {"type": "thinking", "thinking": f"{begin}Hm", "signature": "c2ln"},
            {"type": "text", "text": "Two"},
        ]
        shown = self.shown(Reply.blocks(*blocks))
        lines = shown.replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()
        assert [line for line in lines if line] == ["One", "Hm", "Two"]
        newlines = max(2, len(end) + len(begin))
        assert lines == ["One", *[""] * (newlines - 1), "Hm", "", "Two"]
        assert shown.endswith("Hm\x1b[0m\n\nTwo\n")

    def test_after_newlines_that_came_one_by_one(self) -> None:
        shown = console(color_system=None)
        sink = RichSink(shown, thinking=True)
        for piece in ("One", "\n", "\n"):
            sink.write(piece)
        sink.thinking("Hm")
        assert written(shown) == "One\n\nHm"

    def test_of_the_next_stream_begins_without_a_blank_line(self) -> None:
        sink = RichSink(shown := console(), thinking=True)
        with serve(Reply.text("One"), THOUGHT) as server:
            for _ in range(2):
                collect(sdk_client(server), sinks=sink, **PARAMS)
        assert written(shown) == "One\n\x1b[2mHm\x1b[0m\n\nYes\n"

    def test_at_the_end(self) -> None:
        assert self.shown(THOUGHT.cut(after_events=3)) == "\x1b[2mHm\x1b[0m\n"


class TestCharacters:
    CONTROLS = "".join(map(chr, [*range(9), *range(11, 13), *range(14, 32), *range(127, 160)]))

    def test_controls_never_reach_a_terminal(self) -> None:
        assert printed(*f"a\x1b]0;title\x07{self.CONTROLS}b\tc\n") == "a]0;titleb\tc\n"

    def test_nor_one_that_rich_was_told_to_take_for_a_file(self) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        shown = Console(file=Terminal(), force_terminal=False)
        with serve(Reply.text(["a\x1b[2", "Jb"])) as server:
            collect(sdk_client(server), sinks=RichSink(shown), **PARAMS)
        assert written(shown) == "a[2Jb\n"

    @pytest.mark.parametrize("kind", [io.StringIO, type("Stand-in", (), {})], ids=["file", "stand-in"])
    def test_a_file_gets_none_either(self, kind: Any) -> None:
        file, got = kind(), list[str]()
        file.write, file.flush = got.append, lambda: None
        with serve(Reply.text(["a\x1b[2", "J\r\nb"])) as server:
            collect(sdk_client(server), sinks=RichSink(Console(file=file)), **PARAMS)
        assert "".join(got) == "a[2J\nb\n"

    @pytest.mark.parametrize("cut", range(8))
    def test_line_ends_become_newlines_wherever_they_are_cut(self, cut: int) -> None:
        text = "a\r\nb\r\rc\r\n\n"
        assert printed(*filter(None, (text[:cut], text[cut:]))) == "a\nb\n\nc\n\n"

    @pytest.mark.parametrize("is_terminal", [True, False])
    @pytest.mark.parametrize(
        ("pieces", "shown"),
        [
            (("a\ud83d", "\ude00b"), "a😀b\n"),
            (("\ud83d", "\ude00"), "😀\n"),
            (("a\ud83d", "b"), "a\ufffdb\n"),
            (("a", "\ude00b"), "a\ufffdb\n"),
            (("a\ud83d", "\ud83d\ude00"), "a\ufffd😀\n"),
            (("a\ud83d",), "a\ufffd\n"),
        ],
    )
    def test_pairs_of_surrogates_are_joined(self, pieces: tuple[str, ...], shown: str, is_terminal: bool) -> None:
        assert printed(*pieces, force_terminal=is_terminal) == shown

    def test_half_a_pair_stays_in_its_block(self) -> None:
        shown = console(color_system=None)
        blocks = (
            {"type": "thinking", "thinking": "Hm\ud83d", "signature": "c2ln"},
            {"type": "text", "text": "\ude00Yes"},
        )
        with serve(Reply.blocks(*blocks)) as server:
            collect(sdk_client(server), sinks=RichSink(shown, thinking=True), **PARAMS)
        assert written(shown) == "Hm\ufffd\n\n\ufffdYes\n"

    @pytest.mark.parametrize(
        ("encoding", "errors", "shown"),
        [
            ("ascii", "strict", "na?ve ??\n"),
            ("latin-1", "strict", "na\xefve ??\n"),
            ("ascii", "backslashreplace", "na\\xefve \\u6f6e\\U0001f600\n"),
        ],
    )
    def test_what_the_encoding_lacks_is_replaced(self, encoding: str, errors: str, shown: str) -> None:
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline="")
        with serve(Reply.text(["naïve ", "潮\ud83d", "\ude00"])) as server:
            result = collect(sdk_client(server), sinks=RichSink(Console(file=file)), **PARAMS)
        assert result.ok
        file.seek(0)
        assert file.read() == shown


def test_jupyter_gets_one_text_at_once_and_no_block_for_each_piece() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    sink, seen = RichSink(console(file=file, force_jupyter=True, force_terminal=None)), list[bytes]()
    with serve(Reply.text(["One ", "two"])) as server:
        collect(sdk_client(server), sinks=[sink, lambda _: seen.append(file.buffer.getvalue())], **PARAMS)
    assert seen == [b"One ", b"One two"]


@pytest.mark.parametrize("record", [True, False])
def test_what_the_console_records_or_captures_is_the_text(record: bool) -> None:
    shown = console(record=record, color_system=None)
    with serve(Reply.text(["One ", "[two]"])) as server:
        if record:
            collect(sdk_client(server), sinks=RichSink(shown), **PARAMS)
            assert shown.export_text() == "One [two]\n"
        else:
            with shown.capture() as capture:
                collect(sdk_client(server), sinks=RichSink(shown), **PARAMS)
            assert capture.get() == "One [two]\n"


def test_the_default_console_is_the_one_of_rich(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(Reply.text("One")) as server:
        collect(sdk_client(server), sinks=RichSink, **PARAMS)
    rich.print("two")
    assert capsys.readouterr().out == "One\ntwo\n"


# A program whose output is read to the first line, as `head -1` does.
PIPED = """
import sys
from rich.console import Console
from streamkit import collect
from streamkit.rich import RichSink
from streamkit.testing import Reply, serve

console = Console()
with serve(Reply.text(["a line\\n"] * 20_000)) as server:
    result = collect(server.client(), sinks=RichSink(console), model="m", max_tokens=9, messages=[])
console.print(result.status)
print(result.status, len(result.text) < 140_000, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.skipif(not hasattr(Console, "on_broken_pipe"), reason="rich before 13.8 leaves the closed pipe to others")
def test_a_stream_whose_output_nobody_reads_is_interrupted() -> None:
    command = [sys.executable, "-c", PIPED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 7) == b"a line\n"
        process.stdout.close()
        assert process.stderr.read() == b"interrupted True\n"
        assert process.wait() == 0


@pytest.mark.skipif(not hasattr(Console, "on_broken_pipe"), reason="rich before 13.8 leaves the closed pipe to others")
def test_a_pipe_that_closes_before_the_last_newline_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)  # whose descriptor rich leads to nowhere
        shown = console(file=file)
        sink = RichSink(shown)
        with shown.capture():
            sink.write("One")
        with serve(Reply.http_error(400)) as server:
            sink.finish(collect(sdk_client(server), on_error="return", **PARAMS))
    assert shown.quiet, "the newline met the closed pipe"


def test_an_exit_of_the_program_passes() -> None:
    """As a handler of SIGTERM raises it in the middle of a print."""

    class Exits(io.StringIO):
        def write(self, text: str) -> int:
            raise SystemExit(3)

    with serve(Reply.text("One")) as server, pytest.raises(SystemExit, match="3"):
        collect(sdk_client(server), sinks=RichSink(Console(file=Exits())), **PARAMS)


def test_without_rich_the_import_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("streamkit.rich")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r'pip install "anthropic-streamkit\[rich\]"') as caught:
        importlib.import_module("streamkit.rich")
    assert caught.value.name == "rich"
