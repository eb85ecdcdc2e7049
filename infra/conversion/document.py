"""What a conversion gives, why it may give nothing, and the bounds that every format keeps to."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.event import MAX_DOCUMENT_CHARACTERS

READERS = {
    ".html": "html:convert_html",
    ".htm": "html:convert_html",
    ".pdf": "pdf:convert_pdf",
    ".docx": "docx:convert_docx",
    ".pptx": "pptx:convert_pptx",
    ".xlsx": "xlsx:convert_xlsx",
    ".csv": "tables:convert_csv",
    ".json": "tables:convert_json",
}
"""Of each ending, in lower case, the module of this package and its function from a file's bytes to Converted."""
FORMATS = frozenset(READERS)
CONVERSION = 2
"""Counts up when conversion gives other texts than before, so that folders are published anew."""
MAX_FILE_BYTES = 50 * 1024 * 1024
"""A larger file is refused before it is read."""


class Unreadable(ValueError):
    """A file that gives no document; the message says what is wrong with it, and what to do where that is not plain."""


@dataclass(frozen=True)
class Converted:
    """A document's text as Markdown, and its title: the first heading, else what the file says of itself."""

    text: str
    title: str | None = None


def decode_utf8(raw: bytes) -> str:
    """The text of a file that should be UTF-8, without a byte order mark. Raises Unreadable."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("is UTF-16: save it as UTF-8")
    if b"\0" in raw:
        raise Unreadable("holds NUL bytes, so it is not a text file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start + 1} is not UTF-8") from None


def bounded(parts: Iterable[str], between: str) -> str:
    """The parts in one text. Raises Unreadable as soon as it is longer than a document may be."""
    kept: list[str] = []
    total = 0
    for part in parts:
        total += len(part) + len(between)
        if total > MAX_DOCUMENT_CHARACTERS + len(between):
            raise Unreadable(f"makes more than {MAX_DOCUMENT_CHARACTERS:,} characters of text: split it")
        kept.append(part)
    return between.join(kept)


def one_line(text: object) -> str:
    """The text with all white space as single spaces."""
    return " ".join(str(text).split())
