"""Replies in the framing of AWS, and what other platforms get."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from streamkit.testing import Reply, serve
from tests.support.bodies import FIXTURES
from tests.support.testing_server import raw

pytestmark = pytest.mark.usefixtures("no_thread_left")


ONE = Reply.text("a")


# --- the framing of AWS ---------------------------------------------------------------------------------------------


def aws_messages(body: bytes) -> list[tuple[dict[str, str], Any]]:
    """Headers and payload of each message, as botocore reads them; it checks both sums of each."""
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is not installed")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(body)
    return [(message.headers, json.loads(message.payload)) for message in buffer]


def events_of(body: bytes) -> list[Any]:
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data:")]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_framing_of_aws_holds_the_same_events(path: Path) -> None:
    reply = Reply.recorded(path)
    messages = aws_messages(reply.aws().body)
    assert [json.loads(base64.b64decode(payload["bytes"])) for _, payload in messages] == events_of(reply.body)
    chunk = {":event-type": "chunk", ":message-type": "event", ":content-type": "application/json"}
    assert all(headers == chunk for headers, _ in messages)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("overloaded_error", "serviceUnavailableException"),
        ("rate_limit_error", "throttlingException"),
        ("validationException", "validationException"),
    ],
)
def test_an_error_is_an_exception_in_the_framing_of_aws(kind: str, name: str) -> None:
    exception = {":exception-type": name, ":message-type": "exception", ":content-type": "application/json"}
    for reply in (
        ONE.error(kind, after_events=2, message="No.").aws(),
        ONE.aws().error(kind, after_events=2, message="No."),
    ):
        assert aws_messages(reply.body)[2:] == [(exception, {"message": "No."})]


def test_what_is_no_event_in_the_framing_of_aws() -> None:
    framed = ONE.aws()
    assert framed.aws() is framed
    assert Reply.http_error(429).aws() == Reply.http_error(429)
    assert ONE.garbage(b"junk", after_events=1).aws().frames == (framed.frames[0], b"junk", *framed.frames[1:])
    assert Reply.recorded(b": hello\n\n" + ONE.frames[0]).aws().body == framed.frames[0]
    for size in range(1, len(ONE.frames[0]) - 2):  # what is cut stays so
        assert aws_messages(ONE.cut(after_bytes=size).aws().body) == []
    cut = framed.cut(after_bytes=len(framed.frames[0]) + 5)
    assert cut.frames == (framed.frames[0], framed.frames[1][:5])


@pytest.mark.parametrize(
    ("path", "content_type", "header"),
    [
        ("/model/claude:1/invoke-with-response-stream", "application/vnd.amazon.eventstream", "x-amzn-requestid"),
        ("/model/claude:1/invoke", "application/json", "x-amzn-requestid"),
        ("/v1/projects/p/locations/l/publishers/a/models/c@1:streamRawPredict", ONE.content_type, "request-id"),
        ("/v1/projects/p/locations/l/publishers/a/models/c@1:rawPredict", "application/json", "request-id"),
    ],
)
def test_other_platforms_get_what_they_expect(path: str, content_type: str, header: str) -> None:
    asked = b'{"stream": true}' if path.endswith("streamRawPredict") else b"{}"  # Bedrock has it in the path
    with serve(ONE, Reply.http_error(429)) as server:
        with raw(server, path=path, body=asked) as response:
            said = response.read()
            assert response.getheader("content-type") == content_type
            assert [name for name in ("x-amzn-requestid", "request-id") if response.getheader(name)] == [header]
        with raw(server, path=path, body=asked) as response:
            assert (response.status, response.getheader("content-type")) == (429, "application/json")
    if content_type == "application/json":
        assert json.loads(said)["content"] == [{"type": "text", "text": "a"}]
    else:
        assert said == (ONE.aws() if "/model/" in path else ONE).body


def test_pings_in_the_framing_of_aws() -> None:
    reply = ONE.aws().stall(after_events=1, pings=0.01)
    with serve(reply) as server, raw(server) as response:
        ping = ONE.aws().frames[1]
        assert response.read(len(reply.body) + 2 * len(ping)) == reply.body + 2 * ping
