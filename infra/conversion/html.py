"""HTML as Markdown: its text, headings, lists, tables and links, without what only a browser needs."""

from __future__ import annotations

import codecs
from typing import Any

from bs4 import BeautifulSoup
from bs4.dammit import EncodingDetector
from markdownify import ATX, MarkdownConverter

from infra.conversion.document import Converted, Unreadable, decode_utf8, one_line

UNSEEN = ("script", "style", "template", "noscript", "svg", "iframe", "head", "nav")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def convert_html(raw: bytes) -> Converted:
    """A page, decoded by its byte order mark, the charset that it declares, or as UTF-8."""
    return markdown_of(_decode(raw))


def markdown_of(html: str) -> Converted:
    """HTML text as Markdown, with its first heading or its title element as the title."""
    soup = BeautifulSoup(html, "lxml")
    title = one_line(soup.title.get_text()) if soup.title is not None else ""
    for each in soup.find_all(UNSEEN):
        each.decompose()
    heading = None
    for each in soup.find_all(HEADINGS):
        named = one_line(each.get_text())
        heading = heading or named
        if not named and each.find("img") is None:
            each.decompose()  # space for the eye
    converter = _Markdown(
        heading_style=ATX, bullets="-", table_infer_header=True, escape_asterisks=False, escape_underscores=False
    )
    text: str = converter.convert_soup(soup)
    return Converted(text, heading or title or None)


def _decode(raw: bytes) -> str:
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if raw.startswith(mark):
            return _decode_as(raw, name)
    declared = EncodingDetector.find_declared_encoding(raw, is_html=True)
    if raw.startswith(codecs.BOM_UTF8) or declared is None or declared.lower().replace("-", "").startswith("utf"):
        return decode_utf8(raw)  # whoever can read the declaration byte by byte has no UTF-16 before him
    return _decode_as(raw, _BROWSERS.get(declared.lower(), declared))


_BROWSERS = {"iso-8859-1": "cp1252", "latin1": "cp1252", "ascii": "cp1252", "us-ascii": "cp1252"}
"""What browsers take these for, and people mean."""


def _decode_as(raw: bytes, charset: str) -> str:
    try:
        return str(codecs.decode(raw, charset))
    except LookupError:
        raise Unreadable(f"declares the charset {charset!r}, which is unknown: save it as UTF-8") from None
    except (UnicodeError, ValueError):
        raise Unreadable(f"is not in the charset that it declares, {charset}: save it as UTF-8") from None


class _Markdown(MarkdownConverter):
    """Markdown for readers of text: images are their descriptions, and links lead somewhere."""

    def convert_img(self, element: Any, text: str, parent_tags: Any) -> str:
        return one_line(element.get("alt") or "")

    def convert_a(self, element: Any, text: str, parent_tags: Any) -> str:
        if not str(element.get("href") or "").startswith(("http://", "https://")):
            return text
        return self._as_it_is("a", element, text, parent_tags)

    def convert_td(self, element: Any, text: str, parent_tags: Any) -> str:
        return self._as_it_is("td", element, text.replace("|", "\\|"), parent_tags)

    def convert_th(self, element: Any, text: str, parent_tags: Any) -> str:
        return self._as_it_is("th", element, text.replace("|", "\\|"), parent_tags)

    def _as_it_is(self, tag: str, element: Any, text: str, parent_tags: Any) -> str:
        # By name, because the library's types do not tell of these methods.
        return str(getattr(super(), f"convert_{tag}")(element, text, parent_tags=parent_tags))
