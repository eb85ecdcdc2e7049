"""Deletes what no document needs any more: chunks of replaced versions, unused vectors, and replaced indexes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from agents.delivery.outcome import NOTHING, Outcome
from agents.indexer.ports import CollectionStores, KeptVectors, KnownIndexes, RetiredVersions

VERSIONS_AT_ONCE = 512
DROP_AFTER = timedelta(seconds=60)
"""A worker that started a batch before an index was replaced may use the old collection for this long."""


class Sweeper:
    """Deletes in the background. What one pass leaves, the next pass deletes."""

    def __init__(
        self,
        *,
        indexes: KnownIndexes,
        stores: CollectionStores,
        retired: RetiredVersions,
        vectors: KeptVectors,
        keep_vectors: timedelta,
    ) -> None:
        self._indexes, self._stores, self._retired = indexes, stores, retired
        self._vectors, self._keep_vectors = vectors, keep_vectors
        self._seen_retired: dict[str, datetime] = {}

    async def sweep(self, scheduled: datetime) -> Outcome:
        """A tick: deletes everything that is no longer needed."""
        await asyncio.to_thread(self.delete_versions)
        await asyncio.to_thread(self._vectors.prune, scheduled - self._keep_vectors)
        await asyncio.to_thread(self._drop_indexes, scheduled)
        return NOTHING

    def delete_versions(self) -> None:
        """Deletes the chunks of retired versions from every index that is in use. Raises Unavailable."""
        while versions := self._retired.list(VERSIONS_AT_ONCE):
            for index in self._indexes.active():
                self._stores.of(index).delete(versions)
            self._retired.remove(versions)

    def _drop_indexes(self, now: datetime) -> None:
        """Drops the collections of indexes that were retired some time ago."""
        for index in self._indexes.all():
            if index.state == "retired" and self._seen_retired.setdefault(index.index_id, now) + DROP_AFTER < now:
                self._stores.drop(index)
                self._indexes.remove(index.index_id)
