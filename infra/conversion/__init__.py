"""Converts files of many formats, and HTML text, to Markdown.

Files are read in a child process, so that a hostile file costs only itself. HTML text that arrives as an event is read
in the indexer's process: its conversion takes time and memory that grow with its length alone.
"""

from infra.conversion.converter import Converter
from infra.conversion.document import CONVERSION, FORMATS, MAX_FILE_BYTES, Converted, Unreadable, decode_utf8

__all__ = [
    "CONVERSION",
    "Converted",
    "Converter",
    "FORMATS",
    "MAX_FILE_BYTES",
    "Unreadable",
    "decode_utf8",
    "read_html",
]


def read_html(html: str) -> tuple[str, str | None]:
    """The page's text as Markdown, and the text of its title element. Satisfies the indexer's HtmlReader."""
    from infra.conversion.html import read_page  # Beautiful Soup and lxml are loaded by the first page, not before

    page = read_page(html)
    return page.text, page.title
