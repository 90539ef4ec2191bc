"""The messages that make a model continue its reply."""

from __future__ import annotations

from typing import Any

from ._history import THINKING, well_formed

_QUOTED = 200  # characters: enough to find the place, and few beside any reply worth continuing
_LONGEST_WORD = 40  # characters: languages that do not separate words have no shorter "last word"


def continue_reply(
    content: list[dict[str, Any]], text: str, *, instruction: str | None, prefill: bool, is_paused: bool
) -> list[dict[str, Any]]:
    """Return the messages to append for a reply with this content, in the form of a request, and this text."""
    if not content or any(block["type"] == "tool_use" for block in content):
        return []
    if prefill and not is_paused:
        # Without `thinking`, the API refuses thinking in a last assistant message; with it, any such message. A paused
        # turn, which the same request continues, keeps its thinking.
        content = [block for block in content if block["type"] not in THINKING]
    ends_with_text = content[-1]["type"] == "text"
    if ends_with_text:
        content[-1]["text"] = content[-1]["text"].rstrip()
    reply = {"role": "assistant", "content": content}
    if prefill or is_paused:
        return [reply]
    if instruction is None:
        instruction = _default_instruction(text if ends_with_text else "")
    return [reply, {"role": "user", "content": instruction}]


def _default_instruction(text: str) -> str:
    """Return an instruction that quotes the end of the text and asks for the last word again.

    A turn of a model does not begin with white space. Without the last word, the first word of the continuation could
    be the rest of that word as well as the next one.
    """
    text = well_formed(text).rstrip()
    if not text:  # the reply ends with another block, such as the result of a server tool
        return "Your reply was cut off. Write the rest of it. Do not repeat any of it, and do not mention the break."
    end = text[-_QUOTED:]
    if len(end) < len(text):
        end = end.split(maxsplit=1)[-1]  # without the word at which the quotation was cut
    last_word = text[-_LONGEST_WORD:].split()[-1]
    return (
        f"Your reply was cut off. It ends with:\n\n<end>\n{end}\n</end>\n\n"
        "Write the rest of it, and do not mention the break. Begin by writing the last word again, in full, because it "
        f"may be incomplete: {last_word}"
    )
