"""The history of each chat, in memory or in Redis, as the messages of the AI SDK."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from typing import Any, Protocol

from streamkit import AsyncSink, StreamResult
from streamkit.web import http_error

MAX_CHATS = 1000  # in memory; the one that was used least recently is dropped
KEEP_DAYS = 30  # in Redis
SAVE_EVERY = 2.0  # seconds between two copies of a reply that grows

Message = dict[str, Any]


def has_ended(message: Message) -> bool:
    """Return `True` for a reply that is over, however it ended."""
    return "status" in message.get("metadata", {})


class Store(Protocol):
    """A history of chats."""

    async def messages(self, key: str) -> list[Message]:
        """Return the messages of a chat, the last reply included."""
        ...

    async def save(self, key: str, **fields: Any) -> None:
        """Replace `messages`, `reply` (the one to the last of the messages, or `None`), or both."""
        ...


class MemoryStore:
    """The chats of one process, which end with it."""

    def __init__(self) -> None:
        self._chats: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def messages(self, key: str) -> list[Message]:
        return joined(self._chats.get(key, {}))

    async def save(self, key: str, **fields: Any) -> None:
        self._chats[key] = {**self._chats.pop(key, {}), **fields}  # as the last one
        if len(self._chats) > MAX_CHATS:
            self._chats.popitem(last=False)


class RedisStore:
    """Chats in Redis, a hash each."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def messages(self, key: str) -> list[Message]:
        found = await self._client.hgetall(f"web-chat:history:{key}")
        return joined({name.decode(): json.loads(value) for name, value in found.items()})

    async def save(self, key: str, **fields: Any) -> None:
        name = f"web-chat:history:{key}"
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.hset(name, mapping={field: json.dumps(value) for field, value in fields.items()})
            pipeline.expire(name, KEEP_DAYS * 86_400)
            await pipeline.execute()


def joined(chat: dict[str, Any]) -> list[Message]:
    reply = chat.get("reply")
    return [*chat.get("messages", []), *([reply] if reply else [])]


class SaveReply(AsyncSink):
    """Saves a reply: the messages when its request is sent, copies while it grows, and the whole with its status.

    If this process is killed, the last copy stays. It has no status, and so counts as cut.
    """

    def __init__(self, store: Store, key: str, messages: list[Message], reply_id: str) -> None:
        self._store, self._key, self._messages, self._reply_id = store, key, messages, reply_id
        self._pieces: list[str] = []
        self._saved_at: float | None = None  # None until the request is sent, which it is not while another reply runs

    async def attempt(self, number: int, delay: float, error: Exception | None) -> None:  # noqa: ARG002
        if self._saved_at is None:
            await self._store.save(self._key, messages=self._messages, reply=None)
            self._saved_at = time.monotonic()

    async def write(self, text: str) -> None:
        self._pieces.append(text)
        if self._saved_at is not None and time.monotonic() - self._saved_at > SAVE_EVERY:
            self._saved_at = time.monotonic()
            await self._store.save(self._key, reply=self._message({}))

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        if self._saved_at is not None:
            await self._store.save(self._key, reply=self._message(metadata_of(result)))

    def _message(self, metadata: dict[str, Any]) -> Message:
        parts = [{"type": "text", "text": "".join(self._pieces)}] if self._pieces else []
        return {"id": self._reply_id, "role": "assistant", "parts": parts, "metadata": metadata}


def metadata_of(result: StreamResult[Any, Any]) -> dict[str, Any]:
    """Return the metadata that `AISDK` sends, and the sentence for an error."""
    found: dict[str, Any] = {"status": result.status, "usageFinal": result.usage_final}
    if result.stop_reason is not None:
        found["stopReason"] = result.stop_reason
    if result.message is not None:
        found["usage"] = {
            "inputTokens": result.usage.input_tokens,
            "outputTokens": result.min_output_tokens,
            "cacheReadInputTokens": result.usage.cache_read_input_tokens or 0,
            "cacheCreationInputTokens": result.usage.cache_creation_input_tokens or 0,
        }
    if result.error is not None and result.status not in ("complete", "interrupted"):
        found["errorText"] = http_error(result.error).text
    return found
