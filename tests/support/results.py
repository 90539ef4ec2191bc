"""Results of streams that were read from a server."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pydantic
import pytest

from streamkit import StreamResult, StreamTimeoutError, collect, stream_text
from streamkit.testing import Reply, serve
from tests.support.clients import PARAMS, sdk_client
from tests.support.events import MESSAGE_STOP, block_start, block_stop, message_delta, message_start, text_delta
from tests.support.harness import timed_out_once

KEY = "sk-ant-very-secret-key"


HELLO = (message_start(), block_start(), text_delta("Hello "), text_delta("there"))


WHOLE = (*HELLO, block_stop(), message_delta(), MESSAGE_STOP)


class Place(pydantic.BaseModel):
    """An output format."""

    name: str
    size: int = 0


def read(*events: dict[str, Any], reply: Reply | None = None, beta: bool = False, **options: Any) -> StreamResult:
    """The result of a body of these events."""
    with serve(reply or Reply.events(*events)) as server:
        client = sdk_client(server, api_key=KEY)
        source: Any = client.beta.messages if beta else client
        return collect(source, on_error="return", retries=0, **{**PARAMS, **options})


def timed_out(reply: Reply, text: str) -> StreamResult:
    """The result of a stream whose idle timeout expires as soon as it has this text."""
    with serve(reply) as server:
        stream = stream_text(sdk_client(server, api_key=KEY), idle_timeout=60, retries=0, **PARAMS)
        with timed_out_once(stream, lambda: stream.text == text), pytest.raises(StreamTimeoutError):
            stream.until_done()
    return stream.result


def ended_by(raised: BaseException, *events: dict[str, Any]) -> StreamResult:
    """The result of a stream in whose loop something was raised."""
    with serve(Reply.events(*(events or WHOLE))) as server:
        stream = stream_text(sdk_client(server, api_key=KEY), **PARAMS)
        with pytest.raises(type(raised)):  # noqa: PT012
            with stream:
                next(stream)
                raise raised
    return stream.result


def again(result: StreamResult) -> StreamResult:
    """Through a pickle, of each protocol, which must not hold the key."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(result, protocol)
        assert KEY.encode() not in data, "a pickle holds the key"
        back = pickle.loads(data)  # noqa: S301
    assert type(back) is StreamResult
    for field in dataclasses.fields(result):
        if field.name not in ("error", "parse_error"):
            assert getattr(back, field.name) == getattr(result, field.name), field.name
    return back


BUSY = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}


def counted(tokens: int) -> dict[str, Any]:
    return message_start(usage={"input_tokens": 10, "output_tokens": tokens, "cache_read_input_tokens": 4})


def retried(*replies: Reply, retries: int = 2, **options: Any) -> StreamResult:
    replies = tuple(dataclasses.replace(reply, headers=(("retry-after", "0.001"),)) for reply in replies)
    with serve(*replies) as server:
        return collect(sdk_client(server, api_key=KEY), on_error="return", retries=retries, **{**PARAMS, **options})
