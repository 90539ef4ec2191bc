"""The page of examples/web_chat in headless Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from streamkit.testing import Reply
from tests.support.chromium import Tab, tab
from tests.support.harness import wait_until
from tests.support.npm import installed, needs_node
from tests.support.web_chat import API, HELLO, ChatServer, api_server, chat_server, growing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
MARKDOWN = """\
# Title

One **bold**, *italic* and `code <b>`, [a link](https://example.com/a_(b)), https://example.com.
Two lines, **bold with *italic* inside**, 2 * 3 * 4, snake_case_name, a \\*star\\*.

- one
- two
  - deeper

  still two
3. three
4. four

```python
print("<b>")
```

| a | b |
|---|--:|
| 1 | `x` |

> quoted

---
~~~
open"""
MARKDOWN_HTML = (
    "<h3>Title</h3>"
    "<p>One <strong>bold</strong>, <em>italic</em> and <code>code &lt;b&gt;</code>, "
    '<a href="https://example.com/a_(b)" target="_blank" rel="noopener noreferrer">a link</a>, '
    '<a href="https://example.com" target="_blank" rel="noopener noreferrer">https://example.com</a>.\n'
    "Two lines, <strong>bold with <em>italic</em> inside</strong>, 2 * 3 * 4, snake_case_name, a *star*.</p>"
    "<ul><li>one</li><li>two<ul><li>deeper</li></ul><p>still two</p></li></ul>"
    '<ol start="3"><li>three</li><li>four</li></ol>'
    '<pre tabindex="0" role="region" aria-label="Code, python"><code>print("&lt;b&gt;")</code></pre>'
    '<div class="table" tabindex="0" role="region" aria-label="Table"><table><thead><tr><th>a</th>'
    '<th class="right">b</th></tr></thead><tbody><tr><td>1</td><td class="right"><code>x</code></td></tr></tbody>'
    "</table></div>"
    "<blockquote><p>quoted</p></blockquote><hr>"
    '<pre tabindex="0" role="region" aria-label="Code"><code>open</code></pre>'
)
HOSTILE = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(2)">',
    "[link](javascript:alert(3))",
    "[link](JaVaScRiPt:alert(4))",
    "[link](data:text/html,<script>alert(5)</script>)",
    "[![x](https://example.com/a.png)](javascript:alert(6))",
    "<a href='javascript:alert(7)'>x</a>",
    "https://example.com/\"onmouseover='alert(8)'",
    "`<svg onload=alert(9)>`",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, ChatServer]]:
    with api_server() as api, chat_server(api, tmp_path_factory.mktemp("chat")) as server:
        yield api, server


@pytest.fixture
def chat(browser: Browser, api: API, served: tuple[API, ChatServer]) -> Iterator[Tab]:
    with tab(browser, served[1].url) as chat:
        yield chat
        assert chat.problems == []


def test_send_watch_stop_and_reload(chat: Tab, api: API) -> None:
    """The short one of these tests: the others are slow."""
    api.answer(growing())
    chat.send("Hi")
    chat.sees("word3 ")
    chat.page.reload()
    chat.sees("word9 ")
    assert chat.last_reply.startswith("word0 word1 ")
    chat.page.get_by_role("button", name="Stop").click()
    chat.status("stopped")
    text = chat.last_reply
    chat.page.reload()
    chat.status("stopped · 10 in, at least")
    assert chat.last_reply.startswith(text)  # a word that arrives with the stop may be in the history alone
    wait_until(lambda: api.open_connections == 0)


@pytest.mark.slow
class TestStatus:
    def test_complete(self, chat: Tab) -> None:
        for number in (1, 2):
            chat.send("Hi")
            chat.sees("Hello there!", number)
            chat.status("complete · 10 in, 2 out tokens")
        assert chat.page.get_by_role("button", name="Try again").count() == 0

    @pytest.mark.parametrize(
        ("reply", "status"),
        [
            (Reply.text("Hello", stop_reason="max_tokens"), "cut off by the token limit · 10 in, 1 out tokens"),
            (Reply.text("Hello", stop_reason="refusal"), "declined by the model"),
            (HELLO.cut(after_text="Hello"), "The connection to the model was lost. Please try again."),
            (HELLO.error("overloaded_error", after_text="Hello"), "The model is overloaded. Please try again later."),
            (Reply.http_error(401, message="secret"), "Something went wrong on the server."),
        ],
    )
    def test_other_ends(self, reply: Reply, status: str, chat: Tab, api: API) -> None:
        api.answer(reply)
        chat.send("Hi")
        chat.status(status)
        chat.page.reload()
        chat.status(status)
        again = chat.page.get_by_role("button", name="Try again")
        assert again.count() == (status.endswith(".") and 1)
        if again.count():
            api.answer(HELLO)
            again.click()
            chat.status("complete")
            assert chat.page.locator("article").count() == 2

    def test_a_refused_request(self, chat: Tab) -> None:
        chat.page.context.clear_cookies()
        chat.send("Hi")
        chat.status("This chat needs a cookie.")


@pytest.mark.slow
class TestMarkdown:
    def show(self, chat: Tab, text: str) -> str:
        """The HTML of a text that grew by a character at a time."""
        script = """async (text) => {
            const { render } = await import("/markdown.js");
            const whole = document.createElement("div"), grown = document.createElement("div");
            for (let size = 1; size <= text.length; size += 1) render(grown, text.slice(0, size));
            render(whole, text + "\\n~~~\\nmore");
            render(whole, text); // as after a replay
            return [grown.innerHTML, whole.innerHTML];
        }"""
        grown, whole = chat.page.evaluate(script, text)
        assert grown == whole
        return str(whole)

    def test_the_blocks(self, chat: Tab) -> None:
        assert self.show(chat, MARKDOWN) == MARKDOWN_HTML

    def test_nothing_of_a_reply_runs(self, chat: Tab, api: API) -> None:
        reply = "\n\n".join(HOSTILE)
        api.answer(Reply.text([*reply]))
        chat.send("Hi")
        chat.status("complete")
        shown = chat.page.locator("article.assistant .body")
        for one in HOSTILE:
            assert one.strip("`") in shown.inner_text() or "![x]" in one
        assert shown.locator("script, img, svg, [onerror], [onmouseover]").count() == 0
        links = shown.locator("a").evaluate_all("links => links.map((link) => link.href)")
        assert all(link.startswith("https://example.com/") for link in links)
        chat.page.reload()
        chat.status("complete")
        assert shown.locator("script, img, svg").count() == 0

    def test_the_policy_stops_what_a_page_might_let_through(self, chat: Tab) -> None:
        blocked = chat.page.evaluate("""() => {
            try { document.body.innerHTML = "<img src=x onerror='window.ran = true'>"; } catch { return "blocked"; }
        }""")
        assert blocked == "blocked"

    def test_time_grows_with_the_text(self, chat: Tab) -> None:
        """Texts of open marks, for which a careless pattern takes minutes."""
        script = """async (text) => {
            const { render } = await import("/markdown.js");
            const start = performance.now();
            render(document.createElement("div"), text);
            return performance.now() - start;
        }"""
        for piece in ("*a ", "**a ", "`a ", "[a](", "~~a ", "_a ", "|a", "> ", "- ", "![", "https://"):
            assert chat.page.evaluate(script, piece * 10_000) < 10_000, piece


@pytest.mark.slow
class TestUse:
    def test_by_keyboard_alone(self, chat: Tab, api: API) -> None:
        api.answer(growing())
        keyboard = chat.page.keyboard
        keyboard.type("One")  # the page starts in the text field
        keyboard.press("Shift+Enter")
        keyboard.type("two")
        chat.takes_a_message()
        keyboard.press("Enter")
        chat.sees("word3 ")
        assert chat.page.locator("article.user .body").inner_text() == "One\ntwo"
        keyboard.type("not sent while a reply runs")
        keyboard.press("Enter")
        keyboard.press("Escape")
        chat.status("stopped")
        assert chat.page.locator("article.user").count() == 1
        api.answer(HELLO)
        chat.page.get_by_role("button", name="Try again").focus()
        keyboard.press("Enter")
        chat.status("complete")
        keyboard.press("Shift+Tab")
        assert chat.runs("document.activeElement.id") == "text"
        keyboard.press("Shift+Tab")
        assert chat.runs("document.activeElement.id") == "log"  # which the arrow keys scroll

    def test_a_screen_reader_gets_blocks_not_words(self, chat: Tab, api: API) -> None:
        api.answer(Reply.text(["One ", "**two**", ".\n\n", "Three ", "four."], delay=0.1))
        assert chat.page.locator("#log").get_attribute("aria-live") == "off"
        chat.runs("""() => {
            window.told = [];
            new MutationObserver((changes) => changes.forEach((change) =>
                change.addedNodes.forEach((node) => told.push(node.innerText)))).observe(announcer, {childList: true});
        }""")
        chat.send("Hi")
        chat.page.locator("article[aria-busy=true]").wait_for()
        chat.status("complete")
        assert chat.page.locator("article[aria-busy=true]").count() == 0
        assert chat.runs("told") == ["One two.", "Three four.", "complete · 10 in, 5 out tokens"]
        chat.page.reload()
        chat.status("complete")
        assert chat.page.locator("#announcer").inner_text() == ""  # the history is not read out

    def test_the_page_follows_only_from_the_end(self, chat: Tab, api: API) -> None:
        api.answer(Reply.text([f"{number}\n\n" for number in range(2000)], delay=0.02))
        chat.send("Hi")
        chat.sees("40")
        at_end = "log.scrollHeight - log.scrollTop - log.clientHeight < 60"
        chat.page.wait_for_function(f"log.scrollTop > 100 && {at_end}")
        chat.runs("log.scrollTop = 50")
        chat.sees("80")
        assert chat.runs("log.scrollTop") == 50
        chat.runs("log.scrollTop = log.scrollHeight")
        chat.sees("120")
        chat.page.wait_for_function(at_end)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, scheme: str, browser: Browser, api: API, served: tuple[API, ChatServer]) -> None:
        wide = "| " + " | ".join(["a wide column"] * 9) + " |\n|" + "---|" * 9 + "\n\n`" + "x" * 300 + "`\n\n```\n"
        api.answer(Reply.text(f"{wide}{'y' * 300}\n```\n{'z' * 300}\n\n" + "line\n\n" * 30))
        with tab(browser, served[1].url, color_scheme=scheme, **PHONE) as phone:
            phone.send("w" * 300)
            phone.status("complete")
            assert phone.runs("document.documentElement.scrollWidth <= innerWidth")
            assert phone.runs("log.scrollWidth <= log.clientWidth")
            assert phone.runs("document.documentElement.scrollHeight <= innerHeight")
            at_end = "log.scrollHeight - log.scrollTop - log.clientHeight < 2"
            assert phone.runs(at_end)
            phone.page.set_viewport_size({"width": 360, "height": 320})  # as by a keyboard on the screen
            phone.page.wait_for_function(at_end)
            phone.page.set_viewport_size(PHONE["viewport"])
            box = phone.page.get_by_role("button", name="Send").bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= PHONE["viewport"]["height"]
            assert min(box["width"], box["height"]) >= 36
            assert phone.runs("getComputedStyle(text).fontSize") == "16px"
            light = phone.runs("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            assert light is (scheme == "light")

    @needs_node
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing(self, scheme: str, browser: Browser, api: API, served: tuple[API, ChatServer]) -> None:
        axe = (installed("axe-core@4") / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
        with tab(browser, served[1].url, color_scheme=scheme) as chat:

            def check() -> None:
                found = json.loads(
                    chat.page.evaluate(f"async () => {{ {axe}; return JSON.stringify(await axe.run()) }}")
                )
                nodes = [(one["id"], node["html"]) for one in found["violations"] for node in one["nodes"]]
                assert nodes == []

            check()
            api.answer(Reply.text(MARKDOWN))
            chat.send("Hi")
            chat.status("complete")
            check()
            api.answer(growing().cut(after_text="word9"))
            chat.send("Hi")
            chat.status("The connection to the model was lost.")
            check()
            api.answer(growing())
            chat.send("Hi")
            chat.sees("word9", 3)
            check()

    def test_a_new_chat(self, chat: Tab) -> None:
        chat.send("Hi")
        chat.status("complete")
        chat.page.get_by_role("button", name="New chat").click()
        assert chat.page.locator("article").count() == 0
        chat.page.reload()
        chat.send("Hi")
        chat.status("complete")
        assert chat.page.locator("article").count() == 2

    def test_a_message_waits_for_the_history(self, chat: Tab, api: API) -> None:
        chat.send("Hi")
        chat.status("complete")
        requests = len(api.server.requests)
        held: list[Route] = []
        with chat.page.expect_request("**/api/chat/*"):
            chat.page.route("**/api/chat/*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright sets an attribute
            chat.page.reload()
        chat.page.get_by_label("Message").fill("Too early")
        chat.page.keyboard.press("Enter")
        assert chat.page.get_by_role("button", name="Send").is_disabled()
        assert chat.page.get_by_role("button", name="New chat").is_disabled()
        assert chat.page.locator("article").count() == 0
        held[0].continue_()
        chat.send("Now")
        chat.sees("Hello there!", 2)
        chat.status("complete")
        assert chat.page.locator("article").count() == 4
        assert len(api.server.requests) == requests + 1

    def test_a_history_that_cannot_be_loaded(self, chat: Tab) -> None:
        chat.page.route("**/api/chat/*", lambda route: route.abort(), times=1)
        chat.page.reload()
        chat.page.get_by_text("The server cannot be reached. Load the page again.").wait_for()
        chat.page.get_by_role("button", name="New chat").click()
        chat.send("Hi")
        chat.status("complete")
