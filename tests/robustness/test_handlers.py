"""What a signal handler does to a stream: it raises, it closes, it cancels; and Ctrl-C that comes twice."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import StreamResult
from streamkit._core.phase import STREAMING
from streamkit.testing import Reply, Server, serve
from tests.robustness.test_interrupts import Tracer
from tests.support.clients import PARAMS, assert_no_connection_in_use, open_connections_in_use, sdk_client
from tests.support.harness import has_started, wait_for_abandoned_requests
from tests.support.sinks import ResultLog

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

PIECES = ["One ", "two ", "three"]
REPLY = Reply.text(PIECES)


class AlarmError(Exception):
    """As RQ's or Celery's soft time limit."""


class AlarmTimeoutError(TimeoutError):
    """What many an alarm handler raises; the HTTP library takes it for the socket's."""


@contextlib.contextmanager
def alarm(handler: Callable[[], object], ready: Callable[[], object]) -> Iterator[None]:
    """Let another thread raise the alarm soon after `ready` holds: how long this takes depends on the machine."""

    def on_alarm(_: int, frame: Any) -> None:
        # Python discards what is raised in the callback of a weak reference: come back right after it.
        if frame is not None and frame.f_globals.get("__name__") in ("weakref", "_weakrefset"):
            signal.setitimer(signal.ITIMER_REAL, 0.001)
        else:
            handler()

    def raise_alarm() -> None:
        while not ready():
            if over.wait(0.001):
                return
        if not over.wait(0.1):  # in which the main thread comes to wait for the socket, or for the SDK's pause
            signal.pthread_kill(main_thread, signal.SIGALRM)

    over, main_thread = threading.Event(), threading.get_ident()
    thread = threading.Thread(target=raise_alarm, daemon=True)
    before = signal.signal(signal.SIGALRM, on_alarm)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def raising(error: BaseException) -> Callable[[], None]:
    def handler() -> None:
        raise error

    return handler


def arrived(stream: Any, events: int) -> bool:
    """Return whether the stream has the response, and from it this number of events of `REPLY`: 0, 1 or 4."""
    if events == 4:
        return bool(stream.text == "One ")
    return has_started(stream) if events else stream._state.phase is STREAMING


def is_asked(server: Server, times: int) -> bool:
    return len(server.requests) == times


ERRORS = [AlarmError("late"), TimeoutError("late"), AlarmTimeoutError("late"), OSError("late"), ConnectionError("late")]


