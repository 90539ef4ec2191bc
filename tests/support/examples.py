"""Examples as processes of their own: how they are started, fed, read and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import streamkit
from streamkit.testing import Server
from tests.support.pages import ROOT

EXAMPLES = ROOT / "examples"
NOTE = "ANTHROPIC_API_KEY is not set: a server on this machine answers instead, word by word.\n"
KEY_NOTE = "ANTHROPIC_API_KEY is set: waiting for the first words of the API ...\n"
PATIENCE = 120  # seconds after which a process counts as stuck
POSIX_ONLY = pytest.mark.skipif(
    sys.platform == "win32", reason="on Windows no process can send Ctrl-C to another as a signal"
)
# Runs a command with the default action of SIGINT. A background job inherits that it is ignored, and Python keeps that.
WITH_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    env |= {"PYTHONIOENCODING": "utf-8", "COLUMNS": "80", "TERM": "dumb", "NO_PROXY": "127.0.0.1", **(extra or {})}
    env.pop("PYTHONUNBUFFERED", None)  # it would hide that an example does not flush
    source = Path(streamkit.__file__).parents[1]
    if source.name == "src":  # not installed
        env["PYTHONPATH"] = str(source)
    return env


def command(*args: object) -> list[str]:
    # Something left unclosed would be told on stderr, and found there.
    return [sys.executable, "-W", "default::ResourceWarning", *map(str, args)]


def run(
    *args: object, cwd: Path | None = None, lines: str | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own files
        command(*args),
        cwd=cwd,
        input=lines,
        env=environment(extra),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def with_key(server: Server) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "test-key", "ANTHROPIC_BASE_URL": server.url}


@contextmanager
def started(
    example: Path, extra: Mapping[str, str] | None = None, stdin: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    prefix = [] if sys.platform == "win32" else [sys.executable, "-c", WITH_SIGINT]
    process = subprocess.Popen(  # noqa: S603 - our own file
        [*prefix, *command(example)],
        env=environment(extra),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stuck = threading.Timer(PATIENCE, process.kill)  # ends the output, and so a `read_until` that waits for more
    stuck.start()
    with process:
        try:
            yield process
        finally:
            stuck.cancel()
            process.kill()


def read_until(process: subprocess.Popen[bytes], marker: str) -> str:
    """The output up to and including the first chunk in which `marker` is complete."""
    assert process.stdout is not None
    seen = b""
    while marker.encode() not in seen:
        chunk = os.read(process.stdout.fileno(), 65536)
        assert chunk, f"ended before {marker!r}: {seen!r}"
        seen += chunk
    return seen.decode()


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out.decode(), err.decode()
