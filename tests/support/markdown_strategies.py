"""Hypothesis strategies for Markdown documents and for the way in which they arrive."""

from __future__ import annotations

from hypothesis import strategies as st

WORDS = st.sampled_from([
    *("boat", "a", "of", "harbour", "Northgate", "tide", "2", "12.5", "snake_case", "C++", "x*y", "1.", "nofit" * 14),
    *("日本", "語", "🎉", "👩‍🚀", "e\u0301", "7️⃣", "&amp;", "<b>", "</b>"),
    *("-", "#", "|", "`", "_", "**", "~", "[", "]", "\\", ">", "="),
])  # fmt: skip


def _marked(words: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    mark = st.sampled_from(["*", "**", "_", "`", "``", "~~", "***"])
    target = st.sampled_from(["https://a.example/x", "<b c>", "/d 'title'", "e(f)"])
    return st.one_of(
        st.builds(lambda mark, text: f"{mark}{text}{mark}", mark, words),
        st.builds(lambda text, target: f"[{text}]({target})", words, target),
        st.builds(lambda text, target: f"![{text}]({target})", words, target),
        st.just("<https://a.example/auto>"),
    )


INLINE = st.recursive(
    st.lists(WORDS, min_size=1, max_size=12).map(" ".join),
    lambda inner: st.lists(st.one_of(inner, _marked(inner)), min_size=1, max_size=3).map(" ".join),
    max_leaves=6,
)
LINES = st.lists(INLINE, min_size=1, max_size=4).map("\n".join)


def _indented(text: str, first: str, rest: str) -> str:
    lines = text.split("\n")
    return "\n".join([first + lines[0], *(rest + line if line else line for line in lines[1:])])


CODE_LINES = [
    *("", "x = 1", "    return x", 'print("""', '"""', "# note", "def f():"),
    *("日本", "```", "\tif x:", "$ ls | wc", "y" * 90),
]  # fmt: skip
CODE = st.lists(st.sampled_from(CODE_LINES), max_size=25).map("\n".join)
FENCES = st.builds(
    lambda fence, language, code, end: f"{fence}{language}\n{code}{end and chr(10) + fence}",
    st.sampled_from(["```", "~~~", "````"]),
    st.sampled_from(["", "python", "sh", "json", "nolanguage", " c++ x=1"]),
    CODE,
    st.sampled_from([True, True, True, False]).map(lambda ends: "x" * ends),
)
CELL = st.lists(WORDS, max_size=4).map(lambda words: " ".join(words).replace("|", "\\|"))


@st.composite
def tables(draw: st.DrawFn) -> str:
    columns = draw(st.integers(1, 5))
    rule = "|".join(draw(st.sampled_from(["---", ":-:", "--:", ":--"])) for _ in range(columns))
    rows = draw(st.lists(st.lists(CELL, min_size=columns, max_size=columns + 1), min_size=1, max_size=14))
    head, *body = (f"| {' | '.join(row[:columns] if number == 0 else row)} |" for number, row in enumerate(rows))
    return "\n".join([head, f"|{rule}|", *body])


def _lists(blocks: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def listed(items: list[str], bullet: str, start: int, is_loose: bool) -> str:
        texts = []
        for number, item in enumerate(items, start):
            mark = f"{number}{bullet} " if bullet in ".)" else f"{bullet} "
            texts.append(_indented(item, mark, " " * len(mark)))
        return ("\n\n" if is_loose else "\n").join(texts)

    return st.builds(
        listed,
        st.lists(blocks, min_size=1, max_size=5),
        st.sampled_from("-*+.)"),
        st.sampled_from([1, 1, 1, 0, 8, 99]),
        st.booleans(),
    )


LEAVES = st.one_of(
    LINES,
    LINES,
    st.builds(lambda level, text: f"{'#' * level} {text}", st.integers(1, 6), INLINE),
    st.builds(lambda text, line: f"{text}\n{line}", INLINE, st.sampled_from(["===", "---"])),
    FENCES,
    tables(),
    st.sampled_from(["---", "***", "- - -"]),
    CODE.map(lambda code: _indented(code, "    ", "    ")),
)
BLOCKS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("\n\n".join),
        _lists(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda blocks: _indented("\n\n".join(blocks), "> ", "> ")),
    ),
    max_leaves=8,
)
DOCUMENTS = st.builds(
    lambda blocks, gap, end: gap.join(blocks) + end,
    st.lists(BLOCKS, min_size=1, max_size=6),
    st.sampled_from(["\n\n", "\n\n", "\n", "\n\n\n"]),
    st.sampled_from(["", "\n", "\n\n"]),
)
"""Documents of every kind of block, nested."""

SIZES = st.tuples(st.sampled_from([20, 40, 80, 200]), st.sampled_from([4, 6, 10, 24]))
"""Columns and rows."""


@st.composite
def arrivals(draw: st.DrawFn, text: str) -> tuple[list[str], list[int]]:
    """Pieces of a text, and after how many pieces each frame comes."""
    sizes = draw(st.lists(st.sampled_from([1, 1, 2, 3, 4, 7, 20, 200]), min_size=1, max_size=10))
    pieces, at, turn = [], 0, 0
    while at < len(text):
        pieces.append(text[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    return pieces, draw(st.lists(st.sampled_from([1, 1, 2, 3, 9, 50]), min_size=1, max_size=6))
