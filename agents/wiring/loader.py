"""The loader: the indexer's room at work on bulk loads, at a lower priority, so that single documents do not wait."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from agents.delivery.worker import Worker
from agents.wiring import indexer
from infra.settings import Settings
from schemas.topics import BULK_DOCUMENTS

NICENESS = 10
BATCH_BYTES = 8_000_000


def build(settings: Settings) -> Worker:
    """A worker that loads its model with the first document: without bulk loads it costs little."""
    loaded = indexer.Loaded(settings, ahead=False)

    def start() -> None:
        _lower_priority()
        loaded.start()

    worker = indexer.worker(settings, loaded)
    return replace(
        worker,
        agent="loader",
        topics=(BULK_DOCUMENTS,),
        batch_size=settings.indexer.bulk_batch,
        batch_bytes=BATCH_BYTES,
        ticks=(),
        runs=(),
        start=start,
    )


def _lower_priority() -> None:
    """Of every thread that there is; later ones inherit it. Linux gives each thread a priority of its own."""
    threads = Path("/proc/self/task")
    for thread in [int(each.name) for each in threads.iterdir()] if threads.is_dir() else [0]:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
