"""Real signals: Ctrl-C in a program that streams, at many moments of the stream's life."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streamkit.testing import Reply, serve

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

import pty
import termios

PIECES = [f"{number:02d} and on, " for number in range(20)]
TEXT = "".join(PIECES)
# Slow enough that a signal sent after a piece arrives before the end, nearly always.
REPLY = Reply.text(PIECES, delay=0.01)

SYNC = """
    import contextlib, signal, sys, threading
    import anthropic
    from streamkit import stream_text

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have told it to be ignored
    client = anthropic.Anthropic(api_key="test-key", base_url=sys.argv[1], max_retries=0)
    messages = [{"role": "user", "content": "Hi"}]
    stream = stream_text(client, model="claude-sonnet-5-5", max_tokens=100, messages=messages)
    try:
        print("ready", flush=True)
        with stream:
            print("open", flush=True)
            for piece in stream:
                print(f"piece {piece}", flush=True)
        print("left", flush=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late for the stream
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for thread in threading.enumerate():  # a request that was abandoned is closed when it is answered
            if thread.name == "streamkit-request":
                with contextlib.suppress(RuntimeError):  # interrupted in its `start`: a request that sends nothing
                    thread.join(10)
        pool = client._client._transport._pool
        free = not [one for one in pool.connections if not one.is_closed() and not one.is_idle()]
        print(f"\\nstatus {stream.status} {free}", flush=True)
        print(f"text {stream.result.text}", flush=True)
        sys.exit(130)
    print(f"\\nstatus {stream.status} True", flush=True)
    print(f"text {stream.result.text}", flush=True)
"""

ASYNC = """
    import asyncio, signal, sys
    import anthropic
    from streamkit import stream_text

    stream = None

    async def main():
        global stream
        async with anthropic.AsyncAnthropic(api_key="test-key", base_url=sys.argv[1], max_retries=0) as client:
            stream = stream_text(
                client, model="claude-sonnet-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hi"}]
            )
            print("ready", flush=True)
            try:
                async with stream:
                    print("open", flush=True)
                    async for piece in stream:
                        print(f"piece {piece}", flush=True)
                print("left", flush=True)
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late for the stream
            finally:
                pool = client._client._transport._pool
                free = not [one for one in pool.connections if not one.is_closed() and not one.is_idle()]
                print(f"\\nstatus {stream.status} {free}", flush=True)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print(f"text {stream.result.text}", flush=True)
        sys.exit(130)
    print(f"text {stream.result.text}", flush=True)
"""

SCRIPTS = {"sync": SYNC, "asyncio": ASYNC}

NOTE = b"ANTHROPIC_API_KEY is set: waiting for the first words of the API ...\n"


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"{request.param}_program.py"
    path.write_text(textwrap.dedent(SCRIPTS[request.param]))
    return path


def environment() -> dict[str, str]:
    import streamkit

    source = str(Path(streamkit.__file__).parent.parent)
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    kept = {name: value for name, value in os.environ.items() if name not in proxies}
    return {**kept, "PYTHONPATH": source, "PYTHONWARNINGS": "error::ResourceWarning", "PYTHONUNBUFFERED": "1"}


def check(lines: list[str], errors: str, code: int, seen: str) -> bool:
    """Whether the signal came before the end."""
    assert "Traceback" not in errors, errors
    assert errors == ""
    assert any(line.startswith("status ") for line in lines), lines
    found = dict(line.split(" ", 1) for line in lines if line.startswith(("status ", "text ")))
    text, got = found["text"], "".join(line[6:] for line in lines if line.startswith("piece "))
    status, free = found["status"].split()
    assert free == "True", "the connection is in use after the block"
    assert TEXT.startswith(text)
    assert text.startswith(got.rstrip("\n")), "the consumer got more than the result holds"
    assert text.startswith(seen)
    assert text[len(got) :] in ("", *PIECES), "more than one chunk ahead"
    if "left" not in lines:
        assert code == 130
        # "pending" where it came before the block: nothing was sent.
        assert status in ("interrupted", "complete") or (status == "pending" and "open" not in lines and not text)
        return True
    assert status == "complete"
    assert text == TEXT
    assert code in (0, 130)
    return False


def interrupted_after(script: Path, url: str, moment: int) -> bool:
    """Start the program, and send it SIGINT when it has printed that many lines."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, str(script), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            output = b""
            # Past the buffer of the file object: `communicate` would not see the lines that wait in there.
            while output.count(b"\n") < moment and (more := os.read(process.stdout.fileno(), 65536)):
                output += more
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    complete = output.decode().rpartition("\n")[0].splitlines()
    seen = "".join(line[6:] for line in complete if line.startswith("piece "))
    return check((output + rest).decode().splitlines(), errors.decode(), process.returncode, seen)


