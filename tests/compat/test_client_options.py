"""Clients as people set them up: each option of the SDK, with all four functions, whatever the ending."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import importlib
import threading
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anthropic
import pytest

import streamkit
from streamkit import CallbackSink, StreamAPIError, StreamTimeoutError, StreamTruncatedError
from streamkit.testing import Reply, Request, Server, serve
from tests.support.clients import PARAMS, TLS_CONTEXT, client_for
from tests.support.events import MESSAGE_STOP, message_delta, message_start
from tests.support.harness import FUNCTIONS, awaited, read_through, run

# The HTTP library of this SDK.
httpx: Any = importlib.import_module("httpx" if anthropic.__version__.startswith("0.") else "httpx2")

# message_start, ping, content_block_start, "One ", "two ", "three", content_block_stop, message_delta, message_stop
REPLY = Reply.text(["One ", "two ", "three"])
TEXT = "One two three"

pytestmark = pytest.mark.filterwarnings(
    # The SDK and its HTTP library leave generators behind when a body is not read to its end, and trio says so.
    "ignore:Exception ignored .*async_generator:pytest.PytestUnraisableExceptionWarning",
)


class Left(Exception):  # noqa: N818
    """Raised by who reads."""


def leave(_: str) -> None:
    raise Left


# How the server ends its reply, what that raises, and the options of whoever reads it.
ENDINGS: list[tuple[Callable[[Reply], Reply], type[Exception] | None, dict[str, Any]]] = [
    (lambda reply: reply, None, {}),
    (lambda reply: reply.cut(after_events=5), StreamTruncatedError, {}),
    (lambda reply: reply.error("overloaded_error", after_events=5), StreamAPIError, {}),
    (lambda reply: reply, Left, {"sinks": CallbackSink(on_text=leave)}),
]


class Proxy(http.server.ThreadingHTTPServer):
    """A plain HTTP proxy: it is asked for whole addresses, and hands on each body as it arrives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _ProxyHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        target = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers["content-length"]))
        with contextlib.closing(http.client.HTTPConnection(target.netloc)) as upstream:
            upstream.request("POST", target.path, body, dict(self.headers))
            response = upstream.getresponse()
            self.send_response(response.status)
            self.send_header("content-type", response.headers["content-type"])
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has gone
                while data := response.read1(65536):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Not in the output of the tests."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Setup:
    """What a case may build its client of. `seen` is what its hooks noted."""

    def __init__(self, mode: str, server: Server, proxy: Proxy) -> None:
        self.mode, self.server, self.proxy = mode, server, proxy
        self.seen: list[Any] = []

    def http(self, **options: Any) -> dict[str, Any]:
        """A client of the HTTP library, as an option of the SDK's."""
        kind = httpx.Client if self.mode == "sync" else httpx.AsyncClient
        return {"http_client": kind(verify=TLS_CONTEXT, trust_env=False, **options)}

    def either(self, plain: Callable[..., Any], coroutine: Callable[..., Any]) -> Callable[..., Any]:
        return plain if self.mode == "sync" else coroutine

    def note(self) -> Callable[..., Any]:
        async def note(item: Any) -> None:
            self.seen.append(item)

        return self.either(self.seen.append, note)

    def read(self) -> Callable[..., Any]:
        """A hook that reads the body, to log it."""

        async def read(response: Any) -> None:
            self.seen.append(await response.aread())

        return self.either(lambda response: self.seen.append(response.read()), read)

    def transport(self) -> Any:
        """A transport that has the whole body before it hands it on, as caches and recorders do."""
        seen = self.seen
        base = httpx.HTTPTransport if self.mode == "sync" else httpx.AsyncHTTPTransport

        class ReadsAhead(base):  # type: ignore[misc]
            def handle_request(self, request: Any) -> Any:
                response = super().handle_request(request)
                seen.append(response.read())
                return httpx.Response(response.status_code, headers=dict(response.headers), content=response.content)

            async def handle_async_request(self, request: Any) -> Any:
                response = await super().handle_async_request(request)
                seen.append(await response.aread())
                return httpx.Response(response.status_code, headers=dict(response.headers), content=response.content)

        return ReadsAhead(verify=TLS_CONTEXT)

    def middleware(self, *, parses: bool = False) -> list[Any]:
        """One that adds a header; and that looks at the stream, if it is to."""

        def named(request: Any) -> Any:
            self.seen.append(request.url)
            return request.copy(headers={**request.headers, "x-team": "boats"})

        def plain(request: Any, call_next: Any) -> Any:
            response = call_next(named(request))
            if parses:
                self.seen.append(response.parse())
            return response

        async def coroutine(request: Any, call_next: Any) -> Any:
            response = await call_next(named(request))
            if parses:
                self.seen.append(await response.parse())
            return response

        return [self.either(plain, coroutine)]


