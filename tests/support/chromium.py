"""A page of the chat in headless Chromium, as a user sees it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 30_000  # milliseconds


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of the system, or that of `playwright install chromium`. Skips the test where there is neither."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        found = next(filter(None, map(shutil.which, NAMES)), started.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("Chromium is not installed")
        # The sandbox needs rights that a container may lack; the pages are our own.
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A tab with the chat: what a user does, and what the user sees. `problems` are the errors on the console."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))

    def send(self, text: str) -> None:
        """Send a message, once the page takes one: after a reload it may still show the end of the last reply."""
        self.page.get_by_label("Message").fill(text)
        self.takes_a_message()
        sent = self.page.locator("article.user")
        count = sent.count()
        self.page.keyboard.press("Enter")
        sent.nth(count).wait_for()  # with its reply: else a test could find the text or status in the one before

    def takes_a_message(self) -> None:
        """Wait until the page takes the message in the text field."""
        self.page.get_by_role("button", name="Send").and_(self.page.locator(":enabled")).wait_for()

    def sees(self, text: str, count: int = 1) -> None:
        """Wait until the last reply has the text."""
        self.page.locator("article.assistant").nth(count - 1).get_by_text(text).first.wait_for()

    def status(self, text: str) -> None:
        """Wait until the line under the last reply has the text, and the reply is over."""
        ended = self.page.locator("article.assistant").last.and_(self.page.locator(":not(.running)"))
        ended.locator("footer").get_by_text(text).wait_for()

    @property
    def last_reply(self) -> str:
        return self.page.locator("article.assistant .body").last.inner_text()

    def runs(self, script: str) -> Any:
        return self.page.evaluate(script)


@contextlib.contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """A new user's tab."""
    context = browser.new_context(**options)
    try:
        opened = Tab(context.new_page())
        opened.page.goto(url)
        yield opened
    finally:
        context.close()
