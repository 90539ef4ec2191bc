"""The recipe of docs/web.md for replies that survive a reload: in one process, and in two over Redis."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkit.testing import Reply, Server, serve
from tests.support.npm import AI_SDK, needs_node, read_with
from tests.support.pages import blocks
from tests.support.redis import needs_redis, redis_server
from tests.support.web_servers import BODY, PAGE, posted, read_response, read_until, running

SLOW = Reply.text("They push water aside. " * 10, delay=0.02)
STALLED = Reply.text("They push water aside.").stall(after_events=5)
POST, OTHER = (json.dumps({**json.loads(BODY), "id": name}).encode() for name in ("one", "two"))
IN_MEMORY = "replies = Replies()\n"


def sources() -> dict[str, str]:
    return {block.file: block.source for block in blocks(PAGE) if block.file}


def test_a_resumable_application_has_few_lines_more() -> None:
    streaming, resumable = (set(sources()[f"{name}_app.py"].splitlines()) for name in ("fastapi", "replies"))
    added = [line for line in resumable - streaming if line and not line.startswith(("#", "import", "from"))]
    assert len(added) <= 10, added


def check_one_at_a_time(port: int, other: int) -> None:
    """A second message while a reply is running, whichever process it goes to."""
    with posted(port, OTHER) as sock:
        read_until(sock, b"push")
        assert read_response(other, OTHER)[0] == 409


def get(port: int) -> tuple[int, bytes]:
    return read_response(port, b"", "GET /chat/one/stream")


def check_start(port: int) -> None:
    """A new reply, whose viewer goes away, and another one comes."""
    assert get(port)[0] == 204
    with posted(port, POST) as sock:
        read_until(sock, b"water")


def check_whole(port: int) -> None:
    status, response = get(port)
    assert status == 200
    assert response.count(b"water") == 10
    assert b'"status":"complete"' in response


def test_in_one_process(tmp_path: Path) -> None:
    with serve(SLOW, STALLED, STALLED) as api, running("replies", api, tmp_path) as port:
        check_start(port)
        check_whole(port)  # while it runs
        check_whole(port)  # after its end
        check_one_at_a_time(port, port)
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_stop(tmp_path: Path) -> None:
    def edit(source: str) -> str:
        return source + "\n\nimport stop_app\n" if source.startswith("# replies_app") else source

    with serve(STALLED) as api, running("replies", api, tmp_path, edit=edit) as port:
        with posted(port, POST) as sock:
            read_until(sock, b"push")
            assert b"true" in read_response(port, b"", "DELETE /chat/one")[1]
            assert b'"status":"interrupted"' in read_until(sock, b"[DONE]")
        assert b"false" in read_response(port, b"", "DELETE /chat/one")[1]


@contextlib.contextmanager
def two_processes(api: Server, folder: Path) -> Iterator[tuple[int, int]]:
    (block,) = (one.source for one in blocks(PAGE) if "import redis.asyncio" in one.source)
    with redis_server() as server, contextlib.ExitStack() as stack:
        over_redis = block.replace("6379", str(server.port))

        def edit(source: str) -> str:
            return source.replace(IN_MEMORY, over_redis)

        ports: list[int] = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            ports.append(stack.enter_context(running("replies", api, folder / name, edit=edit)))
        yield ports[0], ports[1]


@needs_redis
def test_in_two_processes(tmp_path: Path) -> None:
    with serve(SLOW, STALLED, STALLED) as api, two_processes(api, tmp_path) as (one, other):
        check_start(one)
        check_whole(other)
        check_whole(one)
        check_one_at_a_time(one, other)


def pages(port: int) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{port}/chat"}


@needs_node
@pytest.mark.parametrize("client", AI_SDK)
def test_the_client_of_the_browser_resumes(client: str, tmp_path: Path) -> None:
    """The client posts, and resumes after the end: the reply is there once."""
    with serve(SLOW) as api, running("replies", api, tmp_path) as port:
        (found,) = read_with(client, [{**pages(port), "resume": True}])
        assert [message["role"] for message in found["messages"]] == ["user", "assistant"]
        assert found["messages"][-1]["parts"][-1]["text"] == "They push water aside. " * 10
        assert found["status"] == "ready"
