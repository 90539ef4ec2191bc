"""examples/chat.py: what it sends as the history, and what a user can do with it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streamkit.testing import Reply, Server, serve
from tests.support.examples import (
    EXAMPLES,
    KEY_NOTE,
    NOTE,
    PATIENCE,
    POSIX_ONLY,
    WITH_SIGINT,
    command,
    environment,
    read_until,
    run,
    started,
    with_key,
)

CHAT = EXAMPLES / "chat.py"
MODEL = "claude-sonnet-5-5"
HINT = "This answer is not complete: /continue goes on with it.\n"
NOTHING = "There is nothing to go on with.\n"
WHOLE = Reply.text("They push water aside.", model=MODEL)
HALF = Reply.text("They pu", model=MODEL, stop_reason="max_tokens")


def printed(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """What the chat printed between its greeting and the sum, and the sum."""
    assert done.returncode == 0, done.stderr
    _, greeting, answers = done.stdout.partition("/quit or Ctrl-D ends the chat.\n\n")
    assert greeting
    answers, _, total = answers.rpartition("\n\n")
    return answers + "\n", total


def history(server: Server, request: int) -> list[tuple[str, str]]:
    """The roles and texts of the messages of a request."""

    def text(content: Any) -> str:
        return content if isinstance(content, str) else "".join(block["text"] for block in content)

    return [(message["role"], text(message["content"])) for message in server.requests[request].json["messages"]]


def test_runs_without_a_key() -> None:
    done = run(CHAT, lines="Hello\n\n story\n/continue\n/continue\n")
    assert done.stderr == NOTE
    assert printed(done) == (
        "Ask what you like: this server has *three* answers, and half a story is next.\n"
        f"A herring set out for the Gulf of Both\n{HINT}"
        f"Bothnia. There it met a **seal**, who showed it the way home.\n{NOTHING}",
        f"{MODEL}: 3 answers, 30 input tokens, 36 output tokens, 0.0004 USD\n",
    )


@pytest.mark.parametrize("lines", [pytest.param("", marks=pytest.mark.slow), "\n/quit\nHello\n"], ids=["end", "/quit"])
def test_ends_without_a_question(lines: str) -> None:
    done = run(CHAT, lines=lines)
    assert (done.returncode, done.stderr) == (0, NOTE)
    assert done.stdout.endswith("/quit or Ctrl-D ends the chat.\n\n")


def test_sends_what_was_said() -> None:
    with serve(WHOLE, HALF, Reply.text("push water aside."), WHOLE, strict=True) as server:
        done = run(CHAT, lines="One\nTwo\n/continue\nThree\n", **with_key(server))
        first, second, third, fourth = (history(server, request) for request in range(4))
    assert done.stderr == KEY_NOTE
    assert first == [("user", "One")]
    assert second == [("user", "One"), ("assistant", "They push water aside."), ("user", "Two")]
    assert third[:-1] == [*second, ("assistant", "They pu")]
    assert third[-1][0] == "user"
    assert "They pu" in third[-1][1]
    assert fourth == [*third, ("assistant", "push water aside."), ("user", "Three")]


def test_a_question_without_an_answer_is_forgotten() -> None:
    refused = Reply.http_error(400, message="no such model")
    with serve(WHOLE, refused, WHOLE, strict=True) as server:
        done = run(CHAT, lines="One\nTwo\n/continue\nThree\n", **with_key(server))
        assert history(server, 2) == [("user", "One"), ("assistant", "They push water aside."), ("user", "Three")]
    answers, _ = printed(done)
    assert re.search(rf"aside\.\nBadRequestError: .*no such model.*\n{NOTHING}They", answers)


def test_an_answer_that_breaks_off_can_be_continued() -> None:
    with serve(WHOLE.cut(after_text="push"), WHOLE, strict=True) as server:
        done = run(CHAT, lines="One\n/continue\n", **with_key(server))
        assert history(server, 1)[:2] == [("user", "One"), ("assistant", "They push")]
    answers, total = printed(done)
    assert re.match(rf"They push \nStreamTruncatedError: .*\n{HINT}They push water aside\.\n$", answers)
    assert total.startswith(f"{MODEL}: 2 answers, 20 input tokens, at least 6 output tokens, ")


@POSIX_ONLY
def test_ctrl_c_stops_the_answer_and_keeps_it() -> None:
    with serve(WHOLE.stall(after_text="push"), WHOLE, strict=True) as server:
        with started(CHAT, with_key(server), stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(b"One\n")
            process.stdin.flush()
            read_until(process, "push ")
            process.send_signal(signal.SIGINT)
            read_until(process, HINT)
            out, err = process.communicate(b"Two\n", timeout=PATIENCE)
        assert history(server, 1) == [("user", "One"), ("assistant", "They push "), ("user", "Two")]
    assert (process.returncode, err.decode()) == (0, KEY_NOTE)
    assert out.startswith(b"They push water aside.\n")


# Runs the chat without the packages that are named.
WITHOUT = """
import pathlib, runpy, sys
path, *missing = sys.argv[1:]
sys.modules.update(dict.fromkeys(missing))
sys.path.insert(0, str(pathlib.Path(path).parent))  # as `python path` does
runpy.run_path(path, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("model", "missing"), [(MODEL, ["genai_prices", "readline"]), ("unheard-of", [])], ids=["no package", "no price"]
)
def test_without_a_price_the_tokens_are_printed(model: str, missing: list[str]) -> None:
    with serve(Reply.text("They do.", model=model)) as server:
        done = run("-c", WITHOUT, CHAT, *missing, lines="One\n", **with_key(server))
    assert printed(done) == ("They do.\n", f"{model}: 1 answers, 10 input tokens, 2 output tokens\n")


