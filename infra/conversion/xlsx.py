"""Converts XLSX files to Markdown: for each sheet a heading and a table of the values last calculated."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from datetime import date, datetime, time

import openpyxl

from infra.conversion.archives import check_archive
from infra.conversion.document import Converted, bounded, one_line
from infra.conversion.tables import table


def convert_xlsx(raw: bytes) -> Converted:
    """Converts sheets in order; the title is the one in the file's properties, and never a sheet's name."""
    check_archive(raw, ".xlsx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and extensions that the library does not know
        book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=True, keep_links=False)
        return Converted(bounded(_sheets(book), "\n"), book.properties.title)


def _sheets(book: openpyxl.Workbook) -> Iterator[str]:
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # the declared dimensions may include a million empty rows
        lines = list(table([_value(cell) for cell in row] for row in sheet.iter_rows(values_only=True)))
        if lines:
            yield f"## {one_line(sheet.title)}\n"
            yield from lines
            yield ""


def _value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return str(value)
