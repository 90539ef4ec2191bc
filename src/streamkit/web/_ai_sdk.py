"""The UI message stream of the AI SDK, which `useChat` reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ._endings import LOST, Ending
from ._protocol import SSE_HEADERS, Encoder, Protocol
from ._reply import INCOMPLETE_INPUT, UNANSWERED_TOOL, Part, ReplyEncoder, Tool
from ._safe import encode, payloads, to_frame

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content-filter",
    "tool_use": "tool-calls",
}
_FLAGS = ("providerExecuted", "dynamic")
_DONE = b"data: [DONE]\n\n"


class AISDK(Protocol):
    """The UI message stream that `useChat` of the AI SDK reads; tested with versions 5, 6 and 7.

    `message_id` is the id of the new message. By default the browser makes one, and goes on in its last message if that
    is the assistant's, which has just got the results of its tools. A reply that is stored needs an id: a new one, or
    that of the last message if this message is the assistant's.

    The message's `metadata` has `status`, `stopReason`, `usage` (`inputTokens`, `outputTokens`,
    `cacheReadInputTokens`, `cacheCreationInputTokens`, as the API counts them) and `usageFinal`, which is false if
    `outputTokens` is a lower bound. A reply that ended in an error also has the kind of the error as `error`.

    The protocol: ai-sdk.dev/docs/ai-sdk-ui/stream-protocol.
    """

    headers: ClassVar[Mapping[str, str]] = MappingProxyType({**SSE_HEADERS, "x-vercel-ai-ui-message-stream": "v1"})

    def __init__(self, *, message_id: str | None = None) -> None:
        self._message_id = message_id

    def encoder(self) -> Encoder:
        """Make the encoder for one reply."""
        return _AISDKEncoder(self._message_id)

    def lost(self, frames: Iterable[bytes]) -> list[bytes]:
        """Return the frames that end a reply whose server was lost. Its status is `disconnected`."""
        closing: dict[str, dict[str, Any]] = {}  # the frames that close what is open
        step_is_open = False
        for event in payloads(frames):
            name, _, phase = event["type"].rpartition("-")
            if name in ("text", "reasoning"):
                if phase == "start":
                    closing[name + event["id"]] = {"type": f"{name}-end", "id": event["id"]}
                elif phase == "end":
                    del closing[name + event["id"]]
            elif name.startswith("tool-"):
                _follow_tool(closing, event)
            elif event["type"] in ("start-step", "finish-step"):
                step_is_open = event["type"] == "start-step"
        if step_is_open:
            closing["step"] = {"type": "finish-step"}
        return [*(to_frame(encode(event)) for event in (*closing.values(), *_failure(LOST))), _DONE]


class _AISDKEncoder(ReplyEncoder):
    def __init__(self, message_id: str | None) -> None:
        super().__init__()
        self._message_id = message_id
        self._step_is_open = False

    def start(self) -> list[bytes]:
        self._emit(type="start", **({} if self._message_id is None else {"messageId": self._message_id}))
        return self._taken()

    def _part_id(self, number: int) -> str:
        return str(number)

    def _message_started(self, message: Any) -> None:  # noqa: ARG002 - the id of the API is not that of the browser
        self._step_is_open = True
        self._emit(type="start-step")

    def _part_started(self, part: Part, *, reasoning: bool) -> None:
        kind = "reasoning" if reasoning else "text"
        part.prefix = f'{{"type":"{kind}-delta","id":"{part.id}","delta":'
        self._emit(type=f"{kind}-start", id=part.id)

    def _part_ended(self, part: Part, *, reasoning: bool) -> None:
        self._emit(type="reasoning-end" if reasoning else "text-end", id=part.id)

    def _tool_started(self, tool: Tool) -> None:
        tool.prefix = f'{{"type":"tool-input-delta","toolCallId":{encode(tool.id)},"inputTextDelta":'
        self._emit(type="tool-input-start", **_call(tool))

    def _tool_ended(self, tool: Tool) -> None:
        self._emit(type="tool-input-available", **_call(tool), input=tool.input)

    def _tool_failed(self, tool: Tool) -> None:
        self._emit(type="tool-input-error", **_call(tool), input=tool.input, errorText=INCOMPLETE_INPUT)

    def _tool_answered(self, tool: Tool, output: Any, *, error: str | None) -> None:
        kind, answer = ("available", {"output": output}) if error is None else ("error", {"errorText": error})
        self._emit(type=f"tool-output-{kind}", toolCallId=tool.id, **answer, **_flags(tool))

    def _source_found(self, id: str, url: str | None, title: str | None, media_type: str) -> None:  # noqa: A002
        if url is None:
            self._emit(type="source-document", sourceId=id, mediaType=media_type, title=title)
        else:
            self._emit(type="source-url", sourceId=id, url=url, **({} if title is None else {"title": title}))

    def _ended(self, ending: Ending) -> None:
        if self._step_is_open:
            self._emit(type="finish-step")
        if ending.error is not None:
            for event in _failure(ending):
                self._emit(**event)
        else:
            if ending.status == "interrupted":
                self._emit(type="abort")
            reason = _FINISH_REASONS.get(ending.stop_reason or "", "other")
            self._emit(type="finish", finishReason=reason, messageMetadata=_metadata(ending))
        self._frames.append(_DONE)


def _failure(ending: Ending) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the last events of a reply that failed: the metadata first, as the client reads nothing after an error."""
    return (
        {"type": "message-metadata", "messageMetadata": _metadata(ending)},
        {"type": "error", "errorText": ending.sentence},
    )


def _follow_tool(closing: dict[str, dict[str, Any]], event: dict[str, Any]) -> None:
    """Note the frame that closes a tool use, after one of its events."""
    kind, id = event["type"], event["toolCallId"]  # noqa: A001 - the protocol's name
    call = {name: item for name, item in event.items() if name in ("toolCallId", "toolName", *_FLAGS)}
    if kind == "tool-input-start":
        closing[id] = {"type": "tool-input-error", **call, "input": {}, "errorText": INCOMPLETE_INPUT}
    elif kind == "tool-input-available" and event.get("providerExecuted"):
        del call["toolName"]
        closing[id] = {"type": "tool-output-error", **call, "errorText": UNANSWERED_TOOL}
    elif kind != "tool-input-delta":
        closing.pop(id, None)


def _flags(tool: Tool) -> dict[str, bool]:
    # `dynamic` is for tools that the app's types do not name, as those of an MCP server.
    return ({"providerExecuted": True} if tool.on_server else {}) | ({"dynamic": True} if tool.is_dynamic else {})


def _call(tool: Tool) -> dict[str, Any]:
    return {"toolCallId": tool.id, "toolName": tool.name, **_flags(tool)}


def _metadata(ending: Ending) -> dict[str, Any]:
    found: dict[str, Any] = {"status": ending.status}
    if ending.error is not None:
        found["error"] = ending.error
    if ending.stop_reason is not None:
        found["stopReason"] = ending.stop_reason
    if ending.usage:
        found["usage"] = {_camel_case(name): count for name, count in ending.usage.items()}
    return {**found, "usageFinal": ending.usage_final}


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
