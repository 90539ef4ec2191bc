"""`Replies` in memory, on asyncio and on trio: start, resume, stop, keep, and the caps."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import pytest

from streamkit import AsyncEventStream, CallbackSink, stream_events, stream_text
from streamkit.testing import Reply, serve
from streamkit.web import AISDK, Replies, ReplyActive, ReplyFrames
from tests.support.bodies import BETA, FIXTURES
from tests.support.clients import PARAMS, async_client_for, open_connections_in_use
from tests.support.harness import ignores_generators_left_behind
from tests.support.reply_bodies import frames_of, numbers, read_until, whole, without_ids
from tests.support.web import PROTOCOLS, encoded, of_type, until
from tests.web.test_sse import Plain

pytestmark = [pytest.mark.anyio, ignores_generators_left_behind]
WORDS = Reply.text("They push water aside.")
STALLED = WORDS.stall(after_events=5)  # after "They " and "push "
PING = b": ping\n\n"
each_loop = pytest.mark.parametrize("mode", ["asyncio", "trio", "aiohttp"])


class Kit:
    """Replies, and streams of the server's replies."""

    def __init__(self, client: anthropic.AsyncAnthropic, replies: Replies) -> None:
        self.client, self.replies = client, replies
        self.streams: list[AsyncEventStream[Any, Any, Any]] = []

    def stream(self, **options: Any) -> AsyncEventStream[Any, Any, Any]:
        self.streams.append(stream_events(self.client, **{**PARAMS, **options}))
        return self.streams[-1]

    async def start(self, key: str = "chat", **options: Any) -> ReplyFrames:
        return await self.replies.start(key, self.stream(**options), AISDK())

    async def resume(self, after: int | str = 0, key: str = "chat") -> ReplyFrames | None:
        return await self.replies.resume(key, AISDK(), after)

    async def resumed(self, after: int | str = 0) -> bytes:
        """The rest of the reply, to its end."""
        frames = await self.resume(after)
        assert frames is not None
        return await whole(frames)


@contextlib.asynccontextmanager
async def kit(mode: str, *served: Reply, **options: Any) -> AsyncIterator[Kit]:
    with serve(*served) as server:
        async with async_client_for(mode, server) as client:
            with anyio.fail_after(20):
                made = Kit(client, Replies(**options))
                yield made
                await made.replies.aclose()
                assert all(stream.status not in ("pending", "streaming") for stream in made.streams)
                assert not open_connections_in_use(client)


@each_loop
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: type(one).__name__)
async def test_the_frames_are_those_of_the_encoder_with_ids(mode: str, protocol: Any) -> None:
    path = FIXTURES[0]
    async with kit(mode, Reply.recorded(path)) as one:
        resource = one.client.beta.messages if path.stem in BETA else one.client
        stream = stream_events(resource, **PARAMS)
        body = await whole(await one.replies.start("chat", stream, protocol))
    assert without_ids(body) == encoded(protocol, path.read_bytes(), beta=path.stem in BETA)[0]
    assert numbers(body) == list(range(1, len(numbers(body)) + 1))


@each_loop
async def test_resuming_after_each_event_gives_the_same_text(mode: str) -> None:
    async with kit(mode, STALLED) as one:
        body = await read_until(await one.start(), b"push")
        for count in range(len(frames_of(body)) + 1):
            head = b"".join(frames_of(body)[:count])
            for after in (count, ids(head)[-1] if head else 0):
                frames = await one.resume(after)
                assert frames is not None
                if count < len(frames_of(body)):
                    assert head + await read_until(frames, b"push") == body
                await frames.aclose()
        assert await one.replies.stop("chat")
        end = await one.resumed()
        assert end.startswith(body)
        assert [head + await one.resumed(len(frames_of(head))) for head in heads(end)] == [end] * len(frames_of(end))


def ids(body: bytes) -> list[str]:
    return [frame.split(b"\n")[0].removeprefix(b"id: ").decode() for frame in frames_of(body)]


def heads(body: bytes) -> list[bytes]:
    """The beginnings of a body, at its frames, without the whole body."""
    return [b"".join(frames_of(body)[:count]) for count in range(len(frames_of(body)))]


@each_loop
async def test_many_viewers_at_different_places(mode: str) -> None:
    async with kit(mode, Reply.text("a " * 50, delay=0.001)) as one:
        first = await one.start()
        bodies: list[bytes] = []

        async def view(after: int) -> None:
            frames = await one.resume(after)
            assert frames is not None
            bodies.append(await whole(frames))

        async with anyio.create_task_group() as group:
            for after in range(10):
                group.start_soon(view, after)
            body = await whole(first)
        tails = [b"".join(frames_of(body)[count:]) for count in range(10)]
        assert sorted(bodies) == sorted(tails)
        assert len(of_type(without_ids(body), "text-delta")) == 50


