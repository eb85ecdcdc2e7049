"""Converts PDF files to Markdown: text in reading order, with headings and paragraphs found by size and distance.

A PDF places characters on pages, and does not mark headings. A short text that is larger than most of the text is
taken for a heading. A line that is further below the one before it than lines usually are begins a paragraph.
"""

from __future__ import annotations

import ctypes
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import pypdfium2
from pypdfium2 import raw as pdfium

from infra.conversion.document import Converted, Unreadable, bounded, one_line

HEADING_RATIO = 1.15
"""The least ratio of a heading's height to the height of most of the text."""
PARAGRAPH_RATIO = 1.3
"""The least ratio of the distance before a new paragraph to the distance of most lines."""
MAX_HEADING_CHARACTERS = 200
MAX_HEADING_LEVEL = 4
BULLETS = "•◦▪‣●○■–·\uf0b7"
_HYPHENS = (0x02, 0xFFFE)
"""The code points that the library gives for a hyphen at the end of a line; the rest of the word follows."""
_NEW_LINE, _SPACE = 10, 32


@dataclass(frozen=True)
class Line:
    """A line of text, or several lines if a hyphenated word joins them.

    ``height`` in points. ``first``, ``last``: the baselines of the first and last character, in points from the
    bottom of the page.
    """

    page: int
    text: str
    height: float
    first: float
    last: float


def convert_pdf(raw: bytes) -> Converted:
    """Converts all pages; the title is the first heading, or else the one in the file's properties."""
    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise Unreadable("is protected by a password: save it without one") from None
        raise Unreadable("is damaged, or no .pdf file") from None
    with closing(document):
        lines = [line for number in range(len(document)) for line in _lines(document, number)]
        title = document.get_metadata_value("Title")
    if not lines:
        raise Unreadable("holds no text: where it is a scan, have its text recognised (OCR) first")
    blocks = list(_blocks(lines, _levels(lines)))
    heading = next((block.lstrip("# ") for block in blocks if block.startswith("#")), None)
    return Converted(bounded(blocks, "\n\n"), heading or title)


def _lines(document: pypdfium2.PdfDocument, number: int) -> Iterator[Line]:
    try:
        page = document[number]
        text = page.get_textpage()
    except pypdfium2.PdfiumError:
        raise Unreadable(f"page {number + 1} is damaged: save it again") from None
    units: list[int] = []
    begun = 0
    count = text.count_chars()
    for place in range(count):
        unit = pdfium.FPDFText_GetUnicode(text, place)
        units.append(unit)
        if unit == _NEW_LINE or place == count - 1:
            written = [index for index, each in enumerate(units) if each > _SPACE and each not in _HYPHENS]
            if written:
                ends = begun + written[0], begun + written[-1]
                # The height is taken from the last character: the first may be a bullet in another font.
                yield Line(
                    number, _text(units), _height(text, ends[1]), _baseline(text, ends[0]), _baseline(text, ends[1])
                )
            units, begun = [], place + 1
    text.close()
    page.close()


def _text(units: list[int]) -> str:
    """Joins UTF-16 code units: the library gives some characters as surrogate pairs."""
    written = (chr(unit).encode("utf-16-le", "surrogatepass") for unit in units if unit and unit not in _HYPHENS)
    return b"".join(written).decode("utf-16-le", "ignore").strip()


def _height(text: pypdfium2.PdfTextPage, place: int) -> float:
    box = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text, place, box)
    return round(abs(float(box.top) - float(box.bottom)) * 2) / 2


def _baseline(text: pypdfium2.PdfTextPage, place: int) -> float:
    across, up = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(text, place, across, up)
    return float(up.value)


def _levels(lines: list[Line]) -> dict[float, int]:
    """Maps the heights of headings to their levels; the largest is level 1."""
    characters: Counter[float] = Counter()
    for line in lines:
        characters[line.height] += len(line.text)
    usual = characters.most_common(1)[0][0]
    larger = sorted((height for height in characters if height >= usual * HEADING_RATIO), reverse=True)
    return {height: min(level, MAX_HEADING_LEVEL) for level, height in enumerate(larger, start=1)}


def _blocks(lines: list[Line], levels: dict[float, int]) -> Iterator[str]:
    """Joins lines to headings and paragraphs."""
    pairs = [(last, line) for last, line in pairwise(lines) if last.page == line.page]
    distances = [round(last.last - line.first) for last, line in pairs if last.last > line.first]
    usual = min(statistics.multimode(distances), default=0)
    block: list[Line] = []
    for line in lines:
        if block and not _continues(block[-1], line, usual, levels):
            yield _block(block, levels)
            block = []
        block.append(line)
    yield _block(block, levels)


def _continues(last: Line, line: Line, usual: int, levels: dict[float, int]) -> bool:
    if last.page != line.page or levels.get(last.height) != levels.get(line.height):
        return False
    return -1.0 < last.last - line.first <= PARAGRAPH_RATIO * max(usual, line.height)


def _block(lines: list[Line], levels: dict[float, int]) -> str:
    level = levels.get(lines[0].height)
    whole = one_line(" ".join(line.text for line in lines))
    if level and len(whole) <= MAX_HEADING_CHARACTERS and sum(map(str.isalnum, whole)) > 2:
        return f"{'#' * level} {whole}"
    return "\n".join(_plain(line.text) for line in lines)


def _plain(text: str) -> str:
    """Escapes what Markdown would take for a heading, and turns bullets into list marks."""
    if text[0] in BULLETS and text[1:2] == " ":
        return f"- {text[2:].lstrip()}"
    return f"\\{text}" if text.startswith("#") else text
