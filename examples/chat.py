# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit", "genai-prices", "rich"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""A chat in the terminal. Ctrl-C stops an answer and keeps what arrived.

/continue goes on with an answer that is not complete, /quit or Ctrl-D ends the chat.
"""

import contextlib
import sys

from _connect import connect
from anthropic.types import MessageParam

from streamkit import ModelUsage, StreamResult, UsageMeter, collect
from streamkit.rich import MarkdownSink
from streamkit.testing import Reply

with contextlib.suppress(ImportError):  # Windows has none
    import readline  # noqa: F401 - gives the prompt a history, and arrow keys

MODEL = "claude-sonnet-5-5"
CANNED = (
    Reply.text(
        "Ask what you like: this server has *three* answers, and half a story is next.", model=MODEL, delay=0.03
    ),
    Reply.text("A herring set out for the Gulf of Both", model=MODEL, delay=0.03, stop_reason="max_tokens"),
    Reply.text("Bothnia. There it met a **seal**, who showed it the way home.", model=MODEL, delay=0.03),
)


def read_line() -> str:
    """Return what the user types; `/quit` at the end of the input."""
    while True:
        try:
            line = input("\n> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return "/quit"
        except KeyboardInterrupt:  # discards the line
            continue
        if line:
            return line


def price(model: str, used: ModelUsage) -> str:
    """Return the price of the tokens; nothing if genai-prices is not installed or does not know the model."""
    try:
        from cost import price_of_sum  # noqa: PLC0415 - cost.py explains it
    except ImportError:
        return ""
    with contextlib.suppress(LookupError):
        return f", {price_of_sum(model, used):.4f} USD"
    return ""


def chat() -> UsageMeter:
    """Answer until the user ends the chat, and return what it took."""
    history: list[MessageParam] = []  # up to the question that `result` answers
    result: StreamResult | None = None
    meter = UsageMeter()
    with connect(*CANNED, repeat=True) as client, contextlib.suppress(KeyboardInterrupt):
        while (line := read_line()) != "/quit":
            if line == "/continue":
                more = result.continuation() if result else []
                if not more:
                    print("There is nothing to go on with.")
                    continue
                history += more
            else:
                if result:
                    answer = result.new_messages()  # in a form that the API accepts, also if it is half an answer
                    history = history + answer if answer else history[:-1]  # no question without an answer
                history.append({"role": "user", "content": line})
            result = collect(
                client,
                sinks=[MarkdownSink(), meter],
                on_error="return",  # a broken connection does not end the chat,
                on_interrupt="return",  # nor does Ctrl-C
                model=MODEL,
                max_tokens=4000,
                messages=history,
            )
            if result.error is not None:
                print(f"{type(result.error).__name__}: {result.error}")
            if result.continuation():
                print("This answer is not complete: /continue goes on with it.")
    return meter


if __name__ == "__main__":
    print(__doc__)
    for model, used in chat().by_model.items():
        bound = "at least " if used.not_final_streams else ""
        tokens = f"{used.input_tokens} input tokens, {bound}{used.output_tokens} output tokens"
        print(f"\n{model}: {used.streams} answers, {tokens}{price(model, used)}")
