"""The sinks themselves, and the set of them that a stream has."""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

from streamkit import (
    AsyncSink,
    BufferSink,
    CallbackSink,
    Sink,
    StdoutSink,
    StreamResult,
    UsageMeter,
    collect,
    stream_text,
)
from streamkit._core.dispatch import SinkDispatcher
from streamkit.testing import Reply, check_sink, serve
from tests.support.clients import PARAMS, sdk_client
from tests.support.events import (
    MESSAGE_STOP,
    block_delta,
    block_start,
    block_stop,
    message_delta,
    message_start,
    text_delta,
)
from tests.support.sinks import Log

HELLO = Reply.text(["Hello ", "there"], model="claude-sonnet-5-5")


def result_of(reply: Reply = HELLO, **options: Any) -> StreamResult:
    with serve(reply) as server:
        return collect(sdk_client(server), on_error="return", **PARAMS, **options)


# StdoutSink


@pytest.mark.parametrize(
    ("pieces", "end", "written"),
    [
        (["Hello ", "there"], "\n", "Hello there\n"),
        (["Hello\n"], "\n", "Hello\n"),
        (["Hello", "\n"], "\n", "Hello\n"),
        (["Hello\n\n"], "\n", "Hello\n\n"),
        ([], "\n", ""),
        (["Hello"], "", "Hello"),
        (["Hello"], "<end>", "Hello<end>"),
        (["Hello<e", "nd>"], "<end>", "Hello<end>"),
        (["nd>"], "<end>", "nd><end>"),
        (["Hello\n"], "\n\n", "Hello\n\n\n"),
    ],
)
def test_stdout_ends_with_one_end_if_the_text_did_not(pieces: list[str], end: str, written: str) -> None:
    file = io.StringIO()
    result_of(Reply.text(pieces), sinks=StdoutSink(file, end=end))
    assert file.getvalue() == written


def test_stdout_writes_and_flushes_each_piece() -> None:
    seen = []

    class File(io.StringIO):
        def flush(self) -> None:
            seen.append(self.getvalue())
            super().flush()

    result_of(sinks=StdoutSink(File()))
    assert seen == ["Hello ", "Hello there", "Hello there\n"]


def test_stdout_serves_one_stream_after_the_other() -> None:
    file = io.StringIO()
    sink = StdoutSink(file)
    result_of(sinks=sink)
    result_of(Reply.tool_use("x", {}), sinks=sink)
    result_of(sinks=sink)
    assert file.getvalue() == "Hello there\nHello there\n"
    assert not file.closed


def test_stdout_replaces_what_the_encoding_lacks() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    result_of(Reply.text(["wörld ", "日本", " \ud83d end"]), sinks=StdoutSink(file))
    assert raw.getvalue() == b"w?rld ?? ? end\n"
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
    result_of(Reply.text(["wörld \ud83d"]), sinks=StdoutSink(file))
    assert raw.getvalue() == "wörld ?\n".encode()


def test_stdout_with_thinking() -> None:
    file = io.StringIO()
    result_of(Reply.thinking("Hm", "Yes", pings=False), sinks=StdoutSink(file, thinking=True))
    assert file.getvalue() == "Hm\n\nYes\n"
    file = io.StringIO()
    result_of(Reply.thinking("Hm", "Yes"), sinks=StdoutSink(file))
    assert file.getvalue() == "Yes\n"


def test_stdout_with_thinking_between_texts() -> None:
    thought = block_start(1, "thinking", thinking="", signature="")
    events = (
        message_start(),
        block_start(0),
        text_delta("A", 0),
        block_stop(0),
        thought,
        block_delta(1, "thinking_delta", thinking="Hm"),
        block_stop(1),
    )
    file = io.StringIO()
    tail = (block_start(2), text_delta("B", 2), block_stop(2), message_delta(), MESSAGE_STOP)
    result = result_of(Reply.events(*events, *tail), sinks=StdoutSink(file, thinking=True))
    assert result.text == "A\n\nB"
    assert file.getvalue() == "A\n\nHm\n\nB\n"


