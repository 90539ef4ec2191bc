# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""A conversation in which one answer is interrupted, with a history that the API accepts all the same."""

from _connect import connect
from anthropic.types import MessageParam

from streamkit import stream_text

QUESTIONS = ("Name a sea.", "Tell me a long story about it.", "In one word: was it a good story?")
CANNED = (
    "The Baltic.",
    "Once upon a time a herring set out for the Gulf of Bothnia, and then it met a seal, who said:",
    "Unfinished.",
)
ENOUGH = 40  # characters of the story, after which this program loses interest


def main() -> None:
    history: list[MessageParam] = []
    with connect(*CANNED) as client:
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
