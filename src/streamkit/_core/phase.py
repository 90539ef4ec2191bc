"""The phases of a stream."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """The phase of a stream, which tells its driver what to do next."""

    NEW = auto()  # nothing was sent. Next: schedule the first attempt
    READY = auto()  # the sinks know of the next attempt, which is due. Next: open it
    OPENING = auto()  # a request is on its way; its errors are the SDK's
    STREAMING = auto()  # the response is open. Next: read
    BODY_ENDED = auto()  # the body ended cleanly. Next: `judge`, once all frames are processed
    MESSAGE_ENDED = auto()  # `message_stop` arrived. Next: read the rest of the body, and conclude
    COMPLETE = auto()  # the body held a complete message. Next: conclude
    RETRYING = auto()  # the attempt failed before its first content. Next: schedule another one
    WAITING = auto()  # the sinks know of the next attempt, which is not due yet. Next: wait
    FAILED = auto()  # the stream failed. Next: raise `failure`
    OVER = auto()  # the result is final


NEW, READY, OPENING, STREAMING, BODY_ENDED, MESSAGE_ENDED, COMPLETE, RETRYING, WAITING, FAILED, OVER = Phase
