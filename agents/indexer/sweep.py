"""Deletes what no document needs any more: chunks of replaced versions, unused vectors, and replaced indexes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from agents.delivery.outcome import NOTHING, Outcome
from agents.indexer.ports import CollectionStores, KeptVectors, KnownIndexes, RetiredVersions, StrayCollections

log = structlog.get_logger()

VERSIONS_AT_ONCE = 512
LOOK_FOR_STRAYS = timedelta(minutes=10)
STRAY_AFTER = timedelta(days=1)
"""How long no index may name a collection of this version before it is dropped. Until then somebody notices that the
settings name another database than the one whose indexes these are."""
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
        strays: StrayCollections | None = None,
    ) -> None:
        """``strays``: None where the vector store may hold the collections of another home."""
        self._indexes, self._stores, self._retired = indexes, stores, retired
        self._vectors, self._keep_vectors = vectors, keep_vectors
        self._strays = strays
        self._seen_retired: dict[str, datetime] = {}
        self._seen_stray: dict[str, datetime] = {}
        self._looked: datetime | None = None

    async def sweep(self, scheduled: datetime) -> Outcome:
        """A tick: deletes everything that is no longer needed."""
        await asyncio.to_thread(self.delete_versions)
        await asyncio.to_thread(self._vectors.prune, scheduled - self._keep_vectors)
        await asyncio.to_thread(self._drop_indexes, scheduled)
        await asyncio.to_thread(self._drop_strays, scheduled)
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

    def _drop_strays(self, now: datetime) -> None:
        """Drops collections that no index names: of earlier versions at once, others when they stay unnamed."""
        if self._strays is None or (self._looked is not None and now < self._looked + LOOK_FOR_STRAYS):
            return
        found = self._strays.strays(self._indexes.all())
        self._seen_stray = {name: self._seen_stray.get(name, now) for name in found}
        self._looked = now
        for name, earlier in found.items():
            if earlier or self._seen_stray[name] + STRAY_AFTER < now:
                log.info("dropping a collection that belongs to no index", collection=name)
                self._strays.drop_stray(name)
