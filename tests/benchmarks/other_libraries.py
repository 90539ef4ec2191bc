"""Other libraries that stream Claude's text, each in an environment of its own: CPU time of the reader for each event.

    python tests/benchmarks/cpu_per_event.py --other-libraries

They read the same reply from the same server. Never part of CI: it installs what it compares.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).parents[2]


class Library(NamedTuple):
    """Packages to install, and a program that defines `read()`.

    `read()` reads a reply from the server at `url` and returns the number of characters, or `None` if it drops bytes.
    """

    needs: list[str]
    program: str


_SDK = """
import anthropic
client = anthropic.Anthropic(api_key="test", base_url=url)
PARAMS = dict(model=MODEL, max_tokens=1024, messages=[{"role": "user", "content": "Hello"}])
"""
LIBRARIES = {
    "streamkit, `stream_text`": Library(
        [str(SOURCE)],
        _SDK
        + """
import streamkit
def read():
    with streamkit.stream_text(client, **PARAMS) as stream:
        return sum(len(text) for text in stream)
""",
    ),
    "the bytes, dropped": Library(
        ["anthropic"],
        _SDK
        + """
def read():
    with client.messages.create(stream=True, **PARAMS) as stream:
        for _ in stream.response.iter_bytes():
            pass
""",
    ),
    "the SDK's raw events": Library(
        ["anthropic"],
        _SDK
        + """
def read():
    with client.messages.create(stream=True, **PARAMS) as stream:
        return sum(len(event.delta.text) for event in stream if event.type == "content_block_delta")
""",
    ),
    "the SDK's `text_stream`": Library(
        ["anthropic"],
        _SDK
        + """
def read():
    with client.messages.stream(**PARAMS) as stream:
        return sum(len(text) for text in stream.text_stream)
""",
    ),
    "langchain-anthropic": Library(
        ["langchain-anthropic"],
        """
from langchain_anthropic import ChatAnthropic
model = ChatAnthropic(model=MODEL, api_key="test", base_url=url, max_tokens=1024)
def read():
    return sum(len(chunk.text if isinstance(chunk.text, str) else chunk.text()) for chunk in model.stream("Hello"))
""",
    ),
    "pydantic-ai": Library(
        ["pydantic-ai-slim[anthropic]"],
        """
import asyncio, anthropic
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider
async def once():
    async with anthropic.AsyncAnthropic(api_key="test", base_url=url) as client:
        agent = Agent(AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client)))
        async with agent.run_stream("Hello") as result:
            return sum([len(text) async for text in result.stream_text(delta=True, debounce_by=None)])
def read():
    return asyncio.run(once())
""",
    ),
    "litellm": Library(
        ["litellm"],
        """
import litellm
litellm.suppress_debug_info = True
def read():
    chunks = litellm.completion(
        model="anthropic/" + MODEL, api_key="test", api_base=url, stream=True, max_tokens=1024,
        messages=[{"role": "user", "content": "Hello"}],
    )
    return sum(len(chunk.choices[0].delta.content or "") for chunk in chunks)
""",
    ),
    "llm-anthropic": Library(
        ["llm", "llm-anthropic"],
        """
import os
os.environ["ANTHROPIC_BASE_URL"] = url
import llm
model = next(model for model in llm.get_models() if type(model).__module__.startswith("llm_anthropic"))
def read():
    return sum(len(text) for text in model.prompt("Hello", key="test", stream=True))
""",
    ),
}
_MEASURE = """
import json, sys, time
url = sys.argv[1]
MODEL = "claude-sonnet-5-5"
{program}
for _ in sys.stdin:
    started = time.process_time()
    length = read()
    print(json.dumps([time.process_time() - started, length]), flush=True)
"""


def install(name: str, library: Library, into: Path) -> Path:
    """An environment with the library. Returns its Python."""
    place = into / "".join(letter for letter in name if letter.isalnum())
    python = place / "bin" / "python"
    uv = shutil.which("uv")
    if uv is None:
        make, add = [sys.executable, "-m", "venv", str(place)], [str(python), "-m", "pip", "install", "-q"]
    else:
        make = [uv, "venv", "-q", "--python", sys.executable, str(place)]
        add = [uv, "pip", "install", "-q", "--python", str(python)]
    subprocess.check_call(make)  # noqa: S603
    subprocess.check_call([*add, *library.needs])  # noqa: S603
    return python


@contextmanager
def reader(python: Path, program: str, url: str) -> Iterator[Callable[[], list[Any]]]:
    """Run the program in a process of its own; each call reads a reply and returns CPU seconds and characters."""
    folder = python.parents[1]
    # Nobody looks for a newer list of prices, or for the user's own settings.
    home = {"HOME": str(folder), "PATH": os.environ["PATH"], "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [str(python), "-c", _MEASURE.format(program=program), url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, cwd=folder, env=home, stdin=pipe, stdout=pipe) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        write, answer = process.stdin, process.stdout

        def once() -> list[Any]:
            write.write("\n")
            write.flush()
            found: list[Any] = json.loads(answer.readline())
            return found

        yield once


def measure(url: str, events: int, length: int, rounds: int) -> dict[str, float]:
    """Return the microseconds an event by library: the median of the rounds, in which the libraries take turns."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        readers = {}
        for name, library in LIBRARIES.items():
            print(f"installing {name} ...", file=sys.stderr, flush=True)
            python = install(name, library, Path(folder))
            readers[name] = stack.enter_context(reader(python, library.program, url))
        spent: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(rounds + 1):  # the first warms up
            print(f"round {number} of {rounds} ...", file=sys.stderr, flush=True)
            for name, once in readers.items():
                cost, characters = once()
                if characters not in (length, None):
                    raise RuntimeError(f"{name} read {characters} characters in place of {length}")
                spent[name].append(cost)
        return {name: statistics.median(costs[1:]) / events * 1e6 for name, costs in spent.items()}
