"""Markdown in one piece: rich's own rendering, changed where a growing reply could not be rendered the same way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

from markdown_it.token import Token
from rich import markdown as stock
from rich.console import Console, ConsoleOptions, RenderResult
from rich.jupyter import JupyterMixin
from rich.rule import Rule
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from ._code import CodeRows
from ._parse import clean, parse, units
from ._rows import Row, make_row


class Markdown(JupyterMixin):
    """A Markdown text as a rich renderable: what a `MarkdownSink` leaves on the screen is what this prints.

    The options are those of `rich.markdown.Markdown`: `code_theme`, `justify`, `style`, `hyperlinks`,
    `inline_code_lexer` and `inline_code_theme`. Unlike there, HTML tags are shown as text, blocks are separated by one
    blank row, a list item is indented by the width of its own number, an image stands where the text has it, and
    control characters are left out. Raises `TypeError` for an unknown option.
    """

    def __init__(self, text: str, **markdown_options: Any) -> None:
        self._renderer = UnitRenderer("", **markdown_options)
        self._tokens = parse(clean(text), {})

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needs_gap = False
        for unit in units(self._tokens):
            rows = self._renderer.rows(unit.tokens, console, options)
            if rows and unit.is_first and needs_gap:
                yield Segment.line()
            needs_gap = needs_gap or bool(rows)
            for row in rows:
                yield from row
                yield Segment.line()


class UnitRenderer(stock.Markdown):
    """Renders the units of a document by rich's own Markdown, with some of its elements replaced."""

    elements: ClassVar[dict[str, type[stock.MarkdownElement]]]

    def __init__(self, text: str, **markdown_options: Any) -> None:
        super().__init__(text, **markdown_options)
        self.code_rows = CodeRows()

    def rows(self, tokens: list[Token], console: Console, options: ConsoleOptions) -> list[Row]:
        """Render the tokens of a unit to rows, without a blank row before or after them."""
        self.parsed = tokens
        lines = list(Segment.split_lines(cast("Iterable[Segment]", self.__rich_console__(console, options))))
        if lines and not lines[0]:  # rich puts a blank row before a container
            del lines[0]
        rows = [make_row(_trimmed(line), options.max_width) for line in lines]
        if tokens[0].type == "table_open" and len(rows) > 1:  # the edges of a table, which are blank
            rows = rows[not rows[0] : len(rows) - (not rows[-1])]
        return rows


def _trimmed(row: list[Segment]) -> list[Segment]:
    """Return a row without the blanks at its end that look like nothing: rich pads most rows to the whole width."""
    while row and row[-1].text.isspace() and _is_invisible(row[-1].style):
        row.pop()
    if row and row[-1].text.endswith(" ") and _is_invisible(row[-1].style):
        row[-1] = Segment(row[-1].text.rstrip(" "), row[-1].style)
    return row


def _is_invisible(style: Style | None) -> bool:
    """Return `True` if a space in this style looks like no space at all."""
    return style is None or not (
        style.bgcolor or style.reverse or style.underline or style.underline2 or style.overline or style.strike
    )


class _TextElement(stock.MarkdownElement):
    """An element of text. Puts an image where the text has it; rich puts images before the whole block."""

    def on_child_close(self, context: stock.MarkdownContext, child: stock.MarkdownElement) -> bool:
        if isinstance(child, _Image):
            self.on_text(context, child.label())
            return False
        return super().on_child_close(context, child)


class _Paragraph(_TextElement, stock.Paragraph):
    pass


class _Heading(_TextElement, stock.Heading):
    pass


class _TableCell(_TextElement, stock.TableDataElement):
    pass


class _Image(stock.ImageItem):
    def label(self) -> Text:
        title = self.text or Text(self.destination.strip("/").rpartition("/")[2])
        if self.hyperlinks:
            title.stylize(Style(link=self.link or self.destination or None))
        return Text.assemble("🌆 ", title)


class _HorizontalRule(stock.HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Rule(style=console.get_style("markdown.hr", default="none"), characters="-")


class _BlockQuote(stock.BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = _at_least(options, 5)
        inside = options.update(width=options.max_width - 4)
        for row in console.render_lines(self.elements, inside, style=self.style):
            # Simplified, as each outer quote goes through all segments again.
            yield from Segment.simplify([Segment("▌ ", self.style), *row])
            yield Segment.line()


class _List(stock.ListElement):
    """A list whose items are indented by the width of their own numbers: the last number is not known yet."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, item in enumerate(self.items, 1 if self.list_start is None else self.list_start):
            if self.list_type == "bullet_list_open":
                yield from item.render_bullet(console, _at_least(options, 4))
            else:
                width = len(str(max(number, 10)))  # two digits at least
                yield from item.render_number(console, _at_least(options, width + 3), number, 10 ** (width - 1))


def _at_least(options: ConsoleOptions, width: int) -> ConsoleOptions:
    """Widen the options so that one column at least is left to what is nested."""
    return options if options.max_width >= width else options.update(width=width)


class _CodeBlock(stock.CodeBlock):
    rows: CodeRows

    @classmethod
    def create(cls, markdown: stock.Markdown, token: Token) -> _CodeBlock:
        block = cls((token.info or "").partition(" ")[0] or "text", markdown.code_theme)
        block.rows = markdown.code_rows if isinstance(markdown, UnitRenderer) else CodeRows()
        return block

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        for row in self.rows.render(code, self.lexer_name, self.theme, console, options.max_width):
            yield from row
            yield Segment.line()


UnitRenderer.elements = {
    **stock.Markdown.elements,
    "paragraph_open": _Paragraph,
    "heading_open": _Heading,
    "fence": _CodeBlock,
    "code_block": _CodeBlock,
    "blockquote_open": _BlockQuote,
    "hr": _HorizontalRule,
    "bullet_list_open": _List,
    "ordered_list_open": _List,
    "image": _Image,
    "td_open": _TableCell,
    "th_open": _TableCell,
}
