"""Each example as a process of its own: without a key it says so, runs on its own server, and does what it says."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price

import streamkit
from streamkit.testing import Reply, serve
from tests.support.examples import EXAMPLES, KEY_NOTE, NOTE, POSIX_ONLY, interrupt, read_until, run, started, with_key
from tests.support.pages import ROOT, blocks

QUICKSTART = EXAMPLES / "quickstart.py"
INTERRUPTIBLE = EXAMPLES / "interruptible.py"
COST = EXAMPLES / "cost.py"
HELPER = "_connect"  # the module beside the examples that gives them their client
# What `uv run` reads in an example (PEP 723): the packages that it needs, with the streamkit of this clone.
METADATA = """\
# /// script
# requires-python = ">=3.10"
# dependencies = [{}]
#
# [tool.uv.sources]
# anthropic-streamkit = {{ path = "..", editable = true }}
# ///
"""
PRINTED = {
    "chat_history": """\
user: Name a sea.
assistant: The Baltic.   [complete]
user: Tell me a long story about it.
assistant: Once upon a time a herring set out for the    [interrupted]
user: In one word: was it a good story?
assistant: Unfinished.   [complete]
roles: user, assistant, user, assistant, user, assistant
""",
    "continue_reply": """\
max_tokens: 'Once upon a time a herring set out for the Gulf of Both'
max_tokens: 'Bothnia. There it met a'
end_turn: 'a seal, who showed it the way home.'
all of it: Once upon a time a herring set out for the Gulf of Bothnia. There it met a seal, who showed it the way home.
""",
    "wrap_create": """\
Tin, wax, feathers and a good deal of optimism.
Message: end_turn, 9 output tokens
""",
    "events": """\

thinking: The tool knows the tide.
text: Let me look it up.
tool_use: {"harbour": "Brest"}

call get_tide({'harbour': 'Brest'})
stopped for tool_use, after 24 characters of thinking
""",
    "sinks": """\
A sink hears every piece once, in order.
longest piece: 'hears ' (complete)
A sink hears every piece once, in order.
longest piece: 'hears ' (complete)
the buffer holds the last answer, 8 pieces; the callback got 16
the meter counted 16 output tokens in 2 streams
""",
    "tool_runner": """\
Let me look up Brest.
  (the tool is asked for Brest)
And Calais.
  (the tool is asked for Calais)
High water is at 6.5 m in Brest and at 7.2 m in Calais.
3 turns, 28 output tokens; the last answer: 'High water is at 6.5 m in Brest and at 7.2 m in Calais.'
""",
    "async_many": "".join(
        f"{word}: A word that sailors know well. (complete)\n"
        for word in ("ebb", "flood", "neap", "spring", "slack", "bore", "surge", "swell")
    )
    + "8 streams, 48 output tokens, 0 of them not final\n",
    "rich_console": "Take [bold] steps: 3 at most. A list in Python is [1, 2, 3].\n"
    + " complete, 14 output tokens ".center(80, "─")
    + "\n",
}

# Each runs an example that sends SIGINT to its own process: in a process that the test interrupts, the example may have
# gone on by the time that the signal arrives.
RUN = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
path, sys.argv = sys.argv[1], sys.argv[1:2]
sys.path.insert(0, str(pathlib.Path(path).parent))  # as `python path` does
runpy.run_path(path, run_name="__main__")
"""
# Right after it wrote something that holds the word given.
AT_A_WORD = f"""
import pathlib, runpy, signal, sys

class Output:
    def __init__(self, file, word):
        self.file, self.word = file, word

    def write(self, text):
        self.file.write(text)
        if self.word in text:
            signal.raise_signal(signal.SIGINT)

    def flush(self):
        self.file.flush()

sys.stdout = Output(sys.stdout, sys.argv[2])
{RUN}"""
# When it begins to import the module given.
AT_AN_IMPORT = f"""
import pathlib, runpy, signal, sys

def interrupt(event, args):
    if event == "import" and args[0] == name:
        signal.raise_signal(signal.SIGINT)

name = sys.argv[2]
sys.addaudithook(interrupt)
{RUN}"""

TESTED_APART = {"quickstart", "interruptible", "cost", "markdown", "chat"}


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*PRINTED, *TESTED_APART, HELPER}


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_without_a_key(name: str) -> None:
    if name == "rich_console":
        pytest.importorskip("rich")
    done = run(EXAMPLES / f"{name}.py")
    assert (done.returncode, done.stderr) == (0, NOTE)
    assert done.stdout == PRINTED[name]


