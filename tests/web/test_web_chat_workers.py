"""The chat of examples/web_chat on several servers that share Redis, and servers that are killed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamkit.testing import Reply
from tests.support.chromium import tab
from tests.support.examples import run
from tests.support.harness import wait_until
from tests.support.redis import RedisServer, needs_redis, redis_server
from tests.support.web_chat import (
    API,
    WEB_CHAT,
    Browser,
    ChatServer,
    api_server,
    chat_server,
    growing,
    metadata_of,
    needs_nginx,
    nginx,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium

LOST = "The server was lost in the middle of the reply."
# A viewer may be some frames ahead of Redis, which then cannot tell how the reply ended.
CUT = re.compile(f"{LOST}|Connection lost: this reply is not complete.")
each_http_version = pytest.mark.parametrize("http_version", ["1.0", "1.1"])


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def url_of(redis: RedisServer) -> str:
    return f"redis://127.0.0.1:{redis.port}/0"


@contextlib.contextmanager
def two_servers(redis: RedisServer, folder: Path) -> Iterator[tuple[API, ChatServer, ChatServer]]:
    """Two servers that share Redis."""
    url = url_of(redis)
    with (
        api_server() as api,
        chat_server(api, folder, REDIS_URL=url) as one,
        chat_server(api, folder, REDIS_URL=url) as two,
    ):
        yield api, one, two


@contextlib.contextmanager
def one_user(one: ChatServer, two: ChatServer) -> Iterator[tuple[Browser, Browser]]:
    """A user with the same chat at two servers."""
    with Browser(one.url) as user, Browser(two.url, chat=user.chat, cookies=user.client.cookies) as moved:
        yield user, moved


def test_several_workers_need_redis() -> None:
    done = run(WEB_CHAT, "--workers", 2)
    assert done.returncode == 2
    assert "expected REDIS_URL for more than one worker" in done.stderr


@needs_redis
def test_a_reply_on_another_server(redis: RedisServer, tmp_path: Path) -> None:
    with two_servers(redis, tmp_path) as (api, one, two), one_user(one, two) as (user, moved):
        api.answer(growing())
        with user.asking("Hi") as frames:
            frames.read_until("word3 ")
            assert moved.history()["running"]
            assert moved.ask("Me too").status_code == 409
            with moved.resuming() as replay:
                replay.read_until("word9 ")
                assert replay.text.startswith(frames.text)
                assert moved.stop() == 204
                assert metadata_of(replay.rest())["status"] == "interrupted"
            frames.rest()
        assert frames.text == replay.text
        wait_until(lambda: api.open_connections == 0)
        history = moved.history()
        assert [one["role"] for one in history["messages"]] == ["user", "assistant"]
        assert history["messages"][1]["parts"][0]["text"].startswith(replay.text)

        with user.asking("And?") as frames:
            frames.read_until("word100 ")
            text, last_id = frames.text, frames.last_id
            frames.read_until("word150 ")  # more than two seconds, after which a copy is saved
            with moved.resuming() as replay:
                replay.read_until("word150 ")  # the log has them, too
            one.kill()
        with moved.resuming(after=last_id) as rest:
            ended = rest.rest()
        assert metadata_of(ended)["status"] == "disconnected"
        assert ended[-1]["errorText"].startswith(LOST)
        with moved.resuming() as replay:
            replay.rest()
        assert replay.text == text + rest.text
        api.answer(Reply.text("Hello!"))
        moved.ask("Go on").raise_for_status()
        saved = moved.history()["messages"][-3]  # the copy, without a status
        assert (saved["role"], saved["metadata"]) == ("assistant", {})
        copy = saved["parts"][0]["text"]  # may be of a later moment than the log
        assert replay.text.startswith(copy) or copy.startswith(replay.text)
        assert [text for _, text in api.last_messages()][3] == copy


@pytest.mark.slow
@needs_redis
@needs_nginx
@each_http_version
def test_the_page_goes_on_at_another_server(
    http_version: str, browser: Chromium, redis: RedisServer, tmp_path: Path
) -> None:
    with (
        two_servers(redis, tmp_path) as (api, one, two),
        nginx(one.port, two.port, http_version=http_version) as port,
        tab(browser, f"http://127.0.0.1:{port}") as chat,
    ):
        api.answer(growing())
        chat.send("Hi")
        chat.sees("word9 ")
        one.kill()
        chat.status(CUT)
        text = chat.last_reply
        assert text.startswith("word0 word1 ")
        chat.page.reload()
        chat.status(LOST)
        assert text.startswith(chat.last_reply)
        assert chat.last_reply.startswith("word0 word1 ")
        api.answer(Reply.text("Hello there!"))
        chat.page.get_by_role("button", name="Try again").click()
        chat.status("complete")
        assert chat.last_reply == "Hello there!"


@pytest.mark.slow
@needs_nginx
@each_http_version
def test_the_page_tells_that_its_only_server_was_killed(http_version: str, browser: Chromium, tmp_path: Path) -> None:
    with (
        api_server() as api,
        chat_server(api, tmp_path) as first,
        nginx(first.port, http_version=http_version) as port,
        tab(browser, f"http://127.0.0.1:{port}") as chat,
    ):
        api.answer(growing())
        chat.send("Hi")
        chat.sees("word9 ")
        first.kill()
        chat.page.get_by_text("connection lost, connecting again").wait_for()
        chat.status("Connection lost: this reply is not complete.")
        assert chat.last_reply.startswith("word0 word1 ")
        api.answer(Reply.text("Hello there!"))
        with chat_server(api, tmp_path, port=first.port):
            chat.page.get_by_role("button", name="Try again").click()
            chat.status("complete")
            assert chat.last_reply == "Hello there!"


@pytest.mark.slow
@needs_redis
def test_a_restart_saves_the_running_replies(redis: RedisServer, tmp_path: Path) -> None:
    with two_servers(redis, tmp_path) as (api, one, two), one_user(one, two) as (user, moved):
        api.answer(growing())
        with user.asking("Hi") as frames:
            frames.read_until("word3 ")
            one.process.terminate()
            one.process.wait(20)
        with moved.resuming() as replay:
            assert metadata_of(replay.rest())["status"] == "interrupted"
        saved = moved.history()["messages"][1]
        assert saved["metadata"]["status"] == "interrupted"
        assert saved["parts"][0]["text"].startswith(replay.text)


@pytest.mark.slow
@needs_redis
@needs_nginx
def test_workers_that_are_killed_and_started_again(browser: Chromium, redis: RedisServer, tmp_path: Path) -> None:
    with (
        api_server() as api,
        chat_server(api, tmp_path, "--workers", "2", REDIS_URL=url_of(redis)) as server,
        nginx(server.port) as port,
        tab(browser, f"http://127.0.0.1:{port}") as chat,
    ):
        for number in (1, 2, 3):
            chat.send("Hi")
            chat.status("complete")
            chat.page.reload()
            chat.sees("Hello!", number)
        api.answer(growing())
        chat.send("Hi")
        chat.sees("word9 ", 4)
        server.kill_workers()
        chat.status(CUT)
        assert chat.last_reply.startswith("word0 word1 ")


@pytest.mark.slow
@needs_nginx
def test_a_lost_connection_is_picked_up(browser: Chromium, tmp_path: Path) -> None:
    """nginx goes away in the middle of the reply, and comes back."""
    with api_server() as api, chat_server(api, tmp_path) as server, contextlib.ExitStack() as stack:
        api.answer(growing(300))
        with nginx(server.port) as port:
            chat = stack.enter_context(tab(browser, f"http://127.0.0.1:{port}"))
            chat.send("Hi")
            chat.sees("word9 ")
        chat.page.get_by_text("connection lost, connecting again").wait_for()
        asked: list[str] = []
        chat.page.on("request", lambda request: asked.append(request.headers.get("last-event-id", "")))
        with nginx(server.port, port=port):
            chat.status("complete")
            assert chat.last_reply == " ".join(f"word{number}" for number in range(300))
            assert re.fullmatch(r"\w+-\d+", asked[-1])  # and not from the beginning
