"""Functions as sinks, and the input of tools."""

from __future__ import annotations

import functools
import io
from typing import Any

import pytest

from streamkit import AsyncSink, BufferSink, CallbackSink, Sink, StreamResult, coalesce, isolate
from streamkit.testing import Reply, check_sink, serve
from tests.support.events import (
    MESSAGE_STOP,
    block_delta,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    text_delta,
    tool_use_start,
)
from tests.support.harness import Harness, ignores_generators_left_behind
from tests.support.sinks import Log

pytestmark = [
    pytest.mark.anyio,
    ignores_generators_left_behind,
]

HELLO = Reply.text(["Hello ", "there"])


async def collected(harness: Harness, sinks: Any, reply: Reply = HELLO) -> StreamResult:
    with serve(reply) as server:
        return await harness.collect(server, sinks=sinks)


async def test_print_is_a_sink(harness: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    await collected(harness, print)
    assert capsys.readouterr().out == "Hello \nthere\n"
    await collected(harness, [functools.partial(print, end="|")])
    assert capsys.readouterr().out == "Hello |there|"


class Callable:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, text: str) -> None:
        self.seen.append(text)


async def test_functions_of_one_argument_take_the_text(harness: Harness) -> None:
    appended, by_lambda, instance = list[str](), list[str](), Callable()
    by_default = list[str]()

    def with_default(text: str, to: list[str] = by_default) -> None:
        to.append(text)

    await collected(harness, (appended.append, lambda text: by_lambda.append(text), instance, with_default))  # noqa: PLW0108
    assert appended == by_lambda == instance.seen == by_default == ["Hello ", "there"]


async def test_a_function_without_a_signature_takes_the_text(harness: Harness) -> None:
    class Opaque(Callable):
        """As some functions in C are."""

        @property
        def __signature__(self) -> None:
            raise ValueError("no signature found")

    opaque = Opaque()
    await collected(harness, opaque)
    assert opaque.seen == ["Hello ", "there"]


class Kept(Sink):
    made: list[Kept] = []  # noqa: RUF012

    def __init__(self, name: str = "none") -> None:
        self.name, self.text = name, ""
        self.made.append(self)

    def write(self, text: str) -> None:
        self.text += text


class Keyed(Kept):
    def __init__(self, *, name: str) -> None:
        super().__init__(name)


class Variadic(Kept):
    def __init__(self, *names: str) -> None:
        super().__init__(",".join(names))


async def test_what_makes_a_sink_makes_one_for_each_stream(harness: Harness) -> None:
    Kept.made.clear()
    factories = [
        Kept,
        functools.partial(Keyed, name="b"),
        functools.partial(functools.partial(Variadic, "c"), "d"),
        Variadic,
        lambda: Kept("e"),
        lambda name="f": Kept(name),
    ]
    for _ in range(2):
        await collected(harness, iter(factories))
    assert [sink.name for sink in Kept.made] == ["none", "b", "c,d", "", "e", "f"] * 2
    assert {sink.text for sink in Kept.made} == {"Hello there"}


async def test_an_async_function_is_awaited_or_refused(harness: Harness) -> None:
    seen = list[str]()

    async def keep(text: str) -> None:
        seen.append(text)

    class Keeping:
        async def __call__(self, text: str) -> None:
            seen.append(text)

    for function in (keep, functools.partial(keep), Keeping()):
        seen.clear()
        if harness.is_async:
            await collected(harness, function)
            assert seen == ["Hello ", "there"]
        else:
            with pytest.raises(TypeError, match="CallbackSink is given async functions and this stream is sync"):
                await collected(harness, function)


async def _make() -> Sink:
    raise AssertionError


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        (lambda one, two: None, "expected a function that takes a piece of text, or one without arguments"),
        (lambda *, key: None, "bind its other arguments with functools.partial"),
        (Keyed, r"expected a class that needs no arguments, got Keyed: use functools.partial\(Keyed, ...\)"),
        (_make, "got the async function"),
        (io.StringIO(), r"for a file, use StdoutSink\(file\)"),
    ],
    ids=["two", "keyword", "class", "async factory", "file"],
)
async def test_what_is_refused_before_a_request(harness: Harness, sinks: Any, said: str) -> None:
    with serve(HELLO) as server:
        with pytest.raises(TypeError, match=said):
            await harness.collect(server, sinks=sinks)
        assert server.requests == []


