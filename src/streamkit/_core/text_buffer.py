"""Text that grows at its end, at a cost that does not depend on its length."""

from __future__ import annotations


class TextBuffer:
    """Text that grows at its end. Appending and reading cost what is new, not what is there.

    One thread appends, to `recent`, and calls `compact` when that gets long. Any thread may read at any time.
    """

    __slots__ = ("_cache", "_parts", "recent")

    def __init__(self) -> None:
        self.recent: list[str] = []
        # Long strings, how many of them count, the recent short ones, and how many short ones were joined into the long
        # ones. Replaced as one tuple, so that a reader in another thread never sees half of a change.
        self._parts: tuple[list[str], int, list[str], int] = ([], 0, self.recent, 0)
        self._cache: list[tuple[str, int, int]] = []  # the text so far, the long strings in it, characters after them

    def compact(self) -> None:
        """Join the recent strings into a long one: many short strings take many times the memory of one long string."""
        if self.recent:
            long, _, short, joined = self._parts
            long.append("".join(short))
            self._parts = (long, len(long), [], joined + len(short))
            self.recent = self._parts[2]

    def __len__(self) -> int:
        """Return how many strings were appended."""
        _, _, short, joined = self._parts
        return joined + len(short)

    def __str__(self) -> str:
        _, count, short, _ = self._parts
        if not count:
            return "".join(short)
        try:
            # Take it out: with a single reference to the string, CPython extends it in place.
            text, included, rest = self._cache.pop()
        except IndexError:  # at first, or while another thread has it
            text, included, rest = "", 0, 0
        long, count, short, _ = self._parts  # again: now they are no older than the cache
        start = len(text) - rest
        tail = "".join(long[included:count])
        text += tail[rest:] if included < count else ""
        start += len(tail)
        text += "".join(short)[len(text) - start :]
        self._cache = [(text, count, len(text) - start)]
        return text
