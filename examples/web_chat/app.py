"""The server of the chat: pages, replies that survive a reload, and the history.

Every path below /api needs the cookie that the page sets. The key of a reply is user and chat, so that nobody reads or
stops the reply of another user.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from history import MemoryStore, RedisStore, SaveReply, Store, has_ended
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from streamkit import stream_events
from streamkit.web import AISDK, RedisLog, Replies, ReplyActive, http_error, to_messages

MODEL = os.environ.get("MODEL", "claude-sonnet-5-5")
MAX_TOKENS = 8000
REPLY_SECONDS = 300.0  # after which a reply is ended, whoever reads it
DETACHED_SECONDS = float(os.environ.get("DETACHED_SECONDS", "60"))  # without a viewer, after which a reply is stopped
MAX_BODY = 100_000  # bytes of a request
MAX_REDIS_CONNECTIONS = 1000

HERE = Path(__file__).parent
COOKIE = "user"
ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
PAGE_HEADERS = {
    "cache-control": "no-cache",
    # Only files of this server run: a script in a reply could not, even if a page put it into the document.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Refused(Exception):  # noqa: N818 - an answer
    """A request that is answered with a sentence for the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Pages(StaticFiles):
    """The files of a page. A browser without a cookie gets one, which is all that identifies its user."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        MutableHeaders(raw=response.raw_headers).update(PAGE_HEADERS)
        request = Request(scope)
        if response.media_type == "text/html" and not ID.fullmatch(request.cookies.get(COOKIE, "")):
            secure = request.url.scheme == "https"
            user = secrets.token_urlsafe(24)
            response.set_cookie(COOKIE, user, max_age=30 * 86_400, httponly=True, samesite="lax", secure=secure)
        return response


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make what the requests share, and interrupt the running replies at the end."""
    async with AsyncExitStack() as stack:
        app.state.client = await stack.enter_async_context(anthropic.AsyncAnthropic())
        app.state.store, log = MemoryStore(), None
        if url := os.environ.get("REDIS_URL"):
            import redis.asyncio  # noqa: PLC0415 - one process needs none

            connection = redis.asyncio.Redis.from_url(url, max_connections=MAX_REDIS_CONNECTIONS)
            stack.push_async_callback(connection.aclose)
            app.state.store, log = RedisStore(connection), RedisLog(connection, prefix="web-chat")
        app.state.replies = Replies(log, detached=DETACHED_SECONDS)
        stack.push_async_callback(app.state.replies.aclose)
        yield


app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


@app.exception_handler(Refused)
async def refused(_: Request, error: Refused) -> Response:
    return PlainTextResponse(error.text, error.status)


@app.exception_handler(Exception)
async def failed(_: Request, error: Exception) -> Response:
    return PlainTextResponse(http_error(error).text, 500)  # the server logs the exception


@app.post("/api/chat")
async def send(request: Request) -> Response:
    """Answer a message. One that the history has already is answered anew, and what followed is dropped."""
    body = await json_body(request)
    key = key_of(request, body.get("id"))
    message = user_message(body.get("message"))
    history = await store_of(request).messages(key)
    known = next((n for n, one in enumerate(history) if one["id"] == message["id"]), len(history))
    messages = [*history[:known], message]
    reply_id = secrets.token_urlsafe(12)
    stream = stream_events(
        request.app.state.client,
        sinks=SaveReply(store_of(request), key, messages, reply_id),
        total_timeout=REPLY_SECONDS,
        model=MODEL,
        max_tokens=MAX_TOKENS,
        messages=api_messages(messages),
    )
    try:
        frames = await replies_of(request).start(key, stream, AISDK(message_id=reply_id))
    except ReplyActive:
        raise Refused(409, "A reply is still being written in this chat. Stop it first.") from None
    return StreamingResponse(frames, headers=AISDK.headers)


@app.get("/api/chat/{chat}")
async def history(request: Request, chat: str) -> Response:
    """Return the messages, and whether a reply can be resumed, which is then left out of the messages."""
    key = key_of(request, chat)
    messages = await store_of(request).messages(key)
    running = False
    if messages and not has_ended(messages[-1]):
        frames = await replies_of(request).resume(key, AISDK())
        if frames is not None:
            running = True
            await frames.aclose()
            messages = [one for one in messages if one["role"] == "user" or has_ended(one)]
    return JSONResponse({"messages": messages, "running": running}, headers={"cache-control": "no-store"})


@app.get("/api/chat/{chat}/stream")
async def resume(request: Request, chat: str) -> Response:
    """Send the running reply from the beginning, or after the last frame that the browser has."""
    after = request.headers.get("last-event-id") or 0
    frames = await replies_of(request).resume(key_of(request, chat), AISDK(), after=after)
    return Response(status_code=204) if frames is None else StreamingResponse(frames, headers=AISDK.headers)


@app.post("/api/chat/{chat}/stop")
async def stop(request: Request, chat: str) -> Response:
    """Stop the running reply. Its viewers get what arrived."""
    await replies_of(request).stop(key_of(request, chat))
    return Response(status_code=204)


def replies_of(request: Request) -> Replies:
    found: Replies = request.app.state.replies
    return found


def store_of(request: Request) -> Store:
    found: Store = request.app.state.store
    return found


def key_of(request: Request, chat: object) -> str:
    """Return the key of the user's chat."""
    user = request.cookies.get(COOKIE, "")
    if not ID.fullmatch(user):
        raise Refused(401, "This chat needs a cookie. Allow cookies for this page, and load it again.")
    if not isinstance(chat, str) or not ID.fullmatch(chat):
        raise Refused(400, "This is not the id of a chat.")
    return f"{user}/{chat}"


async def json_body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "Expected a request in JSON.")
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY:
            raise Refused(413, "This message is too long.")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(400, "Expected a request in JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "Expected a JSON object.")
    return body


def user_message(message: object) -> dict[str, Any]:
    """Return the user's message as it is stored: its id and its text."""
    found = message if isinstance(message, dict) else {}
    parts, message_id = found.get("parts"), found.get("id")
    if not isinstance(message_id, str) or not ID.fullmatch(message_id) or not isinstance(parts, list):
        raise Refused(400, "Expected a message with an id and parts.")
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    text = "\n\n".join(texts).encode("utf-8", "replace").decode().strip()
    if not text:
        raise Refused(400, "Expected a message with text.")
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def api_messages(messages: list[dict[str, Any]]) -> list[Any]:
    try:
        return [*to_messages(messages)]
    except ValueError:
        raise Refused(413, "This chat has become too long. Please start a new one.") from None


if (HERE / "react" / "dist").is_dir():
    app.mount("/react", Pages(directory=HERE / "react" / "dist", html=True))
app.mount("/", Pages(directory=HERE / "page", html=True))
