"""Work in the background of an event loop, on asyncio and trio, that no task waits for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

_tasks: set[asyncio.Task[None]] = set()  # as a loop holds its tasks only weakly


def spawn(function: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Run a function in the background of the running event loop. Returns `False` if there is none.

    The function must not raise. The loop cancels it when the loop ends.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _spawn_on_trio(function)
    task = loop.create_task(function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return True


def _spawn_on_trio(function: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    trio: Any = sys.modules.get("trio")  # imported by whoever runs its loop
    if trio is None:
        return False
    try:
        trio.lowlevel.spawn_system_task(function)
    except RuntimeError:  # no loop runs in this thread
        return False
    return True