def test_only_the_helper_reads_the_key() -> None:
    """So that one example stands for all in the tests that set a key."""
    sources = {path.stem: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")}
    assert [name for name, source in sources.items() if "ANTHROPIC_API_KEY" in source] == [HELPER]
    assert [name for name, source in sources.items() if "from _connect import" not in source] == [HELPER]


@pytest.mark.parametrize("name", sorted({*PRINTED, *TESTED_APART}))
def test_an_example_names_what_it_needs(name: str) -> None:
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    needed = ", ".join(f'"{package}"' for package in sorted(packages_of(source)))
    assert source.startswith(METADATA.format(needed))


def packages_of(source: str) -> set[str]:
    """The packages that an example imports, itself or through an example beside it."""
    names = {"genai_prices": "genai-prices", "anthropic": "anthropic-streamkit", "streamkit": "anthropic-streamkit"}
    found = {"rich"} if "from streamkit.rich" in source else set[str]()
    for module in set(re.findall(r"^\s*(?:import|from) ([a-z]\w*)", source, re.MULTILINE)) - sys.stdlib_module_names:
        beside = EXAMPLES / f"{module}.py"
        found |= packages_of(beside.read_text(encoding="utf-8")) if beside.exists() else {names.get(module, module)}
    return found


def test_the_quickstart_stays_short() -> None:
    lines = QUICKSTART.read_text(encoding="utf-8").splitlines()
    assert len(lines) - len(METADATA.splitlines()) <= 25


def test_an_example_runs_from_any_folder(tmp_path: Path) -> None:
    done = run(QUICKSTART, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, NOTE)


@pytest.mark.slow
def test_an_async_example_talks_to_the_api_where_there_is_a_key() -> None:
    with serve(Reply.text("Of the sea."), repeat=True) as server:
        done = run(EXAMPLES / "async_many.py", **with_key(server))
        assert len(server.requests) == 8
    assert (done.returncode, done.stderr) == (0, KEY_NOTE)
    assert "bore: Of the sea. (complete)\n" in done.stdout


def test_the_async_example_asks_for_all_replies_at_once() -> None:
    # One after the other, the requests would share a connection.
    with serve(Reply.text("Of the sea.", header_delay=1), repeat=True) as server:
        done = run(EXAMPLES / "async_many.py", **with_key(server))
        assert (server.connection_count, len(server.requests)) == (8, 8)
    assert (done.returncode, done.stderr) == (0, KEY_NOTE)


def test_a_broken_stream_of_the_async_example_does_not_take_the_others_with_it() -> None:
    whole = Reply.text("Of the sea.")
    with serve(whole.cut(after_text="Of"), *[whole] * 7, strict=True) as server:
        done = run(EXAMPLES / "async_many.py", **with_key(server))
    assert (done.returncode, done.stderr) == (0, KEY_NOTE)
    assert done.stdout.count(": Of the sea. (complete)\n") == 7
    assert done.stdout.count(": Of  (disconnected)\n") == 1
    assert done.stdout.endswith("8 streams, 22 output tokens, 1 of them not final\n")


def test_the_markdown_example_prints_the_source_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(EXAMPLES / "markdown.py")
    monkeypatch.syspath_prepend(EXAMPLES)
    text = runpy.run_path(str(EXAMPLES / "markdown.py"))["CANNED"]
    assert (done.returncode, done.stderr) == (0, NOTE)
    assert re.fullmatch(rf"{re.escape(text)}\ncomplete, \d+ output tokens\n", done.stdout)


def test_the_markdown_example_says_what_went_wrong() -> None:
    with serve(Reply.text("Low *water*.").cut(after_text="Low")) as server:
        done = run(EXAMPLES / "markdown.py", **with_key(server))
    assert (done.returncode, done.stdout) == (1, "Low \n\ndisconnected, 1 output tokens\n")
    assert done.stderr.startswith(KEY_NOTE)
    assert "ended before message_stop" in done.stderr


@pytest.mark.slow
def test_chat_history_sends_what_it_kept() -> None:
    with serve(Reply.text("One."), Reply.text("Word " * 40), Reply.text("Three.")) as server:
        done = run(EXAMPLES / "chat_history.py", **with_key(server))
        sent = server.requests[2].json["messages"]
    assert (done.returncode, done.stderr) == (0, KEY_NOTE)
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    # Interrupted after 40 characters, and sent back as far as it had come.
    assert sent[3]["content"] == [{"type": "text", "text": "Word " * 8}]


@pytest.mark.slow
def test_continue_reply_sends_what_arrived() -> None:
    replies = (Reply.text("They pu", stop_reason="max_tokens"), Reply.text("push water "), Reply.text("No."))
    with serve(replies[0], replies[1].cut(after_events=5), Reply.text("water aside.")) as server:
        done = run(EXAMPLES / "continue_reply.py", **with_key(server))
        sent = server.requests[2].json["messages"]
    assert (done.returncode, done.stderr) == (0, KEY_NOTE)
    assert done.stdout.endswith("\nall of it: They push water aside.\n")
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert [message["content"][0]["text"] for message in sent[1::2]] == ["They pu", "push water"]


TEXTS = ["A herring, a  seal\n\n- one\n    two", "潮が満ちる。" * 10, "x" * 90 + " y"]


@pytest.mark.parametrize("text", TEXTS, ids=["English", "no spaces", "long word"])
def test_the_texts_are_joined_wherever_the_reply_was_cut(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is one that does what the instruction says."""
    monkeypatch.syspath_prepend(EXAMPLES)
    join = runpy.run_path(str(EXAMPLES / "continue_reply.py"))["join"]
    cuts = range(1, len(text) + 1)
    with serve(*(Reply.text([text[:cut]], stop_reason="max_tokens") for cut in cuts)) as server:
        client = server.client()
        results = [streamkit.collect(client, model="m", max_tokens=1, messages=[]) for _ in cuts]
    for cut, result in zip(cuts, results, strict=True):
        _, asked = result.continuation()
        word = str(asked["content"]).rpartition(": ")[2]
        begin = result.text.rstrip().rindex(word)
        assert join(result.text, text[begin:]) == text
        assert join(result.text, f"\0{text[cut:]}") == f"{text[:cut]}\0{text[cut:]}", "a model that does not repeat"
    assert join("", text) == text


class TestCost:
    # Runs the example, and fails if it looks up or connects to any address but this machine's.
    OFFLINE = """
import pathlib, runpy, sys

def refuse(event, args):
    if event == "socket.getaddrinfo" and args[0] not in ("127.0.0.1", "localhost"):
        sys.exit(f"looks up {args[0]}")
    if event == "socket.connect" and args[1][0] != "127.0.0.1":
        sys.exit(f"connects to {args[1]}")

sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))  # as `python path` does
sys.addaudithook(refuse)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

    @pytest.fixture
    def functions(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.syspath_prepend(EXAMPLES)
        return runpy.run_path(str(COST))

    def test_prints_the_prices_without_a_network(self) -> None:
        done = run("-c", self.OFFLINE, COST)
        assert (done.returncode, done.stderr) == (0, NOTE)
        sonnet, haiku = "claude-sonnet-5-5", "claude-haiku-4-5"
        tides = dollars(sonnet, input=60, output=9, cache_read=4000, cache_write=900)
        begun = dollars(sonnet, input=10, output=10)
        spring = dollars(haiku, input=50, output=400)
        assert done.stdout == (
            f"{sonnet}: 9 output tokens, {tides:.6f} USD\n"
            f"{haiku}: 400 output tokens, {spring:.6f} USD\n"
            f"{sonnet}, interrupted: at least 10 output tokens, at least {begun:.6f} USD\n"
            f"all of {sonnet}: at least {tides + begun:.6f} USD\n"
            f"all of {haiku}: {spring:.6f} USD\n"
        )

    def test_counts_failed_attempts_and_what_the_api_counts_apart(self, functions: dict[str, Any]) -> None:
        model = "claude-sonnet-5-5"
        hour = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 900}
        usage = {"input_tokens": 60, "cache_creation_input_tokens": 900, "cache_creation": hour}
        reply = Reply.text("The moon.", model=model, usage=usage, headers={"retry-after": "0.001"})
        with serve(reply.cut(after_events=1), reply) as server:
            result = streamkit.collect(server.client(), model=model, max_tokens=9, messages=[])
        assert result.attempts == 2
        failed = dollars(model, input=60, output=1, cache_write_1h=900)
        assert functions["price"](result) == failed + dollars(model, input=60, output=2, cache_write_1h=900) > 0

    def test_a_refused_request_costs_nothing(self, functions: dict[str, Any]) -> None:
        with serve(Reply.http_error(400)) as server:
            result = streamkit.collect(server.client(), on_error="return", model="m", max_tokens=9, messages=[])
        assert functions["price"](result) == 0

    def test_the_page_has_the_same_functions(self) -> None:
        def functions(source: str) -> dict[str, str]:
            nodes = ast.parse(source).body
            return {node.name: ast.unparse(node) for node in nodes if isinstance(node, ast.FunctionDef)}

        page = blocks(ROOT / "docs" / "tracing-and-cost.md")
        shown = functions("".join(block.source for block in page if block.language == "python"))
        example = functions(COST.read_text(encoding="utf-8"))
        both = shown.keys() & example.keys()
        assert both == {"price", "price_of_sum"}
        assert {name: shown[name] for name in both} == {name: example[name] for name in both}


