"""The headers of a response, as a read-only mapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping


class ResponseHeaders(Mapping[str, str]):
    """Headers by name, in any case. Picklable, unlike those of the HTTP library, and equal to a dict of the same."""

    def __init__(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        self._headers: dict[str, str] = {name.lower(): value for name, value in headers}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"ResponseHeaders({self._headers!r})"
