"""The open streams of this process: what becomes of them at a fork, and at the end of the interpreter."""

from __future__ import annotations

import atexit
import os
import traceback
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import BaseStream

_open: weakref.WeakSet[BaseStream[Any, Any]] = weakref.WeakSet()
_inherited: list[object] = []


def opened(stream: BaseStream[Any, Any]) -> None:
    """Remember a stream that is being opened. It may still be dropped."""
    _open.add(stream)


def ended(stream: BaseStream[Any, Any]) -> None:
    """Forget a stream that has ended."""
    _open.discard(stream)


def _end_all() -> None:  # pragma: no cover - in child processes, by the tests of the program's end
    # While modules are whole and loops of other threads run: a stream in a global is dropped after that.
    for stream in list(_open):
        try:
            stream._end_at_exit()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one package
        except Exception:  # noqa: BLE001 - of a sink: shown, as nobody can catch it, and no reason to leave out others
            traceback.print_exc()


def _leave_to_parent() -> None:  # pragma: no cover - in child processes, by the tests of forks
    for stream in list(_open):
        stream._inherit()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one package
        # Kept for good: what closes a connection of the parent's when it is collected must not be collected here.
        _inherited.append(stream)
    _open.clear()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_leave_to_parent)
