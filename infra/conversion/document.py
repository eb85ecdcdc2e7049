"""The result of a conversion, its error, and the limits that hold for every format."""

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
"""By file ending in lower case: the module of this package and the function that converts a file's bytes."""
FORMATS = frozenset(READERS)
CONVERSION = 2
"""Increase this when conversion gives other texts than before: folders are then published again."""
MAX_FILE_BYTES = 50 * 1024 * 1024
"""Larger files are refused before they are read."""


class Unreadable(ValueError):
    """A file that cannot become a document. The message says what is wrong with it and, if need be, what to do."""


@dataclass(frozen=True)
class Converted:
    """A document's text as Markdown, and its title: the first heading, or else the title in the file's properties."""

    text: str
    title: str | None = None


def decode_utf8(raw: bytes) -> str:
    """Decodes UTF-8, and drops a byte order mark. Raises Unreadable."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("is UTF-16: save it as UTF-8")
    if b"\0" in raw:
        raise Unreadable("holds NUL bytes, so it is not a text file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start + 1} is not UTF-8") from None


def bounded(parts: Iterable[str], between: str) -> str:
    """Joins the parts. Raises Unreadable as soon as the text is longer than a document may be."""
    kept: list[str] = []
    total = 0
    for part in parts:
        total += len(part) + len(between)
        if total > MAX_DOCUMENT_CHARACTERS + len(between):
            raise Unreadable(f"makes more than {MAX_DOCUMENT_CHARACTERS:,} characters of text: split it")
        kept.append(part)
    return between.join(kept)


def one_line(text: object) -> str:
    """Replaces each run of white space by one space."""
    return " ".join(str(text).split())
