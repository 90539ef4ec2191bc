"""The open streams of this process: what happens to them at a fork, and when the interpreter ends."""

from __future__ import annotations

import atexit
import os
import traceback
import weakref
from typing import Any

open_streams: weakref.WeakSet[Any] = weakref.WeakSet()  # weakly: an open stream may still be dropped
_inherited: list[object] = []


def _end_all() -> None:  # pragma: no cover - in child processes, by the tests of the program's end
    # Now, while modules are intact and loops of other threads run: Python drops globals later.
    for stream in list(open_streams):
        try:
            stream._end_at_exit()  # noqa: SLF001 - one package
        except Exception:  # noqa: BLE001 - of a sink: printed, as nobody can catch it, and the other streams are ended
            traceback.print_exc()


def _leave_all_to_parent() -> None:  # pragma: no cover - in child processes, by the tests of forks
    for stream in list(open_streams):
        stream._leave_to_parent()  # noqa: SLF001 - one package
        # Kept for good: collecting it here would close the parent's connection.
        _inherited.append(stream)
    open_streams.clear()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_leave_all_to_parent)
