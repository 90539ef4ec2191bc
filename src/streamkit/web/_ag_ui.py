"""The events of AG-UI, which CopilotKit and other frontends read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._endings import LOST, Ending
from ._protocol import Encoder, Protocol
from ._reply import INCOMPLETE_INPUT, Part, ReplyEncoder, Tool
from ._safe import encode, payloads, to_frame


class AGUI(Protocol):
    """The events of AG-UI 1.0, for the run that the request names: pass its `threadId` and `runId`.

    A run that is complete ends with `RUN_FINISHED`; its `result` has `status`, `stopReason` and `usageFinal`, which is
    false if the output tokens are a lower bound. A run that was cancelled has the outcome `cancelled`. Any other run
    ends with `RUN_ERROR`, whose `code` is the kind of the error. Sources are `CUSTOM` events with the name `source`.
    A tool use whose input is not complete gets a `TOOL_CALL_RESULT` that says so.

    `messages` are those of the request, as the client posts them. They are sent back in front of the reply, which
    `Replies` needs: to a part of the reply that the client has already, it would append the text once more.

    The protocol: docs.ag-ui.com/concepts/events. Raises `TypeError` for an id that is not a str, and for messages that
    are not a list.
    """

    def __init__(self, *, thread_id: str, run_id: str, messages: list[Any] | None = None) -> None:
        for name, value in (("thread_id", thread_id), ("run_id", run_id)):
            if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"expected a str for {name}=, got {value!r}")
        if messages is not None and not isinstance(messages, list):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected a list for messages=, got {type(messages).__name__}")
        self._ids = {"threadId": thread_id, "runId": run_id}
        self._messages = messages

    def encoder(self) -> Encoder:
        """Make the encoder for one reply."""
        return _AGUIEncoder(self._ids, self._messages)

    def lost(self, frames: Iterable[bytes]) -> list[bytes]:
        """Return the frames that end a run whose server was lost: those that close what is open, and `RUN_ERROR`."""
        closing: dict[str, list[dict[str, Any]]] = {}  # the events that close what is open
        base = ""
        for event in payloads(frames):
            kind, message = event["type"], event.get("messageId", "")
            if kind == "RUN_STARTED":
                base = _base(event)
            elif kind == "TEXT_MESSAGE_START":
                closing[message] = [{"type": "TEXT_MESSAGE_END", "messageId": message}]
            elif kind == "REASONING_START":
                closing[message] = [{"type": "REASONING_END", "messageId": message}]
            elif kind == "REASONING_MESSAGE_START":
                closing[message].insert(0, {"type": "REASONING_MESSAGE_END", "messageId": message})
            elif kind == "REASONING_MESSAGE_END":
                del closing[message][0]
            elif kind == "TOOL_CALL_START":
                call = event["toolCallId"]
                closing[call] = [{"type": "TOOL_CALL_END", "toolCallId": call}, _result(base, call, INCOMPLETE_INPUT)]
            elif kind in ("TEXT_MESSAGE_END", "REASONING_END"):
                del closing[message]
            elif kind == "TOOL_CALL_END":
                del closing[event["toolCallId"]]
        events = [event for events in closing.values() for event in events]
        events.append({"type": "RUN_ERROR", "message": LOST.sentence, "code": LOST.error})
        return [to_frame(encode(event)) for event in events]


class _AGUIEncoder(ReplyEncoder):
    def __init__(self, ids: dict[str, str], messages: list[Any] | None) -> None:
        super().__init__()
        self._ids = ids
        self._messages = messages
        # Ids have to be unique in the thread, and the same when the frames are made again.
        self._base = _base(ids)
        self._parent = self._base  # the message that tool calls belong to

    def start(self) -> list[bytes]:
        self._emit(type="RUN_STARTED", **self._ids)
        if self._messages is not None:
            self._emit(type="MESSAGES_SNAPSHOT", messages=self._messages)
        return self._taken()

    def _part_id(self, number: int) -> str:
        return f"{self._base}-{number}"

    def _message_started(self, message: Any) -> None:
        """Do nothing: a message of AG-UI begins with its first part."""

    def _part_started(self, part: Part, *, reasoning: bool) -> None:
        id = encode(part.id)  # noqa: A001 - the protocol's name
        if reasoning:
            part.prefix = f'{{"type":"REASONING_MESSAGE_CONTENT","messageId":{id},"delta":'
            self._emit(type="REASONING_START", messageId=part.id)
            self._emit(type="REASONING_MESSAGE_START", messageId=part.id, role="reasoning")
        else:
            part.prefix = f'{{"type":"TEXT_MESSAGE_CONTENT","messageId":{id},"delta":'
            self._parent = part.id
            self._emit(type="TEXT_MESSAGE_START", messageId=part.id, role="assistant")

    def _part_ended(self, part: Part, *, reasoning: bool) -> None:
        if reasoning:
            self._emit(type="REASONING_MESSAGE_END", messageId=part.id)
            self._emit(type="REASONING_END", messageId=part.id)
        else:
            self._emit(type="TEXT_MESSAGE_END", messageId=part.id)

    def _tool_started(self, tool: Tool) -> None:
        tool.prefix = f'{{"type":"TOOL_CALL_ARGS","toolCallId":{encode(tool.id)},"delta":'
        self._emit(type="TOOL_CALL_START", toolCallId=tool.id, toolCallName=tool.name, parentMessageId=self._parent)

    def _tool_ended(self, tool: Tool) -> None:
        if not tool.pieces:
            self._emit(type="TOOL_CALL_ARGS", toolCallId=tool.id, delta=encode(tool.input))
        self._emit(type="TOOL_CALL_END", toolCallId=tool.id)

    def _tool_failed(self, tool: Tool) -> None:
        self._emit(type="TOOL_CALL_END", toolCallId=tool.id)
        self._emit(**_result(self._base, tool.id, INCOMPLETE_INPUT))

    def _tool_answered(self, tool: Tool, output: Any, *, error: str | None) -> None:
        self._emit(**_result(self._base, tool.id, encode(output) if error is None else error))

    def _source_found(self, id: str, url: str | None, title: str | None, media_type: str) -> None:  # noqa: A002
        source = {"id": id, "url": url, "title": title, "mediaType": None if url else media_type}
        value = {name: item for name, item in source.items() if item is not None}
        self._emit(type="CUSTOM", name="source", value=value)

    def _ended(self, ending: Ending) -> None:
        usage = {"usage": [_usage(ending)]} if ending.usage else {}
        if ending.error is not None:
            self._emit(type="RUN_ERROR", message=ending.sentence, code=ending.error, **usage)
            return
        result: dict[str, Any] = {"status": ending.status, "usageFinal": ending.usage_final}
        if ending.stop_reason is not None:
            result["stopReason"] = ending.stop_reason
        outcome = {"type": "cancelled" if ending.status == "interrupted" else "success"}
        self._emit(type="RUN_FINISHED", **self._ids, outcome=outcome, result=result, **usage)


def _base(ids: dict[str, Any]) -> str:
    """Return what the ids of a run's messages begin with."""
    return f"msg-{ids['runId']}"


def _result(base: str, call: str, content: str) -> dict[str, Any]:
    # Without a result, a frontend would take the call for one that it has to answer itself.
    return {
        "type": "TOOL_CALL_RESULT",
        "messageId": f"{base}-result-{call}",
        "toolCallId": call,
        "content": content,
        "role": "tool",
    }


def _usage(ending: Ending) -> dict[str, Any]:
    """Return the usage as AG-UI counts it: the input tokens include those of the cache, read and written."""
    counts = ending.usage
    cached, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
    inputs = counts.get("input_tokens", 0) + cached + written
    outputs = counts.get("output_tokens", 0)
    return {
        "provider": "anthropic",
        "model": ending.model,
        "inputTokens": inputs,
        "outputTokens": outputs,
        "totalTokens": inputs + outputs,
        "cachedInputTokens": cached,
        "cacheWriteInputTokens": written,
    }
