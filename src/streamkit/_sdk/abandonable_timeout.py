"""A timeout for the SDK that ends the SDK's own retries of a request that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic


class RequestAbandoned(Exception):  # noqa: N818 - internal
    """Raised inside the SDK, to prevent another attempt for a stream that has ended."""


class AbandonableTimeout(anthropic.Timeout):
    """The timeout of a request, which ends the SDK's own retries once the request is abandoned.

    The SDK pauses before a retry with `time.sleep`, which nothing can end; but it reads the timeout anew for each
    attempt, and what that raises ends the request.
    """

    def __init__(self, timeout: Any, is_abandoned: Callable[[], bool]) -> None:
        self._is_abandoned = is_abandoned
        super().__init__(timeout)

    def __getattribute__(self, name: str) -> Any:
        if name in ("connect", "read", "write", "pool") and self._is_abandoned():
            raise RequestAbandoned
        return super().__getattribute__(name)

    def __deepcopy__(self, memo: object) -> AbandonableTimeout:
        return self  # the SDK copies the options of each attempt for some platforms

    def __repr__(self) -> str:  # also once it is abandoned
        return f"AbandonableTimeout({vars(self).get('read')})"
