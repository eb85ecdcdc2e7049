"""Reads a web page as its visible text in Markdown, and says where its headings, code and tables lie in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain

from agents.chunking.markup import Tag, decoded, markup
from agents.chunking.outline import Heading, Outline, Whole, heading, outline

_ALT = re.compile(r"\salt\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+))", re.IGNORECASE)
_BACKTICKS = re.compile(r"`+")
_INVISIBLE = frozenset(("template", "nav", "svg"))
_LEVELS = {f"h{level}": level for level in range(1, 7)}
# fmt: off
_BLOCKS = frozenset(_LEVELS) | {
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "dialog", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "head", "header", "hgroup", "hr", "html",
    "legend", "li", "main", "ol", "optgroup", "option", "p", "section", "summary", "tbody", "tfoot", "thead",
    "ul",
}
# fmt: on
_MAX_INDENT = 8


@dataclass
class _Table:
    """``header``: the first row has header cells. ``layout``: it only arranges a page, and is read as if not there."""

    rows: list[list[str]] = field(default_factory=list)
    header: bool = False
    layout: bool = False
    in_cell: bool = False


def webpage_outline(source: str) -> Outline:
    """The visible text of an HTML document and its sections; the same for the same document, in linear time."""
    hidden = _INVISIBLE
    page = _read(source, hidden)
    while page.inside:
        # An element that does not end must not hide the rest of the document.
        hidden -= {page.inside}
        page = _read(source, hidden)
    return outline("".join(page.parts), 0, page.headings, page.wholes, " ".join("".join(page.title).split())[:1000])


def _read(source: str, hidden: frozenset[str]) -> _Page:
    page = _Page(hidden)
    for part in markup(source):
        if isinstance(part, str):
            page.text(part)
        elif part.opens:
            page.open(part)
        else:
            page.close(part.name)
    page.finish()
    return page


class _Page:
    """What has been read so far of a page; elements named in ``hidden`` are left out."""

    def __init__(self, hidden: frozenset[str]) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self.wholes: list[Whole] = []
        self.title: list[str] = []
        self.inside, self._depth, self._hidden = "", 0, hidden
        self._length = 0
        self._line: list[str] = []
        self._marker, self._in_list = "", False
        self._level = 0
        self._code: list[str] | None = None
        self._lists: list[int | None] = []
        self._tables: list[_Table] = []
        self._titled = self._in_title = False

    def text(self, text: str) -> None:
        if self.inside:
            return
        if self._in_title:
            self.title.append(text)
        elif self._code is not None:
            self._code.append(text)
        else:
            # Where a line ends in the source says nothing about the page.
            self._line.append(text.replace("\n", " "))

    def open(self, tag: Tag) -> None:
        name, self._in_title = tag.name, False
        if self.inside:
            self._depth += name == self.inside
        elif name in self._hidden:
            self.inside, self._depth = name, 1
        elif name == "title":
            self._in_title, self._titled = not self._titled, True
        elif name == "br":
            (self._line if self._code is None else self._code).append("\n")
        elif self._code is not None:
            return
        elif name == "img":
            alt = _ALT.search(tag.source)
            self.text(f" {decoded(alt[1] or alt[2] or alt[3] or '')} " if alt else "")
        elif name == "code":
            self._line.append("`")
        elif name in ("tr", "td", "th"):
            self._open_cell(name)
        elif name in _LEVELS or name in ("pre", "table"):
            self._leave_table()
            self._flush()
            self._level = _LEVELS.get(name, 0)
            self._code = [] if name == "pre" else None
            self._tables += [_Table()] if name == "table" else []
        elif name in _BLOCKS:
            self._flush()
            if not self._is_in_cell():
                self._open_list(name)

    def close(self, name: str) -> None:
        if self.inside:
            self._depth -= name == self.inside
            self.inside = self.inside if self._depth else ""
        elif name == "title":
            self._in_title = False
        elif self._code is not None:
            if name == "pre":
                self._end_code()
            elif name in _BLOCKS:
                self._code.append("\n")
        elif name == "code":
            self._line.append("`")
        elif name in ("tr", "td", "th"):
            self._end_cell()
        elif name == "table":
            self._end_table()
        elif name in _BLOCKS:
            self._flush()
            self._level = 0
            if not self._is_in_cell():
                self._marker = ""
                if name in ("ul", "ol") and self._lists:
                    self._lists.pop()

    def finish(self) -> None:
        """What has not been closed ends here."""
        self._end_code()
        while self._tables:
            self._end_table()
        self._flush()

    def _emit(self, text: str, gap: str = "\n\n") -> tuple[int, int]:
        before = gap if self._length else ""
        self.parts += [before, text]
        start = self._length + len(before)
        self._length = start + len(text)
        return start, self._length

    def _taken(self) -> str:
        """The running text, without the spaces that a browser would not show."""
        lines = [" ".join(line.split()) for line in "".join(self._line).split("\n")]
        self._line = []
        return "\n".join(lines).strip()

    def _flush(self) -> None:
        """A block begins or ends here: what runs up to here is a heading or a paragraph, in a table's cell neither."""
        if self._is_in_cell():
            self._line.append(" ")
        elif text := self._taken():
            if self._level:
                line = f"{'#' * self._level} {' '.join(text.split())}"
                self.headings.append(heading(self._level, text, *self._emit(line)))
                self._level = 0
            else:
                self._emit(self._marker + text, "\n" if self._marker and self._in_list else "\n\n")
            self._marker, self._in_list = "", bool(self._marker)

    def _open_list(self, name: str) -> None:
        if name in ("ul", "ol"):
            self._lists.append(0 if name == "ol" else None)
        elif name == "li":
            count = self._lists[-1] if self._lists else None
            if count is not None:
                self._lists[-1] = count = count + 1
            indent = "  " * min(len(self._lists) - 1, _MAX_INDENT)
            self._marker = f"{indent}- " if count is None else f"{indent}{count}. "

    def _end_code(self) -> None:
        code = "".join(self._code or ()).strip("\r\n").rstrip()
        self._code = None
        if code:
            fence = "`" * max(3, 1 + max(map(len, _BACKTICKS.findall(code)), default=0))
            start, end = self._emit(f"{fence}\n{code}\n{fence}")
            self.wholes.append(Whole(kind="code", start=start, end=end))

    def _is_in_cell(self) -> bool:
        return bool(self._tables) and self._tables[-1].in_cell

    def _open_cell(self, name: str) -> None:
        self._end_cell()
        self._flush()
        if self._tables and not self._tables[-1].layout:
            table = self._tables[-1]
            if name == "tr" or not table.rows:
                table.rows.append([])
            if name != "tr":
                table.in_cell = True
                table.header |= name == "th" and len(table.rows) == 1

    def _end_cell(self) -> None:
        if self._is_in_cell():
            self._tables[-1].rows[-1].append(" ".join(self._taken().split()))
            self._tables[-1].in_cell = False
        else:
            self._flush()

    def _leave_table(self) -> None:
        """A heading, code or another table begins in a cell: the table around it is there for the layout."""
        if self._is_in_cell():
            table = self._tables[-1]
            for cell in filter(None, chain.from_iterable(table.rows)):
                self._emit(cell)
            table.rows, table.header, table.layout, table.in_cell = [], False, True, False

    def _end_table(self) -> None:
        self._end_cell()
        if self._tables:
            self._end_rows(self._tables.pop())

    def _end_rows(self, table: _Table) -> None:
        rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows if any(row)]
        repeated = table.header and any(table.rows[0])
        if repeated:
            rows.insert(1, "|" + " --- |" * len(table.rows[0]))
        if rows:
            start, end = self._emit("\n".join(rows))
            header = start + len(rows[0]) + 1 + len(rows[1]) if repeated else None
            self.wholes.append(Whole(kind="table", start=start, end=end, header_end=header))
