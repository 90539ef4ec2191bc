"""A client that makes OpenTelemetry spans: ours are those that the SDK makes for the same reply, however it ends."""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import CallbackSink
from streamkit.testing import Reply, serve
from tests.support.bodies import BETA
from tests.support.clients import PARAMS, client_for
from tests.support.harness import FUNCTIONS, awaited, cancelled_once, read_through, run

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)

# message_start, ping, content_block_start, "One ", "two ", "three", content_block_stop, message_delta, message_stop
REPLY = Reply.text(["One ", "two ", "three"], usage={"cache_read_input_tokens": 20, "cache_creation_input_tokens": 3})
TEXT = "One two three"
CONTENT: dict[str, Any] = {"traces": {"content_mode": "content"}}


class Left(Exception):  # noqa: N818
    """Raised by who reads, not by the stream."""


# What the server answers, and the status and `error.type` of the span that the SDK makes of it.
ENDINGS: dict[str, tuple[Reply, str, str | None]] = {
    "complete": (REPLY, "OK", None),
    "tool use": (Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me see."), "OK", None),
    "cut": (REPLY.cut(after_events=4), "ERROR", "api_error"),
    "cut before the end event": (REPLY.cut(after_events=7), "ERROR", "api_error"),
    "reset": (REPLY.reset(after_events=4), "ERROR", "connection_error"),
    "API error": (REPLY.error("overloaded_error", after_events=4), "ERROR", "overloaded_error"),
    "left": (REPLY.stall(after_events=4), "UNSET", None),
    "refused": (Reply.http_error(429), "ERROR", "rate_limit_error"),
}
# What differs from one call to the next.
ITS_OWN = {"anthropic.request.id", "gen_ai.response.time_to_first_chunk"}


class Spans:
    """The spans of one client, by a real provider that only this client is given."""

    def __init__(self) -> None:
        if not hasattr(anthropic, "OpenTelemetryOptions"):
            pytest.skip("this SDK makes no spans")
        trace = pytest.importorskip("opentelemetry.sdk.trace", reason="the OpenTelemetry SDK is not installed")
        export = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        self.exporter = memory.InMemorySpanExporter()
        self.provider = trace.TracerProvider()
        self.provider.add_span_processor(export.SimpleSpanProcessor(self.exporter))

    def options(self, **more: Any) -> dict[str, Any]:
        """For a client."""
        return {"open_telemetry": {"tracer_provider": self.provider, **more}}

    def take(self) -> list[dict[str, Any]]:
        """What the spans say that have ended since; with the keys, but not the values, of what differs by nature."""
        ended = self.exporter.get_finished_spans()
        self.exporter.clear()
        return [
            {
                "name": span.name,
                "kind": span.kind,
                "status": span.status.status_code.name,
                "events": [event.name for event in span.events],
                **{key: None if key in ITS_OWN else value for key, value in span.attributes.items()},
            }
            for span in ended
        ]

    def one(self) -> dict[str, Any]:
        (span,) = self.take()
        return span


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


def raise_left(_: object) -> None:
    raise Left


async def read_raw(resource: Any, *, leave: bool) -> None:
    """As a program reads with the SDK alone: its raw iterator."""
    stream = resource.create(stream=True, **PARAMS)
    if inspect.isawaitable(stream):
        async with await stream as opened:
            async for event in opened:
                if leave and event.type == "content_block_delta":
                    raise_left(event)
    else:
        with stream:
            for event in stream:
                if leave and event.type == "content_block_delta":
                    raise_left(event)


async def read_helper(resource: Any) -> None:
    """The same with the SDK's helper."""
    manager = resource.stream(**PARAMS)
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            await stream.until_done()
    else:
        with manager as stream:
            stream.until_done()


def resources(client: Any) -> Iterator[Any]:
    return iter((client.messages, client.beta.messages))


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
@pytest.mark.parametrize("more", [{}, CONTENT], ids=["metadata", "content"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_spans_are_those_of_the_raw_iterator(spans: Spans, mode: str, ending: str, more: dict[str, Any]) -> None:
    """All four functions, stable and beta."""
    reply, status, error_type = ENDINGS[ending]
    left = ending == "left"

    async def main() -> None:
        async with client_for(mode, server, **spans.options(**more)) as client:
            for resource in resources(client):
                with contextlib.suppress(Left, Exception):
                    await read_raw(resource, leave=left)
                theirs = spans.one()
                assert (theirs["status"], theirs.get("error.type")) == (status, error_type)
                for function in FUNCTIONS:
                    options = {"sinks": CallbackSink(on_text=raise_left)} if left else {}
                    with contextlib.nullcontext() if status == "OK" else pytest.raises((Left, anthropic.APIError)):
                        assert await read_through(function, resource, options) in (TEXT, "Let me see.")
                    assert spans.one() == theirs, function

    with serve(reply, repeat=True) as server:
        run(mode, main)
        assert len(server.requests) == 2 * (1 + len(FUNCTIONS))


def test_spans_are_those_of_the_helper(spans: Spans, mode: str) -> None:
    """For a healthy reply: with usage, stop reason, and the time to the first chunk."""

    async def main() -> None:
        async with client_for(mode, server, **spans.options()) as client:
            for resource in resources(client):
                await read_helper(resource)
                theirs = spans.one()
                assert theirs["gen_ai.usage.input_tokens"] == 33
                assert theirs["gen_ai.usage.output_tokens"] == 3
                assert theirs["anthropic.message.stop_reason"] == "end_turn"
                assert "gen_ai.response.time_to_first_chunk" in theirs
                for function in FUNCTIONS:
                    assert await read_through(function, resource) == TEXT
                    assert spans.one() == theirs, function

    with serve(REPLY, repeat=True) as server:
        run(mode, main)


def test_recorded_replies(spans: Spans, recorded: Path) -> None:
    if recorded.stem == "no_event_lines":
        pytest.skip("the SDK's own iterator passes over events without an event line")

    async def main() -> None:
        async with client_for("sync", server, **spans.options()) as client:
            resource = client.beta.messages if recorded.stem in BETA else client.messages
            await read_helper(resource)
            theirs = spans.one()
            await read_through("collect", resource)
            assert spans.one() == theirs

    with serve(Reply.recorded(recorded), repeat=True) as server:
        run("sync", main)


def test_the_content_of_the_helper(spans: Spans, mode: str) -> None:
    """The SDK knows the reply's content by its helper alone: a manager that is handed in gives it."""

    async def main() -> None:
        async with client_for(mode, server, **spans.options(**CONTENT)) as client:
            for resource in resources(client):
                await read_helper(resource)
                theirs = spans.one()
                assert TEXT in theirs["gen_ai.output.messages"]
                collected = streamkit.collect(resource.stream(**PARAMS))
                assert (await awaited(collected)).text == TEXT
                assert spans.one() == theirs

    with serve(REPLY, repeat=True) as server:
        run(mode, main)


def waits_for_more(stream: Any) -> bool:
    """Whether its reader waits for more than the first text."""
    return bool(stream.text and (stream._reading))


async def take(stream: Any, how: str) -> None:
    """Read, and leave the loop at the first text, or where it ends."""
    if hasattr(stream, "__anext__"):
        async with stream:
            async for _ in stream:
                if how == "break":
                    break
    else:
        with stream:
            for _ in stream:
                if how == "break":
                    break


@pytest.mark.parametrize("how", ["break", "cancel"])
def test_who_stops_reading_makes_no_error(spans: Spans, mode: str, how: str) -> None:
    async def main() -> None:
        async with client_for(mode, server, **spans.options()) as client:
            with contextlib.suppress(Left):
                await read_raw(client.messages, leave=True)
            theirs = spans.one()
            stream = streamkit.stream_text(client, **PARAMS)
            with cancelled_once(stream, waits_for_more) if how == "cancel" else contextlib.nullcontext():
                await take(stream, how)
            assert (stream.status, stream.text) == ("interrupted", "One ")
            assert spans.one() == theirs

    with serve(REPLY.stall(after_events=4), repeat=True) as server:
        run(mode, main)


def test_the_span_of_a_stream_that_a_clock_ended_is_an_error(spans: Spans, mode: str) -> None:
    async def main() -> None:
        async with client_for(mode, server, **spans.options()) as client:
            with pytest.raises(streamkit.StreamTimeoutError):
                await read_through("collect", client.messages, {"idle_timeout": 1.0})
            # On trio the deadline is a cancel scope's: the SDK sees the cancellation before it can be told the reason.
            assert spans.one()["status"] == ("UNSET" if mode == "trio" else "ERROR")

    with serve(REPLY.stall(after_events=4)) as server:
        run(mode, main)


def test_each_request_has_its_span(spans: Spans, mode: str) -> None:
    """A reply that failed before its content is asked for again: that one failed, this one did not."""

    async def main() -> None:
        async with client_for(mode, server, **spans.options()) as client:
            assert await read_through("stream_text", client.messages, {"retries": 1}) == TEXT

    early = Reply.text([], headers={"retry-after": "0.001"}).error("overloaded_error", after_events=1)
    with serve(early, REPLY) as server:
        run(mode, main)
    assert [(span["status"], span.get("error.type")) for span in spans.take()] == [
        ("ERROR", "overloaded_error"),
        ("OK", None),
    ]


@pytest.mark.parametrize("options", [{}, {"idle_timeout": 10.0}], ids=["no timeout", "timeout"])
def test_the_current_span_is_the_parent(spans: Spans, mode: str, options: dict[str, float]) -> None:
    """Also where a sync request runs in a thread of its own, and for a second attempt."""
    tracer = spans.provider.get_tracer("tests")

    async def main() -> None:
        async with client_for(mode, server, **spans.options()) as client:
            for function in FUNCTIONS:
                with tracer.start_as_current_span("ours") as ours:
                    assert await read_through(function, client.messages, {"retries": 1, **options}) == TEXT
                *theirs, last = spans.exporter.get_finished_spans()
                assert last.name == "ours"
                assert [span.parent.span_id for span in theirs] == [ours.get_span_context().span_id] * 2
                spans.exporter.clear()

    early = Reply.text([], headers={"retry-after": "0.001"}).cut(after_events=1)
    with serve(early, REPLY, repeat=True) as server:
        run(mode, main)


def test_retries_of_the_sdk_share_a_span(spans: Spans, mode: str) -> None:
    async def main() -> None:
        async with client_for(mode, server, max_retries=1, **spans.options()) as client:
            await read_through("collect", client.messages)
            span = spans.one()
            assert (span["status"], span["http.request.resend_count"]) == ("OK", 1)

    with serve(Reply.http_error(529, headers={"retry-after-ms": "1"}), REPLY) as server:
        run(mode, main)


@pytest.mark.parametrize("propagation", [True, False])
def test_the_trace_context_is_sent(spans: Spans, propagation: bool) -> None:
    with serve(REPLY) as server:
        streamkit.collect(server.client(**spans.options(propagation=propagation)), **PARAMS)
        assert ("traceparent" in server.requests[0].headers) is propagation


# Prints the names of the spans of a program that registers a provider, and the status of its reply.
REGISTERED = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamkit import collect
from streamkit.testing import Reply, serve

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
with serve(Reply.text("Hi.")) as server:
    result = collect(server.client(), model="claude-test", max_tokens=10, messages=[])
print([span.name for span in exporter.get_finished_spans()], result.status)
"""


@pytest.mark.usefixtures("spans")
@pytest.mark.parametrize("switch", [None, "false"])
def test_a_registered_provider_needs_no_option(switch: str | None) -> None:
    """In a process of its own, as a provider is registered once."""
    env = {**os.environ, "PYTHONPATH": str(Path(streamkit.__file__).parents[1])}
    env.pop("ANTHROPIC_OPEN_TELEMETRY", None)
    if switch:
        env["ANTHROPIC_OPEN_TELEMETRY"] = switch
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", REGISTERED], env=env, capture_output=True, text=True, check=False
    )
    names = [] if switch else ["anthropic.messages.create"]
    assert (done.stdout, done.stderr) == (f"{names} complete\n", "")


def dropped(spans: Spans) -> dict[str, Any]:
    sampling = pytest.importorskip("opentelemetry.sdk.trace.sampling")
    spans.provider.sampler = sampling.ALWAYS_OFF
    return spans.options()


@pytest.mark.parametrize(
    ("options", "by_bytes"),
    [
        (lambda spans: {}, True),
        (lambda spans: spans.options(traces=False), True),
        (dropped, True),
        (lambda spans: spans.options(), False),
    ],
    ids=["no provider", "switched off", "sampled out", "traced"],
)
def test_what_is_not_traced_is_read_by_bytes(
    spans: Spans, mode: str, options: Callable[[Spans], dict[str, Any]], by_bytes: bool
) -> None:
    async def main() -> None:
        async with client_for(mode, server, **options(spans)) as client:
            stream = streamkit.stream_text(client, **PARAMS)
            await take(stream, "break")
            assert stream._state.attempt.response.by_bytes is by_bytes

    with serve(REPLY) as server:
        run(mode, main)
