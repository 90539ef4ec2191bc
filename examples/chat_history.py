"""A conversation in which one answer is interrupted, with a history that the API accepts all the same."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anthropic
from anthropic.types import MessageParam

from streamkit import stream_text
from streamkit.testing import Reply, serve

QUESTIONS = ("Name a sea.", "Tell me a long story about it.", "In one word: was it a good story?")
CANNED = (
    Reply.text("The Baltic."),
    Reply.text("Once upon a time a herring set out for the Gulf of Bothnia, and then it met a seal, who said:"),
    Reply.text("Unfinished."),
)
ENOUGH = 40  # characters of the story, after which this program loses interest


@contextmanager
def connect() -> Iterator[anthropic.Anthropic]:
    """A client: of the API where a key is set, else of a server on this machine."""
    if os.environ.get("ANTHROPIC_API_KEY"):
        with anthropic.Anthropic() as client:
            yield client
    else:
        print("ANTHROPIC_API_KEY is not set: a server on this machine answers instead.", file=sys.stderr)
        with serve(*CANNED) as server:
            yield server.client()


def main() -> None:
    history: list[MessageParam] = []
    with connect() as client:
        for question in QUESTIONS:
            history.append({"role": "user", "content": question})
            stream = stream_text(client, model="claude-sonnet-5-5", max_tokens=300, messages=history)
            with stream:
                for _ in stream:
                    if "story about" in question and len(stream.text) >= ENOUGH:
                        break  # leaving the block closes the connection
            answer = stream.result.new_messages()
            if not answer:
                # Nothing came that could be kept: a question without an answer must not stay either.
                history.pop()
            history += answer
            print(f"user: {question}\nassistant: {stream.text}   [{stream.status}]")
    print("roles:", ", ".join(message["role"] for message in history))


if __name__ == "__main__":
    main()