def same(client: Any) -> Any:
    return client


def packed(reply: Reply) -> Reply:
    return Reply.recorded(gzip.compress(reply.body), chunk_sizes=[7], headers={"content-encoding": "gzip"})


@dataclass(frozen=True)
class Case:
    """A client, what is made of it, what the call has in addition, and what the server has to get of it."""

    client: Callable[[Setup], dict[str, Any]] = lambda setup: {}
    derive: Callable[[Any], Any] = same
    params: Mapping[str, Any] = field(default_factory=dict)
    path: str = "/v1/messages"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    reply: Callable[[Reply], Reply] = same
    notes: bool = False
    modes: tuple[str, ...] = ("sync", "asyncio")
    needs: str = ""

    def check(self, request: Request) -> None:
        path, _, query = request.path.partition("?")
        assert path == self.path
        assert dict(urllib.parse.parse_qsl(query)) == self.query
        assert {name: request.headers.get(name) for name in self.headers} == self.headers
        assert request.json == {**PARAMS, "stream": True, **self.body}


CASES = {
    "plain": Case(),
    "auth_token": Case(
        lambda setup: {"api_key": None, "auth_token": "made-up"}, headers={"authorization": "Bearer made-up"}
    ),
    "with_options": Case(
        lambda setup: {"default_headers": {"x-team": "boats"}},
        lambda client: client.with_options(api_key="another", default_headers={"x-user": "anna"}),
        headers={"x-team": "boats", "x-user": "anna"},
    ),
    "copy": Case(derive=lambda client: client.copy(set_default_query={"tenant": "7"}), query={"tenant": "7"}),
    "base_url with a path": Case(
        lambda setup: {"base_url": f"{setup.server.url}/gateway/claude/"}, path="/gateway/claude/v1/messages"
    ),
    "default_headers": Case(lambda setup: {"default_headers": {"x-team": "boats"}}, headers={"x-team": "boats"}),
    "default_query": Case(lambda setup: {"default_query": {"tenant": "7"}}, query={"tenant": "7"}),
    "extra_headers": Case(
        lambda setup: {"default_headers": {"x-team": "boats"}},
        params={"extra_headers": {"x-team": "harbours", "anthropic-beta": "made-up-2026-01-01"}},
        headers={"x-team": "harbours", "anthropic-beta": "made-up-2026-01-01"},
    ),
    "extra_query": Case(
        lambda setup: {"default_query": {"tenant": "7"}},
        params={"extra_query": {"trace": "1"}},
        query={"tenant": "7", "trace": "1"},
    ),
    "extra_body": Case(params={"extra_body": {"new_field": [1, {"a": None}]}}, body={"new_field": [1, {"a": None}]}),
    "timeout": Case(lambda setup: {"timeout": 30.0}),
    "timeout of the call": Case(params={"timeout": httpx.Timeout(20, read=10)}, headers={"x-stainless-timeout": "10"}),
    "http_client": Case(lambda setup: setup.http(timeout=30, headers={"x-team": "boats"})),
    "http_client, its defaults": Case(
        lambda setup: {
            "http_client": setup.either(anthropic.DefaultHttpxClient, anthropic.DefaultAsyncHttpxClient)(
                verify=TLS_CONTEXT, trust_env=False, follow_redirects=False
            )
        }
    ),
    # Whoever keeps a connection leaves none for the next.
    "http_client, one connection": Case(
        lambda setup: setup.http(limits=httpx.Limits(max_connections=1), timeout=httpx.Timeout(10, pool=1))
    ),
    "http_client, aiohttp": Case(
        lambda setup: {"http_client": anthropic.DefaultAioHttpClient()}, modes=("asyncio",), needs="aiohttp"
    ),
    "proxy": Case(lambda setup: setup.http(proxy=setup.proxy.url)),
    "event hooks": Case(
        lambda setup: setup.http(event_hooks={"request": [setup.note()], "response": [setup.note()]}), notes=True
    ),
    "hook that reads": Case(lambda setup: setup.http(event_hooks={"response": [setup.read()]}), notes=True),
    "transport that reads ahead": Case(lambda setup: setup.http(transport=setup.transport()), notes=True),
    "gzip": Case(reply=packed),
    "gzip, hook that reads": Case(
        lambda setup: setup.http(event_hooks={"response": [setup.read()]}), reply=packed, notes=True
    ),
    "middleware": Case(
        lambda setup: {"middleware": setup.middleware()}, headers={"x-team": "boats"}, notes=True, needs="middleware"
    ),
    "middleware that parses": Case(
        lambda setup: {"middleware": setup.middleware(parses=True)}, notes=True, needs="middleware"
    ),
}


