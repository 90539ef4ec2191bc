"""`sse` of a sync stream: frames, pings, and what happens when the consumer goes away."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import EventStream, Sink, stream_events
from streamkit.testing import Reply, serve
from streamkit.web import AISDK, Encoder, Frames, sse
from tests.support.bodies import BETA, FIXTURES
from tests.support.clients import PARAMS, assert_no_connection_in_use, sdk_client
from tests.support.harness import wait_for_abandoned_requests, wait_until
from tests.support.web import PROTOCOLS, encoded, of_type, types

WORDS = Reply.text("They push water aside.")
STALLED = WORDS.stall(after_events=5)  # after "They " and "push "
PING = b": ping\n\n"


@contextlib.contextmanager
def opened(*replies: Reply, beta: bool = False, **options: Any) -> Iterator[tuple[EventStream, Any]]:
    """A stream of the reply, and the client, which has no connection in use at the end, as no thread is left."""
    with serve(*replies) as server:
        client = sdk_client(server)
        yield stream_events(client.beta.messages if beta else client, **{**PARAMS, **options}), client
        for thread in threading.enumerate():
            if thread.name == "streamkit-sse":
                thread.join(20)
                assert not thread.is_alive()
        assert_no_connection_in_use(client)


def read_until(frames: Frames, text: bytes) -> bytes:
    body = b""
    while text not in body:
        body += next(frames)
    return body


class Gate(Sink):
    """Waits, with the first piece of text, until it is opened. Keeps the text and the status."""

    def __init__(self) -> None:
        self.reached, self.open, self.finished = threading.Event(), threading.Event(), threading.Event()
        self.text = self.status = ""

    def write(self, text: str) -> None:
        self.reached.set()
        assert self.open.wait(20)
        self.text += text

    def finish(self, result: Any) -> None:
        self.status = result.status
        self.finished.set()


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: type(one).__name__)
def test_the_frames_are_those_of_the_encoder(protocol: Any) -> None:
    for path in FIXTURES:
        with opened(Reply.recorded(path), beta=path.stem in BETA) as (stream, _):
            body = b"".join(sse(stream, protocol))
        assert body == encoded(protocol, path.read_bytes(), beta=path.stem in BETA)[0], path.name


def test_pings_in_silence() -> None:
    with opened(STALLED) as (stream, _):
        frames = sse(stream, AISDK(), ping=0.02)
        read_until(frames, b"push")
        assert [next(frames) for _ in range(3)] == [PING] * 3
        frames.close()
        assert (stream.status, stream.text) == ("interrupted", "They push ")
        assert list(frames) == []


def test_no_ping_while_events_arrive() -> None:
    with opened(Reply.text("a " * 30, delay=0.02)) as (stream, _):
        last = time.monotonic()
        for piece in sse(stream, AISDK(), ping=0.3):
            assert piece != PING or time.monotonic() - last >= 0.3  # of silence, where the whole process stood still
            last = time.monotonic()


def test_pings_while_a_sink_is_slow() -> None:
    with opened(WORDS, sinks=(gate := Gate())) as (stream, _):
        frames = sse(stream, AISDK(), ping=0.02)
        read_until(frames, PING + PING)
        assert gate.text == ""
        gate.open.set()
        read_until(frames, b"[DONE]")
    assert gate.text == "They push water aside."


def test_closing_before_the_headers() -> None:
    with opened(Reply.text("Hi", header_delay=0.2)) as (stream, _):
        frames = sse(stream, AISDK())
        next(frames)
        wait_until(lambda: stream.status == "streaming")
        frames.close()
        assert stream.status == "interrupted"
        wait_for_abandoned_requests()


@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "open"])
def test_closing_before_the_first_frame(sent: bool) -> None:
    with opened(WORDS) as (stream, _):
        if sent:
            stream.open()
        sse(stream, AISDK()).close()
        assert stream.status == "interrupted"


@pytest.mark.parametrize("started", [False, True], ids=["not started", "started"])
def test_dropping_the_frames_closes_the_connection(started: bool) -> None:
    with opened(STALLED) as (stream, _):
        stream.open()
        frames = sse(stream, AISDK())
        if started:
            read_until(frames, b"push")
        del frames
        gc.collect()
        wait_until(lambda: stream.status != "streaming")
        assert stream.status == "interrupted"


def test_frames_that_are_collected_while_the_thread_keeps_one() -> None:
    """The garbage collector may run in any thread, here in the reader's while it holds its lock."""
    kept: list[Frames] = []
    returned = threading.Event()

    class Collecting(bytes):
        def __len__(self) -> int:
            returned.wait(20)  # else `kept` is not the last reference
            kept.clear()
            return super().__len__()

    class Protocol(AISDK):
        def encoder(self) -> Encoder:
            encoder: Any = super().encoder()
            start = encoder.start
            encoder.start = lambda: [Collecting(frame) for frame in start()]
            return encoder  # type: ignore[no-any-return]

    with opened(STALLED) as (stream, _):
        kept.append(sse(stream, Protocol()))
        kept[0]._start()
        returned.set()
    assert kept == []
    assert stream.status == "interrupted"


