"""Reading bodies: those of `sse` and of `Replies`, whose frames have ids."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator


async def whole(frames: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in frames])


async def read_until(frames: AsyncIterator[bytes], text: bytes) -> bytes:
    body = b""
    while text not in body:
        body += await anext(frames)
    return body


def frames_of(body: bytes) -> list[bytes]:
    """The frames, without pings."""
    return [frame + b"\n\n" for frame in body.split(b"\n\n") if frame and not frame.startswith(b":")]


def numbers(body: bytes) -> list[int]:
    """The numbers in the ids."""
    return [int(number) for number in re.findall(rb"^id: \w+-(\d+)$", body, re.MULTILINE)]


def without_ids(body: bytes) -> bytes:
    return re.sub(rb"^id: .*\n", b"", body, flags=re.MULTILINE)
