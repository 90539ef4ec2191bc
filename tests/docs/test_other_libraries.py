"""The claims of docs/how-to/other-libraries.md about LangChain and LiteLLM, with the releases that the page names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from streamkit.testing import Reply, serve

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "other-libraries.md"
WHOLE = Reply.text(["They push ", "water ", "aside."])
CUT = WHOLE.cut(after_events=5)

LANGCHAIN = """
import functools, sys
import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.runnables import RunnableGenerator
from streamkit import StreamTruncatedError, stream_text

def reply(client, questions):
    for question in questions:
        yield from stream_text(
            client, model="claude-sonnet-5-5", max_tokens=1024, messages=[{"role": "user", "content": question}]
        )

url = sys.argv[1]
chat = ChatAnthropic(model="claude-sonnet-5-5", base_url=url, api_key="made-up", max_retries=0)
print("".join(chunk.text for chunk in chat.stream("Why?")))
print("".join(chunk.text for chunk in chat.stream("Why?")))  # the reply that is cut
step = RunnableGenerator(functools.partial(reply, anthropic.Anthropic(base_url=url, api_key="made-up")))
print("".join(step.stream("Why?")))
try:
    for text in step.stream("Why?"):
        print(text, end="")
except StreamTruncatedError as error:
    print(type(error).__name__)
"""
LITELLM = """
import sys
import litellm

litellm.suppress_debug_info = True

def read():
    for chunk in litellm.completion(
        model="anthropic/claude-sonnet-5-5",
        messages=[{"role": "user", "content": "Why?"}],
        api_base=sys.argv[1],
        api_key="made-up",
        stream=True,
        num_retries=0,
    ):
        print(chunk.choices[0].delta.content or "", end="")

read()
print()
try:
    read()
except Exception as error:
    print(type(error).__module__.split(".")[0])
"""


def run(program: str, package: str, *replies: Reply) -> list[str]:
    """Run a program in an environment with the release of the package that the page names."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv, which installs the library")
    version = re.search(rf"{package} (\d+\.\d+)", PAGE.read_text(encoding="utf-8"))
    assert version is not None
    needs = ("--with", f"{package}=={version[1]}.*", "--with", str(ROOT))
    with serve(*replies) as server:
        command = [uv, "run", "--quiet", "--isolated", "--no-project", *needs, "python", "-c", program, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_langchain() -> None:
    assert run(LANGCHAIN, "langchain-anthropic", WHOLE, CUT, WHOLE, CUT) == [
        "They push water aside.",
        "They push water ",
        "They push water aside.",
        "They push water StreamTruncatedError",
    ]


@pytest.mark.slow
def test_litellm() -> None:
    assert run(LITELLM, "litellm", WHOLE, CUT) == ["They push water aside.", "They push water litellm"]