@pytest.mark.parametrize("thought", ["Hm", "Hm\n", "Hm\n\n"])
def test_stdout_puts_one_blank_line_between_thinking_and_text(thought: str) -> None:
    file = io.StringIO()
    result_of(Reply.thinking(thought, "Yes", pings=False), sinks=StdoutSink(file, thinking=True))
    assert file.getvalue() == "Hm\n\nYes\n"


def test_stdout_goes_where_sys_stdout_is(capsys: pytest.CaptureFixture[str]) -> None:
    sink = StdoutSink()
    result_of(sinks=sink)
    assert capsys.readouterr().out == "Hello there\n"
    for _ in range(2):  # made before the replacement too
        file = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", file)
            result_of(sinks=sink)
        assert file.getvalue() == "Hello there\n"


def test_stdout_without_any_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert result_of(sinks=StdoutSink()).ok


def test_stdout_writes_to_its_file_whatever_bool_says_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    class Lines(io.StringIO):
        def __len__(self) -> int:
            return 0

    file = Lines()
    result_of(sinks=StdoutSink(file))
    assert file.getvalue() == "Hello there\n"
    assert capsys.readouterr().out == ""


# CallbackSink


def test_callbacks() -> None:
    texts, thoughts, events, results = list[str](), list[str](), list[str](), list[StreamResult]()
    sink = CallbackSink(texts.append, thoughts.append, lambda event: events.append(event.type), results.append)
    result = result_of(Reply.thinking("Hm", "Hello there"), sinks=sink)
    assert "".join(texts) == "Hello there"
    assert thoughts == ["Hm"]
    assert (events[0], events[-1]) == ("message_start", "message_stop")
    assert results == [result]


@pytest.mark.parametrize("name", ["on_text", "on_thinking", "on_event", "on_finish"])
def test_one_callback_alone(name: str) -> None:
    seen = list[Any]()
    result = result_of(Reply.thinking("Hm", "Hello there"), sinks=CallbackSink(**{name: seen.append}))
    expected: Any = {"on_text": result.text, "on_thinking": "Hm", "on_finish": result}
    if name == "on_event":
        assert seen[-1].type == "message_stop"
    elif name == "on_finish":
        assert seen == [result]
    else:
        assert "".join(seen) == expected[name]


def test_a_callback_that_is_no_function() -> None:
    with pytest.raises(TypeError, match="expected a function as a callback, got 5"):
        CallbackSink(on_text=5)  # type: ignore[arg-type]


def test_one_callback_sink_serves_many_streams_at_once() -> None:
    seen = list[str]()
    sink = CallbackSink(seen.append)
    with serve(HELLO, repeat=True) as server:
        client = sdk_client(server)
        with stream_text(client, sinks=sink, **PARAMS) as one, stream_text(client, sinks=sink, **PARAMS) as two:
            assert [next(one), next(two), *one, *two] == ["Hello ", "Hello ", "there", "there"]
    assert seen == ["Hello ", "Hello ", "there", "there"]


# BufferSink


def test_buffer_keeps_text_chunks_and_result() -> None:
    sink = BufferSink()
    assert (sink.text, sink.chunks, sink.result) == ("", (), None)
    result = result_of(sinks=sink)
    assert (sink.text, sink.chunks) == ("Hello there", ("Hello ", "there"))
    assert sink.result is result


def test_buffer_starts_anew_for_the_next_stream() -> None:
    sink = BufferSink()
    result_of(sinks=sink)
    second = result_of(Reply.text("Other"), sinks=sink)
    assert (sink.text, sink.result) == ("Other", second)
    third = result_of(Reply.tool_use("x", {}), sinks=sink)
    assert (sink.text, sink.chunks, sink.result) == ("", (), third)
    fourth = result_of(sinks=sink)
    assert (sink.text, sink.result) == ("Hello there", fourth)


