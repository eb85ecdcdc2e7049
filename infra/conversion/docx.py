"""DOCX files as Markdown, by way of the HTML that their paragraph styles stand for."""

from __future__ import annotations

import io
from typing import Any

import mammoth

from infra.conversion.archives import check_archive
from infra.conversion.core_properties import title_property
from infra.conversion.document import Converted
from infra.conversion.html import converted

STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"


def convert_docx(raw: bytes) -> Converted:
    """A document's text, headings, lists, tables and links; of a picture its description."""
    check_archive(raw, ".docx")
    made = mammoth.convert_to_html(
        io.BytesIO(raw), style_map=STYLES, convert_image=mammoth.images.img_element(_description)
    )
    found = converted(made.value)
    return Converted(found.text, found.title or title_property(raw))


def _description(_image: Any) -> dict[str, str]:
    return {}  # the reader adds the description; the picture itself would be inlined