@each_loop
@pytest.mark.parametrize("how", ["cancelled", "closed", "closed before", "dropped", "dropped before"])
async def test_the_reply_goes_on_without_viewers(mode: str, how: str) -> None:
    async with kit(mode, Reply.text("a " * 20, delay=0.005)) as one:
        frames = await one.start()
        if "before" not in how:
            await anext(frames)
        if how == "cancelled":
            with anyio.move_on_after(0.001):
                await whole(frames)
        elif "closed" in how:
            await frames.aclose()
            await frames.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(frames)
        del frames
        gc.collect()
        assert len(of_type(without_ids(await one.resumed()), "text-delta")) == 20
        assert one.streams[0].status == "complete"


@each_loop
async def test_a_viewer_that_waits_is_woken_by_aclose(mode: str) -> None:
    async with kit(mode, STALLED) as one:
        frames = await one.start()
        async with anyio.create_task_group() as group:

            async def read() -> None:
                await whole(frames)

            await read_until(frames, b"push")
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="one reader"):
                await anext(frames)
            await frames.aclose()
        assert one.streams[0].status == "streaming"


@each_loop
async def test_pings_in_silence(mode: str) -> None:
    async with kit(mode, STALLED, ping=0.02) as one:
        frames = await one.start()
        await read_until(frames, PING + PING)


@each_loop
async def test_nothing_to_resume(mode: str) -> None:
    async with kit(mode, WORDS) as one:
        assert await one.resume() is None
        assert await one.replies.stop("chat") is False
        body = await whole(await one.start())
        assert await one.resume(len(frames_of(body))) is None
        assert await one.resume(ids(body)[-1]) is None
        assert await one.resume(key="other") is None
        assert await one.replies.stop("chat") is False


@each_loop
async def test_an_id_of_another_reply_gives_all(mode: str) -> None:
    async with kit(mode, WORDS, WORDS) as one:
        first = await whole(await one.start())
        second = await whole(await one.start())
        assert without_ids(first) == without_ids(second)
        for after in (ids(first)[-1], "", "3", f"{ids(second)[0]}x", "-", "½"):
            assert await one.resumed(after) == second


@each_loop
async def test_one_running_reply_a_key(mode: str) -> None:
    async with kit(mode, STALLED, WORDS, WORDS) as one:
        await read_until(await one.start(), b"push")
        with pytest.raises(ReplyActive, match=r"under the key 'chat': answer with status 409"):
            await one.start()
        assert one.streams[1].status == "interrupted"
        await whole(await one.start(key="other"))
        assert await one.replies.stop("chat") is True
        await whole(await one.start())
        assert [stream.status for stream in one.streams] == ["interrupted", "interrupted", "complete", "complete"]


@each_loop
async def test_the_next_reply_may_begin_when_a_viewer_sees_the_end(mode: str) -> None:
    async with kit(mode, *[WORDS] * 5) as one:
        for _ in range(5):
            await read_until(await one.start(), b"[DONE]")


@each_loop
async def test_stop_is_told_as_interrupted(mode: str) -> None:
    async with kit(mode, STALLED) as one:
        frames = await one.start()
        await read_until(frames, b"push")
        assert await one.replies.stop("chat") is True
        body = without_ids(await whole(frames))
        assert of_type(body, "abort")
        assert of_type(body, "finish")[0]["messageMetadata"]["status"] == "interrupted"


@each_loop
async def test_a_reply_is_forgotten_after_a_while(mode: str) -> None:
    async with kit(mode, WORDS, keep=0) as one:
        frames = await one.start()
        assert await one.resume() is not None
        await whole(frames)
        await until(lambda: not one.replies._replies)
        assert await one.resume() is None


@each_loop
async def test_a_reply_that_nobody_views_is_stopped(mode: str) -> None:
    async with kit(mode, STALLED, detached=0.05) as one:
        frames = await one.start()
        await read_until(frames, b"push")
        with anyio.move_on_after(0.1):  # longer than the cap, with a viewer
            await anext(frames)
        await until(lambda: one.streams[0].status != "streaming")
        await until(lambda: one.replies._replies["chat"].ended)
        body = without_ids(await one.resumed())
        assert of_type(body, "message-metadata")[0]["messageMetadata"] == {
            "status": "interrupted",
            "error": "no_viewers",
            "usage": {"inputTokens": 10, "outputTokens": 2, **CACHED},
            "usageFinal": False,
        }
        assert of_type(body, "error")[0]["errorText"] == "The reply was stopped because nobody was reading it."


CACHED = {"cacheReadInputTokens": 0, "cacheCreationInputTokens": 0}