def dollars(model: str, **tokens: int) -> Decimal:
    """The price of tokens, each kind counted for itself, by the prices that genai-prices has for a model."""
    prices = calc_price(Usage(), model, provider_id="anthropic").model_price
    return sum((count * getattr(prices, f"{kind}_mtok") for kind, count in tokens.items()), Decimal(0)) / 10**6


class TestQuickstart:
    def test_runs_without_a_key(self) -> None:
        done = run(QUICKSTART)
        assert (done.returncode, done.stderr) == (0, NOTE)
        answer, summary = done.stdout.split("\n\n")
        assert answer.startswith("A boat pushes water aside")
        assert summary == f"complete: 10 input tokens, {len(answer.split())} output tokens\n"

    @pytest.mark.slow
    def test_asks_the_api_where_there_is_a_key(self) -> None:
        with serve(Reply.text("Scattering.")) as server:
            done = run(QUICKSTART, "Why is", "the sky blue?", **with_key(server))
            assert server.requests[0].json["messages"] == [{"role": "user", "content": "Why is the sky blue?"}]
        assert (done.returncode, done.stderr) == (0, KEY_NOTE)
        assert done.stdout == "Scattering.\n\ncomplete: 10 input tokens, 1 output tokens\n"

    @pytest.mark.parametrize(
        ("reply", "printed", "status"),
        [
            (Reply.text("Hello there.").cut(after_events=4), "Hello ", "disconnected"),
            pytest.param(
                Reply.http_error(401, message="no such key"), "", "failed: Error code: 401", marks=pytest.mark.slow
            ),
        ],
        ids=["cut", "refused"],
    )
    def test_says_what_went_wrong(self, reply: Reply, printed: str, status: str) -> None:
        with serve(reply) as server:
            done = run(QUICKSTART, **with_key(server))
        assert (done.returncode, done.stdout) == (1, printed)
        assert re.fullmatch(rf"{re.escape(KEY_NOTE)}\n{status}.*\n", done.stderr)

    def test_says_for_what_it_waits(self) -> None:
        with serve(Reply.text("Hello there.", header_delay=3600)) as server:
            with started(QUICKSTART, with_key(server)) as process:
                assert process.stderr is not None
                assert process.stderr.readline().decode() == KEY_NOTE

    @pytest.mark.slow
    def test_flushes_each_piece(self) -> None:
        # The server holds the rest back for good: what is seen here was written out at once.
        with serve(Reply.text("Hello there.").stall(after_events=4)) as server:
            with started(QUICKSTART, with_key(server)) as process:
                read_until(process, "Hello ")

    @POSIX_ONLY
    def test_ctrl_c_keeps_what_arrived(self) -> None:
        with serve(Reply.text("Hello there.").stall(after_events=4)) as server:
            with started(QUICKSTART, with_key(server)) as process:
                seen = read_until(process, "Hello ")
                code, out, err = interrupt(process)
        assert (code, err) == (130, KEY_NOTE)
        assert seen + out == "Hello \n[interrupted: 6 characters kept, at least 1 tokens]\n"

    @POSIX_ONLY
    def test_ctrl_c_without_a_key(self) -> None:
        done = run("-c", AT_A_WORD, QUICKSTART, "boat")
        assert (done.returncode, done.stderr) == (130, NOTE)
        assert done.stdout == "A boat \n[interrupted: 7 characters kept, at least 1 tokens]\n"


