"""The encoders without HTTP: events in, frames out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamkit.web import AISDK
from tests.support.bodies import FIXTURES
from tests.support.events import (
    MESSAGE_STOP,
    block_delta,
    block_start,
    block_stop,
    input_delta,
    message_delta,
    message_start,
    sse,
    text_delta,
    tool_use_start,
)
from tests.support.web import PROTOCOLS, RUN, encoded, of_type, payloads, types

END = (message_delta(), MESSAGE_STOP)


def ai_sdk(*events: dict[str, Any], beta: bool = False) -> bytes:
    return encoded(AISDK(), sse(message_start(), *events), beta=beta)[0]


def ag_ui(*events: dict[str, Any], beta: bool = False) -> bytes:
    return encoded(RUN, sse(message_start(), *events), beta=beta)[0]


def fixture(name: str) -> bytes:
    return next(path.read_bytes() for path in FIXTURES if path.stem == name)


def citation(kind: str, **fields: Any) -> dict[str, Any]:
    return block_delta(0, "citations_delta", citation={"type": kind, "cited_text": "words", **fields})


class TestText:
    def test_the_frames_of_a_short_reply(self) -> None:
        body = encoded(
            AISDK(message_id="m-1"), sse(message_start(), block_start(), text_delta("Hi"), block_stop(), *END)
        )
        assert body[0].decode() == "".join(
            f"data: {line}\n\n"
            for line in (
                '{"type":"start","messageId":"m-1"}',
                '{"type":"start-step"}',
                '{"type":"text-start","id":"0"}',
                '{"type":"text-delta","id":"0","delta":"Hi"}',
                '{"type":"text-end","id":"0"}',
                '{"type":"finish-step"}',
                '{"type":"finish","finishReason":"stop","messageMetadata":{"status":"complete","stopReason":"end_turn",'
                '"usage":{"inputTokens":3,"outputTokens":7},"usageFinal":true}}',
                "[DONE]",
            )
        )

    def test_neighbours_become_one_part(self) -> None:
        blocks = (
            block_start(0),
            text_delta("One, "),
            block_stop(0),
            block_start(1),
            text_delta("two", 1),
            block_stop(1),
        )
        body = ai_sdk(*blocks, tool_use_start(2), block_stop(2), block_start(3, text="three"), block_stop(3), *END)
        assert [one["id"] for one in of_type(body, "text-delta")] == ["0", "0", "1"]
        assert types(body)[2:6] == ["text-start", "text-delta", "text-end", "tool-input-start"]

    def test_a_block_of_another_kind_waits_for_the_end_of_an_open_text_block(self) -> None:
        """Blocks may interleave."""
        body = ai_sdk(block_start(0), text_delta("a"), tool_use_start(1), text_delta("b"), block_stop(0), *END)
        assert types(body)[2:7] == ["text-start", "text-delta", "tool-input-start", "text-delta", "text-end"]
        assert [one["id"] for one in of_type(body, "text-delta")] == ["0", "0"]

    def test_text_after_the_end_of_its_block_gets_a_part_of_its_own(self) -> None:
        body = ai_sdk(block_start(0), text_delta("a"), block_stop(0), tool_use_start(1), text_delta("b"), *END)
        assert [(one["id"], one["delta"]) for one in of_type(body, "text-delta")] == [("0", "a"), ("1", "b")]

    def test_text_for_a_tool_use_is_text(self) -> None:
        assert of_type(ai_sdk(tool_use_start(0), text_delta("a"), *END), "text-delta")[0]["delta"] == "a"

    def test_empty_text_makes_no_frame(self) -> None:
        assert of_type(ai_sdk(block_start(0), text_delta(""), block_stop(), *END), "text-delta") == []

    def test_halves_of_a_surrogate_pair_are_escaped(self) -> None:
        body = ai_sdk(block_start(0), text_delta("x\ud83d"), text_delta("\ude00é"), block_stop(), *END)
        assert rb'"delta":"x\ud83d"' in body
        assert r'"delta":"\ude00é"'.encode() in body

    def test_a_reply_that_comes_whole(self) -> None:
        content = [{"type": "text", "text": "Hi"}, {"type": "thinking", "thinking": "Hm", "signature": "secret"}]
        content.append({"type": "tool_use", "id": "toolu_1", "name": "get_tide", "input": {"harbour": "Brest"}})
        start = message_start(*content, stop_reason="tool_use")
        body, _ = encoded(AISDK(), sse(start, MESSAGE_STOP))
        assert of_type(body, "text-delta")[0]["delta"] == "Hi"
        assert of_type(body, "reasoning-delta")[0]["delta"] == "Hm"
        assert of_type(body, "tool-input-available")[0]["input"] == {"harbour": "Brest"}
        assert b"secret" not in body


class TestThinking:
    @pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: type(one).__name__)
    def test_no_signature_and_no_redacted_thinking(self, protocol: Any) -> None:
        events = (
            block_start(0, "thinking", thinking="", signature=""),
            block_delta(0, "thinking_delta", thinking="Hm"),
            block_delta(0, "thinking_delta", thinking=""),
            block_delta(0, "signature_delta", signature="SECRET"),
            block_stop(0),
            block_start(1, "redacted_thinking", data="SECRET"),
            block_stop(1),
            block_delta(0, "thinking_delta", thinking="too late"),
        )
        body, _ = encoded(protocol, sse(message_start(), *events, *END))
        assert b"Hm" in body
        assert b"SECRET" not in body
        assert b"too late" not in body

    def test_reasoning_that_is_cut_is_closed(self) -> None:
        body = ai_sdk(block_start(0, "thinking", thinking=""), block_delta(0, "thinking_delta", thinking="Hm"))
        assert types(body)[2:5] == ["reasoning-start", "reasoning-delta", "reasoning-end"]

    def test_in_ag_ui(self) -> None:
        body, _ = encoded(RUN, fixture("thinking_text"))
        assert types(body)[1:6] == [
            "REASONING_START",
            "REASONING_MESSAGE_START",
            "REASONING_MESSAGE_CONTENT",
            "REASONING_MESSAGE_END",
            "REASONING_END",
        ]


class TestTools:
    def test_input_as_it_arrives(self) -> None:
        body = ai_sdk(
            tool_use_start(), input_delta(""), input_delta('{"harbour":'), input_delta('"Brest"}'), block_stop()
        )
        assert [one["inputTextDelta"] for one in of_type(body, "tool-input-delta")] == ['{"harbour":', '"Brest"}']
        assert of_type(body, "tool-input-available") == [
            {
                "type": "tool-input-available",
                "toolCallId": "toolu_0",
                "toolName": "get_tide",
                "input": {"harbour": "Brest"},
            }
        ]

    @pytest.mark.parametrize("raw", ['{"a": ', '{"a": NaN}', '{"a": 1e999}', "[" * 100_000])
    def test_input_that_is_not_json(self, raw: str) -> None:
        events = (tool_use_start(), input_delta(raw), block_stop(), *END)
        failed = of_type(ai_sdk(*events), "tool-input-error")[0]
        assert (failed["input"], failed["errorText"]) == ({}, "The input of this tool is not complete.")
        assert of_type(ai_sdk(*events), "tool-input-available") == []
        assert of_type(ag_ui(*events), "TOOL_CALL_RESULT")[0]["content"] == "The input of this tool is not complete."

    def test_input_that_is_cut(self) -> None:
        body = ai_sdk(tool_use_start(), input_delta('{"a": 1'))
        assert types(body)[-4:] == ["tool-input-error", "finish-step", "message-metadata", "error"]

    @pytest.mark.parametrize("stops", [True, False])
    def test_a_tool_without_input_that_a_limit_cut(self, stops: bool) -> None:
        stop = (block_stop(),) if stops else ()
        body = ai_sdk(tool_use_start(), *stop, message_delta("max_tokens"), MESSAGE_STOP)
        assert of_type(body, "tool-input-available") == []
        assert len(of_type(body, "tool-input-error")) == 1

    @pytest.mark.parametrize("stops", [True, False])
    def test_a_tool_without_input(self, stops: bool) -> None:
        stop = (block_stop(), block_stop()) if stops else ()
        body = ai_sdk(tool_use_start(), *stop, message_delta("tool_use"), MESSAGE_STOP)
        assert [one["input"] for one in of_type(body, "tool-input-available")] == [{}]
        args = of_type(ag_ui(tool_use_start(), *stop, message_delta("tool_use"), MESSAGE_STOP), "TOOL_CALL_ARGS")
        assert [one["delta"] for one in args] == ["{}"]

    def test_the_tool_before_another_block_is_whole(self) -> None:
        body = ai_sdk(tool_use_start(0), block_stop(0), tool_use_start(1), block_stop(1), message_delta("max_tokens"))
        assert [one["toolCallId"] for one in of_type(body, "tool-input-available")] == ["toolu_0"]
        assert [one["toolCallId"] for one in of_type(body, "tool-input-error")] == ["toolu_1"]

    def test_a_tool_whose_stream_is_cut_after_its_end(self) -> None:
        assert len(of_type(ai_sdk(tool_use_start(0), block_stop(0)), "tool-input-available")) == 1

    def test_deltas_after_the_end_of_a_tool_are_ignored(self) -> None:
        body = ai_sdk(tool_use_start(), input_delta("{}"), block_stop(), input_delta("x"), block_stop(), *END)
        assert len(of_type(body, "tool-input-delta")) == len(of_type(body, "tool-input-available")) == 1

    def test_a_second_tool_with_the_same_id_is_ignored(self) -> None:
        again = block_start(1, "tool_use", id="toolu_0", name="get_tide", input={})
        body = ai_sdk(
            tool_use_start(0), input_delta("{}"), block_stop(0), again, input_delta("{}", 1), block_stop(1), *END
        )
        assert len(of_type(body, "tool-input-start")) == 1

    def test_a_tool_without_an_id_is_ignored(self) -> None:
        body = ai_sdk(block_start(0, "tool_use", name="get_tide", input={}), block_stop(), *END)
        assert types(body) == ["start", "start-step", "finish-step", "finish"]


def search(content: Any, kind: str = "web_search_tool_result", **fields: Any) -> tuple[dict[str, Any], ...]:
    use = tool_use_start(0, "web_search", "server_tool_use")
    result = block_start(1, kind, tool_use_id="toolu_0", content=content, **fields)
    return use, input_delta('{"query":"q"}'), block_stop(0), result, block_stop(1), *END


class TestServerTools:
    def test_the_result_without_what_is_for_the_api_alone(self) -> None:
        page = {"type": "web_search_result", "title": "T", "encrypted_content": "SECRET", "page_age": None}
        events = search([{**page, "url": "https://a.example/"}, {**page, "url": "javascript:alert(1)"}])
        output = of_type(ai_sdk(*events), "tool-output-available")[0]
        clean = {"type": "web_search_result", "title": "T", "page_age": None}
        assert output["output"] == [{**clean, "url": "https://a.example/"}, clean]
        assert output["providerExecuted"] is True
        content = of_type(ag_ui(*events), "TOOL_CALL_RESULT")[0]["content"]
        assert json.loads(content) == output["output"]

    def test_a_result_that_is_an_error(self) -> None:
        events = search({"type": "web_search_tool_result_error", "error_code": "unavailable"})
        assert of_type(ai_sdk(*events), "tool-output-error")[0]["errorText"] == "This tool failed."
        assert of_type(ag_ui(*events), "TOOL_CALL_RESULT")[0]["content"] == "This tool failed."

    def test_documents_come_without_their_data(self) -> None:
        source = {"type": "base64", "media_type": "application/pdf", "data": "SECRET"}
        content = {"type": "web_fetch_result", "url": "https://a.example/", "content": {"source": source, "size": 1.5}}
        body = ai_sdk(*search(content, "web_fetch_tool_result"))
        assert b"SECRET" not in body
        assert b'"size":1.5' in body

    def test_a_tool_of_an_mcp_server(self) -> None:
        body, _ = encoded(AISDK(), fixture("beta_mcp"), beta=True)
        start = of_type(body, "tool-input-start")[0]
        assert (start["providerExecuted"], start["dynamic"]) == (True, True)
        assert len(of_type(body, "tool-output-available")) == 1

    def test_a_result_that_comes_before_the_end_of_the_input(self) -> None:
        use = tool_use_start(0, "web_search", "server_tool_use")
        result = block_start(1, "web_search_tool_result", tool_use_id="toolu_0", content=[])
        body = ai_sdk(use, input_delta("{}"), result, block_stop(1), block_stop(0), *END)
        assert types(body)[4:6] == ["tool-input-available", "tool-output-available"]

    def test_a_result_for_an_unknown_tool_is_ignored(self) -> None:
        result = block_start(0, "web_search_tool_result", tool_use_id="toolu_9", content=[])
        assert types(ai_sdk(result, block_stop(), *END)) == ["start", "start-step", "finish-step", "finish"]

    def test_a_tool_without_its_result(self) -> None:
        body, _ = encoded(AISDK(), fixture("pause_turn"))
        assert of_type(body, "tool-output-error")[0]["errorText"] == "This tool did not finish."


class TestSources:
    PAGE = {"url": "https://a.example/", "title": "A", "encrypted_index": "SECRET"}  # noqa: RUF012

    def body(self, *citations: dict[str, Any]) -> bytes:
        return ai_sdk(block_start(0), text_delta("Hi"), *citations, block_stop(), *END)

    def test_a_page_once(self) -> None:
        page = citation("web_search_result_location", **self.PAGE)
        body = self.body(
            page, page, citation("web_search_result_location", **{**self.PAGE, "url": "http://b.example/"})
        )
        assert [(one["sourceId"], one["url"], one["title"]) for one in of_type(body, "source-url")] == [
            ("source-1", "https://a.example/", "A"),
            ("source-2", "http://b.example/", "A"),
        ]
        assert b"SECRET" not in body

    @pytest.mark.parametrize(
        "url",
        [
            "javascript:alert(1)",
            "java\nscript:alert(1)",
            "data:text/html,x",
            "//a.example",
            "https://",
            "http://[",
            1,
            None,
        ],
    )
    def test_only_links_of_http(self, url: Any) -> None:
        assert (
            of_type(self.body(citation("web_search_result_location", **{**self.PAGE, "url": url})), "source-url") == []
        )

    def test_a_page_without_a_title(self) -> None:
        body = self.body(citation("web_search_result_location", **{**self.PAGE, "title": None}))
        assert "title" not in of_type(body, "source-url")[0]

    def test_documents(self) -> None:
        pdf = citation(
            "page_location", document_index=0, document_title="Tides", start_page_number=1, end_page_number=2
        )
        text = citation("char_location", document_index=1, document_title=None, start_char_index=0, end_char_index=2)
        found = citation("search_result_location", search_result_index=2, source="notes", title=None)
        body = self.body(pdf, text, text, found, citation("unknown_location"), citation("content_block_location"))
        assert [(one["mediaType"], one["title"]) for one in of_type(body, "source-document")] == [
            ("application/pdf", "Tides"),
            ("text/plain", "Document 2"),
            ("text/plain", "Document 3"),
            ("text/plain", "Document 1"),
        ]

    def test_citations_of_a_block_that_opens_with_them(self) -> None:
        cited = {"type": "web_search_result_location", "cited_text": "words", **self.PAGE}
        body = ai_sdk(block_start(0, text="Hi", citations=[cited]), block_stop(), *END)
        assert len(of_type(body, "source-url")) == 1

    def test_in_ag_ui(self) -> None:
        body = ag_ui(block_start(0), citation("web_search_result_location", **self.PAGE), *END)
        value = {"id": "source-1", "url": "https://a.example/", "title": "A"}
        assert of_type(body, "CUSTOM") == [{"type": "CUSTOM", "name": "source", "value": value}]
        body = ag_ui(block_start(0), citation("char_location", document_index=0, document_title="A"), *END)
        assert of_type(body, "CUSTOM")[0]["value"] == {"id": "source-1", "title": "A", "mediaType": "text/plain"}


class TestAGUI:
    def test_tool_calls_belong_to_the_text_before(self) -> None:
        body, _ = encoded(RUN, fixture("server_tool_citations"))
        text = of_type(body, "TEXT_MESSAGE_START")
        assert of_type(body, "TOOL_CALL_START")[0]["parentMessageId"] == text[0]["messageId"]
        assert len({one["messageId"] for one in text}) == len(text) == 2

    def test_without_a_message(self) -> None:
        body, _ = encoded(RUN, b"")
        assert [one["type"] for one in payloads(body)] == ["RUN_STARTED", "RUN_ERROR"]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_an_encoder_makes_the_same_frames_again(protocol: Any, path: Any) -> None:
    """Frames are stored and sent again."""
    assert encoded(protocol, path.read_bytes())[0] == encoded(protocol, path.read_bytes())[0]
