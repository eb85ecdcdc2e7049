"""Where in a document a source stands, for people."""

from __future__ import annotations

from agents.cli.output import one_line
from schemas.questions import Source
from schemas.retrieval import HEADING_SEPARATOR, headings_above


def place_in_document(source: Source) -> str:
    """``Title > Heading > Heading below``, on one line; empty where the source has neither."""
    return one_line(HEADING_SEPARATOR.join(headings_above(source.title, source.heading)), 100)