@contextlib.asynccontextmanager
async def client_of(setup: Setup, **options: Any) -> AsyncIterator[Any]:
    """A client with exactly these options, but that it sends no request a second time."""
    options = {"max_retries": 0, **({} if "http_client" in options else setup.http()), **options}
    if setup.mode == "sync":
        with setup.server.client(**options) as client:
            yield client
    else:
        async with setup.server.async_client(**options) as client:
            yield client


def require(case: Case, mode: str) -> None:
    if mode not in case.modes:
        pytest.skip("not on this event loop")
    if case.needs == "aiohttp":
        pytest.importorskip("httpx_aiohttp" if anthropic.__version__.startswith("0.") else "aiohttp")
    if case.needs == "middleware" and not hasattr(anthropic, "Middleware"):
        pytest.skip("this SDK has no middleware")


@pytest.fixture(params=["sync", "asyncio"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


def headers(request: Request) -> dict[str, str]:
    """The headers of a request, without the one by which the SDK says whether a call named its timeout."""
    return {name: value for name, value in request.headers.items() if name != "x-stainless-timeout"}


@pytest.mark.parametrize("mode", ["sync", pytest.param("asyncio", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_every_function_with(mode: str, name: str, proxy: Proxy) -> None:
    case = CASES[name]
    require(case, mode)
    through_proxy = len(proxy.asked)

    async def main() -> None:
        setup = Setup(mode, server, proxy)
        async with client_of(setup, **case.client(setup)) as given:
            client = case.derive(given)
            for _, error, options in ENDINGS:
                for function in FUNCTIONS:
                    with contextlib.nullcontext() if error is None else pytest.raises(error):
                        assert await read_through(function, client.messages, options, **case.params) == TEXT
            raw = client.messages.create(**PARAMS, **case.params, stream=True)
            collected = streamkit.collect(await awaited(raw))
            assert (await awaited(collected)).text == TEXT
        assert len(setup.seen) >= case.notes * len(server.requests)

    replies = [case.reply(end(REPLY)) for end, _, _ in ENDINGS for _ in FUNCTIONS]
    with serve(*replies, case.reply(REPLY)) as server:
        run(mode, main)
        assert len(server.requests) == len(replies) + 1
        sdks_own = server.requests[-1]
        case.check(sdks_own)
        for request in server.requests:
            assert (request.path, headers(request), request.body) == (
                sdks_own.path,
                headers(sdks_own),
                sdks_own.body,
            )
    # Whole addresses, of the server.
    asked = proxy.asked[through_proxy:]
    assert asked == ([f"{server.url}/v1/messages"] * len(server.requests) if name == "proxy" else [])


@pytest.mark.parametrize("where", ["client", "call"])
@pytest.mark.parametrize("mode", ["sync", "asyncio"])
def test_the_read_timeout_ends_a_silent_stream(mode: str, where: str) -> None:
    async def error_of(function: str, seconds: float) -> anthropic.APITimeoutError:
        silent = {"timeout": httpx.Timeout(10, read=seconds)}
        async with client_for(mode, server, **(silent if where == "client" else {})) as client:
            with pytest.raises(anthropic.APITimeoutError) as caught:
                await read_through(function, client.messages, **(silent if where == "call" else {}))
        return caught.value

    async def main() -> None:
        for function in FUNCTIONS:
            # On a busy machine the headers or the first events may take longer than a short timeout.
            for seconds in (0.15, 1, 3):
                error = await error_of(function, seconds)
                if isinstance(error, StreamTimeoutError) and error.result.text:
                    break
            assert isinstance(error, StreamTimeoutError)
            assert (error.clock, error.result.text) == ("read", "One ")

    with serve(REPLY.stall(after_events=4), repeat=True) as server:
        run(mode, main)


@pytest.mark.parametrize("max_retries", [0, 2])
def test_what_the_sdk_tries_again(mode: str, max_retries: int) -> None:
    """A refused request is the SDK's alone to repeat, as often as the client says, in whatever function."""

    async def main() -> None:
        async with client_for(mode, server, max_retries=7) as given:
            client = given.with_options(max_retries=max_retries)
            for function in FUNCTIONS:
                before = len(server.requests)
                with pytest.raises(anthropic.APIStatusError) as caught:
                    await read_through(function, client.messages, {"retries": 5})
                assert not isinstance(caught.value, streamkit.StreamError)
                assert caught.value.status_code == 529
                assert len(server.requests) - before == max_retries + 1

    with serve(Reply.http_error(529, headers={"retry-after": "0.001"}), repeat=True) as server:
        run(mode, main)


RAW = ("with_raw_response", "with_streaming_response")
RAW_SOURCES: list[Callable[[Any], Any]] = [
    lambda client: client,
    lambda client: client.beta,
    lambda client: client.messages,
    lambda client: client.beta.messages,
]


@pytest.mark.parametrize("way", RAW)
def test_raw_responses_are_refused(mode: str, way: str) -> None:
    async def main() -> None:
        async with client_for(mode, server) as client:
            for source in RAW_SOURCES:
                wrapper = getattr(source(client), way)
                for function in FUNCTIONS:
                    if function == "streamed" and not hasattr(wrapper, "create"):
                        wrapper = wrapper.messages
                    with pytest.raises(TypeError, match="got with_raw_response or with_streaming_response"):
                        await read_through(function, wrapper)

    with serve(REPLY) as server:
        run(mode, main)
        assert server.requests == []


def test_the_middleware_of_the_sdk_that_joins_streams(mode: str) -> None:
    """A refusal, and the answer of another model: one stream for who reads it, as by the SDK's own helper."""
    middleware = pytest.importorskip("anthropic.lib.middleware", reason="this SDK has no such middleware")
    refusal = Reply.events(message_start(), message_delta("refusal"), MESSAGE_STOP)

    async def main() -> None:
        fallback = middleware.BetaRefusalFallbackMiddleware([{"model": "claude-test"}])
        async with client_for(mode, server, middleware=[fallback]) as client:
            messages = client.beta.messages
            with middleware.BetaFallbackState() as state:
                if mode == "sync":
                    with messages.stream(**PARAMS) as stream:
                        theirs = stream.get_final_message()
                else:
                    async with messages.stream(**PARAMS) as stream:
                        theirs = await stream.get_final_message()
                assert state.index == 0
            for function in FUNCTIONS:
                with middleware.BetaFallbackState() as state:
                    assert await read_through(function, messages) == TEXT
                    assert state.index == 0
            with middleware.BetaFallbackState():
                collected = streamkit.collect(messages, **PARAMS)
                result = await awaited(collected)
            assert theirs.content[0].type == "fallback"
            ours = result.message.to_dict()
            assert ours == {key: value for key, value in theirs.to_dict().items() if key != "parsed_output"}

    with serve(refusal, REPLY, repeat=True) as server:
        run(mode, main)
        assert len(server.requests) == 2 * (2 + len(FUNCTIONS))
