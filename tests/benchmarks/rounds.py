"""The CPU time of functions that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable


def samples(*runs: Callable[[], object], rounds: int) -> list[list[float]]:
    """Seconds of CPU time of each run in each round, after one round that warms up."""
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for times, run in zip(spent, runs, strict=True):
            started = time.process_time()
            run()
            times.append(time.process_time() - started)
    return [times[1:] for times in spent]


async def samples_async(*runs: Callable[[], Awaitable[object]], rounds: int) -> list[list[float]]:
    """The same, awaited."""
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for times, run in zip(spent, runs, strict=True):
            started = time.process_time()
            await run()
            times.append(time.process_time() - started)
    return [times[1:] for times in spent]


def medians(spent: list[list[float]]) -> list[float]:
    """The median of the rounds, for each run."""
    return [statistics.median(times) for times in spent]


def seconds(*runs: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of CPU time of each run: the median of the rounds."""
    return medians(samples(*runs, rounds=rounds))
