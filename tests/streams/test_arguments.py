"""Arguments: unknown parameters, wrong options, and what is not a source."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest
from anthropic.resources.messages import DEPRECATED_MODELS

import streamkit
from streamkit import StreamProtocolError
from streamkit._options import Options
from streamkit.testing import serve
from tests.support.clients import PARAMS, assert_no_connection_in_use, async_sdk_client
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.replies import REPLY, TEXT
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"nonsense": 1}, "got nonsense=$"),
        ({"nonsense": 1, "output_format": int}, "got nonsense=$"),
        ({"max_token": 1}, r"got max_token=; did you mean max_tokens=\?$"),
        ({"idle_timout": 1}, r"got idle_timout=; did you mean idle_timeout=\?$"),
        ({"on_eror": "return"}, r"got on_eror=; did you mean on_error=\?$"),
        ({"on_error": "return"}, "^on_error= is an option of collect only$"),
        ({"temperatur": 1}, "got temperatur=(; did you mean temperature=.)?$"),
        ({"betas": ["a-beta"]}, "got betas=; for beta parameters, pass client.beta.messages$"),
    ],
)
async def test_an_unknown_keyword_is_refused_at_the_call(harness: Harness, extra: dict[str, Any], message: str) -> None:
    log = Log()
    with serve(REPLY) as server:
        with pytest.raises(TypeError, match=message):
            harness.text(server, sinks=log, **extra)
        assert server.requests == []
    assert log.calls == []


async def test_a_resource_that_takes_anything_is_not_checked() -> None:
    class Anything:
        with_raw_response = None

        def create(self, **kwargs: Any) -> Any:
            return kwargs

    with pytest.raises(TypeError, match="expected a stream from the call, got dict"):
        streamkit.stream_text(Anything(), nonsense=1).open()  # type: ignore[call-overload]


@pytest.mark.parametrize("function", [streamkit.stream_text, streamkit.stream_events, streamkit.collect])
def test_help_shows_the_options_with_their_defaults(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    options = {name: parameters[name].default for name in Options.__dataclass_fields__}
    assert options == {field.name: field.default for field in dataclasses.fields(Options)}
    assert {parameters[name].kind for name in options} == {inspect.Parameter.KEYWORD_ONLY}
    text = inspect.getdoc(streamkit.stream_text) or ""
    assert all(f"`{name}`" in text for name in options)


def test_a_coroutine_that_is_never_awaited_has_the_name_of_the_function() -> None:
    client = anthropic.AsyncAnthropic(api_key="made-up")
    with pytest.warns(RuntimeWarning, match="coroutine 'collect' was never awaited"):
        streamkit.collect(client, **PARAMS)


def test_a_deprecated_model_is_named_at_the_caller_s_line() -> None:
    model = next(iter(DEPRECATED_MODELS))
    client = anthropic.Anthropic(api_key="made-up")
    calls: list[Callable[[], Any]] = [
        lambda: streamkit.stream_text(client, **{**PARAMS, "model": model}),
        lambda: streamkit.stream_events(client, **{**PARAMS, "model": model}),
        lambda: streamkit.collect(client, **{**PARAMS, "model": model}),
        lambda: streamkit.streamed(client.messages.create)(**{**PARAMS, "model": model}),
    ]
    for call in calls:
        with pytest.raises(DeprecationWarning, match=f"the model '{model}' is deprecated and reaches its end of life"):
            call()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        calls[0]()
    assert [warning.filename for warning in caught] == [__file__]


async def test_a_deprecated_model_is_named_at_the_line_that_awaits_the_wrapped_call() -> None:
    model = next(iter(DEPRECATED_MODELS))
    with serve(REPLY) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with server.async_client() as client:
            await streamkit.streamed(client.messages.create)(**{**PARAMS, "model": model})
    ours = [warning.category for warning in caught if warning.filename == __file__]
    assert ours == [DeprecationWarning]


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "stream": ({"stream": True}, TypeError, "always streamed"),
    "retries below 0": ({"retries": -1}, ValueError, "expected 0 or more for retries="),
    "retries no number": ({"retries": "2"}, TypeError, "expected an int for retries="),
    "retries bool": ({"retries": True}, TypeError, "expected an int for retries="),
    "retries float": ({"retries": 1.0}, TypeError, "expected an int for retries="),
    "idle 0": ({"idle_timeout": 0}, ValueError, "expected seconds above 0 for idle_timeout="),
    "idle below 0": ({"idle_timeout": -1}, ValueError, "expected seconds above 0 for idle_timeout="),
    "idle nan": ({"idle_timeout": float("nan")}, ValueError, "expected seconds above 0 for idle_timeout="),
    "idle no number": ({"idle_timeout": "1"}, TypeError, "expected seconds for idle_timeout="),
    "total 0": ({"total_timeout": 0.0}, ValueError, "expected seconds above 0 for total_timeout="),
    "total bool": ({"total_timeout": True}, TypeError, "expected seconds for total_timeout="),
    "separator": ({"separator": None}, TypeError, "for separator="),
    "separator no text": ({"separator": 5}, TypeError, "for separator="),
    "sinks": ({"sinks": 5}, TypeError, "several of them for sinks="),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_option(harness: Harness, name: str) -> None:
    options, kind, said = WRONG[name]
    with serve(REPLY) as server:
        for way in (harness.text, harness.events, harness.collect):
            with pytest.raises(kind) as caught:
                await harness.call(way, server, **options)
            assert said in str(caught.value)
        if name != "stream":
            with pytest.raises((TypeError, ValueError)):
                await harness.call(streamkit.streamed(harness.client(server).messages.create, **options), **PARAMS)
        assert server.requests == []


async def test_a_wrong_option_of_collect(harness: Harness) -> None:
    with serve(REPLY) as server:
        with pytest.raises(ValueError, match='expected "raise" or "return" for on_error='):
            await harness.collect(server, on_error="ignore")
        if harness.is_async:
            with pytest.raises(TypeError, match="on_interrupt= is for sync sources"):
                await harness.collect(server, on_interrupt="return")
        else:
            with pytest.raises(ValueError, match='expected "raise" or "return" for on_interrupt='):
                await harness.collect(server, on_interrupt="x")
        assert server.requests == []


async def test_parameters_beside_an_opened_stream(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = harness.client(server)
        if not harness.is_async:  # an async one holds a coroutine, which warns when it is not awaited
            manager = client.messages.stream(**PARAMS)
            with pytest.raises(TypeError, match="an SDK stream takes no request parameters, got max_tokens, model"):
                harness.text(manager, model="x", max_tokens=5)
            assert server.requests == []
        raw = await harness.call(client.messages.create, **PARAMS, stream=True)
        with pytest.raises(TypeError, match="an SDK stream takes no request parameters, got model"):
            harness.text(raw, model="x")
        with pytest.raises(TypeError, match="retries= needs a source that can be opened again"):
            harness.text(raw, retries=1)
        assert (await harness.collect(raw)).ok


async def test_a_stream_that_was_read_already(harness: Harness) -> None:
    with serve(REPLY) as server:
        raw = await harness.call(harness.client(server).messages.create, **PARAMS, stream=True)
        assert (await harness.collect(raw)).ok
        with pytest.raises(RuntimeError, match="pass it to streamkit before reading from it"):
            harness.text(raw)


async def test_raw_response_wrappers(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = harness.client(server)
        for wrapper in (client.messages.with_raw_response, client.messages.with_streaming_response):
            with pytest.raises(TypeError, match="got with_raw_response or with_streaming_response"):
                streamkit.stream_text(wrapper, **PARAMS)
        with pytest.raises(TypeError, match="got with_raw_response or with_streaming_response"):
            streamkit.stream_text(client.with_raw_response, **PARAMS)
        assert server.requests == []


async def test_streamed_around_a_raw_response_wrapper_sends_nothing(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = harness.client(server)
        with pytest.raises(TypeError):
            await harness.call(streamkit.streamed(client.messages.with_raw_response.create), **PARAMS)
        assert server.requests == []
        assert_no_connection_in_use(client)


def nothing() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "expected an Anthropic client, messages resource or SDK stream, got None"),
        ("client", "SDK stream, got str"),
        (5, "SDK stream, got int"),
        (anthropic, "SDK stream, got module"),
        (anthropic.Anthropic, r"got the class Anthropic: create an object, Anthropic\(\.\.\.\)"),
        (anthropic.MessageStreamManager, "got the class MessageStreamManager"),
        (print, "SDK stream, got builtin_function_or_method"),
        ([], "SDK stream, got list"),
    ],
    ids=repr,
)
def test_what_is_no_source(source: Any, said: str) -> None:
    for function in (streamkit.stream_text, streamkit.stream_events, streamkit.collect):
        with pytest.raises(TypeError, match=said):
            function(source, **PARAMS)
        with pytest.raises(TypeError, match=said):
            function(source)


async def test_a_coroutine_is_no_source(harness: Harness) -> None:
    with serve(REPLY) as server:
        client = async_sdk_client(server)
        coroutine = client.messages.create(**PARAMS, stream=True)
        with pytest.raises(TypeError, match="got a coroutine: await the call that made it"):
            streamkit.stream_text(coroutine)
        coroutine.close()
        assert server.requests == []
        if harness.is_async:
            await client.close()


@pytest.mark.parametrize("source", [nothing, lambda: open(__file__, encoding="utf-8")], ids=["generator", "file"])  # noqa: SIM115
def test_an_iterator_of_something_else(source: Callable[[], Any]) -> None:
    with contextlib.closing(source()) as given:
        with pytest.raises((TypeError, StreamProtocolError), match=r"expected an (event|Anthropic client)"):
            streamkit.collect(given)


@pytest.mark.parametrize("omitted", [anthropic.NOT_GIVEN, anthropic.omit, None], ids=["NOT_GIVEN", "omit", "None"])
async def test_parameters_that_are_not_given(harness: Harness, omitted: Any) -> None:
    with serve(REPLY) as server:
        result = await harness.collect(server, output_format=omitted, system=anthropic.omit)
        assert (result.text, result.parsed_output, result.parse_error) == (TEXT, None, None)
        assert "system" not in server.requests[0].json
        assert "output_format" not in server.requests[0].json