@contextmanager
def in_terminal(server: Server) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The chat in a terminal, and the descriptor of its other side."""
    ours, its = os.openpty()
    env = environment({**with_key(server), "TERM": "xterm"})
    program = [sys.executable, "-c", WITH_SIGINT, *command(CHAT)]
    with subprocess.Popen(program, env=env, stdin=its, stdout=its, stderr=its) as process:  # noqa: S603
        os.close(its)
        stuck = threading.Timer(PATIENCE, process.kill)  # ends a `seen_until` that waits for more
        stuck.start()
        try:
            yield process, ours
        finally:
            stuck.cancel()
            process.kill()
            os.close(ours)


def read(terminal: int, seen: bytes) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        pytest.fail(f"the chat ended, or was stuck and killed, after {seen!r}")


def seen_until(terminal: int, marker: bytes) -> bytes:
    seen = b""
    while marker not in seen:
        seen += read(terminal, seen)
    return seen


def discard_line(process: subprocess.Popen[bytes], terminal: int) -> None:
    """Press Ctrl-C until there is a new prompt: readline misses a signal between two waits for a key."""
    seen = b""
    while b"\n> " not in seen:
        process.send_signal(signal.SIGINT)
        while b"\n> " not in seen and select.select([terminal], [], [], 5)[0]:
            seen += read(terminal, seen)


@POSIX_ONLY
@pytest.mark.skipif(sys.platform == "darwin", reason="libedit, in place of readline, prints otherwise")
def test_in_a_terminal() -> None:
    with serve(WHOLE.stall(after_text="push"), WHOLE, strict=True) as server:
        with in_terminal(server) as (process, terminal):
            seen_until(terminal, b"> ")
            os.write(terminal, b"a typo")
            seen_until(terminal, b"typo")
            discard_line(process, terminal)
            os.write(terminal, b"One\n")
            seen_until(terminal, b"push")
            process.send_signal(signal.SIGINT)
            assert HINT.strip().encode() in seen_until(terminal, b"> ")
            os.write(terminal, b"Two\n")
            seen_until(terminal, b"> ")
            os.write(terminal, b"\x04")
            assert b"2 answers" in seen_until(terminal, b"USD")
            assert process.wait(PATIENCE) == 0
        assert history(server, 1) == [("user", "One"), ("assistant", "They push "), ("user", "Two")]