def test_closing_from_another_thread_ends_the_reader() -> None:
    with opened(STALLED) as (stream, _):
        frames = sse(stream, AISDK())
        read_until(frames, b"push")
        thread = threading.Thread(target=lambda: rest.extend(frames))
        rest: list[bytes] = []
        thread.start()
        frames.close()
        thread.join(20)
        assert not thread.is_alive()
        assert rest == []


def test_an_exception_of_a_signal_handler_closes_the_connection() -> None:
    import signal

    def leave(*_: Any) -> None:
        raise SystemExit

    before = signal.signal(signal.SIGALRM, leave)
    try:
        with opened(STALLED) as (stream, _):
            frames = sse(stream, AISDK())
            read_until(frames, b"push")
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(SystemExit):
                next(frames)
            assert stream.status == "interrupted"
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("how", ["closed", "closed before", "dropped", "dropped before"])
def test_a_detached_stream_goes_on(how: str) -> None:
    with opened(WORDS, sinks=(gate := Gate())) as (stream, _):
        frames = sse(stream, AISDK(), detach=True)
        if "before" not in how:
            next(frames)
            assert gate.reached.wait(20)
        if "closed" in how:
            frames.close()
        del frames
        gc.collect()
        gate.open.set()
        assert gate.finished.wait(20)
        assert (gate.status, gate.text) == ("complete", "They push water aside.")


def test_a_detached_stream_that_was_read_to_its_end() -> None:
    with opened(WORDS) as (stream, _):
        frames = sse(stream, AISDK(), detach=True)
        assert b"[DONE]" in b"".join(frames)
        frames.close()
        assert stream.status == "complete"


def test_a_slow_consumer_holds_up_the_stream() -> None:
    text = ["x" * 500] * 2000
    with opened(Reply.text(text)) as (stream, _):
        frames = sse(stream, AISDK())
        next(frames)
        wait_until(lambda: len(stream.text) > 50_000)
        for _ in range(20):
            threading.Event().wait(0.001)
        assert len(stream.text) < 200_000
        body = b"".join(frames)
        assert "".join(one["delta"] for one in of_type(body, "text-delta")) == "".join(text)


def test_a_slow_consumer_that_leaves_closes_the_connection() -> None:
    with opened(Reply.text(["x" * 500] * 2000)) as (stream, _):
        frames = sse(stream, AISDK())
        next(frames)
        wait_until(lambda: len(stream.text) > 50_000)
        frames.close()
        assert stream.status == "interrupted"


@pytest.mark.parametrize("method", ["write", "event", "finish"])
def test_a_sink_that_raises_is_an_internal_error(method: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise OSError("the secret disk is full")

    with opened(WORDS, sinks=type("Failing", (Sink,), {method: fail})()) as (stream, _):
        body = b"".join(sse(stream, AISDK()))
    assert types(body)[-2:] == ["message-metadata", "error"]
    assert of_type(body, "error")[0]["errorText"] == "Something went wrong on the server."
    assert b"secret" not in body
    assert "the secret disk is full" in caplog.text


def test_context_variables_reach_the_sinks() -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default="")
    variable.set("seen")
    seen: list[str] = []
    with opened(WORDS, sinks=lambda _: seen.append(variable.get())) as (stream, _):
        list(sse(stream, AISDK()))
    assert set(seen) == {"seen"}
