"""Builds the loader: the indexer's room for bulk loads, at a lower priority, so that single documents do not wait."""

from __future__ import annotations

from dataclasses import replace

from agents.delivery.worker import Worker
from agents.wiring import indexer
from infra.settings import Settings
from schemas.topics import BULK_DOCUMENTS

NICENESS = 10
"""Of the whole process; see ``run_agent``."""
BATCH_BYTES = 8_000_000


def build(settings: Settings) -> Worker:
    """Loads its model with the first document: without bulk loads the loader costs little."""
    worker, _, _ = indexer.parts(settings)
    return replace(
        worker,
        agent="loader",
        topics=(BULK_DOCUMENTS,),
        batch_size=settings.indexer.bulk_batch,
        batch_bytes=BATCH_BYTES,
        ticks=(),
        runs=(),
    )
