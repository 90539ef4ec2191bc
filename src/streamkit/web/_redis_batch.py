"""Calls of one script that are sent together, so that a process with many replies waits for one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import anyio

from ._async_tasks import start

_MOST_CALLS = 500  # in one batch
_PAUSE = 0.005  # seconds between two batches
_TICKS = 50  # of a timeout: redis-py takes 26 turns of the loop to connect


class _Call(NamedTuple):
    keys: list[str]
    args: tuple[Any, ...]
    answer: asyncio.Future[Any]


class Batch:
    """Runs a script for many callers on one connection. Calls made during a batch are sent together in the next one."""

    def __init__(self, client: Any, script: str, timeout: float) -> None:
        self._client = client
        self._script: Any = client.register_script(script)
        self._timeout = timeout
        self._is_loaded = False  # Redis has the script, as far as is known
        self._waiting: list[_Call] = []
        self._is_running = False

    async def call(self, keys: list[str], args: tuple[Any, ...]) -> Any:
        """Return the answer of the script. Raises the exceptions of the client, and `TimeoutError`."""
        call = _Call(keys, args, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if not self._is_running:
            self._is_running = True
            start(self._run)
        return await call.answer

    async def _run(self) -> None:
        calls: list[_Call] = []
        try:
            while self._waiting:
                calls, self._waiting = self._waiting[:_MOST_CALLS], self._waiting[_MOST_CALLS:]
                for call, answer in zip(calls, await self._answers(calls), strict=True):
                    if call.answer.done():  # the caller was cancelled
                        continue
                    if isinstance(answer, Exception):
                        self._is_loaded = False  # Redis may have been restarted
                        call.answer.set_exception(answer)
                    else:
                        call.answer.set_result(answer)
                await asyncio.sleep(_PAUSE)
        finally:
            self._is_running = False
            for call in (*calls, *self._waiting):
                call.answer.cancel()  # if it is not done: the loop ends

    async def _answers(self, calls: list[_Call]) -> list[Any]:
        """Return the answer to each call, or the exception."""
        try:
            with fail_after(self._timeout):
                if not self._is_loaded:
                    await self._client.script_load(self._script.script)
                    self._is_loaded = True
                pipeline = self._client.pipeline(transaction=False)
                for keys, args, _ in calls:
                    pipeline.execute_command("EVALSHA", self._script.sha, len(keys), *keys, *args)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - of the client, for each of the callers
            return [error] * len(calls)
        return answers


@contextmanager
def fail_after(seconds: float) -> Generator[None]:
    """Cancel what runs inside after this time, and raise `TimeoutError`.

    Each blockage of the loop counts as a fiftieth of the time at most: the answer may lie in the socket meanwhile.
    """
    loop = asyncio.get_running_loop()
    scope = anyio.CancelScope()
    ticks: list[asyncio.TimerHandle] = []

    def tick() -> None:
        if len(ticks) == _TICKS:
            scope.cancel()
        else:
            ticks.append(loop.call_later(seconds / _TICKS, tick))

    tick()
    try:
        with scope:
            yield
    finally:
        ticks[-1].cancel()
    if scope.cancelled_caught:
        raise TimeoutError(f"Redis did not answer within {seconds:g} seconds")
