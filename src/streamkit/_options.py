"""The options of one stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(repr=False, eq=False)  # each method that it makes takes time at import
class Options:
    """The options of one stream. Raises `TypeError` or `ValueError` for an invalid one."""

    sinks: Any = None
    retries: int | None = None
    idle_timeout: float | None = None
    total_timeout: float | None = None
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        """Validate the options; `SinkDispatcher` validates the sinks."""
        if self.retries is not None:
            check_type("retries", self.retries, int, "an int")
            if self.retries < 0:
                raise ValueError(f"expected 0 or more for retries=, got {self.retries!r}")
        for name, seconds in (("idle_timeout", self.idle_timeout), ("total_timeout", self.total_timeout)):
            if seconds is not None:
                check_type(name, seconds, (int, float), "seconds")
                if not seconds > 0:
                    raise ValueError(f"expected seconds above 0 for {name}=, got {seconds!r}")
        check_type("separator", self.separator, str, 'a str ("" for none)')


def check_type(name: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Raise `TypeError` for the value of an argument that is not of one of the types, or is a `bool`."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"expected {expected} for {name}=, got {value!r}")
