# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""Ask Claude a question, and print the answer as it arrives. Ctrl-C stops it; what arrived is kept."""

import sys

import anthropic
from _connect import connect

from streamkit import stream_text

question = " ".join(sys.argv[1:]) or "Why do boats float?"
with connect("A boat pushes water aside, and the water pushes back as hard as that water is heavy.") as client:
    stream = stream_text(
        client, model="claude-sonnet-5-5", max_tokens=1024, messages=[{"role": "user", "content": question}]
    )
    try:
        with stream:  # sends the request; the end of the block closes the connection
            for text in stream:
                print(text, end="", flush=True)
    except KeyboardInterrupt:
        print(f"\n[interrupted: {len(stream.text)} characters kept, at least {stream.usage.output_tokens} tokens]")
        sys.exit(130)  # the exit status that shells expect after Ctrl-C
    except anthropic.APIError as error:  # a refused request or a broken stream; stream.text has what arrived
        sys.exit(f"\n{stream.status}: {error}")
print(f"\n\n{stream.status}: {stream.usage.input_tokens} input tokens, {stream.usage.output_tokens} output tokens")
