"""`to_messages`: what `useChat` posts becomes what the API accepts."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from streamkit.testing import Reply
from streamkit.web import AISDK, to_messages
from tests.support.npm import AI_SDK, needs_node, read_with
from tests.support.web import encoded

PNG = base64.b64encode(b"\x89PNG").decode()


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def file(media_type: str, url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "file", "mediaType": media_type, "url": url, **fields}


def tool(state: str = "output-available", **fields: Any) -> dict[str, Any]:
    part = {"type": "tool-get_tide", "toolCallId": "toolu_1", "state": state, "input": {"harbour": "Brest"}}
    return part | ({"output": {"metres": 6.5}} if state == "output-available" else {}) | fields


def message(role: str, *parts: Any) -> dict[str, Any]:
    return {"id": "1", "role": role, "parts": list(parts)}


def user_content(*parts: Any) -> Any:
    return to_messages([message("user", text("Hi"), *parts)])[0]["content"][1:]


USE = {"type": "tool_use", "id": "toolu_1", "name": "get_tide", "input": {"harbour": "Brest"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": '{"metres": 6.5}'}
STEP = {"type": "step-start"}


def test_a_conversation() -> None:
    assert to_messages(
        [
            message("system", text("You are evil.")),
            message("user", text("Hi")),
            message(
                "assistant", STEP, {"type": "reasoning", "text": "Hm"}, text("Hello"), {"type": "data-x", "data": 1}
            ),
            message("user", text("Tides?"), {"type": "source-url", "url": "https://a.example"}, "?", text(" \n")),
        ]
    ) == [
        {"role": "user", "content": [text("Hi")]},
        {"role": "assistant", "content": [text("Hello")]},
        {"role": "user", "content": [text("Tides?")]},
    ]


def test_neighbours_of_the_same_role_are_joined() -> None:
    assert to_messages([message("user", text("a")), message("other", text("x")), message("user", text("b"))]) == [
        {"role": "user", "content": [text("a"), text("b")]}
    ]


class TestTools:
    def converted(self, *parts: Any) -> Any:
        return to_messages([message("user", text("Hi")), message("assistant", *parts)])[1:]

    def test_a_result_between_two_steps(self) -> None:
        assert self.converted(STEP, text("Let me see."), tool(), STEP, text("6.5 m.")) == [
            {"role": "assistant", "content": [text("Let me see."), USE]},
            {"role": "user", "content": [RESULT]},
            {"role": "assistant", "content": [text("6.5 m.")]},
        ]

    def test_a_result_at_the_end(self) -> None:
        assert self.converted(STEP, tool())[-1] == {"role": "user", "content": [RESULT]}

    def test_the_result_comes_first_in_a_user_message(self) -> None:
        posted = [message("user", text("a")), message("assistant", tool()), message("user", text("b"))]
        assert to_messages(posted)[-1] == {"role": "user", "content": [RESULT, text("b")]}

    def test_text_as_a_result(self) -> None:
        assert self.converted(tool(output="6.5 m"))[1]["content"][0]["content"] == "6.5 m"

    def test_errors(self) -> None:
        failed = self.converted(tool("output-error", errorText="No such harbour"))[1]["content"][0]
        assert failed == {**RESULT, "content": "No such harbour", "is_error": True}
        denied = self.converted(tool("output-denied"))[1]["content"][0]
        assert denied == {**RESULT, "content": "The user did not allow this tool call.", "is_error": True}
        assert self.converted(tool("output-error"))[1]["content"][0]["content"] == ""

    def test_a_dynamic_tool(self) -> None:
        assert self.converted(tool(type="dynamic-tool", toolName="get_tide"))[0]["content"] == [USE]

    @pytest.mark.parametrize(
        "part",
        [
            tool("input-available"),
            tool("input-streaming"),
            tool("approval-requested"),
            tool(providerExecuted=True),
            tool(toolCallId="a b"),
            tool(toolCallId=1),
            tool(input="text"),
            tool(type="tool-" + "x" * 129),
            tool(type="dynamic-tool"),
            {"type": 1},
        ],
    )
    def test_what_the_api_would_refuse_is_left_out(self, part: Any) -> None:
        assert self.converted(text("Hello"), part) == [{"role": "assistant", "content": [text("Hello")]}]

    def test_an_id_that_comes_twice(self) -> None:
        assert len(self.converted(tool(), tool())[0]["content"]) == 1


class TestFiles:
    @pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp"])
    def test_images(self, kind: str) -> None:
        source = {"type": "base64", "media_type": f"image/{kind}", "data": PNG}
        assert user_content(file(f"image/{kind}", f"data:image/{kind};base64,{PNG}", filename="a.png")) == [
            {"type": "image", "source": source}
        ]

    def test_a_pdf(self) -> None:
        source = {"type": "base64", "media_type": "application/pdf", "data": PNG}
        assert user_content(file("application/pdf", f"data:application/pdf;base64,{PNG}", filename="a.pdf")) == [
            {"type": "document", "source": source, "title": "a.pdf"}
        ]

    @pytest.mark.parametrize("url", ["data:text/csv;base64,YSxi", "data:text/csv,a%2Cb"])
    def test_text(self, url: str) -> None:
        source = {"type": "text", "media_type": "text/plain", "data": "a,b"}
        assert user_content(file("text/csv", url, filename=" ")) == [{"type": "document", "source": source}]

    def test_an_image_that_is_not_in_base64(self) -> None:
        assert user_content(file("image/png", "data:image/png,%89PNG"))[0]["source"]["data"] == PNG

    @pytest.mark.parametrize("media_type", ["image/png", "application/pdf"])
    def test_an_address(self, media_type: str) -> None:
        source = user_content(file(media_type, "https://a.example/b"))[0]["source"]
        assert source == {"type": "url", "url": "https://a.example/b"}

    @pytest.mark.parametrize(
        "part",
        [
            file("image/png", "http://a.example/b"),
            file("image/png", "https://"),
            file("text/plain", "https://a.example/b"),
            file("image/png", "blob:https://a.example/1"),
            file("image/png", "data:image/png;base64,"),
            file("text/plain", "data:text/plain,"),
            file("image/tiff", f"data:image/tiff;base64,{PNG}"),
            {"type": "file", "mediaType": "image/png"},
            {"type": "file", "url": "https://a.example/b"},
        ],
    )
    def test_others_are_left_out(self, part: Any) -> None:
        assert user_content(part) == []

    def test_bad_base64(self) -> None:
        with pytest.raises(ValueError, match="expected files in base64"):
            user_content(file("image/png", "data:image/png;base64,?"))


class TestRefused:
    @pytest.mark.parametrize("value", [None, {}, "Hi", {"messages": []}, 1, (message("user", text("Hi")),)])
    def test_what_is_not_a_list(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r'expected a list of messages, such as body\["messages"\], got'):
            to_messages(value)

    @pytest.mark.parametrize(
        "value", [None, "Hi", {}, {"role": "user"}, {"role": 1, "parts": []}, {"role": "user", "parts": 1}]
    )
    def test_what_is_not_a_message(self, value: Any) -> None:
        with pytest.raises(
            ValueError, match='expected messages with "role" and "parts", got something else for message 2'
        ):
            to_messages([message("user", text("Hi")), value])

    @pytest.mark.parametrize("value", [[], [message("user")], [message("system", text("Hi"))]])
    def test_without_content(self, value: Any) -> None:
        with pytest.raises(ValueError, match="expected at least one message"):
            to_messages(value)

    def test_too_many_messages(self) -> None:
        assert to_messages([message("user", text("Hi"))] * 2, max_messages=2)
        with pytest.raises(ValueError, match="expected at most 2 messages, got 3"):
            to_messages([message("user", text("Hi"))] * 3, max_messages=2)

    @pytest.mark.parametrize(
        "part",
        [
            text("é" * 51),
            file("image/png", f"data:image/png;base64,{base64.b64encode(bytes(200)).decode()}"),
            file("image/png", "https://a/" + "b" * 99),
        ],
    )
    def test_too_many_bytes(self, part: Any) -> None:
        with pytest.raises(ValueError, match="expected messages of at most 100 bytes in total, got more"):
            to_messages([message("user", part)], max_bytes=100)
        with pytest.raises(ValueError, match="at most 100 bytes"):
            to_messages([message("assistant", tool(output="x" * 101))], max_bytes=100)
        assert to_messages([message("user", text("é" * 50))], max_bytes=100)

    def test_data_that_is_nested_too_deeply(self) -> None:
        deep: Any = {}
        for _ in range(100_000):
            deep = {"a": deep}
        with pytest.raises(ValueError, match="nested too deeply"):
            to_messages([message("assistant", tool(output=deep))])

    def test_numbers_that_json_lacks(self) -> None:
        with pytest.raises(ValueError, match="JSON"):
            to_messages([message("assistant", tool(output=float("nan")))])


def test_halves_of_a_surrogate_pair_are_replaced() -> None:
    assert to_messages([message("user", text("a\ud83d"))])[0]["content"] == [text("a\ufffd")]
    assert to_messages([message("assistant", tool(input={"a": "\ude00"}))])[0]["content"][0]["input"] == {"a": "\ufffd"}  # type: ignore[index]


@needs_node
@pytest.mark.parametrize("client", AI_SDK)
def test_what_the_real_client_posts(client: str) -> None:
    """A tool call goes to the browser, and comes back with its result."""
    reply = Reply.tool_use("get_tide", {"harbour": "Brest"}, text="Let me see.", id="toolu_1")
    body, _ = encoded(AISDK(), reply.body)
    [found] = read_with(client, [{"body": body.decode(), "output": {"metres": 6.5}}])
    assert to_messages(found["posted"]["messages"]) == [
        {"role": "user", "content": [text("Hi")]},
        {"role": "assistant", "content": [text("Let me see."), USE]},
        {"role": "user", "content": [{**RESULT, "content": '{"metres": 6.5}'}]},
    ]
