"""Converts HTML to Markdown: text, headings, lists, tables and links, without what only a browser needs.

This is the only such conversion: for published files, for events with HTML, and for DOCX files by way of mammoth.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EncodingDetector
from markdownify import ATX, MarkdownConverter

from infra.conversion.document import Converted, Unreadable, decode_utf8, one_line
from infra.conversion.html_cleaning import HEADINGS, clean

MAX_DEPTH = 100
"""Tags that are nested more deeply are ignored; their text is kept."""
_CONTAINERS = ("ul", "ol", "blockquote")
_TABLE_PARTS = ("caption", "thead", "tbody", "tfoot", "tr", "td", "th")
_BLOCK_MARK = re.compile(r"^(\s*)(?=#{1,6}(?:\s|$)|```|~~~|<|[-=:|][-=:| ]*$)")
"""A text that begins with what Markdown takes for a heading, code, HTML, or the line below a heading or table head."""
_INLINE_MARK = re.compile(r"[\\`*_\[\]<>&#~]")
_LINE = re.compile(r"^(?=.)(?<!\A)", re.MULTILINE)
_BACKTICKS = re.compile(r"`+")
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED_BAR = r"\\|"


@dataclass(frozen=True)
class Page:
    """A page as Markdown, its first heading, and the text of its title element."""

    text: str
    heading: str | None
    title: str | None


def convert_html(raw: bytes) -> Converted:
    """Converts a page, which it decodes by its byte order mark, by the charset that it declares, or as UTF-8.

    A declaration that names no charset of web pages counts for nothing, as in browsers.
    """
    return converted(_decode(raw))


def converted(html: str) -> Converted:
    """Converts HTML text; the title is the first heading, or else the title element."""
    page = read_page(html)
    return Converted(page.text, page.heading or page.title)


def read_page(html: str) -> Page:
    """Converts any HTML text, in time and memory that grow linearly with its length. Broken markup hides no text."""
    cleaned = clean(html)
    soup = _BoundedSoup(f"<html><body>{cleaned.body}</body></html>", "lxml")
    _arrange(soup)
    heading = None
    for each in soup.find_all(HEADINGS):
        title = one_line(each.get_text())
        heading = heading or title
        if not title:
            each.name = "div"  # it only makes space
    text: str = _Markdown(
        heading_style=ATX, bullets="-", wrap=True, wrap_width=None, escape_asterisks=False, escape_underscores=False
    ).convert_soup(soup)
    return Page(text.strip(), heading or None, cleaned.title or None)


class _BoundedSoup(BeautifulSoup):
    """Beautiful Soup that ignores tags nested deeper than MAX_DEPTH, because the converter recurses into each level."""

    depth = 0

    def reset(self) -> None:
        super().reset()
        self.depth = 0

    def handle_starttag(self, *arguments: Any, **named: Any) -> Tag | None:
        self.depth += 1
        if self.depth <= MAX_DEPTH:
            return super().handle_starttag(*arguments, **named)
        self.handle_data(" ")  # a tag may separate two words
        return None

    def handle_endtag(self, *arguments: Any, **named: Any) -> None:
        if self.depth <= MAX_DEPTH:
            super().handle_endtag(*arguments, **named)
        self.depth -= 1


def _arrange(soup: BeautifulSoup) -> None:
    """Prepares the tree for the converter: the items of ordered lists know their numbers, and layout becomes divisions.

    A table that holds headings, code or tables, and a list or quotation that holds headings, only arranges the page: in
    Markdown, a heading inside of them would be no heading of the page, and code in a table no code.
    """
    for ordered in soup.find_all("ol"):
        start = str(ordered.get("start", ""))[:9]
        items = ordered.find_all("li", recursive=False)
        for number, item in enumerate(items, int(start) if start.isdecimal() else 1):
            item["value"] = str(number)
    layout: set[int] = set()
    for each in soup.find_all([*HEADINGS, "pre", "table"]):
        for parent in each.parents:
            if parent.name == "table" or (parent.name in _CONTAINERS and each.name in HEADINGS):
                parent.name = "div"
                layout.add(id(parent))
    for each in soup.find_all([*_TABLE_PARTS, "li"]):
        if id(each.parent) in layout:
            each.name = "div"
            layout.add(id(each))


def _decode(raw: bytes) -> str:
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if raw.startswith(mark):
            return _decode_as(raw, name)
    declared = EncodingDetector.find_declared_encoding(raw, is_html=True)
    charset = None if declared is None else _charset(declared)
    if raw.startswith(codecs.BOM_UTF8) or charset is None:
        return decode_utf8(raw)
    return _decode_as(raw, charset)


_CHARSETS = frozenset(
    {
        *(f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
        *("cp866", "cp874", *(f"cp125{part}" for part in range(9)), "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic"),
        *("gb2312", "gbk", "gb18030", "big5", "big5hkscs", "euc_jp", "iso2022_jp", "shift_jis", "cp932", "euc_kr"),
        *("cp949", "tis-620"),
    }
)
"""The charsets of web pages that are not UTF-8, as Python names them (WHATWG, Encoding). Python has other codecs, which
turn text into other text, such as base64_codec and unicode_escape, or which no page is written in."""
_BROWSERS = {
    **dict.fromkeys(("iso-8859-1", "latin1", "ascii", "us-ascii", "x-cp1252"), "cp1252"),  # what most authors mean
    "x-sjis": "cp932",
    "windows-949": "cp949",
    "ks_c_5601-1987": "cp949",
    "x-gbk": "gbk",
    "iso-8859-8-i": "iso8859-8",
    "windows-874": "cp874",
    "dos-874": "cp874",
    "x-cp1250": "cp1250",
    "x-cp1251": "cp1251",
    "macintosh": "mac-roman",
    "x-mac-roman": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
}
"""Names that browsers read otherwise than Python, or that Python does not know."""


def _charset(declared: str) -> str | None:
    """Returns Python's name of a page's charset; None for UTF-8, and for what is no charset of a page."""
    try:
        name = codecs.lookup(_BROWSERS.get(declared.strip().lower(), declared)).name
    except (LookupError, ValueError):
        return None
    if name in ("ascii", "iso8859-1"):  # by another of their names
        return "cp1252"
    return name if name in _CHARSETS else None


def _decode_as(raw: bytes, charset: str) -> str:
    try:
        return str(codecs.decode(raw, charset))
    except (UnicodeError, ValueError):
        raise Unreadable(f"is not in the charset that it declares, {charset}: save it as UTF-8") from None


class _Markdown(MarkdownConverter):
    """markdownify, with links to other sites only, and with escapes for text that looks like Markdown.

    Its own methods for list items and table rows look at all siblings of each, which takes quadratic time.
    """

    def escape(self, text: str, parent_tags: set[str]) -> str:
        if not parent_tags.isdisjoint(HEADINGS):
            return _INLINE_MARK.sub(r"\\\g<0>", text)
        return _BLOCK_MARK.sub(r"\1\\", text)

    def convert_br(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        return " " if "_inline" in parent_tags else "\n"

    def convert_a(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        if not str(element.get("href") or "").startswith(("http://", "https://")):
            return text
        # By name, because the library's types do not tell of this method.
        return str(getattr(super(), "convert_a")(element, text, parent_tags=parent_tags))  # noqa: B009

    def convert_li(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        text = text.strip()
        number = element.get("value")
        bullet = "- " if number is None else f"{number}. "
        return f"\n{bullet}{_LINE.sub(' ' * len(bullet), text)}\n" if text else ""

    def convert_pre(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        code = text.strip("\r\n").rstrip()
        fence = "`" * max(3, 1 + max(map(len, _BACKTICKS.findall(code)), default=0))
        return f"\n\n{fence}\n{code}\n{fence}\n\n" if code else ""

    def convert_table(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        lines = [line for line in text.split("\n") if line.strip()]
        rows = [line for line in lines if line.startswith("| ")]
        if rows:
            rows.insert(1, "|" + " --- |" * rows[0].count(" |"))
        others = [line for line in lines if not line.startswith("| ")]
        return "\n\n" + "\n\n".join([*others, "\n".join(rows)]).strip() + "\n\n"

    def convert_tr(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        return f"|{text}\n" if text.strip(" |") else ""

    def convert_td(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        cell = f" {_BAR.sub(_ESCAPED_BAR, one_line(text))} |"
        in_row = element.parent is not None and element.parent.name == "tr"
        return cell if in_row else f"\n|{cell}\n"

    convert_th = convert_td
