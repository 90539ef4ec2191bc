# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""Code that calls `messages.create` keeps its shape, and streams underneath.

The SDK refuses `max_tokens=64_000` without streaming, as so long an answer may outlast a silent connection.
"""

from _connect import connect

from streamkit import StdoutSink, streamed


def main() -> None:
    with connect("Tin, wax, feathers and a good deal of optimism.") as client:
        # The one line that changes. StdoutSink is passed as a class: each call gets a sink of its own.
        create = streamed(client.messages.create, sinks=StdoutSink)

        message = create(
            model="claude-sonnet-5-5",
            max_tokens=64_000,
            messages=[{"role": "user", "content": "What are wings made of?"}],
        )
    print(f"{type(message).__name__}: {message.stop_reason}, {message.usage.output_tokens} output tokens")


if __name__ == "__main__":
    main()
