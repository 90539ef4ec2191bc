# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit[web-redis]", "fastapi", "uvicorn"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "../..", editable = true }
# ///
"""A chat in the browser. Ctrl-C ends the server.

uv run examples/web_chat/__main__.py --port 8000
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

HERE = Path(__file__).parent


@contextlib.contextmanager
def api() -> Iterator[None]:
    """Without `ANTHROPIC_API_KEY`, answer with canned replies from a server on this machine."""
    if os.environ.get("ANTHROPIC_API_KEY"):
        yield
        return
    from demo import demo_server  # noqa: PLC0415 - needed only here

    print("ANTHROPIC_API_KEY is not set: a server on this machine answers instead.", file=sys.stderr, flush=True)
    with demo_server() as server:
        os.environ.update(ANTHROPIC_API_KEY="demo", ANTHROPIC_BASE_URL=server.url, NO_PROXY="127.0.0.1")
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="web_chat", description="A chat in the browser.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes; more than one needs REDIS_URL")
    options = parser.parse_args()
    if options.workers > 1 and not os.environ.get("REDIS_URL"):
        parser.error("expected REDIS_URL for more than one worker, which share chats and replies; set it, or use one")
    with api(), contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            "app:app",
            app_dir=str(HERE),
            host=options.host,
            port=options.port,
            workers=options.workers,
            server_header=False,
            timeout_graceful_shutdown=5,  # seconds for open replies, which are then stopped and saved
        )


if __name__ == "__main__":
    main()
