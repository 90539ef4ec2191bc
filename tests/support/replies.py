"""The reply that most tests of one stream read, and its faults."""

from __future__ import annotations

import anthropic

from streamkit import StreamAPIError, StreamConnectionError, StreamError, StreamProtocolError, StreamTruncatedError
from streamkit.testing import Reply
from tests.support.events import block_start, message_start, sse, text_delta

# message_start, ping, content_block_start, "One ", "two ", "three", content_block_stop, message_delta, message_stop
REPLY = Reply.text(["One ", "two ", "three"])
TEXT = "One two three"
SOON = {"retry-after": "0.001"}

LETTERS = Reply.text(["a", "b", "c", "d"])
ONE_CHUNK = 10**6  # bytes: the size of a chunk that holds a whole reply
AT_ONCE = Reply.recorded(LETTERS.body, [ONE_CHUNK])

# Faults after "One two ": the reply, the error, the class of the SDK that it is one of, and the status.
FAULTS: dict[str, tuple[Reply, type[StreamError], type[Exception], str]] = {
    name: (reply, kind, sdk_kind, status)
    for reply, kind, sdk_kind, status, name in [
        (REPLY.cut(after_events=5), StreamTruncatedError, anthropic.APIConnectionError, "disconnected", "cut"),
        (
            REPLY.cut(after_bytes=len(b"".join(REPLY.frames[:5])) + 9),
            *(StreamTruncatedError, anthropic.APIConnectionError, "disconnected", "cut in an event"),
        ),
        (REPLY.reset(after_events=5), StreamConnectionError, anthropic.APIConnectionError, "disconnected", "reset"),
        (REPLY.error("api_error", after_events=5), StreamAPIError, anthropic.APIStatusError, "failed", "error event"),
        *(
            (REPLY.garbage(garbage, after_events=5), StreamProtocolError, anthropic.APIError, "failed", name)
            for name, garbage in {
                "bad JSON": b"event: message_delta\ndata: {oops\n\n",
                "bad UTF-8": b'event: message_delta\ndata: {"a":"\xff"}\n\n',
                "no object": b"event: message_delta\ndata: []\n\n",
                "out of order": sse(text_delta("x", 9)),
                "second start": sse(message_start()),
                "type no text": b'data: {"type":["x"]}\n\ndata: oops\n\n',
                "text no text": sse(block_start(1, text=5)),
            }.items()
        ),
    ]
}
