"""Deletes what no document needs any more: chunks of replaced versions, unused vectors, and replaced indexes."""

from __future__ import annotations

from datetime import datetime, timedelta

from agents.indexer.ports import CollectionStores, KeptVectors, KnownIndexes, RetiredVersions

VERSIONS_AT_ONCE = 512
MOST_VERSIONS = 10 * VERSIONS_AT_ONCE
"""Versions of one call. The next call goes on."""
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
