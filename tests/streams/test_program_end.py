"""Streams that are still open when the loop or the program ends: finished once, or a warning that says so."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import asyncio, sys, threading, time, warnings
import streamkit
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, async_sdk_client, sdk_client

warnings.simplefilter("always", ResourceWarning)
warnings.showwarning = lambda message, category, *_: print(f"{category.__name__}: {message}", flush=True)
sys.unraisablehook = lambda unraisable: print(f"unraisable {unraisable.exc_value!r}", flush=True)

class Log(streamkit.Sink):
    def finish(self, result):
        print("finished", result.status, repr(result.text), flush=True)

class AsyncLog(streamkit.AsyncSink):
    async def finish(self, result):
        await asyncio.sleep(0)
        print("async finished", result.status, repr(result.text), flush=True)

server = serve(Reply.text(["One ", "two"]).stall(after_events=4), repeat=True).__enter__()
"""

GLOBAL = """
stream = streamkit.stream_text(sdk_client(server), sinks=Log(), **PARAMS)
next(stream)
print("end")
"""

DAEMON = """
stream = streamkit.stream_text(sdk_client(server), sinks=Log(), **PARAMS)
threading.Thread(target=lambda: list(stream), daemon=True).start()
while not stream.text:
    time.sleep(0.001)
print("end")
"""

# The sink of the first one fails; the second is ended all the same.
FAILING = """
class Failing(streamkit.Sink):
    def finish(self, result):
        raise OSError("disk full")

streams = [streamkit.stream_text(sdk_client(server), sinks=sink, **PARAMS) for sink in (Failing(), Log())]
for stream in streams:
    next(stream)
print("end")
"""

RAISES = """
async def main():
    global client
    client = async_sdk_client(server)
    async for piece in streamkit.stream_text(client, sinks=[Log(), AsyncLog()], **PARAMS):
        raise ValueError("in the body")

try:
    asyncio.run(main())
except ValueError:
    print("end")
"""

LOOP = """
async def main():
    global client, stream
    client = async_sdk_client(server)
    stream = streamkit.stream_text(client, sinks=[Log(), AsyncLog()], **PARAMS)
    await stream.__anext__()

asyncio.run(main())
print("end")
"""

NO_SHUTDOWN = """
async def main():
    global client, stream
    client = async_sdk_client(server)
    stream = streamkit.stream_text(client, sinks=[Log(), AsyncLog()], **PARAMS)
    await stream.__anext__()

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
print("end")
"""

AT_EXIT = "ResourceWarning: <{}TextStream streaming, 4 characters> was still open when the program ended"
LOST = "ResourceWarning: <AsyncTextStream interrupted, 4 characters> could not finish its AsyncSink"
DROPPED = "ResourceWarning: <AsyncTextStream streaming, 4 characters> was dropped without being closed"
FINISHED = "finished interrupted 'One '"
CASES = {
    "a global": (GLOBAL, ["end", AT_EXIT.format(""), FINISHED]),
    "a daemon thread": (DAEMON, ["end", AT_EXIT.format(""), FINISHED]),
    "a sink that fails": (FAILING, ["end", AT_EXIT.format(""), AT_EXIT.format(""), FINISHED]),
    "async, an exception": (RAISES, [DROPPED, FINISHED, f"async {FINISHED}", "end"]),
    "async, the loop's end": (LOOP, [FINISHED, f"async {FINISHED}", "end"]),
    "async, a loop without a shutdown": (NO_SHUTDOWN, ["end", AT_EXIT.format("Async"), FINISHED, LOST]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stream_that_is_open_at_the_end(name: str) -> None:
    script, expected = CASES[name]
    done = subprocess.run(  # noqa: S603 - this file's own script
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Others warn of what they leave behind, too.
    ours = [
        line for line in done.stdout.splitlines() if line.startswith(("end", "finished", "async")) or "Stream" in line
    ]
    assert len(ours) == len(expected), done.stdout
    order = sorted if name == "a sink that fails" else list  # the streams are ended in any order
    for line, wanted in zip(order(ours), order(expected), strict=True):
        assert line.startswith(wanted), done.stdout
    assert "never awaited" not in done.stdout + done.stderr
    assert ("disk full" in done.stderr) is (name == "a sink that fails")
    assert done.returncode == 0
