"""The indexer's handler: embeds and stores new documents, and makes one version of each document current."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from agents.delivery.outcome import Outcome
from agents.delivery.worker import Batch, Handlers
from agents.indexer.commit import DocumentCommit, LockedStates
from agents.indexer.ports import Documents, Indexes, RetiredVersions
from agents.indexer.sweep import Sweeper
from agents.indexer.versions import DocumentEvent, Key, key_of, plan_update
from agents.indexer.writing import IndexWriter
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.envelope import Received
from schemas.errors import InvalidEvent


class Indexer:
    """Keeps the indexes and the table of documents consistent."""

    def __init__(
        self,
        *,
        writer: IndexWriter,
        indexes: Indexes,
        documents: Documents,
        retired: RetiredVersions,
        sweeper: Sweeper,
        tenants: Collection[str] = (),
    ) -> None:
        """``tenants``: the tenants whose documents are accepted; empty means all."""
        self._writer, self._indexes, self._documents = writer, indexes, documents
        self._sweeper, self._tenants = sweeper, tenants
        self._commit = DocumentCommit(documents, retired, indexes)

    def handlers(self) -> Handlers:
        index = Batch(self.index)
        return {DocumentSubmitted: index, DocumentWithdrawn: index}

    async def index(self, batch: Sequence[Received[DocumentEvent]]) -> Sequence[Outcome]:
        """Embeds and stores new text in a thread. The effects then make it current, in the journal's transaction."""
        for received in batch:
            self._check_tenant(received.event.tenant)
        return await asyncio.to_thread(self._index, batch)

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
        updates = {key: plan_update(states.get(key), events[key]) for key in events}
        updates = self._writer.write_updates(indexes, updates)
        locked: LockedStates = {}
        outcomes = [self._commit.outcome(received, updates[key_of(received)], locked) for received in batch]
        # The effects of a batch run in one transaction, in order, so the first one locks for all. The work after the
        # commit is needed once, so the last outcome carries it.
        outcomes[0] = self._commit.with_lock(outcomes[0], indexes, list(events), locked)
        outcomes[-1] = replace(outcomes[-1], after=self._sweeper.delete_versions)
        return outcomes
