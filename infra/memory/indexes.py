"""The in-memory twin of ``infra.sql.indexes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from infra.memory.database import MemoryDatabase
from schemas.indexes import Index


class MemoryIndexes:
    """The table of indexes: which ones are being built, which ones serve."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def active(self) -> list[Index]:
        """Returns the indexes that are building or serving, by id."""
        return [index for index in self.all() if index.state != "retired"]

    def all(self) -> list[Index]:
        """Returns all indexes by id, also retired ones that are not dropped yet."""
        with self._database.table("indexes") as indexes:
            return [indexes[index_id] for index_id in sorted(indexes)]

    def hold(self) -> None:
        """Does nothing: a transaction of this twin locks everything."""

    def add(self, index: Index) -> None:
        """Inside a transaction."""
        with self._database.table("indexes") as indexes:
            indexes.setdefault(index.index_id, index)

    def serve(self, index_id: str, at: datetime) -> None:
        """Inside a transaction: lets this index serve its scope and retires the one before."""
        with self._database.table("indexes") as indexes:
            for other in list(indexes.values()):
                if other.scope == indexes[index_id].scope and other.state == "serving":
                    indexes[other.index_id] = replace(other, state="retired")
            indexes[index_id] = replace(indexes[index_id], state="serving", served_at=at)

    def retire(self, index_id: str) -> None:
        """Inside a transaction: documents are no longer written to this index."""
        with self._database.table("indexes") as indexes:
            indexes[index_id] = replace(indexes[index_id], state="retired")

    def remove(self, index_id: str) -> None:
        """Deletes the row of an index whose collection was dropped."""
        with self._database.table("indexes") as indexes:
            indexes.pop(index_id, None)


class MemoryVectors:
    """Caches embeddings by model and by the hash of the text."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def find(self, model: str, hashes: Sequence[str], at: datetime) -> dict[str, NDArray[np.float32]]:
        """Returns the cached vectors, shape (dimension,) each, and notes their use."""
        with self._database.table("vectors") as vectors:
            found = {each: vectors[model, each][0] for each in hashes if (model, each) in vectors}
            for each, vector in found.items():
                vectors[model, each] = (vector, at)
        return found

    def put(self, model: str, made: Mapping[str, NDArray[np.float32]], at: datetime) -> None:
        """Stores vectors; does not change one that exists."""
        with self._database.table("vectors") as vectors:
            for text_hash, vector in made.items():
                vectors.setdefault((model, text_hash), (np.asarray(vector, dtype=np.float32), at))

    def prune(self, before: datetime) -> int:
        """Deletes the vectors that were last used before then; returns how many."""
        with self._database.table("vectors") as vectors:
            old = [key for key, (_, used_at) in vectors.items() if used_at < before]
            for key in old:
                del vectors[key]
        return len(old)
