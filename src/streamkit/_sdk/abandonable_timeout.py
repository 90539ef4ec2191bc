"""A timeout for the SDK that ends the SDK's own retries of a request that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic


class RequestAbandoned(Exception):  # noqa: N818 - internal
    """Raised inside the SDK, to prevent another attempt for a stream that has ended."""


class _Seconds:
    """One of the four values of an `AbandonableTimeout`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, timeout: AbandonableTimeout, seconds: float | None) -> None:
        vars(timeout)[self._name] = seconds

    def __get__(self, timeout: AbandonableTimeout, owner: type) -> float | None:
        if timeout.is_abandoned():
            raise RequestAbandoned
        seconds: float | None = vars(timeout)[self._name]
        return seconds


class AbandonableTimeout(anthropic.Timeout):
    """The timeout of a request, which ends the SDK's own retries once the request is abandoned.

    The SDK pauses before a retry with `time.sleep`, which nothing can end; but it reads the timeout anew for each
    attempt, and what that raises ends the request.
    """

    connect: Any = _Seconds()
    read: Any = _Seconds()
    write: Any = _Seconds()
    pool: Any = _Seconds()

    def __init__(self, timeout: Any, is_abandoned: Callable[[], bool]) -> None:
        self.is_abandoned = is_abandoned
        super().__init__(timeout)

    def __deepcopy__(self, memo: object) -> AbandonableTimeout:
        return self  # the SDK copies the options of each attempt for some platforms

    def __repr__(self) -> str:  # also once it is abandoned
        return f"AbandonableTimeout({vars(self).get('read')})"