class TestInterruptible:
    def test_runs_without_a_key(self) -> None:
        done = run(INTERRUPTIBLE)
        assert (done.returncode, done.stderr) == (0, NOTE)
        answer, summary = done.stdout.split("\n\n")
        assert answer.startswith("A boat pushes water aside")
        assert re.fullmatch(
            r"usage: 10 input tokens, 72 output tokens\n"
            r"first content: after \d+\.\d\d seconds\n"
            r"status: complete \(end_turn\)\n",
            summary,
        )

    @pytest.mark.slow
    def test_asks_the_api_where_there_is_a_key(self) -> None:
        with serve(Reply.text("Scattering.")) as server:
            done = run(INTERRUPTIBLE, "Why is", "the sky blue?", **with_key(server))
            assert server.requests[0].json["messages"] == [{"role": "user", "content": "Why is the sky blue?"}]
        assert (done.returncode, done.stderr) == (0, KEY_NOTE)
        assert done.stdout.startswith("Scattering.\n\nusage: 10 input tokens, 1 output tokens\n")
        assert done.stdout.endswith("\nstatus: complete (end_turn)\n")

    @pytest.mark.parametrize(
        ("reply", "status", "error"),
        [
            (Reply.text("Hello there.").cut(after_events=4), "disconnected (None)", "StreamTruncatedError"),
            pytest.param(
                Reply.text("Hello there.").error("api_error", after_events=4),
                "failed (None)",
                "StreamAPIError",
                marks=pytest.mark.slow,
            ),
            pytest.param(
                Reply.http_error(401, message="no such key"),
                "failed (None)",
                "AuthenticationError",
                marks=pytest.mark.slow,
            ),
        ],
        ids=["cut", "error event", "refused"],
    )
    def test_says_what_went_wrong(self, reply: Reply, status: str, error: str) -> None:
        with serve(reply) as server:
            done = run(INTERRUPTIBLE, **with_key(server))
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1] == f"status: {status}"
        assert "at least " in done.stdout
        assert re.fullmatch(rf"{re.escape(KEY_NOTE)}\n{error}: .*\n", done.stderr)


