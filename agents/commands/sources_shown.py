"""Where in a document a source stands, for people."""

from __future__ import annotations

from agents.commands.output import one_line
from schemas.questions import Source

BETWEEN = " > "


def place_in_document(source: Source) -> str:
    """``Title > Heading > Heading below``, on one line; empty where the source has neither."""
    parts = (source.heading or "").split(BETWEEN) if source.heading else []
    if source.title and (not parts or parts[0] != source.title):
        parts.insert(0, source.title)
    return one_line(BETWEEN.join(parts), 100)
