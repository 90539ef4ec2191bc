"""Sinks that keep what they are told."""

from __future__ import annotations

from typing import Any

import anyio.lowlevel

from streamkit import AsyncSink, Sink, StreamResult


class Log(Sink):
    """Keeps every call: the method's name, and the text, the event's type or the status."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def write(self, text: str) -> None:
        self.calls.append(("write", text))

    def thinking(self, text: str) -> None:
        self.calls.append(("thinking", text))

    def event(self, event: Any) -> None:
        self.calls.append(("event", event.type))

    def finish(self, result: StreamResult[Any, Any]) -> None:
        self.calls.append(("finish", result.status))

    def of(self, method: str) -> list[Any]:
        return [value for name, value in self.calls if name == method]


class AsyncLog(AsyncSink):
    """Keeps every call, in one list with others, and gives the loop a chance to mix them up."""

    def __init__(self, name: str, calls: list[tuple[str, str, Any]]) -> None:
        self.name, self.calls = name, calls

    async def _note(self, method: str, value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.calls.append((self.name, method, value))

    async def write(self, text: str) -> None:
        await self._note("write", text)

    async def thinking(self, text: str) -> None:
        await self._note("thinking", text)

    async def event(self, event: Any) -> None:
        await self._note("event", event.type)

    async def finish(self, result: StreamResult[Any, Any]) -> None:
        await self._note("finish", result.status)


class TextLog(Sink):
    """Keeps the pieces of text, and behind them the status and the text of the result."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def write(self, text: str) -> None:
        self.calls.append(text)

    def finish(self, result: StreamResult[Any, Any]) -> None:
        self.calls.append((result.status, result.text))


class ResultLog(Sink):
    """Keeps the text, and every result that it is finished with."""

    def __init__(self) -> None:
        self.text = ""
        self.results: list[StreamResult[Any, Any]] = []

    def write(self, text: str) -> None:
        self.text += text

    def finish(self, result: StreamResult[Any, Any]) -> None:
        self.results.append(result)
