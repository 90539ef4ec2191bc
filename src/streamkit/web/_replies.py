"""Replies that survive their viewers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from streamkit import AsyncEventStream, EventStream

from ._arguments import check_protocol, check_seconds, check_stream, check_text
from ._protocol import Encoder, Protocol
from ._redis_log import RedisLog
from ._redis_store import RedisStore
from ._reply_frames import ReplyBuffer, ReplyFrames
from ._running_reply import Limits, RunningReply


class ReplyActive(RuntimeError):  # noqa: N818 - a state, to which an app has an answer
    """A reply is running under this key."""


class Replies:
    """Replies that go on without viewers: a browser that reloads, or loses its connection, resumes them.

    The body of the response to a POST is `await replies.start(chat_id, stream, AISDK())`, and to a GET after a reload
    `await replies.resume(chat_id, AISDK())`; if that is `None`, answer with status 204.

    Make one for the application. A key is a str, such as the ids of user and chat. Whoever resumes a key reads its
    reply: authorise GET and DELETE as you do POST.

    - `log`: a `RedisLog` that the processes of the application share, on asyncio. By default, the replies live in the
      memory of this process, on asyncio or trio.
    - `ping`: seconds of silence after which a viewer gets a comment.
    - `keep`: seconds for which a reply that has ended can be resumed.
    - `detached`: seconds without any viewer after which a reply is stopped. Its status is `interrupted`, and the kind
      of its error `no_viewers`.
    - `max_bytes`: the size of the frames of a reply above which it is stopped (`reply_too_large`).

    Set `total_timeout` for the streams as well. Raises `TypeError` and `ValueError` for wrong arguments.
    """

    def __init__(
        self,
        log: RedisLog | None = None,
        *,
        ping: float = 15.0,
        keep: float = 60.0,
        detached: float = 60.0,
        max_bytes: int = 20_000_000,
    ) -> None:
        if log is not None and not isinstance(log, RedisLog):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected a RedisLog, got {type(log).__name__}")
        check_seconds("ping", ping)
        check_seconds("keep", keep, zero=True)
        check_seconds("detached", detached)
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected an int for max_bytes=, got {max_bytes!r}")
        if max_bytes <= 0:
            raise ValueError(f"expected more than 0 bytes for max_bytes=, got {max_bytes!r}")
        if log is not None and detached < log.lease:  # viewers in other processes are seen twice or more in a lease
            raise ValueError(f"expected at least the lease, {log.lease} seconds, for detached=, got {detached!r}")
        self._ping = ping
        self._store = None if log is None else RedisStore(log, keep)
        self._limits = Limits(keep, detached, max_bytes)
        self._replies: dict[str, RunningReply] = {}
        self._closed = False

    async def start(self, key: str, stream: AsyncEventStream[Any, Any, Any], protocol: Protocol) -> ReplyFrames:
        """Start a reply, and return the body of a streaming response, which is its first viewer.

        `stream` is an async stream of `stream_events` that nothing has been read from, opened or not. It is read to its
        end into its sinks, also if the viewer leaves. The body raises nothing for what happens to the stream.

        Raises `ReplyActive`, after closing the stream, while a reply is running under this key; `RuntimeError` after
        `aclose()`; `TypeError` and `ValueError` for wrong arguments; with a log, the exceptions of redis-py.
        """
        check_text("the key", key)
        check_stream(stream)
        check_protocol(protocol)
        if isinstance(stream, EventStream):
            raise TypeError("expected a stream of an async client, got a sync one: use AsyncAnthropic")
        self._check_open()
        encoder = protocol.encoder()
        try:
            reply = await self._acquire(key, stream, encoder)
            self._check_open()  # `aclose()` may have been called meanwhile
        except BaseException:
            with suppress(Exception):  # of a sink
                await stream.aclose()
            raise
        last, self._replies[key] = self._replies.get(key), reply
        frames = ReplyFrames(reply.buffer, 0, ping=self._ping)

        def forget(reply: RunningReply) -> None:
            # On trio, a task whose wait is over may run on after it was told to stop.
            if self._replies.get(key) is reply:  # pragma: no branch
                del self._replies[key]

        reply.run(forget)
        if last is not None:
            last.stop("server_lost")  # it has ended, unless it has lost its lease
            await last.stop_watching()
        return frames

    async def _acquire(self, key: str, stream: AsyncEventStream[Any, Any, Any], encoder: Encoder) -> RunningReply:
        writer = None
        if self._store is not None:
            writer = await self._store.acquire(key)
            is_active = writer is None
        else:
            is_active = key in self._replies and not self._replies[key].ended
        if is_active:
            raise ReplyActive(
                f"a reply is already running under the key {key!r}: answer with status 409, or call stop() first"
            )
        return RunningReply(stream, encoder, self._limits, writer)

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
        if self._store is not None and (reply is None or reply.ended):  # the last one may be in another process
            found = await self._store.current(key)
            self._check_open()
            if found is not None and (reply is None or found != reply.reply_id):
                async with self._store.following(key, found, protocol) as buffer:
                    return self._view(buffer, after)
        return None if reply is None else self._view(reply.buffer, after)

    def _view(self, buffer: ReplyBuffer, after: int | str) -> ReplyFrames | None:
        position = buffer.position(after)
        if buffer.ended and buffer.lost_at is None and position >= len(buffer.frames):
            return None
        return ReplyFrames(buffer, position, ping=self._ping)

    async def stop(self, key: str) -> bool:
        """Interrupt the reply, and wait for its end. Returns `False` if no reply is running under this key.

        The status of the reply is `interrupted`. With a log, the reply may run in any process. Raises `TypeError` and
        `ValueError` for a wrong key.
        """
        check_text("the key", key)
        reply = self._replies.get(key)
        if reply is None or reply.ended:
            return self._store is not None and await self._store.stop(key)
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
        if self._store is not None:
            await self._store.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("these replies are closed: make a new Replies object")
