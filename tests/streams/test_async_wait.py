"""`streamkit._io.async_wait`: waits that are ended from outside, without a stream."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import anyio
import pytest

from streamkit._core.timing import NO_DEADLINE
from streamkit._io.async_wait import ENDED, AsyncioWait, Leftover, LoopEnd, TrioWait
from streamkit._io.interrupt import Interrupter
from streamkit._sdk.sources import _takes_keyword


def test_a_value_is_handed_on() -> None:
    async def main() -> None:
        interrupter = Interrupter()
        for value in (None, 1):

            async def give(value: object = value) -> object:
                return value

            assert await AsyncioWait(interrupter).run(give) is value
        interrupter.interrupt("cancel")
        assert await AsyncioWait(interrupter).run(give) is ENDED

    asyncio.run(main())


def test_a_wait_outside_of_a_task() -> None:
    """A coroutine that somebody drives by hand cannot be cancelled; it is awaited all the same."""

    async def main() -> None:
        wait, found = AsyncioWait(Interrupter()), asyncio.get_running_loop().create_future()

        async def done() -> str:
            return "done"

        def drive() -> None:
            with pytest.raises(StopIteration) as stopped:
                wait.run(done).send(None)
            found.set_result(stopped.value.value)

        asyncio.get_running_loop().call_soon(drive)
        assert await found == "done"

    asyncio.run(main())


@pytest.mark.parametrize("swallows", [False, True])
def test_a_wait_is_ended_by_one_cancellation_which_is_taken_back(swallows: bool) -> None:
    async def main() -> None:
        interrupter = Interrupter()
        wait = AsyncioWait(interrupter)
        interrupter.attach(wait.end)

        async def work() -> str:
            threading.Timer(0.01, interrupter.interrupt, ["cancel"]).start()
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                if not swallows:
                    raise
            return "swallowed"

        assert await wait.run(work) == ("swallowed" if swallows else ENDED)
        task: Any = asyncio.current_task()
        if sys.version_info >= (3, 11):
            assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio does not count cancellations there")
def test_a_cancellation_of_others_is_not_followed_by_another() -> None:
    """A second one would cut off the cleanup that the first one set off."""
    cleaned: list[bool] = []

    async def main() -> None:
        interrupter = Interrupter()
        wait = AsyncioWait(interrupter)
        interrupter.attach(wait.end)

        async def work() -> None:
            try:
                await asyncio.sleep(20)
            finally:
                interrupter.interrupt("cancel")
                await asyncio.sleep(0.01)
                cleaned.append(True)

        task = asyncio.create_task(wait.run(work))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert cleaned == [True]


def test_a_cancellation_of_others_goes_on() -> None:
    async def main() -> None:
        wait = AsyncioWait(Interrupter())
        task = asyncio.create_task(wait.run(lambda: asyncio.sleep(20)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_comes_late_ends_no_later_wait() -> None:
    """An idle timeout that was forgiven: its cancellation is still on its way through the loop."""

    async def main() -> None:
        interrupter = Interrupter()
        wait = AsyncioWait(interrupter)
        interrupter.attach(wait.end)
        interrupter.interrupt("idle")
        interrupter.reset_idle()
        assert await wait.run(lambda: asyncio.sleep(0.01, "done")) == "done"

    asyncio.run(main())


def test_the_timer_looks_at_the_deadline_that_comes_first() -> None:
    async def main() -> None:
        interrupter = Interrupter()
        wait = AsyncioWait(interrupter)
        interrupter.attach(wait.end)
        interrupter.total_deadline = time.monotonic() + 20
        wait.watch()
        interrupter.idle_deadline = time.monotonic() + 0.02
        wait.watch()
        assert await wait.run(lambda: asyncio.sleep(20)) is ENDED
        assert interrupter.reason == "idle"
        wait.close()
        wait.close()

    asyncio.run(main())


def test_a_timer_that_comes_too_soon_is_set_again() -> None:
    async def main() -> None:
        interrupter = Interrupter()
        wait = AsyncioWait(interrupter)
        interrupter.attach(wait.end)
        interrupter.idle_deadline = time.monotonic() + 0.01
        wait.watch()
        interrupter.idle_deadline = time.monotonic() + 0.05
        wait.watch()
        assert await wait.run(lambda: asyncio.sleep(20)) is ENDED
        interrupter.disarm()
        interrupter.idle_deadline = NO_DEADLINE

    asyncio.run(main())


def test_a_deadline_on_trio() -> None:
    async def main() -> None:
        interrupter = Interrupter()
        wait = TrioWait(interrupter)
        interrupter.attach(wait.end)
        interrupter.total_deadline = time.monotonic() + 0.02
        assert await wait.run(lambda: anyio.sleep(20)) is ENDED
        assert interrupter.reason == "total"

    anyio.run(main, backend="trio")


def test_a_wait_on_trio_is_ended_from_outside() -> None:
    async def main() -> None:
        for by_hand in (False, True):
            interrupter = Interrupter()
            wait = TrioWait(interrupter)
            interrupter.attach(wait.end)

            async def work(
                interrupter: Interrupter = interrupter, wait: TrioWait = wait, by_hand: bool = by_hand
            ) -> None:
                interrupter.interrupt("cancel")
                if by_hand:
                    wait._cancel()
                await anyio.sleep(20)

            assert await wait.run(work) is ENDED
            assert await wait.run(work) is ENDED
            wait._cancel()

    anyio.run(main, backend="trio")


class Layer:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        self.log.append("closed")


async def answer(log: list[str]) -> None:
    log.append("answered")


def test_what_is_left_of_a_stream_is_awaited_whatever_thread_drops_it() -> None:
    async def main(in_thread: bool) -> list[str]:
        log: list[str] = []
        loop = asyncio.get_running_loop()
        if in_thread:
            await loop.run_in_executor(None, lambda: Leftover([Layer(log)], [answer(log)], loop))
        else:
            Leftover([Layer(log)], [answer(log)], loop)
        while len(log) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return log

    for in_thread in (False, True):
        assert asyncio.run(main(in_thread)) == ["closed", "answered"]


def test_what_is_left_when_the_loop_ends_is_awaited_by_the_loop() -> None:
    log: list[str] = []

    async def main() -> None:
        Leftover([Layer(log)], [answer(log)], asyncio.get_running_loop())

    asyncio.run(main())  # which cancels the task while it closes
    assert log == ["closed", "answered"]


def test_a_loop_without_hooks() -> None:
    async def main() -> None:
        sys.set_asyncgen_hooks(firstiter=None)
        LoopEnd(lambda: asyncio.sleep(0))

    asyncio.run(main())


def test_whether_a_function_takes_a_keyword() -> None:
    def named(*, timeout: float) -> None: ...
    def anything(**kwargs: object) -> None: ...
    def nothing() -> None: ...

    assert _takes_keyword(named, "timeout")
    assert _takes_keyword(anything, "timeout")
    assert not _takes_keyword(nothing, "timeout")
    assert not _takes_keyword(dict.fromkeys, "timeout")
    assert not _takes_keyword(type, "timeout")
