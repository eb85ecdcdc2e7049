"""Deletes what no document needs any more: chunks of replaced versions, unused vectors, and replaced indexes."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from agents.indexer.ports import CollectionStores, KeptVectors, KnownIndexes, RetiredVersions, StrayCollections

log = structlog.get_logger()

VERSIONS_AT_ONCE = 512
MOST_VERSIONS = 10 * VERSIONS_AT_ONCE
"""Versions of one call. The next call goes on."""
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

    def delete_versions(self, _now: datetime | None = None) -> int:
        """Deletes the chunks of retired versions from every index that is in use; returns how many versions.

        Raises Unavailable.
        """
        deleted = 0
        while deleted < MOST_VERSIONS and (versions := self._retired.list(VERSIONS_AT_ONCE)):
            for index in self._indexes.active():
                self._stores.of(index).delete(versions)
            self._retired.remove(versions)
            deleted += len(versions)
        return deleted

    def delete_vectors(self, now: datetime) -> int:
        """Deletes embeddings that were not used for long; returns how many."""
        return self._vectors.prune(now - self._keep_vectors)

    def drop_indexes(self, now: datetime) -> int:
        """Drops the collections of indexes that were retired some time ago; returns how many."""
        dropped = 0
        for index in self._indexes.all():
            if index.state == "retired" and self._seen_retired.setdefault(index.index_id, now) + DROP_AFTER < now:
                self._stores.drop(index)
                self._indexes.remove(index.index_id)
                dropped += 1
        return dropped

    def drop_strays(self, now: datetime) -> int:
        """Drops collections that no index names: of earlier versions at once, others when they stay unnamed."""
        if self._strays is None or (self._looked is not None and now < self._looked + LOOK_FOR_STRAYS):
            return 0
        found = self._strays.strays(self._indexes.all())
        self._seen_stray = {name: self._seen_stray.get(name, now) for name in found}
        self._looked = now
        dropped = 0
        for name, earlier in found.items():
            if earlier or self._seen_stray[name] + STRAY_AFTER < now:
                log.info("dropping a collection that belongs to no index", collection=name)
                self._strays.drop_stray(name)
                dropped += 1
        return dropped
