"""Makes small files of every format, as their programs write them, and hostile ones that no program writes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

import openpyxl
import pptx
from pptx.util import Inches

_DOCUMENT = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_CONTENT_TYPES = (
    f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONSHIPS = (
    f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>'
)
_STYLES = (
    f'<w:styles xmlns:w="{_DOCUMENT}"><w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/>'
    "</w:style></w:styles>"
)
_STYLES_OF_DOCUMENT = (
    f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>'
)


def docx(*paragraphs: str, heading: str | None = None, title: str | None = None) -> bytes:
    """A document of a heading and paragraphs; ``title`` stands in its properties alone."""
    head = "" if heading is None else f'<w:p><w:pPr><w:pStyle w:val="H1"/></w:pPr>{_run(heading)}</w:p>'
    body = head + "".join(f"<w:p>{_run(each)}</w:p>" for each in paragraphs)
    members = {
        "[Content_Types].xml": _CONTENT_TYPES,
        "_rels/.rels": _RELATIONSHIPS,
        "word/document.xml": f'<w:document xmlns:w="{_DOCUMENT}"><w:body>{body}</w:body></w:document>',
        "word/styles.xml": _STYLES,
        "word/_rels/document.xml.rels": _STYLES_OF_DOCUMENT,
    }
    if title is not None:
        members["docProps/core.xml"] = (
            f'<cp:coreProperties xmlns:cp="{_PACKAGE}/metadata/core-properties" '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></cp:coreProperties>'
        )
    return zipped(members)


def _run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A zip file of these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def bomb(megabytes: int, declared: int | None = None) -> bytes:
    """A DOCX that unpacks to so many megabytes of one letter, and may declare fewer bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("word/document.xml", "w") as file:
        for _ in range(megabytes):
            file.write(b"a" * 1024**2)
    raw = made.getvalue()
    if declared is not None:
        raw = raw.replace(struct.pack("<L", megabytes * 1024**2), struct.pack("<L", declared))
    return raw


def pptx_file() -> bytes:
    """Two slides: one with a title, points on two levels, a table and notes, and one without a title."""
    show = pptx.Presentation()
    first = show.slides.add_slide(show.slide_layouts[1])
    first.shapes.title.text = "Refunds"
    frame = first.placeholders[1].text_frame
    frame.text = "Within three days"
    point = frame.add_paragraph()
    point.text, point.level = "not on Sundays", 1
    table = first.shapes.add_table(2, 2, Inches(1), Inches(3), Inches(4), Inches(1)).table
    for row, texts in enumerate((("Country", "Days"), ("France", "3"))):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    first.notes_slide.notes_text_frame.text = "Say it slowly."
    second = show.slides.add_slide(show.slide_layouts[6])
    second.shapes.add_textbox(0, 0, Inches(3), Inches(1)).text_frame.text = "The end"
    made = io.BytesIO()
    show.save(made)
    return made.getvalue()


def xlsx(title: str | None = None, **sheets: list[list[object]]) -> bytes:
    """A workbook of these sheets."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    book.properties.title = title
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def pdf(*lines: tuple[int, int, str], title: str | None = None, encrypted: bool = False) -> bytes:
    """One page; a line is its font's size, its baseline in points from the page's bottom, and its text."""
    content = "BT " + " ".join(f"/F {size} Tf 1 0 0 1 50 {up} Tm ({text}) Tj" for size, up, text in lines) + " ET"
    parts = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        f"<</Title({title})>>" if title else "<<>>",
        f"<</Filter/Standard/V 1/R 2/P -1/O<{'00' * 32}>/U<{'11' * 32}>>>",
    ]
    made, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        places.append(len(made))
        made += f"{number} 0 obj{part}endobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    security = f"/Encrypt 7 0 R/ID[<{'22' * 16}><{'22' * 16}>]" if encrypted else ""
    trailer = f"trailer<</Size {len(parts) + 1}/Root 1 0 R/Info 6 0 R{security}>>\nstartxref\n{len(made)}\n%%EOF"
    return made + f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}{trailer}".encode("latin-1")
