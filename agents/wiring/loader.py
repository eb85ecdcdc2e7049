"""Builds the loader: the indexer's room for bulk loads, at a lower priority, so that single documents do not wait."""

from __future__ import annotations

from agents.delivery.worker import Worker
from agents.wiring.indexer import IndexerParts
from infra.settings import Settings
from schemas.topics import read_by

AGENT = "loader"
NICENESS = 10
"""Of the whole process; see ``run_agent``."""
BATCH_BYTES = 8_000_000


def build(settings: Settings) -> Worker:
    """Builds a worker that loads its model with the first document: without bulk loads it costs little."""
    parts = IndexerParts(settings)
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=parts.indexer.handlers(),
        batch_size=settings.indexer.bulk_batch,
        batch_bytes=BATCH_BYTES,
        close=parts.stores.close,
        moved_at=lambda: parts.writer.embedded_at,
    )
