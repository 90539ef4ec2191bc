"""The recipes of docs/web.md, on the real servers: whole replies, refused requests, and clients that go away."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.testing import Reply, serve
from tests.support.npm import AI_SDK, needs_node, read_with
from tests.support.web_servers import COMMANDS, posted, read_response, read_until, running, seconds_until_closed

WORDS = Reply.text("They push water aside.")
IDLE = WORDS.stall(after_events=5)
WRITING = Reply.text(["word "] * 100_000, delay=0.005)
each_framework = pytest.mark.parametrize("framework", sorted(COMMANDS))


@each_framework
def test_the_recipe(framework: str, tmp_path: Path) -> None:
    """One server for all questions, as its start takes longest."""
    refused = Reply.http_error(401, message="invalid x-api-key: sk-secret-key")
    with serve(WORDS, refused, IDLE, WRITING) as api, running(framework, api, tmp_path) as port:
        status, response = read_response(port)
        assert status == 200
        assert b"text/event-stream" in response
        assert b'"delta":"aside."' in response
        assert b'"status":"complete"' in response
        assert b"data: [DONE]\n\n" in response

        status, response = read_response(port)
        assert status == 500
        assert b"\r\n\r\n" in response
        assert b"Something went wrong on the server." in response
        assert b"secret" not in response.lower()

        status, response = read_response(port, b'{"messages": 1}')
        assert status == 400

        for reply in ("idle", "writing"):
            with posted(port) as sock:
                read_until(sock, b'"delta":"push "' if reply == "idle" else b"word")
            assert seconds_until_closed(api) < 5, reply  # by itself in ten minutes, or never
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


@needs_node
def test_the_client_of_the_browser_over_http(tmp_path: Path) -> None:
    cut = WORDS.cut(after_events=5)
    refused = Reply.http_error(400, message="a secret")
    with serve(*(WORDS, cut, refused) * len(AI_SDK)) as api, running("fastapi", api, tmp_path) as port:
        for client in AI_SDK:
            whole, half, none = read_with(client, [{"url": f"http://127.0.0.1:{port}/chat"}] * 3)
            assert (whole["status"], whole["messages"][-1]["parts"][-1]["text"]) == ("ready", "They push water aside.")
            assert (half["status"], half["messages"][-1]["parts"][-1]["text"]) == ("error", "They push ")
            assert half["error"] == "The connection to the model was lost. Please try again."
            assert (none["status"], none["error"]) == ("error", "The model could not accept this request.")
