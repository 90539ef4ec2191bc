"""The client that the examples use: for the API if a key is set, else for a server on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

# Imports of the SDK and of streamkit stand in the functions: interruptible.py shows that Ctrl-C works while they run.
if TYPE_CHECKING:
    import anthropic

    from streamkit.testing import Reply, Server


@contextmanager
def connect(*replies: Reply | str, repeat: bool = False) -> Iterator[anthropic.Anthropic]:
    """Give a client. Without `ANTHROPIC_API_KEY` a local server answers its requests with `replies`, in order."""
    if has_key():
        import anthropic

        with anthropic.Anthropic() as client:
            yield client
    else:
        with local_server(replies, repeat) as server:
            yield server.client()


@asynccontextmanager
async def connect_async(*replies: Reply | str, repeat: bool = False) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Give an async client, as `connect` does."""
    if has_key():
        import anthropic

        async with anthropic.AsyncAnthropic() as client:
            yield client
    else:
        with local_server(replies, repeat) as server:
            async with server.async_client() as client:
                yield client


def has_key() -> bool:
    """Return whether there is a key for the API, and print what the program waits for next."""
    found = bool(os.environ.get("ANTHROPIC_API_KEY"))
    note = (
        "ANTHROPIC_API_KEY is set: waiting for the first words of the API ..."
        if found
        else "ANTHROPIC_API_KEY is not set: a server on this machine answers instead, word by word."
    )
    print(note, file=sys.stderr, flush=True)
    return found


def local_server(replies: tuple[Reply | str, ...], repeat: bool) -> Server:
    """Make a server that answers with these replies; a `str` is sent word by word, as a model writes."""
    from streamkit.testing import Reply, serve

    made = [Reply.text(reply, delay=0.03) if isinstance(reply, str) else reply for reply in replies]
    return serve(*made, repeat=repeat)
