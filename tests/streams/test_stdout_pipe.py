"""`StdoutSink` on a terminal, and behind a pipe whose reader goes away."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from streamkit import AsyncSink, BufferSink, Sink, StdoutSink, coalesce
from streamkit._sinks.stdout import _discard_output
from streamkit.testing import Reply, serve
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.sinks import AsyncLog, Log

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="pipes and terminals of POSIX"),
    ignores_generators_left_behind,
]
anyio = pytest.mark.anyio


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file that is a terminal, and a function that returns what is on its screen."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen, descriptor = os.openpty()
    with open(descriptor, "w", encoding="utf-8") as file:

        def shown() -> str:
            file.write("$")
            file.flush()
            read = b""
            while not read.endswith(b"$"):
                read += os.read(screen, 1000)
            return read.decode()[:-1].replace("\r\n", "\n")

        yield file, shown
    os.close(screen)


THOUGHT = Reply.thinking("Hm", "Yes", pings=False)


@anyio
async def test_thinking_is_dim_on_a_terminal(harness: Harness, terminal: Any) -> None:
    file, shown = terminal
    with serve(THOUGHT, THOUGHT.cut(after_events=3)) as server:
        await harness.collect(server, sinks=StdoutSink(file, thinking=True))
        assert shown() == "\x1b[2mHm\x1b[0m\n\nYes\n"
        await harness.collect(server, sinks=StdoutSink(file, thinking=True), on_error="return", retries=0)
        assert shown() == "\x1b[2mHm\x1b[0m\n", "reset after an error, too"


@anyio
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
async def test_a_user_may_turn_it_off(
    harness: Harness, terminal: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    file, shown = terminal
    with serve(THOUGHT) as server:
        await harness.collect(server, sinks=StdoutSink(file, thinking=True))
    assert shown() == "Hm\n\nYes\n"


def test_an_empty_no_color_turns_nothing_off(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    file, shown = terminal
    StdoutSink(file, thinking=True).thinking("Hm")
    assert shown() == "\x1b[2mHm\x1b[0m"


def test_a_file_without_isatty_is_no_terminal() -> None:
    class Plain:
        encoding, written = "utf-8", ""

        def write(self, text: str) -> None:
            self.written += text

        def flush(self) -> None:
            pass

    file: Any = Plain()
    StdoutSink(file, thinking=True).thinking("Hm")
    assert file.written == "Hm"


# A reader that goes away.

PROGRAM = """
import sys, threading
import anyio
import streamkit
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, async_sdk_client, sdk_client

sinks = SINKS
# More than a pipe holds: the program cannot end before its reader has gone.
reply = Reply.text(["0123456789"] * 20_000, chunk_size=4096)
with serve(reply) as server:
    if "MODE" == "sync":
        result = streamkit.collect(sdk_client(server), sinks=sinks, **PARAMS)
    else:
        async def main():
            async with async_sdk_client(server) as client:
                return await streamkit.collect(client, sinks=sinks, **PARAMS)
        result = anyio.run(main, backend="MODE")
print("printed afterwards")
print(result.status, result.error, len(result.text) < 200_000, file=sys.stderr)
"""
SINKS = {
    "alone": "streamkit.StdoutSink()",
    "merged": "streamkit.coalesce(streamkit.StdoutSink, 0.001)",
}


@pytest.mark.parametrize("mode", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize("sinks", SINKS)
def test_the_reader_of_a_pipe_goes_away(mode: str, sinks: str) -> None:
    program = textwrap.dedent(PROGRAM).replace("MODE", mode).replace("SINKS", SINKS[sinks])
    with subprocess.Popen(  # noqa: S603 - this file's own program
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert os.read(child.stdout.fileno(), 10) == b"0123456789"
        child.stdout.close()
        errors = child.stderr.read().decode()
        assert child.wait(60) == 0
    lines = [line for line in errors.splitlines() if "async_generator" not in line]
    assert lines == ["interrupted None True"], errors


def test_head_is_such_a_reader() -> None:
    program = textwrap.dedent(PROGRAM).replace("MODE", "sync").replace("SINKS", SINKS["alone"])
    done = subprocess.run(  # noqa: S602 - this file's own program
        '"$PYTHON" -c "$PROGRAM" | head -c 10',  # noqa: S607
        shell=True,
        env={**os.environ, "PYTHON": sys.executable, "PROGRAM": program},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0123456789", "interrupted None True\n")


class Closed(io.StringIO):
    """A pipe whose reader goes away after some pieces."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def write(self, text: str) -> int:
        if not self.pieces:
            raise BrokenPipeError(32, "Broken pipe")
        self.pieces -= 1
        return super().write(text)


