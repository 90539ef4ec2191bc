"""`MarkdownSink` on a terminal: the reply, the status line, and other output, with real streams."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from streamkit import BufferSink, StreamError, stream_text
from streamkit.rich import Markdown, MarkdownSink
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.markdown import cut, whole
from tests.support.markdown_samples import LISTS, LONG, PROSE, TABLES
from tests.support.replies import FAULTS
from tests.support.results import WHOLE, read
from tests.support.terminal import Recorder, as_text, assert_equal_rows, console_on, printed

pytestmark = ignores_generators_left_behind
anyio = pytest.mark.anyio
TEXT = PROSE + LISTS + TABLES


def on_terminal(columns: int = 80, lines: int = 24, **options: Any) -> tuple[Recorder, Any]:
    recorder = Recorder(columns, lines)
    return recorder, console_on(recorder, columns, lines, **options)


def drawing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "streamkit-markdown"]


@anyio
async def test_a_reply_is_what_markdown_prints(harness: Harness) -> None:
    recorder, console = on_terminal()
    with serve(Reply.text(cut(TEXT, 16))) as server:
        result = await harness.collect(server, sinks=MarkdownSink(console))
    assert result.text == TEXT
    assert_equal_rows(recorder.terminal.rows(), whole(TEXT, 80))
    assert not drawing_threads()


@anyio
async def test_a_paced_reply(harness: Harness) -> None:
    """Slow enough for several frames, and for the status line to move."""
    recorder, console = on_terminal(60, 12)
    with serve(Reply.thinking("Let me see.", LONG[:1500], delay=0.002)) as server:
        await harness.collect(server, sinks=MarkdownSink(console))
    assert_equal_rows(recorder.terminal.rows(), whole(LONG[:1500], 60))
    assert len(recorder.writes) > 3


class InterruptedAt(MarkdownSink):
    """Is interrupted before it has taken a piece."""

    def __init__(self, console: Any, number: int) -> None:
        super().__init__(console, thinking=True)
        self._until_interrupt = number

    def write(self, text: str) -> None:
        if not self._until_interrupt:
            raise KeyboardInterrupt
        self._until_interrupt -= 1
        super().write(text)


@pytest.mark.parametrize(("number", "text"), [(0, "One "), (1, "One two "), (2, "One two three")])
def test_a_piece_that_an_interrupt_kept_from_the_sink_is_shown(number: int, text: str) -> None:
    recorder, console = on_terminal()
    with serve(Reply.thinking("Let me see.", "One two three")) as server:
        stream = stream_text(sdk_client(server), **PARAMS, sinks=InterruptedAt(console, number))
        with pytest.raises(KeyboardInterrupt), stream:
            list(stream)
    assert stream.text == text
    assert recorder.terminal.text() == f"Let me see.\n\n{text.strip()}\n\ninterrupted"
    assert not drawing_threads()


def test_options_reach_the_renderer() -> None:
    text = "[a](http://a.example) and `code`\n\n```python\nx = 1\n```\n"
    options = {"hyperlinks": False, "code_theme": "ansi_light", "inline_code_lexer": "python"}
    recorder, console = on_terminal()
    with serve(Reply.text(cut(text))) as server:
        stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console, **options)).until_done()
    assert_equal_rows(recorder.terminal.rows(), printed(Markdown(text, **options), 80))


def test_one_sink_serves_one_stream_after_the_other() -> None:
    recorder, console = on_terminal()
    sink = MarkdownSink(console)
    with serve(Reply.text("*One*"), Reply.text("- two")) as server:
        for _ in range(2):
            stream_text(sdk_client(server), **PARAMS, sinks=sink).until_done()
    assert [row for row in recorder.terminal.text().split("\n") if row] == ["One", " • two"]


def test_the_output_goes_on_below_what_is_there() -> None:
    recorder, console = on_terminal(40, 5)
    for number in range(7):
        console.print(f"before {number}")
    with serve(Reply.text(cut(TEXT))) as server:
        stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console)).until_done()
    console.print("after")
    expected = [*printed("\n".join(f"before {number}" for number in range(7)), 40), *whole(TEXT, 40)]
    assert_equal_rows(recorder.terminal.rows(), [*expected, *printed("after", 40)])


def test_the_last_words_before_a_pause_are_seen() -> None:
    recorder, console = on_terminal()
    with serve(Reply.text(["Hello", " there,", " I am"]).stall(after_events=5)) as server:
        stream = stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console))
        reader = threading.Thread(target=stream.until_done)
        reader.start()
        recorder.wait_for(lambda text: "Hello there," in text)
        stream.cancel()
        reader.join(20)
    assert not reader.is_alive()
    first, *rest = recorder.terminal.text().split("\n")
    assert first == "Hello there,"
    assert "interrupted" in "".join(rest)
    assert not drawing_threads()


# -- the status line --


def test_the_status_line_comes_before_the_first_content_and_goes_without_a_trace() -> None:
    recorder, console = on_terminal()
    sink = MarkdownSink(console)
    sink.attempt(1, 0.0, None)
    recorder.wait_for(lambda text: "waiting" in text)
    sink.write("Done.")
    sink.finish(read(*WHOLE))
    assert recorder.terminal.text() == "Done."


@pytest.mark.parametrize("kind", ["thinking", "tool"])
def test_the_status_line_says_what_is_going_on(kind: str) -> None:
    recorder, console = on_terminal()
    reply = {
        "thinking": Reply.thinking("Hm. " * 30, "Done."),
        "tool": Reply.tool_use("get_weather", {"city": "Oslo" * 20}),
    }[kind]
    with serve(reply.stall(after_events=8)) as server:
        stream = stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console))
        reader = threading.Thread(target=stream.until_done)
        reader.start()
        expected = "thinking" if kind == "thinking" else "get_weather"
        recorder.wait_for(lambda text: expected in text.lower() and ("tokens" in text or kind == "tool"))
        stream.cancel()
        reader.join(20)
    assert not reader.is_alive()
    assert expected not in recorder.terminal.text().lower(), "gone"


def test_without_a_status_line_nothing_is_written_before_the_text() -> None:
    recorder, console = on_terminal()
    with serve(Reply.thinking("Hm.", "Done.", header_delay=0.3)) as server:
        stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console, status=False)).until_done()
    assert recorder.terminal.text() == "Done."
    assert "Done." in recorder.writes[0]


def test_thinking_is_shown_when_it_is_asked_for() -> None:
    for thinking in (True, False):
        recorder, console = on_terminal()
        with serve(Reply.thinking("Let me see.", "Done.")) as server:
            stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console, thinking=thinking)).until_done()
        assert ("Let me see." in recorder.terminal.text()) is thinking
        assert recorder.terminal.text().endswith("Done.")
        if thinking:
            assert {cell.dim for cell in recorder.terminal.rows()[0]} == {True}


@anyio
@pytest.mark.parametrize("fault", FAULTS)
async def test_after_an_early_end_one_dim_line_says_why(harness: Harness, fault: str) -> None:
    reply, error, _, status = FAULTS[fault]
    recorder, console = on_terminal()
    with serve(reply) as server, pytest.raises(error):
        await harness.collect(server, sinks=MarkdownSink(console), retries=0)
    *before, last = recorder.terminal.rows()
    assert status in as_text([last])
    assert {cell.dim for cell in last if cell.data.strip()} == {True}
    assert as_text(before).split("\n")[0] == "One two "[: len(as_text(before).split("\n")[0])].rstrip()


def test_a_request_that_is_refused_leaves_no_status_line() -> None:
    recorder, console = on_terminal()
    with serve(Reply.http_error(400)) as server, pytest.raises(Exception, match="400"):
        stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console)).until_done()
    assert len(recorder.terminal.rows()) <= 2
    assert not drawing_threads()


# -- faults --


class Broken(Recorder):
    """A terminal that goes away after some writes."""

    def __init__(self, writes: int) -> None:
        super().__init__(80, 24)
        self.left = writes

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "Input/output error")
        return super().write(text)


@anyio
@pytest.mark.parametrize("writes", [0, 1, 3])
async def test_an_error_of_the_drawing_thread_comes_out_of_the_next_call(harness: Harness, writes: int) -> None:
    buffer = BufferSink()
    # Long enough for each frame: on a slow machine they are few.
    with serve(Reply.text(cut(LONG * 20, 20), delay=0.005)) as server:
        sink = MarkdownSink(console_on(Broken(writes), 80, 24))
        with pytest.raises(OSError, match="Input/output error") as caught:
            await harness.collect(server, sinks=[sink, buffer])
    assert not isinstance(caught.value, StreamError)
    assert buffer.result is not None
    assert buffer.result.status == "failed"
    assert not drawing_threads()


def test_a_failure_in_finish_is_raised_too() -> None:
    sink = MarkdownSink(console_on(Broken(0), 80, 24), status=False)
    with serve(Reply.text("Hi")) as server, pytest.raises(OSError, match="Input/output error"):
        stream_text(sdk_client(server), **PARAMS, sinks=sink).until_done()
    assert not drawing_threads()


@anyio
async def test_two_sinks_on_one_console_are_refused(harness: Harness) -> None:
    recorder, console = on_terminal()
    with serve(Reply.text("*Again*"), repeat=True) as server:
        with pytest.raises(RuntimeError, match="console"):
            await harness.collect(server, sinks=[MarkdownSink(console), MarkdownSink(console)])
        before = len(recorder.terminal.rows())
        await harness.collect(server, sinks=MarkdownSink(console))
    assert as_text(recorder.terminal.rows()[before:]).strip() == "Again", "free again"
    assert not drawing_threads()


def test_two_consoles_at_once() -> None:
    recorders = [on_terminal() for _ in range(2)]
    with serve(Reply.text(cut(TEXT))) as server:
        sinks = [MarkdownSink(console) for _, console in recorders]
        stream_text(sdk_client(server), **PARAMS, sinks=sinks).until_done()
    for recorder, _ in recorders:
        assert_equal_rows(recorder.terminal.rows(), whole(TEXT, 80))


# -- other output on the console --


def test_other_output_of_the_same_thread_stays_whole() -> None:
    recorder, console = on_terminal(60, 12)
    with serve(Reply.text(cut(TEXT, 30), delay=0.002)) as server:
        stream = stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console))
        with stream:
            for number, _ in enumerate(stream):
                if number % 5 == 0:
                    console.print(f"note {number}", style="red")
                if number % 7 == 0:
                    console.log(f"log {number}")
    check_notes(recorder, TEXT)


def test_other_output_of_another_thread_stays_whole() -> None:
    recorder, console = on_terminal(60, 12)
    done = threading.Event()

    def print_notes() -> None:
        for number in range(40):
            if done.is_set() and number > 5:
                break
            console.print(f"note {number}\nnote {number} goes on", style="red")
            done.wait(0.005)

    printer = threading.Thread(target=print_notes)
    with serve(Reply.text(cut(TEXT, 30), delay=0.005)) as server:
        printer.start()
        stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console)).until_done()
        done.set()
        printer.join()
    check_notes(recorder, TEXT)


def check_notes(recorder: Recorder, text: str) -> None:
    """All notes are there, whole and in order, and between them is the reply."""
    rows = recorder.terminal.rows()
    notes = [row for row in rows if "note " in as_text([row]) or "log " in as_text([row])]
    assert len(notes) > 5
    numbers = [int(word) for row in notes for word in as_text([row]).split() if word.isdecimal()]
    assert numbers == sorted(numbers)
    rest = [as_text([row]) for row in rows if row not in notes]
    expected = [as_text([row]) for row in whole(text, recorder.terminal.columns)]
    assert [row for row in rest if row.strip()] == [row for row in expected if row.strip()]


@pytest.mark.parametrize("size", [(1, 1), (1, 24), (2, 5), (5, 2), (11, 3), (80, 1), (80, 2)])
def test_tiny_terminals(size: tuple[int, int]) -> None:
    recorder, console = on_terminal(*size)
    with serve(Reply.text(cut(PROSE + LISTS, 40), delay=0.001)) as server:
        result = stream_text(sdk_client(server), **PARAMS, sinks=MarkdownSink(console)).until_done()
    assert result.status == "complete"
    if size[0] >= 5:
        assert_equal_rows(recorder.terminal.rows(), whole(PROSE + LISTS, size[0]))
