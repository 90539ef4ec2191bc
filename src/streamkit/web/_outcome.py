"""What the readers of both kinds of streams share: limits, and the log of a reply that failed."""

from __future__ import annotations

import logging

import anthropic

_logger = logging.getLogger("streamkit")

PING = b": ping\n\n"
ONE_READER_MESSAGE = "these frames are already being read: only one reader at a time"
READ_AHEAD = 65_536  # bytes of frames that wait for the consumer; above that, the reader waits


def log_failure(error: Exception) -> None:
    """Log the exception that ended a reply: of the API its class alone, as its text may quote the request."""
    if isinstance(error, anthropic.APIError):
        _logger.warning("the reply ended early: %s", type(error).__name__)
    else:
        _logger.error("the reply ended because of an exception on the server", exc_info=error)


def joined(frames: list[bytes]) -> bytes:
    """Take all frames out of the list, as one piece."""
    piece = frames[0] if len(frames) == 1 else b"".join(frames)
    frames.clear()
    return piece
