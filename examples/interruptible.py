# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""A program that Ctrl-C ends properly at any moment, also while it imports, and that keeps what arrived.

uv run examples/interruptible.py "Why is the sky blue?"
"""

import os
import signal
import sys

from _connect import connect

QUESTION = "Why do boats float?"
ANSWER = (
    "A boat pushes water aside, and the water pushes back. The deeper the hull sinks, the more water it moves out of "
    "the way, and the harder it is pushed up. At the depth where that push equals the weight of the boat, it stops "
    "sinking. So steel floats too, as long as it has the shape of a bowl: it is the air inside that makes it light "
    "for its size."
)


def interrupted(output_tokens: int) -> int:
    print(f"\n[interrupted]\nusage: at least {output_tokens} output tokens", flush=True)
    return 130  # what a shell expects of a program that Ctrl-C ended


def main() -> int:
    # Python may swallow a KeyboardInterrupt in the middle of an import, and the SDK imports until the request is sent.
    # Nothing has arrived by then, so that ending on the spot loses nothing.
    signal.signal(signal.SIGINT, lambda *_: os._exit(interrupted(0)))

    with connect(ANSWER) as client:
        import anthropic  # noqa: PLC0415 - takes a moment, and Ctrl-C works during it

        from streamkit import stream_text  # noqa: PLC0415

        stream = stream_text(
            client,
            model="claude-sonnet-5-5",
            max_tokens=1024,
            messages=[{"role": "user", "content": " ".join(sys.argv[1:]) or QUESTION}],
        )
        try:
            try:
                with stream:  # sends the request
                    signal.signal(signal.SIGINT, signal.default_int_handler)  # KeyboardInterrupt, from here on
                    for text in stream:
                        print(text, end="", flush=True)
            except anthropic.APIError as error:  # a refused request, or one of streamkit's own errors
                print(f"\n{type(error).__name__}: {error}", file=sys.stderr)

            result = stream.result
            usage, first = result.usage, result.timing.first_content
            bound = "" if result.usage_final else "at least "
            print(f"\n\nusage: {usage.input_tokens} input tokens, {bound}{usage.output_tokens} output tokens")
            print("first content: " + ("none" if first is None else f"after {first:.2f} seconds"))
            print(f"status: {result.status} ({result.stop_reason})", flush=True)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said: nothing is left to interrupt
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one Ctrl-C is enough
            return interrupted(stream.usage.output_tokens)
    return 0 if result.status == "complete" else 1


if __name__ == "__main__":
    sys.exit(main())
