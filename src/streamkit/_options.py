"""The options of one stream."""

from __future__ import annotations

from typing import Any


class Options:
    """The options of one stream, checked. Raises `TypeError` or `ValueError` for a wrong one."""

    # No dataclass: making one takes a millisecond of everybody's import.
    __slots__ = ("idle_timeout", "retries", "separator", "sinks", "total_timeout")

    def __init__(
        self,
        sinks: Any = None,
        retries: Any = None,
        idle_timeout: Any = None,
        total_timeout: Any = None,
        separator: Any = "\n\n",
    ) -> None:
        if retries is not None and (not isinstance(retries, int) or isinstance(retries, bool)):
            raise TypeError(f"retries= takes a whole number, not {retries!r}")
        if retries is not None and retries < 0:
            raise ValueError(f"retries= takes 0 or more, not {retries!r}")
        for name, seconds in (("idle_timeout", idle_timeout), ("total_timeout", total_timeout)):
            if seconds is None:
                continue
            if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
                raise TypeError(f"{name}= takes seconds, not {seconds!r}")
            if not seconds > 0:
                raise ValueError(f"{name}= takes seconds above 0, not {seconds!r}")
        if not isinstance(separator, str):
            raise TypeError(f'separator= takes a str ("" for none), not {separator!r}')
        self.sinks: Any = sinks
        self.retries: int | None = retries
        self.idle_timeout: float | None = idle_timeout
        self.total_timeout: float | None = total_timeout
        self.separator: str = separator
