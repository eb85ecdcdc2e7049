"""The indexer's handler: documents become chunks with vectors, and one version of each is current."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from agents.delivery.outcome import NOTHING, Outcome
from agents.delivery.worker import Batch, Handlers
from agents.indexer.commit import DocumentCommit, Standing
from agents.indexer.ports import Documents, Indexes, KeptVectors, RetiredVersions, VectorStores
from agents.indexer.versions import DocumentEvent, Key, key_of, plan
from agents.indexer.writing import IndexWriter
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.envelope import Received
from schemas.errors import InvalidEvent

SWEEP_AT_ONCE = 512


class Indexer:
    """Keeps the indexes and the table of documents in step."""

    def __init__(
        self,
        *,
        writer: IndexWriter,
        stores: VectorStores,
        indexes: Indexes,
        documents: Documents,
        retired: RetiredVersions,
        vectors: KeptVectors,
        keep_vectors: timedelta,
        tenants: Collection[str] = (),
    ) -> None:
        """``tenants``: whose documents are taken; everybody's where it is empty."""
        self._writer, self._stores, self._indexes = writer, stores, indexes
        self._documents, self._retired, self._vectors = documents, retired, vectors
        self._keep_vectors, self._tenants = keep_vectors, tenants
        self._settlement = DocumentCommit(documents, retired, indexes)

    def handlers(self) -> Handlers:
        index = Batch(self.index)
        return {DocumentSubmitted: index, DocumentWithdrawn: index}

    async def index(self, batch: Sequence[Received[DocumentEvent]]) -> Sequence[Outcome]:
        """Embeds and stores new text in a thread; the effects then make it current, in the journal's transaction."""
        for received in batch:
            self._check_tenant(received.event.tenant)
        return await asyncio.to_thread(self._index, batch)

    async def sweep(self, scheduled: datetime) -> Outcome:
        """A tick: deletes what a crash, or a vector store that was away, has left of retired versions."""
        await asyncio.to_thread(self._sweep)
        await asyncio.to_thread(self._vectors.prune, scheduled - self._keep_vectors)
        return NOTHING

    def _check_tenant(self, tenant: str) -> None:
        if self._tenants and tenant not in self._tenants:
            raise InvalidEvent(
                f"there is no tenant {tenant!r}: [tenants] names lists {', '.join(sorted(self._tenants))}"
            )

    def _index(self, batch: Sequence[Received[DocumentEvent]]) -> list[Outcome]:
        if not batch:
            return []
        events: dict[Key, list[Received[DocumentEvent]]] = defaultdict(list)
        for received in batch:
            events[key_of(received)].append(received)
        states = self._documents.current(list(events))
        indexes = self._indexes.active()
        plans = self._writer.write_plans(indexes, {key: plan(states.get(key), events[key]) for key in events})
        standing: Standing = {}
        outcomes = [self._settlement.outcome(received, plans[key_of(received)], standing) for received in batch]
        # Once a batch is enough: its effects run in one transaction, and the last ``after`` once that is committed.
        outcomes[0] = self._settlement.unless_changed(indexes, list(events), standing, outcomes[0])
        outcomes[-1] = replace(outcomes[-1], after=self._sweep)
        return outcomes

    def _sweep(self) -> None:
        while versions := self._retired.list(SWEEP_AT_ONCE):
            for index in self._indexes.active():
                self._stores.of(index).delete(versions)
            self._retired.remove(versions)
