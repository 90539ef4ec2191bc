"""The chat at the end of the tutorial: it runs without a key, and neither Ctrl-C nor a broken connection ends it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from streamkit.testing import Reply, serve
from tests.support.examples import POSIX_ONLY, interrupt, read_until, run, started, with_key
from tests.support.pages import ROOT, blocks

BOATS = Reply.text("They push water aside.")


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    (block,) = [block for block in blocks(ROOT / "docs" / "tutorial.md") if block.file == "chat.py"]
    path = tmp_path / "chat.py"
    path.write_text(block.source, encoding="utf-8")
    return path


def test_the_chat_runs_without_a_key(chat: Path) -> None:
    done = run(chat, lines="Why do boats float?\n\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "> They push water aside, and the water pushes back.\n> "


def test_the_chat_keeps_a_history_that_the_api_accepts(chat: Path) -> None:
    with serve(BOATS.cut(after_text="push"), Reply.http_error(400), BOATS) as server:
        done = run(chat, lines="One?\nTwo?\nThree?\n", **with_key(server))
        history = server.requests[2].json["messages"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "> They push \n[disconnected]\n> [failed]\n> They push water aside.\n> "
    assert history == [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": [{"type": "text", "text": "They push "}]},
        {"role": "user", "content": "Three?"},
    ]


@POSIX_ONLY
def test_ctrl_c_stops_the_answer_and_not_the_chat(chat: Path) -> None:
    with serve(BOATS.stall(after_text="push"), BOATS) as server:
        with started(chat, with_key(server), stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(b"One?\n")
            process.stdin.flush()
            read_until(process, "push ")
            process.send_signal(signal.SIGINT)
            read_until(process, "[interrupted]")
            process.stdin.write(b"Two?\n")
            process.stdin.flush()
            read_until(process, "They push water aside.\n> ")
            code, _, err = interrupt(process)  # at the prompt
        history = server.requests[1].json["messages"]
    assert (code, err) == (0, "")
    assert [message["role"] for message in history] == ["user", "assistant", "user"]
