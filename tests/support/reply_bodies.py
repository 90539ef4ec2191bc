"""What is in the bodies of `Replies`: frames with ids."""

from __future__ import annotations

import re


def frames_of(body: bytes) -> list[bytes]:
    """The frames, without pings."""
    return [frame + b"\n\n" for frame in body.split(b"\n\n") if frame and not frame.startswith(b":")]


def numbers(body: bytes) -> list[int]:
    """The numbers in the ids."""
    return [int(number) for number in re.findall(rb"^id: \w+-(\d+)$", body, re.MULTILINE)]


def without_ids(body: bytes) -> bytes:
    return re.sub(rb"^id: .*\n", b"", body, flags=re.MULTILINE)
