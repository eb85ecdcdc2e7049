"""What Office files say of themselves: their title."""

from __future__ import annotations

import io
import zipfile

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

_MEMBER = "docProps/core.xml"
_TITLE = "{http://purl.org/dc/elements/1.1/}title"


def title_property(raw: bytes) -> str | None:
    """The title of a DOCX file among its properties; None where there is none that can be read."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        if _MEMBER not in archive.namelist():
            return None
        try:
            title = fromstring(archive.read(_MEMBER)).findtext(_TITLE)
        except (ParseError, DefusedXmlException):
            return None
    return title.strip() if title else None
