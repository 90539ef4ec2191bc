"""`record` and `check_sink`, with the library's own streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from streamkit import AsyncSink, BufferSink, CallbackSink, Sink, StdoutSink, UsageMeter, collect, stream_text
from streamkit.testing import Reply, check_sink, record, serve

PARAMS: Any = {"model": "claude-test", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
FIXTURES = sorted((Path(__file__).parent.parent / "fixtures").glob("*.sse"))


# --- record ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_recording_plays_back_the_same_bytes(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sse"
    with serve(Reply.recorded(path, [11])) as server:
        first = collect(server.client(), sinks=record(copy), on_error="return", **PARAMS)
    assert copy.read_bytes() == path.read_bytes()
    with serve(Reply.recorded(copy)) as server:
        second = collect(server.client(), on_error="return", **PARAMS)
    assert (second.text, second.status, second.stop_reason) == (first.text, first.status, first.stop_reason)


def test_record_async(tmp_path: Path) -> None:
    reply = Reply.thinking("hm 🤔", "so be it")

    async def main() -> None:
        async with server.async_client() as client:
            await collect(client, sinks=record(tmp_path / "a.sse"), **PARAMS)

    with serve(reply) as server:
        asyncio.run(main())
    assert (tmp_path / "a.sse").read_bytes() == reply.body


def test_a_recording_keeps_no_header_and_no_key(tmp_path: Path) -> None:
    with serve(Reply.text("hello", headers={"x-private": "response-secret"})) as server:
        collect(server.client(api_key="request-secret"), sinks=record(tmp_path / "a.sse"), **PARAMS)
    assert b"secret" not in (tmp_path / "a.sse").read_bytes()


def test_a_recording_holds_what_came_before_the_stream_broke_off(tmp_path: Path) -> None:
    reply = Reply.text("a b c").cut(after_bytes=900)
    with serve(reply) as server:
        collect(server.client(), sinks=record(str(tmp_path / "a.sse")), on_error="return", **PARAMS)
    assert (tmp_path / "a.sse").read_bytes() == reply.body


def test_a_retried_request_starts_the_recording_anew(tmp_path: Path) -> None:
    whole = Reply.text("a b c")
    longer = Reply.text("", message_id="msg_" + "x" * 5000).cut(after_events=2)
    with serve(longer, whole) as server:
        result = collect(server.client(), sinks=record(tmp_path / "a.sse"), retries=1, **PARAMS)
    assert result.attempts == 2
    assert (tmp_path / "a.sse").read_bytes() == whole.body


def test_a_recorder_serves_one_stream_after_the_other(tmp_path: Path) -> None:
    sink = record(tmp_path / "a.sse")
    replies = [Reply.text("a long first reply"), Reply.text("short")]
    with serve(*replies) as server:
        for reply in replies:
            collect(server.client(), sinks=sink, **PARAMS)
            assert (tmp_path / "a.sse").read_bytes() == reply.body


def test_a_stream_read_by_the_sdk_is_recorded_event_by_event(tmp_path: Path) -> None:
    with serve(Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me see."), repeat=True) as server:
        with server.client().messages.stream(**PARAMS) as opened:
            first = collect(opened, sinks=record(tmp_path / "a.sse"))
    with serve(Reply.recorded(tmp_path / "a.sse")) as server:
        second = collect(server.client(), **PARAMS)
    assert second.message == first.message


def test_a_refused_request_records_nothing(tmp_path: Path) -> None:
    with serve(Reply.http_error(400)) as server, pytest.raises(anthropic.BadRequestError):
        collect(server.client(), sinks=record(tmp_path / "a.sse"), **PARAMS)
    assert not (tmp_path / "a.sse").exists() or not (tmp_path / "a.sse").read_bytes()


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with serve(Reply.text("a")) as server, pytest.raises(FileNotFoundError):
        collect(server.client(), sinks=record(tmp_path / "no" / "a.sse"), **PARAMS)


# --- check_sink -----------------------------------------------------------------------------------------------------


class AsyncBuffer(AsyncSink):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.statuses: list[str] = []

    async def write(self, text: str) -> None:
        self.texts.append(text)

    async def finish(self, result: Any) -> None:
        self.statuses.append(result.status)


class Statuses(Sink):
    def __init__(self) -> None:
        self.statuses: list[str] = []

    def finish(self, result: Any) -> None:
        self.statuses.append(result.status)


@pytest.mark.parametrize(
    "sink",
    [
        Sink,
        Sink(),
        BufferSink,
        BufferSink(),
        CallbackSink(on_text=str, on_event=type),
        UsageMeter(),
        AsyncSink,
        AsyncBuffer(),
        AsyncBuffer,
    ],
)
def test_good_sinks_pass(sink: Any) -> None:
    check_sink(sink)


def test_the_stdout_sink_passes(capsys: pytest.CaptureFixture[str]) -> None:
    check_sink(StdoutSink(thinking=True))
    assert "日本語" in capsys.readouterr().out


def test_a_recorder_passes(tmp_path: Path) -> None:
    check_sink(record(tmp_path / "a.sse"))


@pytest.mark.parametrize("sink", [Statuses(), AsyncBuffer()], ids=["sync", "async"])
def test_the_checked_sink_meets_every_ending(sink: Any) -> None:
    check_sink(sink)
    assert set(sink.statuses) == {"complete", "interrupted", "disconnected", "failed"}


def test_a_factory_is_called_for_each_stream() -> None:
    made: list[Statuses] = []

    def factory() -> Statuses:
        made.append(Statuses())
        return made[-1]

    check_sink(factory)
    assert len(made) > 4
    assert all(len(sink.statuses) == 1 for sink in made)


def boom(*_: object) -> None:
    raise ValueError("boom")


async def async_boom(*_: object) -> None:
    raise ValueError("boom")


async def async_method(self: object, value: object) -> None:
    pass


async def async_generator(self: object, value: object) -> AsyncIterator[None]:
    yield


def refuses(*statuses: str) -> Callable[[object, Any], None]:
    def finish(self: object, result: Any) -> None:
        if result.status in statuses:
            raise ValueError(f"boom {result.status}")

    return finish


def narrow(self: object, text: str) -> None:
    text.encode("latin-1")


def needs_message(self: object, result: Any) -> None:
    print(end=result.message.id[:0])


def once(self: Any, result: object) -> None:
    if hasattr(self, "done"):
        raise ValueError("boom: used already")
    self.done = True


def subclass(base: type[Any], **methods: object) -> Any:
    return type("Mine", (base,), methods)


@pytest.mark.parametrize(
    ("sink", "words"),
    [
        (subclass(Sink, write=boom), "Mine raised ValueError.*boom.* during a complete reply"),
        (subclass(Sink, thinking=boom), "during a reply with thinking"),
        (subclass(Sink, event=boom), "during a complete reply"),
        (subclass(Sink, finish=boom), "during a complete reply"),
        (subclass(Sink, write=narrow), "UnicodeEncodeError"),
        (subclass(Sink, finish=refuses("interrupted")), "boom interrupted.* during an interrupted reply"),
        (subclass(Sink, finish=refuses("disconnected")), "boom disconnected.* during a reply that breaks off"),
        (subclass(Sink, finish=refuses("failed")), "boom failed.* during a refused request"),
        (subclass(Sink, finish=needs_message), "AttributeError.* during a refused request"),
        (subclass(Sink, finish=once)(), "used already"),
        (subclass(AsyncSink, write=async_boom), "Mine raised ValueError.*boom.* during a complete reply"),
        (subclass(AsyncSink, thinking=async_boom), "during a reply with thinking"),
        (subclass(AsyncSink, finish=async_boom), "during a complete reply"),
        (subclass(Sink, write=async_method), "Mine.write must not be `async def`"),
        (subclass(Sink, event=async_generator), "Mine.event must not be `async def`"),
        (subclass(AsyncSink, finish=once), "Mine.finish must be `async def`"),
        (subclass(Sink, write=lambda self: None), "Mine.write must take one positional argument"),
        (subclass(Sink, finish=lambda self, result, more: None), "Mine.finish must take one positional argument"),
        (subclass(Sink, thinking=None), "Mine.thinking must be a method"),
        (subclass(object), "must be a subclass of either Sink or AsyncSink"),
        (type("Both", (Sink, AsyncSink), {}), "either Sink or AsyncSink"),
        (print, "NoneType must be a subclass"),
        (object(), "object must be a subclass"),
        ("text", "str must be a subclass"),
    ],
)
def test_bad_sinks_are_told_why(sink: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_sink(sink)


def test_a_sink_for_one_stream_passes_as_a_factory() -> None:
    check_sink(subclass(Sink, finish=once))


def test_an_async_sink_is_not_checked_from_async_code() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="outside of async code"):
            check_sink(AsyncBuffer)

    asyncio.run(main())


def test_what_is_written_while_a_sink_is_checked_stays_with_it() -> None:
    sink = BufferSink()
    check_sink(sink)
    with serve(Reply.text("afterwards")) as server, stream_text(server.client(), sinks=sink, **PARAMS) as stream:
        assert "".join(stream) == "afterwards"
    assert sink.text == "afterwards"
