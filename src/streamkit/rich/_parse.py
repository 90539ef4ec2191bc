"""From the text of a model to the tokens of a Markdown document, and from these to units that are rendered alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, blockquote, list_block
from markdown_it.token import Token

_DEEPEST = 20  # levels of quotes and lists, of which a list takes two


def _blockquote(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    return state.level < _DEEPEST and blockquote(state, start, end, silent)


def _list(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    return state.level < _DEEPEST and list_block(state, start, end, silent)


def _make_block_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 2 * _DEEPEST}).enable("table")
    parser.core.ruler.enableOnly(["normalize", "block"])
    # What is nested deeper is text. `maxNesting` alone would drop it, with what follows.
    parser.block.ruler.at("blockquote", _blockquote, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    parser.block.ruler.at("list", _list, {"alt": ["paragraph", "reference", "blockquote"]})
    return parser


# The html rules would drop tags such as `<answer>`, which models write: without these rules, tags are text.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
_BLOCK_PARSER = _make_block_parser()
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def clean(text: str) -> str:
    r"""Return the text without control characters but `\n` and `\t`, and without lone surrogates.

    A terminal would obey control characters. `\r\n` and `\r` become `\n`.
    """
    if _CONTROLS.search(text):
        text = _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if _SURROGATES.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Cleaner:
    """Cleans a text that arrives in pieces, which may end in the middle of a line end or of a character."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what is known so far of the cleaned text that follows the text of the last call."""
        text, self._held = self._held + piece, ""
        if text.endswith("\r") or "\ud800" <= text[-1:] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return clean(text)

    def finish(self) -> str:
        """Return what is left."""
        text, self._held = self._held, ""
        return clean(text)


def parse(text: str, references: dict[str, Any]) -> list[Token]:
    """Parse cleaned text. Link definitions are looked up in `references`, and added there."""
    return parse_inlines(parse_blocks(text, references), references)


def parse_blocks(text: str, references: dict[str, Any]) -> list[Token]:
    """Parse cleaned text into blocks, whose paragraphs are still plain text. Link definitions go to `references`."""
    return _BLOCK_PARSER.parse(text, {"references": references})


def parse_inlines(tokens: list[Token], references: dict[str, Any]) -> list[Token]:
    """Parse the paragraphs within the tokens of blocks."""
    env: dict[str, Any] = {"references": references}
    for token in tokens:
        if token.type == "inline":
            token.children = _PARSER.parseInline(token.content, env)[0].children
            for part in token.children or ():
                if _CONTROLS.search(part.content):  # of a character reference, as `&#13;`
                    part.content = _CONTROLS.sub("", part.content)
    return tokens


class Unit(NamedTuple):
    """The smallest part that is rendered by itself: a block of the document, or an item of a list of the document."""

    tokens: list[Token]
    start: int  # the first line
    number: int | None  # of an item, counted from that of the list's first one
    is_first: bool  # of its list; `True` for a block


def units(tokens: list[Token], next_number: int | None = None) -> Iterator[Unit]:
    """Split the tokens of a document.

    With a `next_number` the document begins with an item that goes on with a list, and has that number.
    """
    begin, depth = 0, 0
    for index, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            block = tokens[begin : index + 1]
            if block[0].type in ("bullet_list_open", "ordered_list_open"):
                yield from _items(block, next_number)
            else:
                yield Unit(block, _first_line(block[0]), None, True)
            begin, next_number = index + 1, None


def _items(block: list[Token], next_number: int | None) -> Iterator[Unit]:
    list_token, end = block[0], block[-1]
    number = int(list_token.attrs.get("start", 1)) if next_number is None else next_number
    begin, depth, is_first = 1, 0, next_number is None
    for index, token in enumerate(block[1:-1], 1):
        depth += token.nesting
        if depth == 0:
            opening = list_token.copy(attrs={"start": number}) if list_token.type == "ordered_list_open" else list_token
            item = block[begin : index + 1]
            yield Unit([opening, *item, end], _first_line(item[0]), number, is_first)
            begin, number, is_first = index + 1, number + 1, False


def _first_line(token: Token) -> int:
    return token.map[0] if token.map else 0


_CLOSINGS = ("list_item_close", "bullet_list_close", "ordered_list_close", "blockquote_close")


def last_leaf(tokens: list[Token]) -> slice:
    """Return where the last block without blocks in it is: a paragraph, heading, code block, table, rule, or item."""
    end = len(tokens)
    while end and tokens[end - 1].type in _CLOSINGS:
        end -= 1
    if not end:
        return slice(0, 0)
    last = tokens[end - 1]
    if last.nesting == 1:  # an item or a quote without content
        return slice(end - 1, end + 1)
    begin = end - 1
    while last.nesting == -1 and not (tokens[begin].nesting == 1 and tokens[begin].level == last.level):
        begin -= 1
    return slice(begin, end)


def without_last_leaf(tokens: list[Token]) -> list[Token]:
    """Return the tokens without their last leaf; a code block loses its last line alone."""
    leaf = last_leaf(tokens)
    part = tokens[leaf]
    if part and part[0].type in ("fence", "code_block"):
        lines = part[0].content.splitlines(keepends=True)
        part = [part[0].copy(content="".join(lines[:-1]))] if len(lines) > 1 else []
    else:
        part = []
    return [*tokens[: leaf.start], *part, *tokens[leaf.stop :]]
