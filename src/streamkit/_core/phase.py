"""The phases of a stream."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """What a stream is doing, and so what its driver does next."""

    NEW = auto()  # nothing was sent. Next: open an attempt
    OPENING = auto()  # a request is on its way; its errors are the SDK's
    STREAMING = auto()  # the response is open. Next: read
    BODY_ENDED = auto()  # the body ended cleanly. Next: `judge`, once all frames are processed
    MESSAGE_ENDED = auto()  # `message_stop` arrived. Next: read the rest of the body, and conclude
    COMPLETE = auto()  # the body held a complete message. Next: conclude
    RETRYING = auto()  # the attempt failed before its first content. Next: wait, and open another attempt
    FAILED = auto()  # the stream failed. Next: raise `failure`
    OVER = auto()  # the result is final
