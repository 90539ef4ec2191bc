"""`streamed` in programs that were written for `messages.create`: they run unchanged, and are heard live."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anthropic
import pydantic
import pytest

from streamkit import BufferSink, CallbackSink, StreamAPIError, StreamTruncatedError, streamed
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, TLS_CONTEXT, client_for
from tests.support.harness import FUNCTIONS, awaited, read_through, run

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)


# A program with a tool loop of its own. It takes the client, as most do, and knows nothing of streams.

TOOLS = [{"name": "get_tide", "description": "The tide.", "input_schema": {"type": "object", "properties": {}}}]
LOOP = (
    Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me see. "),
    Reply.tool_use("get_tide", {"harbour": "Dover"}),
    Reply.text(["6.5 m ", "and 5.1 m."]),
)
SAID = "Let me see. 6.5 m and 5.1 m."


def run_tools(message: Any, messages: list[Any]) -> None:
    heights = {"Brest": "6.5 m", "Dover": "5.1 m"}
    messages.append({"role": "assistant", "content": message.content})
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": heights[block.input["harbour"]]}
        for block in message.content
        if block.type == "tool_use"
    ]
    messages.append({"role": "user", "content": results})


def ask(client: Any, question: str) -> str:
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        message = client.messages.create(**{**PARAMS, "messages": messages}, tools=TOOLS)
        if message.stop_reason != "tool_use":
            return str(message.content[0].text)
        run_tools(message, messages)


async def ask_async(client: Any, question: str) -> str:
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        message = await client.messages.create(**{**PARAMS, "messages": messages}, tools=TOOLS)
        if message.stop_reason != "tool_use":
            return str(message.content[0].text)
        run_tools(message, messages)


async def tool_loop(client: Any) -> str:
    if isinstance(client, anthropic.AsyncAnthropic):
        return await ask_async(client, "How high is the tide?")
    return ask(client, "How high is the tide?")


# One that has `instructor` make an object of the reply.


class Boat(pydantic.BaseModel):
    name: str
    masts: int


BOAT = Reply.tool_use("Boat", {"name": "Thekla", "masts": 3}, text="Let me see.")


async def extract(client: Any) -> Any:
    instructor = pytest.importorskip("instructor")
    made = instructor.from_anthropic(client).messages.create(response_model=Boat, **PARAMS)
    boat = await awaited(made)
    assert isinstance(boat, Boat)
    return boat.model_dump()


Program = Callable[[Any], Awaitable[Any]]
# With what it is answered, what it returns, and what is heard of it.
PROGRAMS: dict[str, tuple[Program, tuple[Reply, ...], Any, str]] = {
    "tool loop": (tool_loop, LOOP, "6.5 m and 5.1 m.", SAID),
    "instructor": (extract, (BOAT,), {"name": "Thekla", "masts": 3}, "Let me see."),
}


def give(client: Any, **options: Any) -> None:
    """What a user does before the program runs."""
    client.messages.create = streamed(client.messages.create, **options)


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> tuple[Program, tuple[Reply, ...], Any, str]:
    if request.param == "instructor":
        pytest.importorskip("instructor")
    return PROGRAMS[request.param]


def test_a_program_gives_what_it_gave_before(mode: str, program: Any) -> None:
    """The same return value, and the same requests, but that they are streamed."""
    start, replies, returned, said = program
    heard: list[str] = []

    async def main() -> None:
        async with client_for(mode, server) as client:
            assert await start(client) == returned
            give(client, sinks=CallbackSink(on_text=heard.append))
            assert await start(client) == returned

    with serve(*replies, repeat=True) as server:
        run(mode, main)
        requests = [request.json for request in server.requests]
    assert "".join(heard) == said
    before, after = requests[: len(replies)], requests[len(replies) :]
    assert after == [{**request, "stream": True} for request in before]


# A server that goes on only when it was heard.


class Patient(http.server.ThreadingHTTPServer):
    """Sends no event after a delta before `heard` was released for it; hangs up when nobody listens."""

    daemon_threads = True

    def __init__(self, *replies: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = list(replies)
        self.heard = threading.Semaphore(0)
        self.unheard = 0

    def client(self, mode: str) -> Any:
        options = {"base_url": f"http://127.0.0.1:{self.server_port}", "api_key": "test-key", "max_retries": 0}
        if mode == "sync":
            return anthropic.Anthropic(
                http_client=anthropic.DefaultHttpxClient(verify=TLS_CONTEXT, trust_env=False), **options
            )
        return anthropic.AsyncAnthropic(
            http_client=anthropic.DefaultAsyncHttpxClient(verify=TLS_CONTEXT, trust_env=False), **options
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Patient

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for frame in self.server.replies.pop(0).frames:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))
            if b'"content_block_delta"' in frame and not self.server.heard.acquire(timeout=5):
                self.server.unheard += 1
                break
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Not in the output of the tests."""