@POSIX_ONLY
class TestInterruptibleAndCtrlC:
    """The interpreter's own start, before the first line of the file, is out of its reach: each begins after that."""

    def test_during_the_imports(self) -> None:
        done = run("-c", AT_AN_IMPORT, INTERRUPTIBLE, "anthropic")
        assert (done.returncode, done.stderr) == (130, NOTE)
        assert done.stdout == "\n[interrupted]\nusage: at least 0 output tokens\n"

    @pytest.mark.parametrize(
        "word", ["boat", pytest.param("equals", marks=pytest.mark.slow)], ids=["first words", "middle"]
    )
    def test_during_the_answer(self, word: str) -> None:
        done = run("-c", AT_A_WORD, INTERRUPTIBLE, word)
        assert (done.returncode, done.stderr) == (130, NOTE)
        answer, rest = done.stdout.split("\n", 1)
        assert answer.startswith("A boat ")
        assert answer.endswith(f"{word} ")
        assert rest == "[interrupted]\nusage: at least 1 output tokens\n"

    def test_while_the_line_is_silent(self) -> None:
        with serve(Reply.text("Hello there.").stall(after_events=4)) as server:
            with started(INTERRUPTIBLE, with_key(server)) as process:
                seen = read_until(process, "Hello ")
                code, out, err = interrupt(process)
        assert (code, err) == (130, KEY_NOTE)
        assert seen + out == "Hello \n[interrupted]\nusage: at least 1 output tokens\n"

    @pytest.mark.slow
    @pytest.mark.parametrize("word", ["there", "usage: 10", "status"])
    def test_at_any_line_of_what_it_writes(self, word: str) -> None:
        with serve(Reply.text("Hello there.")) as server:
            done = run("-c", AT_A_WORD, INTERRUPTIBLE, word, **with_key(server))
        assert (done.returncode, done.stderr) == (130, KEY_NOTE)
        whole = (
            "Hello there.\n\nusage: 10 input tokens, 2 output tokens\n"
            "first content: after 0.00 seconds\nstatus: complete (end_turn)\n"
        )
        written = re.sub(r"after \d+\.\d\d", "after 0.00", done.stdout)
        before, after = written.split("\n[interrupted]\n")
        assert whole.startswith(before)
        assert word in before
        assert after == f"usage: at least {2 if 'usage' in before else 1} output tokens\n"
