"""Replies that survive their viewers."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any

from streamkit import AsyncEventStream, EventStream

from ._arguments import check_protocol, check_seconds, check_stream, check_text
from ._protocol import Protocol
from ._reply_frames import ReplyBuffer, ReplyFrames
from ._running_reply import Limits, RunningReply


class ReplyActive(RuntimeError):  # noqa: N818 - a state, to which an app has an answer
    """A reply is running under this key."""


class Replies:
    """Replies that go on without viewers: a browser that reloads, or loses its connection, resumes them.

        replies = Replies()
        body = await replies.start(chat_id, stream, AISDK())  # in the handler of POST
        body = await replies.resume(chat_id, AISDK())  # in the handler of GET; None: answer with status 204

    Make one for the application. The replies live in the memory of this process, on asyncio or trio. A key is a str,
    such as the ids of user and chat; whoever may resume a key may read its reply, so authorise GET and DELETE as POST.

    - `ping`: seconds of silence after which a viewer gets a comment.
    - `keep`: seconds for which a reply that has ended can be resumed.
    - `detached`: seconds without any viewer after which a reply is stopped. Its status is `interrupted`, and the kind
      of its error `no_viewers`.
    - `max_bytes`: the size of the frames of a reply above which it is stopped (`reply_too_large`).

    Set `total_timeout` for the streams as well. Raises `TypeError` and `ValueError` for wrong arguments.
    """

    def __init__(
        self, *, ping: float = 15.0, keep: float = 60.0, detached: float = 60.0, max_bytes: int = 20_000_000
    ) -> None:
        check_seconds("ping", ping)
        check_seconds("keep", keep, zero=True)
        check_seconds("detached", detached)
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected an int for max_bytes=, got {max_bytes!r}")
        if max_bytes <= 0:
            raise ValueError(f"expected more than 0 bytes for max_bytes=, got {max_bytes!r}")
        self._ping = ping
        self._limits = Limits(keep, detached, max_bytes)
        self._replies: dict[str, RunningReply] = {}
        self._closed = False

    async def start(self, key: str, stream: AsyncEventStream[Any, Any, Any], protocol: Protocol) -> ReplyFrames:
        """Start a reply, and return the body of a streaming response, which is its first viewer.

        `stream` is an async stream of `stream_events` that nothing has been read from, opened or not. It is read to its
        end into its sinks, also if the viewer leaves. The body raises nothing for what happens to the stream.

        Raises `ReplyActive`, after closing the stream, while a reply is running under this key; `RuntimeError` after
        `aclose()`; `TypeError` and `ValueError` for wrong arguments.
        """
        check_text("the key", key)
        check_stream(stream)
        check_protocol(protocol)
        if isinstance(stream, EventStream):
            raise TypeError("expected a stream of an async client, got a sync one: use AsyncAnthropic")
        self._check_open()
        encoder = protocol.encoder()
        current = self._replies.get(key)
        if current is not None and not current.ended:
            with suppress(Exception):  # of a sink
                await stream.aclose()
            raise ReplyActive(
                f"expected no running reply under the key {key!r}: answer with status 409, or call stop() first"
            )
        buffer = ReplyBuffer(secrets.token_hex(4))
        reply = self._replies[key] = RunningReply(stream, encoder, buffer, self._limits)
        frames = ReplyFrames(buffer, 0, ping=self._ping)

        def forget(reply: RunningReply) -> None:
            if self._replies.get(key) is reply:
                del self._replies[key]

        reply.run(forget)
        if current is not None:
            await current.stop_watching()
        return frames

    async def resume(self, key: str, protocol: Protocol, after: int | str = 0) -> ReplyFrames | None:
        """Return the frames of the reply, from the beginning, or `None` if there is nothing to resume.

        `after` is the id of the last frame that the browser has, as it sends it in `Last-Event-ID`, or a number of
        frames. An id of another reply, or text that is not an id, gives the reply from the beginning.

        Raises `TypeError` and `ValueError` for wrong arguments, and `RuntimeError` after `aclose()`.
        """
        check_text("the key", key)
        check_protocol(protocol)
        if not isinstance(after, int | str) or isinstance(after, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected an int or a str for after=, got {after!r}")
        if isinstance(after, int) and after < 0:
            raise ValueError(f"expected 0 or more for after=, got {after!r}")
        self._check_open()
        reply = self._replies.get(key)
        if reply is None:
            return None
        position = reply.buffer.position(after)
        if reply.ended and position >= len(reply.buffer.frames):
            return None
        return ReplyFrames(reply.buffer, position, ping=self._ping)

    async def stop(self, key: str) -> bool:
        """Interrupt the reply, and wait for its end. Returns `False` if no reply is running under this key.

        The status of the reply is `interrupted`. Raises `TypeError` and `ValueError` for a wrong key.
        """
        check_text("the key", key)
        reply = self._replies.get(key)
        if reply is None or reply.ended:
            return False
        reply.stop()
        await reply.done.wait()
        return True

    async def aclose(self) -> None:
        """Interrupt all replies, wait for their ends, and forget them. Harmless when repeated."""
        self._closed = True
        replies = list(self._replies.values())
        for reply in replies:
            reply.stop()
        for reply in replies:
            await reply.done.wait()
            await reply.stop_watching()
        self._replies.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("these replies are closed: make new Replies")