# Tool input.

TOOL = Reply.events(
    message_start(),
    tool_use_start(0),
    input_delta('{"a":', 0),
    input_delta("", 0),
    tool_use_start(1),
    input_delta("{}", 1),
    text_delta("stray", 1),
    input_delta(" 1}", 0),
    block_stop(0),
    block_stop(1),
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
    block_delta(2, "input_json_delta", partial_json="not a tool"),
    block_stop(2),
    message_delta(),
    MESSAGE_STOP,
)


async def test_tool_input_comes_in_pieces_with_its_block(harness: Harness) -> None:
    calls = list[tuple[Any, str]]()
    result = await collected(harness, CallbackSink(on_tool_input=lambda *call: calls.append(call)), TOOL)
    assert [piece for _, piece in calls] == ['{"a":', "{}", " 1}"]
    first, second, again = (block for block, _ in calls)
    assert first is again
    assert first is not second
    assert (type(first), first.name, first.id) == (
        type(result.tool_uses[0]),
        result.tool_uses[0].name,
        result.tool_uses[0].id,
    )
    assert first.input == {}, "as it was opened"
    assert result.tool_uses[0].input == {"a": 1}


async def test_tool_input_comes_after_its_event_and_to_every_kind_of_sink(harness: Harness) -> None:
    calls = list[str]()

    class Both(Sink):
        def event(self, event: Any) -> None:
            calls.append(event.type)

        def tool_input(self, block: Any, piece: str) -> None:
            calls.append(piece)

    class Awaited(AsyncSink):
        async def tool_input(self, block: Any, piece: str) -> None:
            calls.append(f"{block.type} {piece}")

    sinks: list[Any] = [Both, Awaited] if harness.is_async else [Both]
    await collected(harness, sinks, Reply.tool_use("get_tide", {"harbour": "Brest"}))
    pieces = [call for call in calls if call.startswith("{")]
    assert pieces
    for piece in pieces:
        at = calls.index(piece)
        assert calls[at - 1] == "content_block_delta"
        if harness.is_async:
            assert calls[at + 1] == f"tool_use {piece}"


@pytest.mark.parametrize("wrapper", [coalesce, isolate])
async def test_what_wraps_a_sink_passes_tool_input_on(harness: Harness, wrapper: Any) -> None:
    calls = list[tuple[Any, str]]()
    await collected(harness, wrapper(CallbackSink(on_tool_input=lambda *call: calls.append(call))), TOOL)
    assert "".join(piece for block, piece in calls if block is calls[0][0]) == '{"a": 1}'


async def test_a_wrapped_sink_is_still_in_use(harness: Harness) -> None:
    buffer = BufferSink()
    with serve(HELLO, repeat=True) as server:
        async with harness.text(server, sinks=coalesce(isolate(buffer))) as stream:
            await stream.next()
            with pytest.raises(RuntimeError, match="BufferSink is in use by another stream"):
                await harness.collect(server, sinks=isolate(buffer))
            assert buffer.result is None
        await harness.collect(server, sinks=buffer)
    assert buffer.text == "Hello there"


async def test_the_refusal_of_an_async_sink_names_what_is_wrapped(harness: Harness) -> None:
    if harness.is_async:
        pytest.skip("an async stream takes it")
    for wrapper in (coalesce, isolate):
        with pytest.raises(TypeError, match="^AsyncSink is an AsyncSink and this stream is sync"):  # noqa: RUF043
            await collected(harness, wrapper(AsyncSink()))


@pytest.mark.parametrize("broken", [{"tool_input": lambda self, block: None}, {"tool_input": None}])
def test_check_sink_checks_tool_input(broken: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"Mine.tool_input must (take two positional arguments|be a method)"):
        check_sink(type("Mine", (Sink,), broken))


def test_check_sink_runs_tool_input() -> None:
    def fail(*_: object) -> None:
        raise ValueError("boom")

    with pytest.raises(AssertionError, match="boom.* during a reply with text and a tool use"):  # noqa: RUF043
        check_sink(type("Mine", (Sink,), {"tool_input": fail}))
    log = Log()
    check_sink(log)
    assert log.calls