@contextlib.contextmanager
def patient(*replies: Reply) -> Iterator[Patient]:
    server = Patient(*replies)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.asynccontextmanager
async def leaving(client: Any) -> AsyncIterator[Any]:
    if isinstance(client, anthropic.AsyncAnthropic):
        async with client:
            yield client
    else:
        with client:
            yield client


def test_each_piece_is_heard_before_the_next_is_sent(mode: str, program: Any) -> None:
    start, replies, returned, _ = program
    heard: list[Any] = []

    async def main() -> None:
        with patient(*replies) as server:

            def hear(event: Any) -> None:
                if event.type == "content_block_delta":
                    heard.append(event.delta)
                    server.heard.release()

            async with leaving(server.client(mode)) as client:
                give(client, sinks=CallbackSink(on_event=hear))
                assert await start(client) == returned
            assert server.unheard == 0

    run(mode, main)
    # Also what is no text: of a forced tool use that is all there is.
    assert [delta.type for delta in heard] == [
        json.loads(frame.partition(b"data: ")[2])["delta"]["type"]
        for reply in replies
        for frame in reply.frames
        if b'"content_block_delta"' in frame
    ]
    assert "input_json_delta" in {delta.type for delta in heard}


class Left(Exception):  # noqa: N818
    """Of the program's own."""


def leave(_: str) -> None:
    raise Left


# What ends the reply to the program's first request, and what the program gets to see: never half a message.
FAULTS: dict[str, tuple[Callable[[Reply], Reply], type[Exception], dict[str, Any]]] = {
    "cut": (lambda reply: reply.cut(after_events=4), StreamTruncatedError, {}),
    "cut before the end": (lambda reply: reply.cut(after_events=len(reply.frames) - 2), StreamTruncatedError, {}),
    "API error": (lambda reply: reply.error("overloaded_error", after_events=4), StreamAPIError, {}),
    "interrupted": (lambda reply: reply, Left, {"sinks": CallbackSink(on_text=leave)}),
}


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("fault", FAULTS)
def test_a_program_never_gets_half_a_message(mode: str, program: Any, fault: str) -> None:
    start, replies, _, _ = program
    break_it, kind, options = FAULTS[fault]

    async def main() -> None:
        async with client_for(mode, server) as client:
            give(client, **options)
            with pytest.raises(Exception) as caught:  # noqa: PT011 - instructor raises an exception of its own
                await start(client)
            if start is tool_loop:
                assert type(caught.value) is kind
            assert kind in {type(error) for error in causes(caught.value)}

    with serve(break_it(replies[0])) as server:
        run(mode, main)
        assert len(server.requests) == 1


# A client that was given the function stays a client.


def test_the_four_functions_take_a_client_whose_create_is_wrapped(mode: str) -> None:
    """They stream by themselves: what they read goes to their own sinks, and not to those of the wrapper."""

    async def main() -> None:
        async with client_for(mode, server) as client:
            wrapper = BufferSink()
            give(client, sinks=wrapper)
            for function in FUNCTIONS:
                own = BufferSink()
                assert await read_through(function, client.messages, {"sinks": own}) == "6.5 m and 5.1 m."
                assert (own.text, wrapper.text) == ("6.5 m and 5.1 m.", "")

    with serve(LOOP[-1], repeat=True) as server:
        run(mode, main)
        assert len(server.requests) == len(FUNCTIONS)


async def ask_raw(resource: Any, way: str) -> None:
    made = getattr(resource, way).create(**PARAMS)
    if hasattr(made, "__enter__"):
        made.__enter__()
    else:
        await (made.__aenter__() if hasattr(made, "__aenter__") else made)


@pytest.mark.parametrize("way", ["with_raw_response", "with_streaming_response"])
def test_raw_responses_of_a_wrapped_create_are_refused(mode: str, way: str) -> None:
    """The SDK builds these on `create` when they are first asked for: then that is the wrapped one."""

    async def main() -> None:
        async with client_for(mode, server) as client:
            for resource in (client.messages, client.beta.messages):
                resource.create = streamed(resource.create)
                with pytest.raises(TypeError, match="got with_raw_response or with_streaming_response"):
                    await ask_raw(resource, way)

    with serve(LOOP[-1]) as server:
        run(mode, main)
        assert server.requests == []


def test_a_call_that_says_whether_to_stream(mode: str) -> None:
    """As programs do that can do both. The answer is whole for what is no `True`, however it is written."""

    async def main() -> None:
        async with client_for(mode, server) as client:
            heard: list[str] = []
            give(client, sinks=CallbackSink(on_text=heard.append))
            for given in (False, anthropic.NOT_GIVEN, anthropic.omit):
                made = client.messages.create(**PARAMS, stream=given)
                message = await awaited(made)
                assert message.content[0].text == "".join(heard) == "6.5 m and 5.1 m."
                heard.clear()

    with serve(LOOP[-1], repeat=True) as server:
        run(mode, main)
        assert [request.json["stream"] for request in server.requests] == [True] * 3
