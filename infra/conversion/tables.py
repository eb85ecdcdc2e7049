"""Converts CSV files to Markdown tables, and JSON files to nested lists."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence

from infra.conversion.document import Converted, Unreadable, bounded, decode_utf8, one_line

DELIMITERS = ",;\t|"


def convert_csv(raw: bytes) -> Converted:
    """Makes one table; the delimiter is the one that is most frequent in the first line."""
    text = decode_utf8(raw)
    first = text.lstrip().partition("\n")[0]
    csv.field_size_limit(len(text) + 1)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first.count)))
    except csv.Error as error:
        raise Unreadable(f"is not CSV: {error}") from None
    return Converted(bounded(table(rows), "\n"))


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of a Markdown table. The first row that is not empty is its header; empty rows are left out."""
    filled = [[_cell(value) for value in row] for row in rows]
    filled = [row for row in filled if any(row)]
    width = max((1 + max(place for place, cell in enumerate(row) if cell) for row in filled), default=0)
    for number, row in enumerate(filled):
        yield f"| {' | '.join([*row[:width], *[''] * (width - len(row))])} |"
        if number == 0:
            yield f"|{' --- |' * width}"


def convert_json(raw: bytes) -> Converted:
    """Makes a nested list; the title is the object's ``title``, if it has one."""
    try:
        value = json.loads(decode_utf8(raw))
    except json.JSONDecodeError as error:
        raise Unreadable(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    title = value.get("title") if isinstance(value, dict) else None
    text = bounded(_outline(value, ""), "\n") if value not in ({}, [], None) else ""
    return Converted(text, title if isinstance(title, str) else None)


def _outline(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        pairs = [(f"{one_line(name)}:", each) for name, each in value.items()]
    elif isinstance(value, list):
        pairs = [("", each) for each in value]
    else:
        yield _scalar(value, indent)
        return
    for label, each in pairs:
        if isinstance(each, dict | list) and each:
            yield f"{indent}- {label}".rstrip()
            yield from _outline(each, indent + "  ")
        else:
            yield f"{indent}- {label} {_scalar(each, indent + '  ')}" if label else f"{indent}- {_scalar(each, indent)}"


def _scalar(value: object, indent: str) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("\n", f"\n{indent}")


def _cell(value: str) -> str:
    return one_line(value).replace("|", "\\|")
