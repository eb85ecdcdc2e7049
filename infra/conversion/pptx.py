"""Converts PPTX files to Markdown: for each slide a heading, its text as lists, its tables and the notes."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pptx
from pptx.shapes.autoshape import Shape
from pptx.shapes.base import BaseShape
from pptx.shapes.graphfrm import GraphicFrame
from pptx.shapes.group import GroupShape
from pptx.slide import Slide

from infra.conversion.archives import check_archive
from infra.conversion.document import Converted, bounded, one_line
from infra.conversion.tables import table


def convert_pptx(raw: bytes) -> Converted:
    """Converts slides in order; the title is that of the first slide with a title."""
    check_archive(raw, ".pptx")
    presentation = pptx.Presentation(io.BytesIO(raw))
    titles = [_title(slide) for slide in presentation.slides]
    text = bounded(
        (part for slide, title in zip(presentation.slides, titles, strict=True) for part in _slide(slide, title)),
        "\n\n",
    )
    title = next(filter(None, titles), None) or presentation.core_properties.title
    return Converted(text, title)


def _title(slide: Slide) -> str:
    shape = slide.shapes.title
    return one_line(shape.text_frame.text) if shape is not None else ""


def _slide(slide: Slide, title: str) -> Iterator[str]:
    named = slide.shapes.title
    body = [
        part for shape in slide.shapes if named is None or shape.shape_id != named.shape_id for part in _shape(shape)
    ]
    if title:
        yield f"## {title}"
    yield from body
    notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    if notes is not None and notes.text.strip():
        yield f"Notes: {notes.text.strip()}"


def _shape(shape: BaseShape) -> Iterator[str]:
    if isinstance(shape, GroupShape):
        for each in shape.shapes:
            yield from _shape(each)
    elif isinstance(shape, GraphicFrame) and shape.has_table:
        yield "\n".join(table([cell.text for cell in row.cells] for row in shape.table.rows))
    elif isinstance(shape, Shape):
        lines = [(each.level, one_line(each.text)) for each in shape.text_frame.paragraphs]
        lines = [(level, text) for level, text in lines if text]
        if len(lines) == 1:
            yield lines[0][1]
        elif lines:
            yield "\n".join(f"{'  ' * level}- {text}" for level, text in lines)
