"""The React page of examples/web_chat, built with Vite, in headless Chromium."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamkit.testing import Reply
from tests.support.chromium import Tab, tab
from tests.support.harness import wait_until
from tests.support.npm import CACHE, needs_node
from tests.support.web_chat import (
    API,
    HELLO,
    WEB_CHAT,
    ChatServer,
    api_server,
    chat_server,
    growing,
    needs_nginx,
    nginx,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, needs_node]

HOSTILE = (
    "<script>alert(1)</script>\n\n<img src=x onerror=alert(2)>\n\n[link](javascript:alert(3))\n\n"
    "![image](https://example.com/a.png)\n\n**bold**"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its React page, built in a folder of its own."""
    home = tmp_path_factory.mktemp("build") / "web_chat"
    shutil.copytree(WEB_CHAT, home, ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__"))
    for command in ("install --no-audit --no-fund --no-package-lock --loglevel=error", "run build"):
        subprocess.run(  # noqa: S603
            ["npm", *command.split(), "--cache", str(CACHE / "cache")],  # noqa: S607
            cwd=home / "react",
            check=True,
            timeout=300,
        )
    return home


@pytest.fixture(scope="module")
def served(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, ChatServer]]:
    with api_server() as api, chat_server(api, tmp_path_factory.mktemp("chat"), home=home) as server:
        yield api, server


@pytest.fixture
def chat(browser: Browser, api: API, served: tuple[API, ChatServer]) -> Iterator[Tab]:
    with tab(browser, f"{served[1].url}/react/") as chat:
        yield chat
        assert chat.problems == []


def test_send_watch_stop_and_reload(chat: Tab, api: API) -> None:
    chat.send("Hi")
    chat.status("complete · 10 in, 2 out tokens")
    chat.page.reload()
    chat.status("complete · 10 in, 2 out tokens")
    assert chat.last_reply == "Hello there!"

    api.answer(growing())
    chat.send("Again")
    chat.sees("word3 ", 2)
    chat.page.reload()
    chat.sees("word9 ", 2)
    assert chat.last_reply.startswith("word0 word1 ")
    assert chat.last_reply.count("word0 ") == 1
    chat.page.keyboard.press("Escape")
    chat.status("stopped")
    text = chat.last_reply
    wait_until(lambda: api.open_connections == 0)
    chat.page.reload()
    chat.status("stopped")
    assert chat.last_reply.startswith(text)  # a word that arrives with the stop may be in the history alone

    api.answer(HELLO)
    chat.page.get_by_role("button", name="Try again").click()
    chat.status("complete")
    assert chat.page.locator("article").count() == 4
    assert api.last_messages()[-1] == ("user", "Again")


def test_failed_replies(chat: Tab, api: API) -> None:
    api.answer(growing(20).cut(after_text="word9 "))
    chat.send("Hi")
    chat.status("The connection to the model was lost. Please try again.")
    assert chat.last_reply.startswith("word0 word1 ")
    chat.page.reload()
    chat.status("The connection to the model was lost. Please try again.")
    chat.page.context.clear_cookies()
    chat.send("Hi")
    chat.page.get_by_text("This chat needs a cookie.").wait_for()


def test_nothing_of_a_reply_runs(chat: Tab, api: API) -> None:
    api.answer(Reply.text([*HOSTILE]))
    chat.send("Hi")
    chat.status("complete")
    shown = chat.page.locator("article.assistant .body")
    assert "<script>alert(1)</script>" in shown.inner_text()
    assert "<img src=x onerror=alert(2)>" in shown.inner_text()
    assert shown.locator("script, img, a").count() == 0
    assert shown.locator("strong").inner_text() == "bold"


@needs_nginx
@pytest.mark.parametrize("http_version", ["1.0", "1.1"])
def test_a_killed_server(http_version: str, browser: Browser, home: Path, tmp_path: Path) -> None:
    with (
        api_server() as api,
        chat_server(api, tmp_path, home=home) as first,
        nginx(first.port, http_version=http_version) as port,
        tab(browser, f"http://127.0.0.1:{port}/react/") as chat,
    ):
        api.answer(growing())
        chat.send("Hi")
        chat.sees("word9 ")
        first.kill()
        chat.status("Connection lost: this reply is not complete.")
        assert chat.last_reply.startswith("word0 word1 ")
        api.answer(HELLO)
        with chat_server(api, tmp_path, home=home, port=first.port):
            chat.page.get_by_role("button", name="Try again").click()
            chat.status("complete")
            assert chat.last_reply == "Hello there!"


@needs_nginx
def test_a_lost_connection_is_picked_up(browser: Browser, api: API, served: tuple[API, ChatServer]) -> None:
    """nginx goes away in the middle of the reply, and comes back."""
    api.answer(growing(300))
    with contextlib.ExitStack() as stack:
        with nginx(served[1].port) as port:
            chat = stack.enter_context(tab(browser, f"http://127.0.0.1:{port}/react/"))
            chat.send("Hi")
            chat.sees("word9 ")
        with nginx(served[1].port, port=port):
            chat.status("complete")
            assert chat.last_reply == " ".join(f"word{number}" for number in range(300))
