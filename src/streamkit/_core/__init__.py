"""From bytes to a result, without I/O and without the SDK: bytes and times in, text and events out."""
