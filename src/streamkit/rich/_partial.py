"""The end of a text that is still being written, made so that no half-written mark is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A last line of nothing else may still become anything: a list, a rule, an underlined heading, a fence, a table.
_UNDECIDED_LINE = re.compile(r"[ \t0-9\-+*#>`~=|.)_:\[]*\Z")
# A last line that may become a fence, whose language is half-written.
_HALF_FENCE = re.compile(r"[ >]*(`{3}[^`]*|~{3}.*)\Z")
# Marks at the end of the text: the next character decides what they are.
_UNDECIDED_END = re.compile(r"(?:[*_~`\\<!&\[]|&#?\w{1,31}|<[^\s<>]{1,200}|[ \t])+\Z")
_LINK = re.compile(r"(!?)\[([^\[\]]*)\](?:\([^()\s]*(?:\s[^()]*)?|\[[^\[\]]*)?\Z")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", re.DOTALL)
_TABLE_HEAD = re.compile(r"\|.*(?:\n\|?[ \t:|-]*)?\Z")
_MARKS = re.compile(r"\\.|\*+|_+|~~+", re.DOTALL)


def decided(line: str) -> str:
    """Return a last line that has no line end yet, or nothing while it may still become anything."""
    return "" if _UNDECIDED_LINE.match(line) or _HALF_FENCE.match(line) else line


def is_table_head(text: str) -> bool:
    """Return `True` for a paragraph that may be the first line of a table, with or without a part of the second."""
    return _TABLE_HEAD.match(text) is not None


def completed(text: str) -> str:
    """Close the marks that are open at the end of a paragraph, and leave out those that are half-written."""
    text = _UNDECIDED_END.sub("", text)
    outside = _CODE_SPAN.sub(lambda span: "\0" * len(span[0]), text)
    ticks = re.search(r"`+", outside)
    if ticks is not None:  # an open code span: nothing in it is a mark
        return text + ticks[0] if text[ticks.end() :].strip() else text[: ticks.start()].rstrip()
    link = _LINK.search(outside)
    if link is not None:  # show the label alone until the address is there
        text = text[: link.start()] + text[link.start(2) : link.end(2)]
        outside = outside[: link.start()] + outside[link.start(2) : link.end(2)]
    else:
        bracket = outside.rfind("[")
        if bracket > outside.rfind("]"):  # a label that is half-written
            start = bracket - outside[:bracket].endswith("!")
            text, outside = text[:start] + text[bracket + 1 :], outside[:start] + outside[bracket + 1 :]
    return text + "".join(reversed(list(_open_marks(outside))))


def _open_marks(text: str) -> Iterator[str]:
    """Return the marks of emphasis that are open at the end of the text, by a simple form of CommonMark's rules."""
    open_marks = list[str]()
    for mark in _MARKS.finditer(text):
        run = mark[0]
        if run[0] == "\\" or (run[0] == "~" and len(run) != 2):
            continue
        before, after = text[: mark.start()][-1:], text[mark.end() :][:1]
        opens = bool(after.strip()) and not (before.isalnum() and (run[0] == "_" or len(run) == 1))
        closes = bool(before.strip()) and not (after.isalnum() and run[0] == "_")
        left = len(run)
        while closes and left and open_marks and open_marks[-1][0] == run[0] and len(open_marks[-1]) <= left:
            left -= len(open_marks.pop())
        if opens and left:
            open_marks += ["~~"] if run[0] == "~" else [run[0] * 2] * (left // 2) + [run[0]] * (left % 2)
    return iter(open_marks)
