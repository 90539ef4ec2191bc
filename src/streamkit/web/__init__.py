"""Streamed replies for the browser: server-sent events for any web framework, in the protocols of chat frontends.

    from streamkit import stream_events
    from streamkit.testing import Reply, serve
    from streamkit.web import AISDK, sse

    with serve(Reply.text("Hello there!")) as server:
        stream = stream_events(
            server.client(),
            model="claude-test",
            max_tokens=10,
            messages=[{"role": "user", "content": "Hello?"}],
        )
        for frame in sse(stream, AISDK()):  # the body of a streaming response
            print(frame.decode(), end="")

The last frames tell how the reply ended. Nothing that the server should keep to itself reaches the browser: no text of
an exception, no header, no request id, no signature and no encrypted content.
"""

from ._ag_ui import AGUI
from ._ai_sdk import AISDK
from ._async_frames import AsyncFrames
from ._endings import HTTPError, http_error
from ._protocol import Encoder, Protocol
from ._redis_log import RedisLog
from ._replies import Replies, ReplyActive
from ._reply_frames import ReplyFrames
from ._sse import sse
from ._sync_frames import Frames
from ._ui_messages import to_messages

__all__ = [
    "AGUI",
    "AISDK",
    "AsyncFrames",
    "Encoder",
    "Frames",
    "HTTPError",
    "Protocol",
    "RedisLog",
    "Replies",
    "ReplyActive",
    "ReplyFrames",
    "http_error",
    "sse",
    "to_messages",
]