@each_loop
async def test_a_reply_that_is_too_large_is_stopped(mode: str) -> None:
    async with kit(mode, Reply.text("a " * 2000), max_bytes=10_000) as one:
        body = await whole(await one.start())
        assert 10_000 < len(body) < 100_000
        metadata = of_type(without_ids(body), "message-metadata")[0]["messageMetadata"]
        assert (metadata["status"], metadata["error"]) == ("interrupted", "reply_too_large")
        assert one.streams[0].status == "interrupted"


@each_loop
async def test_a_limit_that_came_too_late_is_not_told(mode: str) -> None:
    async with kit(mode, WORDS) as one:
        stop = CallbackSink(on_finish=lambda _: one.replies._replies["chat"].stop("no_viewers"))
        body = without_ids(await whole(await one.start(sinks=stop)))
        assert of_type(body, "finish")[0]["messageMetadata"]["status"] == "complete"


@each_loop
@pytest.mark.parametrize("reply", [WORDS.cut(after_events=5), Reply.http_error(529)], ids=["cut", "refused"])
async def test_failures_are_the_last_frames(mode: str, reply: Reply) -> None:
    async with kit(mode, reply) as one:
        body = await whole(await one.start(retries=0))
        assert of_type(without_ids(body), "error")
        assert await one.resumed() == body


@each_loop
async def test_a_sink_that_raises(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(text: str) -> None:
        raise OSError("the secret disk is full")

    async with kit(mode, WORDS) as one:
        body = without_ids(await whole(await one.start(sinks=CallbackSink(on_text=fail))))
    assert "the secret disk is full" in caplog.text
    assert of_type(body, "error")[0]["errorText"] == "Something went wrong on the server."


@each_loop
async def test_an_encoder_that_fails_at_the_end(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    async with kit(mode, WORDS) as one:
        body = await whole(await one.replies.start("chat", one.stream(), Plain("finish")))
        assert body.endswith(b"data: message_stop\n\n")
    assert "an encoder that fails" in caplog.text


@each_loop
async def test_closing_stops_all(mode: str) -> None:
    async with kit(mode, STALLED, STALLED) as one:
        frames = await one.start()
        await one.start("other")
        await read_until(frames, b"push")
        await one.replies.aclose()
        assert [stream.status for stream in one.streams] == ["interrupted"] * 2
        assert b'"interrupted"' in await whole(frames)
        with pytest.raises(RuntimeError, match="closed: make a new Replies object"):
            await one.start()
        await one.streams[-1].aclose()
        with pytest.raises(RuntimeError, match="closed: make a new Replies object"):
            await one.resume()
        assert await one.replies.stop("chat") is False


@pytest.mark.parametrize("mode", ["asyncio"])
async def test_a_task_that_ends_with_its_loop(mode: str) -> None:
    async with kit(mode, STALLED) as one:
        frames = await one.start()
        await read_until(frames, b"push")
        task = one.replies._replies["chat"].task
        assert task is not None
        await task.stop()  # as the end of the loop does
        await whole(frames)
        assert one.streams[0].status == "interrupted"


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"ping": 0}, ValueError, "more than 0 seconds for ping="),
        ({"keep": -1}, ValueError, "0 seconds or more for keep=, and at most a day, got -1"),
        ({"keep": "60"}, TypeError, "number of seconds for keep="),
        ({"detached": 0}, ValueError, "more than 0 seconds for detached="),
        ({"max_bytes": 0}, ValueError, "more than 0 bytes for max_bytes=, got 0"),
        ({"max_bytes": 1.5}, TypeError, "an int for max_bytes="),
        ({"max_bytes": True}, TypeError, "an int for max_bytes="),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Replies(**options)


def test_wrong_arguments() -> None:
    async def main() -> None:
        replies, client = Replies(), anthropic.AsyncAnthropic(api_key="test")
        stream: Any = stream_events(client, **PARAMS)
        for key, error in ((None, TypeError), (b"chat", TypeError), ("", ValueError)):
            for call in (replies.start(key, stream, AISDK()), replies.resume(key, AISDK()), replies.stop(key)):  # type: ignore[arg-type]
                with pytest.raises(error, match=r"expected a (non-empty )?str for"):
                    await call
        for wrong in (stream_events(anthropic.Anthropic(api_key="test"), **PARAMS), stream_text(client, **PARAMS)):
            with pytest.raises(TypeError, match=r"use AsyncAnthropic|call stream_events"):
                await replies.start("chat", wrong, AISDK())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a protocol"):
            await replies.start("chat", stream, AISDK)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a protocol"):
            await replies.resume("chat", AISDK)  # type: ignore[arg-type]
        for after in (None, True, 1.5):
            with pytest.raises(TypeError, match="expected an int or a str for after="):
                await replies.resume("chat", AISDK(), after)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expected 0 or more for after="):
            await replies.resume("chat", AISDK(), -1)
        await stream.aclose()

    asyncio.run(main())
