"""Converts DOCX files to Markdown: mammoth makes HTML of them, which is converted as any page is."""

from __future__ import annotations

import io
import zipfile

import mammoth
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from infra.conversion.archives import check_archive
from infra.conversion.document import Converted
from infra.conversion.html import converted

STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"
_PROPERTIES = "docProps/core.xml"
_TITLE = "{http://purl.org/dc/elements/1.1/}title"


def convert_docx(raw: bytes) -> Converted:
    """Converts text, headings, lists, tables and links; a picture becomes its description."""
    check_archive(raw, ".docx")
    made = mammoth.convert_to_html(
        io.BytesIO(raw), style_map=STYLES, convert_image=mammoth.images.img_element(_description)
    )
    found = converted(made.value)
    return Converted(found.text, found.title or _title_property(raw))


def _description(_image: object) -> dict[str, str]:
    return {}  # mammoth adds the description; by default it would also inline the picture


def _title_property(raw: bytes) -> str | None:
    """Reads the title from the file's properties; None where there is none, or they cannot be read."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        if _PROPERTIES not in archive.namelist():
            return None
        try:
            title = fromstring(archive.read(_PROPERTIES)).findtext(_TITLE)
        except (ParseError, DefusedXmlException):
            return None
    return title.strip() if title else None
