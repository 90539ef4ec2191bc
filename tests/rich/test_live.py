"""The thread that draws, called without a stream: what it does at one moment, whatever the speed of the machine."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from rich.console import Console

from streamkit import StreamError
from streamkit.rich import MarkdownSink, _live
from streamkit.rich._console import write
from tests.support.harness import wait_until
from tests.support.results import BUSY, HELLO, WHOLE, ended_by, read
from tests.support.terminal import Recorder, console_on

COMPLETE = read(*WHOLE)


def on_terminal() -> tuple[Recorder, Console, MarkdownSink]:
    recorder = Recorder(60, 12)
    console = console_on(recorder, 60, 12)
    return recorder, console, MarkdownSink(console, status=False)


def wait_until_idle(sink: Any) -> None:
    """Wait until the thread waits for news."""
    wait_until(lambda: sink._reply._is_waiting)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_retry_is_announced() -> None:
    recorder, console, _ = on_terminal()
    sink = MarkdownSink(console)
    error = read(BUSY).error
    assert isinstance(error, StreamError)
    sink.attempt(1, 0.0, None)
    recorder.wait_for(lambda text: "waiting" in text)
    sink.attempt(2, 3600.0, error)
    recorder.wait_for(lambda text: "overloaded_error, attempt 2 in 3" in text)
    sink.finish(COMPLETE)
    assert recorder.terminal.text() == ""


def test_news_wake_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "_TICK", 60.0)  # longer than `wait_for` waits
    recorder, console, sink = on_terminal()
    sink.write("One")
    recorder.wait_for(lambda text: text == "One")
    wait_until_idle(sink)
    sink.write(" two")
    recorder.wait_for(lambda text: text == "One two")
    wait_until_idle(sink)
    console.print("a note")
    recorder.wait_for(lambda text: text == "a note\nOne two")
    sink.finish(COMPLETE)
    assert recorder.terminal.text() == "a note\nOne two"


def test_news_that_come_while_a_frame_is_drawn_are_in_the_next_one() -> None:
    recorder, console, sink = on_terminal()

    def add() -> None:
        recorder.on_write = lambda: None
        sink.write(" two")
        console.print("a note")

    recorder.on_write = add
    sink.write("One")
    recorder.wait_for(lambda text: text == "a note\nOne two")
    sink.finish(COMPLETE)


def test_after_a_long_stop_the_reply_goes_on_below_what_the_shell_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _, sink = on_terminal()
    sink.write("One")
    recorder.wait_for(lambda text: text == "One")
    wait_until_idle(sink)
    monkeypatch.setattr(_live, "_SUSPENDED", -60.0)  # from now on each wait counts as a stop
    sink.write(" two")
    recorder.wait_for(lambda text: text == "One\nOne two")
    sink.finish(COMPLETE)


def test_a_line_without_an_end_is_printed_below_the_reply() -> None:
    file = Tty()
    console = console_on(file, 60, 12)
    sink = MarkdownSink(console, status=False)
    sink.write("The reply")
    console.print("and on", end="")
    sink.finish(COMPLETE)
    before, _, after = file.getvalue().partition("The reply")
    assert "and on" not in before
    assert after == "\r\n\x1b[?2026land on"


def test_who_kept_the_file_of_the_console_can_go_on_writing() -> None:
    """As the handler of a log does that was made while the reply was drawn."""
    recorder, console, sink = on_terminal()
    sink.write("The reply")
    kept = console.file
    sink.finish(COMPLETE)
    assert console.file is recorder
    kept.write("later\n")
    kept.flush()
    assert recorder.terminal.text() == "The reply\nlater"


def test_the_end_of_an_interrupted_text_is_shown_that_was_not_written_to_the_sink() -> None:
    recorder, console, _ = on_terminal()
    sink = MarkdownSink(console, thinking=True, status=False)
    result = ended_by(KeyboardInterrupt())
    sink.thinking("Hm.")
    recorder.wait_for(lambda text: text == "Hm.")
    sink.write("Hel")
    recorder.wait_for(lambda text: text.endswith("Hel"))
    wait_until_idle(sink)
    sink.finish(result)
    assert (result.status, result.text) == ("interrupted", "Hello ")
    assert recorder.terminal.text() == "Hm.\n\nHello"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_in_finish_waits_for_the_last_frame() -> None:
    recorder, console, _ = on_terminal()
    sink = MarkdownSink(console)
    result = read(*HELLO)  # a stream that broke off
    assert result.status == "disconnected"
    is_raised = threading.Event()

    def raise_interrupt(*_: object) -> None:
        is_raised.set()
        raise KeyboardInterrupt

    def interrupt_last_frame() -> None:
        if "disconnected" in recorder.writes[-1]:  # so the main thread is in `finish`, and waits for this one
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            assert is_raised.wait(20)
            threading.Event().wait(0.05)  # in which a `finish` that does not wait would return

    former = signal.signal(signal.SIGINT, raise_interrupt)
    try:
        recorder.on_write = interrupt_last_frame
        sink.write("Hello ")
        sink.write("there")
        with pytest.raises(KeyboardInterrupt):
            sink.finish(result)
    finally:
        signal.signal(signal.SIGINT, former)
    assert recorder.terminal.text() == "Hello there\n\ndisconnected"
    assert console.file is recorder, "the console is free again"


class Interrupt:
    """Interrupts this thread at an event in a function. `on_event` gets each event first."""

    def __init__(self, module: str, function: str, event: str = "call") -> None:
        self._place = (module, function, event)

    def on_event(self, place: tuple[str, str, str]) -> None:
        pass

    def __call__(self, frame: FrameType, event: str, _: object) -> Interrupt:
        place = frame.f_globals["__name__"].rpartition(".")[2], frame.f_code.co_name, event
        self.on_event(place)
        if place == self._place:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self

    def during(self, call: Callable[[], object]) -> None:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            with pytest.raises(KeyboardInterrupt):
                call()
        finally:
            sys.settrace(before)


def check_that_all_is_over(recorder: Recorder, console: Console) -> None:
    assert recorder.terminal.text() == "disconnected"
    assert console.file is recorder, "the console is free again"
    wait_until(lambda: all(thread.name != "streamkit-markdown" for thread in threading.enumerate()))


@pytest.mark.parametrize(("module", "function"), [("_console", "take"), ("threading", "start"), ("threading", "wait")])
def test_an_interrupt_while_the_thread_starts(module: str, function: str) -> None:
    recorder, console, _ = on_terminal()
    sink = MarkdownSink(console)
    Interrupt(module, function).during(lambda: sink.attempt(1, 0.0, None))
    sink.finish(read(*HELLO))
    check_that_all_is_over(recorder, console)


def test_an_interrupt_before_a_slow_thread_draws() -> None:
    recorder, console, _ = on_terminal()
    sink: Any = MarkdownSink(console)

    class Slow(Interrupt):
        def on_event(self, place: tuple[str, str, str]) -> None:
            if place == ("threading", "start", "call"):
                sink._reply._changed.acquire()  # which the thread needs before it draws

    Slow("threading", "wait").during(lambda: sink.attempt(1, 0.0, None))
    reply = sink._reply
    sink.finish(read(*HELLO))
    reply._changed.release()
    check_that_all_is_over(recorder, console)


def test_an_interrupt_at_the_end_of_a_finish_that_draws_itself() -> None:
    recorder, console, _ = on_terminal()
    sink = MarkdownSink(console)
    Interrupt("threading", "start").during(lambda: sink.attempt(1, 0.0, None))
    Interrupt("_live", "_draw", "return").during(lambda: sink.finish(read(*HELLO)))
    check_that_all_is_over(recorder, console)


def test_a_character_that_the_encoding_lacks_is_replaced() -> None:
    output = io.BytesIO()
    file = io.TextIOWrapper(output, encoding="ascii", newline="\n")
    write(file, "Tür\n")
    write(file, "Tor\n")
    assert output.getvalue() == b"T?r\nTor\n"


def test_pieces_of_control_characters_alone_write_nothing_to_a_file() -> None:
    file = io.StringIO()
    sink = MarkdownSink(Console(file=file), thinking=True)
    sink.thinking("\x1b")
    sink.write("\x07")
    assert file.getvalue() == ""
    sink.write("Hello\x07")
    sink.write("\x07 there")
    sink.finish(COMPLETE)
    assert file.getvalue() == "Hello there\n"