REPLY = Reply.text(["a", "b", "c", "d"])


@anyio
@pytest.mark.parametrize("at_once", [False, True], ids=["event by event", "in one chunk"])
async def test_the_other_sinks_get_all_that_arrived(harness: Harness, at_once: bool) -> None:
    file, before, after = Closed(2), Log(), Log()
    calls: list[Any] = []
    sinks: list[Any] = [before, StdoutSink(file), StdoutSink(Closed(1)), after]
    sinks += [AsyncLog("async", calls)] if harness.is_async else []
    reply = Reply.recorded(REPLY.body, [10**6]) if at_once else REPLY.stall(after_events=5)
    with serve(reply) as server:
        result = await harness.collect(server, sinks=sinks)
    assert (result.status, result.error, result.text) == ("interrupted", None, "abcd" if at_once else "ab")
    assert file.getvalue() == "ab"
    assert "".join(before.of("write")) == "".join(after.of("write")) == result.text
    assert before.of("finish") == after.of("finish") == [result.status]
    if harness.is_async:
        assert "".join(value for _, method, value in calls if method == "write") == result.text


@anyio
async def test_it_is_too_late_for_the_end(harness: Harness) -> None:
    sink = StdoutSink(Closed(4))
    with serve(REPLY) as server:
        assert (await harness.collect(server, sinks=sink)).status == "complete"


@anyio
async def test_a_sink_serves_the_next_stream_after_a_broken_pipe(harness: Harness) -> None:
    file = Closed(1)
    sink = StdoutSink(file)
    with serve(REPLY, repeat=True) as server:
        assert (await harness.collect(server, sinks=sink)).status == "interrupted"
        file.pieces = 100
        assert (await harness.collect(server, sinks=sink)).status == "complete"
    assert file.getvalue() == "aabcd\n"


@anyio
async def test_the_broken_pipe_of_another_sink_is_an_error(harness: Harness) -> None:
    class Broken(Sink):
        def write(self, text: str) -> None:
            raise BrokenPipeError

    with serve(REPLY) as server:
        with pytest.raises(BrokenPipeError):
            await harness.collect(server, sinks=Broken)


@anyio
async def test_a_broken_pipe_in_the_background_comes_too_late_for_the_end(harness: Harness) -> None:
    """A wrapper passes it on from `finish`, when there is nothing left to cancel."""
    with serve(REPLY) as server:
        assert (await harness.collect(server, sinks=coalesce(StdoutSink(Closed(0)), 60))).status == "complete"


@anyio
async def test_an_async_sink_may_write_to_a_closed_output(harness: Harness) -> None:
    if not harness.is_async:
        pytest.skip("a sync stream refuses an AsyncSink")
    inner = StdoutSink(Closed(0))

    class Delegating(AsyncSink):
        async def write(self, text: str) -> None:
            inner.write(text)

        async def finish(self, result: Any) -> None:
            inner.finish(result)

    with serve(REPLY, repeat=True) as server:
        assert (await harness.collect(server, sinks=Delegating)).status == "interrupted"
        assert (await harness.collect(server, sinks=coalesce(Delegating, 60))).status == "complete"


def test_standard_output_is_discarded_only_if_it_has_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed(0))
    buffer = BufferSink()
    with contextlib.suppress(BrokenPipeError), serve(REPLY) as server:
        import streamkit
        from tests.support.clients import PARAMS, sdk_client

        assert streamkit.collect(sdk_client(server), sinks=[StdoutSink(), buffer], **PARAMS).status == "interrupted"
    assert buffer.text.startswith("a")


def test_a_dropped_stream_calls_its_sinks_though_the_output_is_closed() -> None:
    import asyncio
    import gc

    import streamkit
    from tests.support.clients import PARAMS, async_sdk_client

    log, calls = Log(), list[Any]()

    async def main() -> None:
        async with async_sdk_client(server) as client:
            sinks = [StdoutSink(Closed(1)), log, AsyncLog("async", calls)]
            stream = streamkit.stream_text(client, sinks=sinks, **PARAMS)
            assert await anext(stream) == "a"
            with pytest.warns(ResourceWarning, match="was dropped"):  # noqa: PT031
                del stream
                gc.collect()
            await asyncio.sleep(0)
            while ("async", "finish", "interrupted") not in calls:  # noqa: ASYNC110
                await asyncio.sleep(0)

    with serve(Reply.recorded(REPLY.body, [10**6])) as server:
        asyncio.run(main())
    assert log.of("write") == ["a", "b", "c", "d"]


def test_output_that_nobody_reads_is_discarded() -> None:
    """In this process, on a pipe in the place of standard output."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        _discard_output(file)
        file.write("into the void")
        file.flush()
