"""Forks: the child starts with nothing of its parent's streams, and no lock held."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import streamkit
from streamkit import UsageMeter

if not hasattr(os, "fork"):
    pytest.skip("no forks here", allow_module_level=True)

PREAMBLE = """
import gc, multiprocessing, os, sys, threading, warnings
from concurrent.futures import ProcessPoolExecutor
import streamkit
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client

warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
WORDS = ["word "] * 30
FINISHED = []

class Log(streamkit.Sink):
    def finish(self, result):
        FINISHED.append(result.status)
        os.write(1, f"finished {result.status}\\n".encode())

def in_child(function):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
"""

# Each piece comes after the parent's idle timeout would have been over without the one before.
POOL = """
import streamkit._io.sync_stream
streamkit._io.sync_stream.DRAIN_SECONDS = 20  # a body that ends late would cost the parent its connection

def work(url):
    import anthropic
    client = anthropic.Anthropic(api_key="k", base_url=url)
    result = streamkit.collect(client, idle_timeout=10, total_timeout=20, **PARAMS)
    return result.status, [t.name for t in threading.enumerate() if t.name == "streamkit-clock"]

with serve(Reply.text(WORDS, delay=0.04), repeat=True) as server:
    client = sdk_client(server)
    for _ in range(3):
        stream = streamkit.stream_text(client, idle_timeout=1.0, total_timeout=60, **PARAMS)
        next(stream)
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            found = list(pool.map(work, [server.url] * 4))
        assert found == [("complete", ["streamkit-clock"])] * 4, found
        stream.until_done()
        assert (stream.status, stream.text) == ("complete", "".join(WORDS)), stream
    assert server.connection_count == 1 + 3 * 4, "the parent used one connection"
print("ok")
"""

INHERITED = """
with serve(Reply.text(WORDS, delay=0.01), repeat=True) as server:
    client = sdk_client(server)
    stream = streamkit.stream_text(client, idle_timeout=10, sinks=Log(), **PARAMS)
    first = next(stream)

    def child():
        global stream
        assert (stream.status, stream.text) == ("interrupted", stream.result.text)
        assert stream.text.startswith(first)
        stream.cancel()
        try:
            next(stream)
        except StopIteration:
            raise SystemExit("it was read")
        except RuntimeError as error:
            assert "has ended" in str(error), error
        stream.close()
        del stream
        gc.collect()

    lock = stream._interrupter.lock
    with lock:  # as another thread of the parent may hold it
        in_child(child)
    stream.until_done()
    assert (stream.status, stream.text) == ("complete", "".join(WORDS))
    assert FINISHED == ["complete"]
print("ok")
"""

# A `with` block that the child leaves, by the end of the program.
LEFT = """
server = serve(Reply.text(WORDS, delay=0.01), repeat=True).__enter__()  # not to be left by the child
with streamkit.stream_text(sdk_client(server), sinks=Log(), **PARAMS) as stream:
    next(stream)
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    stream.until_done()
server.__exit__(None)
assert (stream.status, stream.text) == ("complete", "".join(WORDS))
assert FINISHED == ["complete"]
print("ok")
"""

ASYNC = """
import asyncio
from tests.support.clients import async_sdk_client

async def main():
    async with async_sdk_client(server) as client:
        stream = streamkit.stream_text(client, idle_timeout=10, sinks=Log(), **PARAMS)
        await stream.__anext__()

        def child():
            global gone
            assert stream.status == "interrupted"
            stream.cancel()
            gc.collect()

        in_child(child)
        await stream.until_done()
        assert (stream.status, stream.text) == ("complete", "".join(WORDS))

with serve(Reply.text(WORDS, delay=0.01), repeat=True) as server:
    asyncio.run(main())
assert FINISHED == ["complete"]
print("ok")
"""


@pytest.mark.parametrize("script", [POOL, INHERITED, LEFT, ASYNC], ids=["pool", "inherited", "left", "async"])
def test_the_parent_s_streams_are_left_alone(script: str) -> None:
    done = subprocess.run(  # noqa: S603 - this file's own script
        [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-1]) == (0, "ok")
    assert lines.count("finished complete") <= 1
    assert "finished interrupted" not in lines


def test_a_meter_that_was_counting_at_the_fork_counts_in_the_child() -> None:
    meter = UsageMeter()
    done = subprocess.run(  # noqa: S603 - this file's own script
        [sys.executable, "-c", METER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")
    assert meter.total.streams == 0


METER = f"""
import os, sys, warnings
sys.path[:0] = {[str(path) for path in streamkit.__path__]!r}
import streamkit
from streamkit import sinks

warnings.simplefilter("ignore", DeprecationWarning)
meter = streamkit.UsageMeter()
result = streamkit.stream_text(iter_ := type("S", (), {{"close": lambda s: None, "__next__": lambda s: 0}})()).result
with sinks._usage_lock:
    child = os.fork()
    if child == 0:
        meter.finish(result)
        print(meter.total.streams, flush=True)
        os._exit(0)
os.waitpid(child, 0)
"""
