"""The server of examples/web_chat: replies, reloads, stops, refusals, and what it keeps to itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from streamkit.testing import Reply
from tests.support.examples import NOTE
from tests.support.harness import wait_until
from tests.support.web import payloads
from tests.support.web_chat import (
    API,
    HELLO,
    WEB_CHAT,
    Browser,
    ChatServer,
    api_server,
    assert_no_secrets,
    chat_server,
    growing,
    metadata_of,
    needs_nginx,
    new_id,
    nginx,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, ChatServer]]:
    with api_server() as api, chat_server(api, tmp_path_factory.mktemp("chat"), DETACHED_SECONDS="5") as server:
        yield api, server


@pytest.fixture
def server(served: tuple[API, ChatServer]) -> ChatServer:
    return served[1]


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, ChatServer]]:
    """A server that stops a reply half a second after its last viewer has left, and an API of its own."""
    folder = tmp_path_factory.mktemp("impatient")
    with api_server() as api, chat_server(api, folder, DETACHED_SECONDS="0.5") as server:
        yield api, server


@pytest.fixture
def browser(api: API, server: ChatServer) -> Iterator[Browser]:
    with Browser(server.url) as browser:
        yield browser


def wait_until_closed(api: API) -> None:
    """Wait until no reply is running any more. By default, a reply without viewers runs on for 60 seconds."""
    started = time.monotonic()
    wait_until(lambda: api.open_connections == 0 or time.monotonic() - started > 20)
    assert api.open_connections == 0


def texts(history: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["role"], "".join(part["text"] for part in one["parts"])) for one in history["messages"]]


def test_a_reply_and_its_history(browser: Browser, api: API) -> None:
    response = browser.ask("Hi")
    frames = payloads(re.sub(rb"id: .*\n", b"", response.content))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert metadata_of(frames)["status"] == "complete"
    history = browser.history()
    assert texts(history) == [("user", "Hi"), ("assistant", "Hello there!")]
    assert history["messages"][1]["id"] == frames[0]["messageId"]
    saved, sent = history["messages"][1]["metadata"], metadata_of(frames)
    assert saved == sent | {"usage": {"cacheReadInputTokens": 0, "cacheCreationInputTokens": 0} | sent["usage"]}
    browser.ask("And?")
    assert api.last_messages() == [("user", "Hi"), ("assistant", "Hello there!"), ("user", "And?")]


class TestReload:
    def test_nothing(self, browser: Browser) -> None:
        assert browser.history() == {"messages": [], "running": False}
        with browser.resuming() as frames:
            assert (frames.status, frames.rest()) == (204, [])

    def test_a_running_reply(self, browser: Browser, api: API) -> None:
        api.answer(growing(60))
        with browser.asking("Hi") as first:
            first.read_until("word5 ")
            seen, last_id = first.text, first.last_id
        assert browser.history()["running"]
        assert texts(browser.history()) == [("user", "Hi")]
        with browser.resuming() as replay:
            assert metadata_of(replay.rest())["status"] == "complete"
        assert replay.text.startswith(seen)
        with browser.resuming(after=last_id) as rest:
            assert metadata_of(rest.rest())["status"] == "complete"
        assert seen + rest.text == replay.text

    def test_a_reply_that_has_ended(self, browser: Browser) -> None:
        with browser.asking("Hi") as first:
            first.rest()
        history = browser.history()
        assert not history["running"]
        assert texts(history) == [("user", "Hi"), ("assistant", "Hello there!")]
        with browser.resuming() as replay:
            assert metadata_of(replay.rest())["status"] == "complete"
            assert replay.text == "Hello there!"
        with browser.resuming(after=first.last_id) as nothing:
            assert (nothing.status, nothing.rest()) == (204, [])

    def test_a_half_reply_is_in_the_history_only_while_it_does_not_run(self, browser: Browser, api: API) -> None:
        """The copy of a reply that grows is for a server that was killed."""
        api.answer(growing())
        with browser.asking("Hi") as frames:
            frames.read_until("word120 ")  # later than the first copy
            assert texts(browser.history()) == [("user", "Hi")]
            browser.stop()
            frames.rest()
        assert texts(browser.history())[1][1].startswith(frames.text)


def test_stop(browser: Browser, api: API) -> None:
    api.answer(growing())
    with browser.asking("Hi") as frames:
        frames.read_until("word3 ")
        assert browser.stop() == 204
        rest = frames.rest()
    assert metadata_of(rest)["status"] == "interrupted"
    assert {"type": "abort"} in rest
    wait_until_closed(api)
    history = browser.history()
    assert texts(history)[1][1].startswith(frames.text)  # a word that arrives with the stop may be in the history alone
    assert history["messages"][1]["metadata"]["status"] == "interrupted"
    assert browser.stop() == 204  # nothing to stop


def test_one_reply_at_a_time(browser: Browser, api: API) -> None:
    api.answer(growing())
    with browser.asking("Hi") as frames:
        frames.read_until("word3 ")
        second = browser.ask("Me too")
        assert (second.status_code, second.text[:24]) == (409, "A reply is still being w")
        browser.stop()
        frames.rest()
    assert [role for role, _ in texts(browser.history())] == ["user", "assistant"]


def test_a_message_that_is_sent_again_is_answered_anew(browser: Browser, api: API) -> None:
    first, second = new_id(), new_id()
    browser.ask("One", first)
    browser.ask("Two", second)
    api.answer(Reply.text("Anew."))
    browser.ask("One", first)
    assert texts(browser.history()) == [("user", "One"), ("assistant", "Anew.")]
    assert api.last_messages() == [("user", "One")]


def test_a_reply_without_viewers_is_stopped(impatient: tuple[API, ChatServer]) -> None:
    api, server = impatient
    api.answer(growing())
    with Browser(server.url) as browser:
        with browser.asking("Hi") as frames:
            frames.read_until("word3 ")
            assert api.open_connections == 1
        wait_until_closed(api)
        wait_until(lambda: len(texts(browser.history())) == 2)
        assert browser.history()["messages"][1]["metadata"]["status"] == "interrupted"


def test_other_users_neither_read_nor_stop_a_reply(browser: Browser, api: API, server: ChatServer) -> None:
    api.answer(growing())
    with browser.asking("Hi") as frames, Browser(server.url, chat=browser.chat) as other:
        frames.read_until("word3 ")
        assert other.history() == {"messages": [], "running": False}
        with other.resuming() as nothing:
            assert nothing.status == 204
        other.stop()
        frames.read_until("word9 ")
        browser.stop()


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (400, {"content": b"{"}),
        (400, {"content": b"\xff"}),
        (400, {"content": b"[" * 90_000}),
        (400, {"content": b"[]"}),
        (400, {"json": {"id": "../../etc/passwd", "message": {}}}),
        (400, {"json": {"id": new_id()}}),
        (400, {"json": {"id": new_id(), "message": {"id": new_id(), "parts": [{"type": "text", "text": " "}]}}}),
        (400, {"json": {"id": new_id(), "message": {"id": "<b>", "parts": [{"type": "text", "text": "Hi"}]}}}),
        (413, {"content": b" " * 100_001}),
        (415, {"headers": {"content-type": "text/plain"}}),
        (401, {"headers": {"cookie": "user=me"}}),
        (401, {"headers": {"cookie": ""}}),
    ],
)
def test_a_refused_request(status: int, change: dict[str, Any], browser: Browser) -> None:
    headers = {"content-type": "application/json", **change.get("headers", {})}
    if "cookie" in headers:
        browser.client.cookies.clear()
    content = {"json": browser.body("Hi")} if change.keys() <= {"headers"} else change
    response = browser.client.post("/api/chat", **{**content, "headers": headers})
    assert (response.status_code, response.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert_no_secrets(response)


@pytest.mark.parametrize("path", ["stream", "stop", ""])
def test_all_paths_need_the_cookie(path: str, browser: Browser) -> None:
    browser.client.cookies.clear()
    method = "POST" if path == "stop" else "GET"
    response = browser.client.request(method, f"/api/chat/{browser.chat}/{path}".rstrip("/"))
    assert response.status_code == 401
    assert_no_secrets(response)


PRIVATE = "a secret of sk-secret-key"
FAULTS = {
    "a wrong key": (Reply.http_error(401, message=PRIVATE), "failed", "Something went wrong on the server."),
    "a refusal": (Reply.http_error(400, message=PRIVATE), "failed", "The model could not accept this request."),
    "a broken reply": (HELLO.cut(after_text="Hello"), "disconnected", "The connection to the model was lost."),
    "an error in the reply": (
        HELLO.error("overloaded_error", after_text="Hello", message=PRIVATE),
        "failed",
        "The mod",
    ),
    "no stream": (HELLO.garbage(b"data: {secret\n\n", after_text="Hello"), "failed", "The model sent an invalid"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_reply(name: str, browser: Browser, api: API) -> None:
    reply, status, sentence = FAULTS[name]
    api.answer(reply)
    response = browser.ask("Hi")
    frames = payloads(re.sub(rb"id: .*\n", b"", response.content))
    assert metadata_of(frames)["status"] == status
    assert frames[-1]["errorText"].startswith(sentence)
    saved = browser.client.get(f"/api/chat/{browser.chat}")
    metadata = saved.json()["messages"][1]["metadata"]
    assert (metadata["status"], metadata["errorText"]) == (status, frames[-1]["errorText"])
    assert_no_secrets(response, saved)


def test_the_page(server: ChatServer) -> None:
    response = httpx.get(f"{server.url}/", trust_env=False)
    policy = response.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "set-cookie" not in httpx.get(f"{server.url}/style.css", trust_env=False).headers  # one cookie a page
    assert_no_secrets(response)
    for name in ("chat.js", "reply.js", "markdown.js"):
        script = (WEB_CHAT / "page" / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script), name
    assert not re.search(r"<script(?! type=\"module\" src=)|<style| style=| on\w+=", response.text)


def test_without_a_key(tmp_path: Any) -> None:
    with chat_server(None, tmp_path) as server, Browser(server.url) as browser:
        with browser.asking("Hi") as frames:
            frames.read_until("A short tour")
        assert NOTE.split(":")[0] in server.log.read_text()


@needs_nginx
@pytest.mark.parametrize("http_version", ["1.0", "1.1"])
def test_frames_arrive_one_by_one_through_nginx(http_version: str, api: API, server: ChatServer) -> None:
    """Each reply stalls after a word, so that a frame that something holds back never arrives."""
    stalled = growing(20, delay=0).stall(after_text="word3 ")
    with nginx(server.port, http_version=http_version) as port, Browser(f"http://127.0.0.1:{port}") as behind:
        for _ in range(2):  # the second time over a connection that was kept
            api.answer(stalled)
            with behind.asking("Hi") as frames:
                frames.read_until("word3 ")
                assert behind.stop() == 204
                assert metadata_of(frames.rest())["status"] == "interrupted"


@needs_nginx
@pytest.mark.parametrize("http_version", ["1.0", "1.1"])
def test_a_viewer_behind_nginx_is_known_to_have_left(http_version: str, impatient: tuple[API, ChatServer]) -> None:
    api, server = impatient
    with nginx(server.port, http_version=http_version) as port, Browser(f"http://127.0.0.1:{port}") as behind:
        api.answer(growing())
        with behind.asking("Hi") as frames:
            frames.read_until("word3 ")
        wait_until_closed(api)