def _interrupt(script: Path, moments: range, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(REPLY, repeat=True) as server:
        interrupted = sum(interrupted_after(script, server.url, moment) for moment in moments)
    with capsys.disabled():
        print(f"\n{script.name}: {len(moments)} signals, {interrupted} before the end")
    assert interrupted > len(moments) // 2


@pytest.mark.slow
def test_ctrl_c_after_each_piece(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line says that it is ready, the second that the stream is open; then come the pieces."""
    _interrupt(script, range(1, len(PIECES) + 3), capsys)


INTERRUPTIBLE = Path(__file__).parents[2] / "examples" / "interruptible.py"


def example_interrupted_after(url: str, size: int) -> bool:
    """Start the example, and send it SIGINT when it has printed that many characters. Whether that was in time."""
    with subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, str(INTERRUPTIBLE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(), "ANTHROPIC_API_KEY": "test-key", "ANTHROPIC_BASE_URL": url},
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            seen = b""
            while len(seen) < size and (more := os.read(process.stdout.fileno(), 65536)):
                seen += more
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    output = (seen + rest).decode()
    # A signal in the middle of the note of the example may cut it.
    assert NOTE.startswith(errors), errors
    if process.returncode == 0:
        assert output.endswith("status: complete (end_turn)\n")
        return False
    assert process.returncode == 130
    printed, last = output.split("\n[interrupted]\n")
    said = printed.partition("\n\nusage: ")[0]
    assert TEXT.startswith(said.rstrip("\n"))
    assert said.startswith(seen.decode().partition("\n\nusage: ")[0].rstrip("\n"))
    assert re.fullmatch(r"usage: at least \d+ output tokens\n", last)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_ctrl_c_in_the_interruptible_example(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    """At 56 moments spread over its answer, and over the lines that follow."""
    moments = [1 + round(step * (len(TEXT) + 60) / 55) for step in range(56)][part::4]
    with serve(REPLY, repeat=True) as server:
        interrupted = sum(example_interrupted_after(server.url, size) for size in moments)
    with capsys.disabled():
        print(f"\ninterruptible.py: {len(moments)} signals, {interrupted} before the end")
    assert interrupted > len(moments) // 2


@pytest.mark.slow
@pytest.mark.parametrize("script", ["sync"], indirect=True)
def test_ctrl_c_while_nothing_arrives(script: Path) -> None:
    with serve(REPLY.stall(after_events=5)) as server:
        assert interrupted_after(script, server.url, 4)


def test_ctrl_c_in_a_terminal(script: Path) -> None:
    """The key itself, through a pseudo-terminal: its modes are the same afterwards."""
    with serve(REPLY) as server:
        leader, follower = pty.openpty()
        before = termios.tcgetattr(follower)
        # In a session of its own, with the pseudo-terminal as its terminal.
        start = (
            "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", start, str(script), server.url],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment(),
        )
        output = b""
        try:
            pressed = False
            with contextlib.suppress(OSError):  # the other side is closed
                while process.poll() is None or b"text " not in output:
                    output += os.read(leader, 4096)
                    if not pressed and output.count(b"piece ") >= 3:
                        pressed = True
                        os.write(leader, b"\x03")
                    if b"text " in output.rpartition(b"\n")[0]:
                        break
            code = process.wait(30)
            after = termios.tcgetattr(follower)
        finally:
            process.kill()
            process.wait()
            os.close(leader)
            os.close(follower)
    assert pressed
    lines = output.decode().replace("\r\n", "\n").replace("^C", "").splitlines()
    assert check(lines, "", code, "")
    assert after == before, "the terminal is not as it was"