def test_buffer_is_read_from_another_thread_while_it_fills() -> None:
    sink = BufferSink()
    pieces = [f"{number} " for number in range(3000)]
    whole, wrong, done = "".join(pieces), list[str](), threading.Event()

    def read() -> None:
        final = False
        while not final:
            final = done.is_set()
            for seen in (sink.text, "".join(sink.chunks)):
                if not whole.startswith(seen):
                    wrong.append(seen)

    reader = threading.Thread(target=read)
    reader.start()
    result = result_of(Reply.text(pieces, chunk_size=4096), sinks=sink)
    done.set()
    reader.join()
    assert wrong == []
    assert sink.text == result.text == whole


# UsageMeter


def metered(**fields: Any) -> dict[str, int]:
    names = ("streams", "not_final_streams", "input_tokens", "output_tokens")
    names += ("cache_creation_input_tokens", "cache_read_input_tokens")
    return {**dict.fromkeys(names, 0), **fields}


def test_meter_sums_in_total_and_by_model() -> None:
    meter = UsageMeter()
    usage = {"input_tokens": 5, "output_tokens": 4, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1}
    result_of(Reply.text("A b", model="m1", usage=usage), sinks=meter)
    result_of(Reply.text("A b", model="m1", usage=usage), sinks=meter)
    result_of(
        Reply.text("A b", model="m2", usage={"input_tokens": 7, "output_tokens": 9}).cut(after_events=4), sinks=meter
    )
    assert vars(meter.by_model["m1"]) == metered(
        streams=2, input_tokens=10, output_tokens=8, cache_read_input_tokens=4, cache_creation_input_tokens=2
    )
    assert vars(meter.by_model["m2"]) == metered(streams=1, not_final_streams=1, input_tokens=7, output_tokens=1)
    total = meter.total
    assert (total.streams, total.not_final_streams, total.input_tokens, total.output_tokens) == (3, 1, 17, 9)
    assert sorted(meter.by_model) == ["m1", "m2"]
    assert repr(meter).startswith(f"UsageMeter(total=ModelUsage(streams={total.streams}, ")
    assert "input_tokens=17" in repr(meter)


def test_meter_counts_the_tokens_of_failed_attempts_and_the_stream_once() -> None:
    usage = {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 4}
    busy = Reply.text("A", usage=usage, headers={"retry-after": "0.001"}).error("overloaded_error", after_events=1)
    nothing = Reply.events(headers={"retry-after": "0.001"})
    final = Reply.text("A b", usage={"input_tokens": 5, "output_tokens": 7})
    for replies, not_final in (((busy, nothing, final), 1), ((nothing, final), 0)):
        meter = UsageMeter()
        with serve(*replies) as server:
            assert collect(sdk_client(server), sinks=meter, retries=2, **PARAMS).ok
        begun = replies[0] is busy
        assert vars(meter.total) == metered(
            streams=1,
            not_final_streams=not_final,
            input_tokens=5 + 10 * begun,
            output_tokens=7 + 1 * begun,
            cache_read_input_tokens=4 * begun,
        )
        assert list(meter.by_model.values()) == [meter.total]


def test_meter_counts_deltas_where_the_api_had_not_counted() -> None:
    meter = UsageMeter()
    result_of(Reply.events(message_start(), block_start(), *[text_delta("A")] * 5), sinks=meter)
    assert meter.total.output_tokens == 5


def test_meter_counts_a_stream_that_never_named_its_model_and_null_counts() -> None:
    meter = UsageMeter()
    result_of(Reply.events(), sinks=meter)
    assert vars(meter.by_model["unknown"]) == metered(streams=1, not_final_streams=1)
    result_of(Reply.events(message_start(usage={"input_tokens": 2, "cache_read_input_tokens": None})), sinks=meter)
    assert meter.total.input_tokens == 2


