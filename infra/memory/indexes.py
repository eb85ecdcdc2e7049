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
    """The table of indexes: which are built, which serve."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def active(self) -> list[Index]:
        """Those that are building or serving, by id."""
        return [index for index in self.all() if index.state != "retired"]

    def all(self) -> list[Index]:
        """Retired ones too, which are not dropped yet; by id."""
        with self._database.table("indexes") as indexes:
            return [indexes[index_id] for index_id in sorted(indexes)]

    def hold(self) -> None:
        """A transaction of this twin holds everything already."""

    def add(self, index: Index) -> None:
        """Inside a transaction."""
        with self._database.table("indexes") as indexes:
            indexes.setdefault(index.index_id, index)

    def serve(self, index_id: str, at: datetime) -> None:
        """Inside a transaction: this index serves its scope, and what served it is retired."""
        with self._database.table("indexes") as indexes:
            for other in list(indexes.values()):
                if other.scope == indexes[index_id].scope and other.state == "serving":
                    indexes[other.index_id] = replace(other, state="retired")
            indexes[index_id] = replace(indexes[index_id], state="serving", served_at=at)

    def retire(self, index_id: str) -> None:
        """Inside a transaction: documents are not written to it any more."""
        with self._database.table("indexes") as indexes:
            indexes[index_id] = replace(indexes[index_id], state="retired")

    def remove(self, index_id: str) -> None:
        """Forgets an index whose collection is gone."""
        with self._database.table("indexes") as indexes:
            indexes.pop(index_id, None)


class MemoryVectors:
    """Embeddings by model and by the hash of the text."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def find(self, model: str, hashes: Sequence[str], at: datetime) -> dict[str, NDArray[np.float32]]:
        """Those that are kept, shape (dimension,) each; their use is noted."""
        with self._database.table("vectors") as vectors:
            found = {each: vectors[model, each][0] for each in hashes if (model, each) in vectors}
            for each, vector in found.items():
                vectors[model, each] = (vector, at)
        return found

    def put(self, model: str, made: Mapping[str, NDArray[np.float32]], at: datetime) -> None:
        """Keeps them; one that is there already stays."""
        with self._database.table("vectors") as vectors:
            for text_hash, vector in made.items():
                vectors.setdefault((model, text_hash), (np.asarray(vector, dtype=np.float32), at))

    def prune(self, before: datetime) -> int:
        """Forgets those that were not used since; how many there were."""
        with self._database.table("vectors") as vectors:
            old = [key for key, (_, used_at) in vectors.items() if used_at < before]
            for key in old:
                del vectors[key]
        return len(old)
