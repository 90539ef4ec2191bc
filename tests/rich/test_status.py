"""The words of the status line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rich", reason="needs the extra `rich`")

from streamkit import StreamAPIError, StreamConnectionError, StreamProtocolError, StreamTimeoutError
from streamkit.rich._status import StatusLine, reason


def words(status: StatusLine, now: float) -> str:
    """The line without its spinner."""
    return status.text(now).partition(" ")[2]


def test_waiting() -> None:
    status = StatusLine("utf-8", 100.0)
    assert status.is_visible
    assert words(status, 100.0) == "waiting, 0 s"
    assert words(status, 103.4) == "waiting, 3 s"


def test_pieces_are_counted() -> None:
    status = StatusLine("utf-8", 100.0)
    status.think()
    assert words(status, 101.0) == "thinking, 1 s, at least 1 token"
    status.think()
    assert words(status, 101.0) == "thinking, 1 s, at least 2 tokens"


def test_text_hides_the_line() -> None:
    status = StatusLine("utf-8", 100.0)
    status.hide()
    assert not status.is_visible
    assert status.text(101.0) == ""
    status.use_tool(SimpleNamespace(name="get_\x1bweather"))
    assert words(status, 101.0) == "using get_weather, 1 s, at least 2 tokens"
    status.use_tool(SimpleNamespace())
    assert words(status, 101.0) == "using a tool, 1 s, at least 3 tokens"


def test_a_retry_counts_down() -> None:
    status = StatusLine("utf-8", 100.0)
    status.wait_for_retry(2, 105.0, StreamConnectionError.__new__(StreamConnectionError))
    assert words(status, 101.0) == "disconnected, attempt 2 in 4 s, 1 s"
    assert words(status, 106.0) == "disconnected, attempt 2, 6 s"
    status.hide()
    status.think()
    assert words(status, 106.0) == "thinking, 6 s, at least 2 tokens"


def test_the_spinner_turns() -> None:
    status = StatusLine("utf-8", 0.0)
    assert len({status.text(tick / 100)[0] for tick in range(100)}) > 5
    assert StatusLine("ascii", 0.0).text(0.0)[0].isascii()


def test_reasons() -> None:
    api_error = StreamAPIError.__new__(StreamAPIError)
    api_error.type = "overloaded_error"
    assert reason(api_error) == "overloaded_error"
    assert reason(StreamTimeoutError.__new__(StreamTimeoutError)) == "timed out"
    assert reason(StreamProtocolError.__new__(StreamProtocolError)) == "failed"