def test_meter_counts_from_many_threads_at_once() -> None:
    meter, threads = UsageMeter(), 8
    result = result_of(Reply.text("x", usage={"input_tokens": 3, "output_tokens": 2}, model="m"))
    begin = threading.Barrier(threads)

    def work() -> None:
        begin.wait()
        for _ in range(500):
            meter.finish(result)

    running = [threading.Thread(target=work) for _ in range(threads)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    expected = metered(streams=4000, input_tokens=12000, output_tokens=8000)
    assert vars(meter.total) == vars(meter.by_model["m"]) == expected


# SinkDispatcher


class Plain(Sink):
    pass


class AsyncPlain(AsyncSink):
    async def write(self, text: str) -> None:
        pass


def test_what_nobody_listens_to_costs_nothing() -> None:
    one = SinkDispatcher([Plain(), BufferSink(), CallbackSink(on_event=print)], is_async=False)
    assert (len(one.text), len(one.thinking), len(one.event)) == (1, 0, 1)
    two = SinkDispatcher([AsyncPlain(), Log()], is_async=True)
    assert (len(two.text), len(two.thinking), len(two.event)) == (2, 1, 1)
    assert not SinkDispatcher(None, is_async=False).text


def test_a_method_that_an_instance_overrides_is_heard() -> None:
    seen, sink = list[str](), Plain()
    sink.write = seen.append  # type: ignore[method-assign]
    result_of(sinks=sink)
    assert seen == ["Hello ", "there"]


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        (5, "several of them for sinks="),
        ("stdout", "several of them for sinks="),
        (b"x", "several of them for sinks="),
        ([None], "expected a sink, got"),
        (["x"], "expected a sink, got"),
        (lambda: 5, "expected a sink, got"),
        (io.StringIO(), "several of them for sinks="),
        (dict, "expected a sink, got"),
        (AsyncPlain(), "AsyncPlain is an AsyncSink and this stream is sync"),
        ([BufferSink, AsyncPlain], "this stream is sync"),
    ],
)
def test_what_is_no_sink(sinks: Any, said: str) -> None:
    with serve(HELLO) as server:
        for function in (stream_text, collect):
            with pytest.raises(TypeError, match=said):
                function(sdk_client(server), sinks=sinks, **PARAMS)
        assert server.requests == []


def test_factories_make_one_for_each_stream() -> None:
    made = list[BufferSink]()

    def make() -> BufferSink:
        made.append(BufferSink())
        return made[-1]

    for _ in range(2):
        result_of(sinks=[make, make])
    result_of(sinks=make)
    assert [sink.text for sink in made] == ["Hello there"] * 5
    result_of(sinks=BufferSink)
    result_of(sinks=(sink for sink in [made[0]]))


def test_a_sink_in_use_refuses_a_second_stream_until_it_is_released() -> None:
    sink, other = BufferSink(), Log()
    with serve(HELLO, repeat=True) as server:
        client = sdk_client(server)
        with stream_text(client, sinks=sink, **PARAMS) as first:
            next(first)
            second = stream_text(client, sinks=[other, sink], **PARAMS)
            with pytest.raises(RuntimeError, match="BufferSink is in use by another stream"):
                second.open()
            assert len(server.requests) == 1
            assert other.calls == [("finish", "failed")], "the sinks of the second are finished"
            assert sink.result is None, "but not the one that is the first's"
            assert first.until_done().text == sink.text == "Hello there"
        assert collect(client, sinks=sink, **PARAMS) == sink.result


def test_a_sink_is_claimed_by_opening_not_by_making() -> None:
    sink = BufferSink()
    with serve(HELLO) as server:
        stream_text(sdk_client(server), sinks=sink, **PARAMS)
        assert collect(sdk_client(server), sinks=sink, **PARAMS).text == sink.text


def test_closing_an_unopened_stream_leaves_a_sink_in_use_alone() -> None:
    sink = Log()
    with serve(HELLO) as server:
        unopened = stream_text(sdk_client(server), sinks=sink, **PARAMS)
        with stream_text(sdk_client(server), sinks=sink, **PARAMS) as stream:
            next(stream)
            unopened.close()
            assert ("finish", "interrupted") not in sink.calls
            stream.until_done()
    assert [call for call in sink.calls if call[0] == "finish"] == [("finish", "complete")]


def test_the_same_sink_twice_is_finished_once() -> None:
    sink = Log()
    result_of(sinks=[sink, sink])
    assert [call for call in sink.calls if call[0] == "finish"] == [("finish", "complete")]


@pytest.mark.parametrize("sink", [StdoutSink, BufferSink, AsyncPlain])
def test_they_pass_the_conformance_test(sink: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check_sink(sink())
