# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""A reply that is cut by `max_tokens`, twice: the model continues it, and the texts are joined."""

from _connect import connect
from anthropic.types import MessageParam

from streamkit import collect
from streamkit.testing import Reply

CANNED = (
    Reply.text("Once upon a time a herring set out for the Gulf of Both", stop_reason="max_tokens"),
    Reply.text("Bothnia. There it met a", stop_reason="max_tokens"),
    Reply.text("a seal, who showed it the way home."),
)


def join(text: str, rest: str) -> str:
    """Join a reply and its continuation, which begins with the last word of the reply."""
    kept = text.rstrip()
    last_word = kept[-40:].split()[-1] if kept else ""
    return kept.removesuffix(last_word) + rest if rest.startswith(last_word) else text + rest


def main() -> None:
    messages: list[MessageParam] = [{"role": "user", "content": "Tell me a story of two sentences."}]
    text = ""
    with connect(*CANNED) as client:
        while True:  # in a program, limit the number of rounds
            result = collect(client, model="claude-sonnet-5-5", max_tokens=16, messages=messages, on_error="return")
            print(f"{result.stop_reason or result.status}: {result.text!r}")
            text = join(text, result.text)
            more = result.continuation()
            if not more:
                break
            messages += more
    print(f"{'all of it' if result.ok else 'unfinished'}: {text}")


if __name__ == "__main__":
    main()
