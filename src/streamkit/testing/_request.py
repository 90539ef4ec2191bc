"""Reading of requests in the loopback server of `streamkit.testing`: HTTP/1.1, within limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

_MAX_BODY = 32 * 1024 * 1024  # bytes; the Messages API has the same limit
_MAX_LINE = 65536
_MAX_HEADERS = 100
_REQUEST_LINE = re.compile(r"([!-~]+) ([!-~]+) HTTP/1\.[0-9]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_DIGITS = re.compile(r"[0-9]+")
_CHUNK_SIZE = re.compile(r"([0-9A-Fa-f]+)[ \t]*(;.*)?", re.DOTALL)


class RequestError(Exception):
    """A request that cannot be read. Its end is unknown, so the connection cannot be used for another one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _CaseInsensitiveHeaders(Mapping[str, str]):
    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._items = {name.lower(): value for name, value in items}

    def __getitem__(self, name: str) -> str:
        return self._items[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True)
class Request:
    """A request as the server received it. `headers` is a mapping that ignores case; `path` includes the query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body. Raises `ValueError` if the body is not JSON, or nested too deeply for Python's parser."""
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError(f"the JSON body is nested too deeply: {error}") from None


def read_request(file: BinaryIO) -> Request | None:
    """Read the next request. Returns `None` if the client closed the connection before the end of a request.

    Raises `RequestError` for a request that is not HTTP/1.1, or exceeds the limits.
    """
    try:
        line = _read_line(file, "request line", 400)
        match = _REQUEST_LINE.fullmatch(line)
        if not match:
            text = f"expected a request line such as 'POST /v1/messages HTTP/1.1', got {_excerpt(line)}"
            raise RequestError(400, text)
        headers = _read_headers(file)
        return Request(match[1], match[2], _CaseInsensitiveHeaders(headers), _read_body(file, headers))
    except EOFError:
        return None


def _read_line(file: BinaryIO, what: str, status: int) -> str:
    line = file.readline(_MAX_LINE + 1)
    if len(line) > _MAX_LINE:
        raise RequestError(status, f"the {what} is longer than {_MAX_LINE} bytes")
    if not line.endswith(b"\n"):
        raise EOFError
    return line.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _read_headers(file: BinaryIO) -> list[tuple[str, str]]:
    """Read the header lines up to the empty line, and return them with the names in lower case."""
    headers = list[tuple[str, str]]()
    while line := _read_line(file, "header", 431):
        match = _HEADER.fullmatch(line)
        if not match:
            raise RequestError(400, f"expected a header such as 'name: value', got {_excerpt(line)}")
        if len(headers) == _MAX_HEADERS:
            raise RequestError(431, f"the request has more than {_MAX_HEADERS} headers")
        headers.append((match[1].lower(), match[2]))
    return headers


def _read_body(file: BinaryIO, headers: Iterable[tuple[str, str]]) -> bytes:
    lengths = {value for name, value in headers if name == "content-length"}
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if codings:
        if lengths:
            raise RequestError(400, "expected either content-length or transfer-encoding, got both")
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise RequestError(400, f"expected transfer-encoding 'chunked', got {_excerpt(', '.join(codings))}")
        return _read_chunks(file)
    if len(lengths) > 1:
        raise RequestError(400, f"expected one content-length, got {_excerpt(', '.join(sorted(lengths)))}")
    length = lengths.pop() if lengths else "0"
    if not _DIGITS.fullmatch(length):
        raise RequestError(400, f"expected a content-length in bytes, got {_excerpt(length)}")
    return _read_bytes(file, _parse_size(length, 10))


def _read_chunks(file: BinaryIO) -> bytes:
    """Read a body with `transfer-encoding: chunked`; read and ignore the trailers after it."""
    body = bytearray()
    while True:
        line = _read_line(file, "size of a chunk", 400)
        match = _CHUNK_SIZE.fullmatch(line)
        if not match:
            raise RequestError(400, f"expected the size of a chunk in hexadecimal digits, got {_excerpt(line)}")
        size = _parse_size(match[1], 16, len(body))
        if not size:
            _read_headers(file)
            return bytes(body)
        body += _read_bytes(file, size)
        if end := _read_line(file, "end of a chunk", 400):
            raise RequestError(400, f"expected the end of a chunk of {size} bytes, got {_excerpt(end)}")


def _parse_size(digits: str, base: int, before: int = 0) -> int:
    """Parse a size. Count its digits first, because Python refuses to convert thousands of them."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > 16 or before + int(digits, base) > _MAX_BODY:
        raise RequestError(413, f"the body of the request is larger than {_MAX_BODY} bytes")
    return int(digits, base)


def _read_bytes(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