@pytest.mark.parametrize("error", [*ERRORS, SystemExit(3)], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("events", [0, 1, 4], ids=["before the body", "before content", "in the reply"])
@pytest.mark.parametrize("way", ["client", "helper"])
def test_an_exception_of_a_signal_handler_passes_unchanged(error: BaseException, events: int, way: str) -> None:
    """It is no failure of the connection: neither converted, nor a reason to send the request again."""
    with serve(REPLY.stall(after_events=events), Reply.text("again")) as server:
        client = sdk_client(server)
        with contextlib.ExitStack() as stack:
            source: Any = client
            if way == "helper":
                source = stack.enter_context(client.messages.stream(**PARAMS))
            stream = streamkit.stream_text(source, **(PARAMS if way == "client" else {}))
            ready = partial(arrived, stream, events)
            with alarm(raising(error), ready), pytest.raises(type(error)) as caught:
                in_with(stream)
            assert caught.value is error
            assert (stream.status, stream.result.error, stream.result.attempts) == ("interrupted", error, 1)
            assert stream.text == ("One " if events == 4 else "")
        assert len(server.requests) == 1
        assert_no_connection_in_use(client)


def test_a_read_timeout_and_a_lost_connection_are_still_converted() -> None:
    with serve(REPLY.stall(after_events=4), REPLY.reset(after_events=4)) as server:
        with pytest.raises(streamkit.StreamTimeoutError):
            streamkit.collect(sdk_client(server, timeout=4), **PARAMS)  # enough for the headers, too
        with pytest.raises(streamkit.StreamConnectionError):
            streamkit.collect(sdk_client(server), **PARAMS)


@pytest.mark.parametrize("error", ERRORS[:2], ids=lambda error: type(error).__name__)
def test_an_exception_of_a_signal_handler_while_the_response_is_waited_for(error: Exception) -> None:
    with serve(Reply.http_error(429, headers={"retry-after": "2"}), repeat=True) as server:
        client = sdk_client(server, max_retries=3)
        stream = streamkit.stream_text(client, **PARAMS)
        ready = partial(is_asked, server, 1)
        with alarm(raising(error), ready), pytest.raises(type(error)) as caught:
            list(stream)
        assert caught.value is error
        assert (stream.status, stream.result.error) == ("interrupted", error)
        wait_for_abandoned_requests()
        assert len(server.requests) == 1


class Calling(Tracer):
    """Calls a function at a place where signal handlers run, in place of raising."""

    def __init__(self, at: int | None, function: Callable[[], object]) -> None:
        super().__init__()
        self._at, self._function = at, function

    def _point(self, frame: Any, kind: str) -> None:
        self.count += 1
        if self.count - 1 == self._at:
            sys.setprofile(None)
            sys.settrace(None)
            self._function()


@pytest.mark.parametrize(
    ("what", "reply"),
    [
        ("close", REPLY),
        ("close", Reply.recorded(REPLY.body, [10**6])),
        ("cancel", REPLY),
        pytest.param("cancel", Reply.recorded(REPLY.body, [10**6]), marks=pytest.mark.slow),
    ],
    ids=["close", "close, one chunk", "cancel", "cancel, one chunk"],
)
def test_a_signal_handler_that_closes_or_cancels_wherever_it_comes(what: str, reply: Reply) -> None:
    """It only asks: the sinks are finished once, and the result holds what the consumer got."""
    with serve(reply, repeat=True) as server, sdk_client(server) as client:

        def run(tracer_of: Callable[[Any], Tracer]) -> Tracer:
            log = ResultLog()
            got: list[str] = []
            stream = streamkit.stream_text(client, sinks=log, **PARAMS)
            tracer = tracer_of(stream)
            with tracer.running(), contextlib.suppress(RuntimeError):  # reading on after a `close` is a mistake
                with stream:
                    got.extend(stream)
            wait_for_abandoned_requests()
            assert open_connections_in_use(client) == []
            assert [result.text for result in log.results] == [stream.text]
            assert log.results == [stream.result]
            assert log.text == stream.text
            assert stream.text.startswith("".join(got))
            assert stream.status in ("complete", "interrupted")
            return tracer

        count = run(lambda _: Tracer()).count
        step = max(count // 150, 1)
        tried = 0
        for at in range(0, count, step):
            run(lambda stream, at=at: Calling(at, getattr(stream, what)))  # type: ignore[misc]
            tried += 1
    print(f"{tried} of {count} places")
    assert tried > 100


def bare(stream: Any) -> None:
    for _ in stream:
        pass


def in_with(stream: Any) -> None:
    with stream:
        bare(stream)


@pytest.mark.parametrize("use", [bare, in_with])
def test_a_second_interrupt_during_the_cleanup_of_the_first(use: Callable[[Any], None]) -> None:
    """The first comes from the consumer's own hand, the second at each place of what follows."""
    interrupts = 0
    with serve(REPLY, repeat=True) as server:
        client = sdk_client(server)

        class Interrupting(ResultLog):
            def write(self, text: str) -> None:
                super().write(text)
                tracer.start()
                raise KeyboardInterrupt

        class Started(Tracer):
            """Counts and raises only from the first interrupt on."""

            def start(self) -> None:
                self.count, self.started = 0, True

            started = False

            def _point(self, frame: Any, kind: str) -> None:
                if self.started:
                    super()._point(frame, kind)

        tracer = Started()

        def run(at: int | None) -> bool:
            nonlocal tracer
            gc.collect()  # or a stream before this one is finalised while it is traced
            tracer = Started(at, KeyboardInterrupt("second"))
            first, second = Interrupting(), ResultLog()
            stream = streamkit.stream_text(client, sinks=[first, second], **PARAMS)
            with tracer.running(), pytest.raises(KeyboardInterrupt):
                use(stream)
            assert stream.status == "interrupted", tracer.hit
            assert [len(log.results) for log in (first, second)] == [1, 1], tracer.hit
            assert open_connections_in_use(client) == [], tracer.hit
            return tracer.hit is not None

        while run(interrupts):
            interrupts += 1
    print(f"{interrupts} places")
    assert interrupts > 20


def test_a_second_ctrl_c_while_a_sink_finishes() -> None:
    class Stubborn(ResultLog):
        def finish(self, result: StreamResult) -> None:
            super().finish(result)
            raise KeyboardInterrupt("second")

    for enter in (False, True):
        first, second = Stubborn(), ResultLog()
        with serve(REPLY.stall(after_events=0 if enter else 4)) as server:
            client = sdk_client(server)
            stream = streamkit.stream_text(client, sinks=[first, second], **PARAMS)
            ready = partial(arrived, stream, 0 if enter else 4)
            with alarm(raising(KeyboardInterrupt("first")), ready), pytest.raises(KeyboardInterrupt):
                (in_with if enter else bare)(stream)
            assert (stream.status, len(first.results), len(second.results)) == ("interrupted", 1, 1)
            wait_for_abandoned_requests()
            assert_no_connection_in_use(client)


def test_a_second_ctrl_c_while_the_response_is_waited_for() -> None:
    class Stubborn(ResultLog):
        def finish(self, result: StreamResult) -> None:
            super().finish(result)
            raise KeyboardInterrupt("second")

    with serve(Reply.http_error(429, headers={"retry-after": "2"}), repeat=True) as server:
        uses: list[Callable[[Any], None]] = [bare, in_with, lambda stream: stream.open()]
        for number, use in enumerate(uses, 1):
            first, second = Stubborn(), ResultLog()
            client = sdk_client(server, max_retries=2)
            stream = streamkit.stream_text(client, sinks=[first, second], **PARAMS)
            ready = partial(is_asked, server, number)
            with alarm(raising(KeyboardInterrupt("first")), ready), pytest.raises(KeyboardInterrupt):
                use(stream)
            assert (stream.status, len(first.results), len(second.results)) == ("interrupted", 1, 1)
        wait_for_abandoned_requests()
        assert len(server.requests) == 3


def test_a_second_ctrl_c_at_the_end_of_enter() -> None:
    """The first comes when `open` has returned, and nothing refers to the stream but `__enter__`."""

    class Stubborn(ResultLog):
        def finish(self, result: StreamResult) -> None:
            super().finish(result)
            raise KeyboardInterrupt("second")

    with serve(REPLY.stall(after_events=4)) as server:
        client = sdk_client(server)
        first, second = Stubborn(), ResultLog()
        stream: Any = streamkit.stream_text(client, sinks=[first, second], **PARAMS)

        def interrupted() -> None:
            type(stream).open(stream)
            raise KeyboardInterrupt("first")

        stream.open = interrupted
        with pytest.raises(KeyboardInterrupt):
            in_with(stream)
        assert (stream.status, len(first.results), len(second.results)) == ("interrupted", 1, 1)
        assert_no_connection_in_use(client)


def test_an_alarm_in_the_quiet_of_a_request_leaves_the_client_usable() -> None:
    with serve(REPLY.stall(after_events=4), REPLY) as server:
        client: anthropic.Anthropic = sdk_client(server)
        log = ResultLog()
        with alarm(raising(AlarmError()), lambda: log.text == "One "), pytest.raises(AlarmError):
            streamkit.collect(client, sinks=log, **PARAMS)
        assert streamkit.collect(client, **PARAMS).text == "".join(PIECES)
