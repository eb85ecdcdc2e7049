"""The search indexes and the cached embeddings, in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import RowMapping, delete, select, update

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once, prune, slices
from schemas.indexes import Index, Recipe

_indexes = tables.indexes.c
_vectors = tables.vectors.c
_LOCK = "indexes"
REUSE_NOTED_AFTER = timedelta(days=1)
"""``used_at`` is updated at most this often, so that a read seldom has to write."""


class SqlIndexes:
    """The table of indexes: which ones are being built, which ones serve."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def active(self) -> list[Index]:
        """Returns the indexes that are building or serving, by id. A transaction locks them until it ends."""
        if self._database.current is not None:
            with self._database.connection() as connection:
                self._database.lock(connection, [_LOCK], shared=True)
        return [index for index in self.all() if index.state != "retired"]

    def all(self) -> list[Index]:
        """Returns all indexes by id, also retired ones that are not dropped yet."""
        with self._database.connection() as connection:
            rows = connection.execute(select(tables.indexes).order_by(_indexes.index_id)).mappings().all()
        return [_index(row) for row in rows]

    def hold(self) -> None:
        """Inside a transaction: locks all indexes. Until it ends nobody else changes one or commits documents."""
        with self._database.connection(write=True) as connection:
            self._database.lock(connection, [_LOCK])

    def add(self, index: Index) -> None:
        """Inside a transaction that has called ``hold``."""
        values = {
            **{name: getattr(index, name) for name in ("index_id", "scope", "dimension", "state")},
            **{name: getattr(index.recipe, name) for name in ("embedding_model", "chunk_tokens", "overlap_tokens")},
            "created_at": index.created_at,
            "served_at": index.served_at,
        }
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.indexes), values)

    def serve(self, index_id: str, at: datetime) -> None:
        """Inside a transaction that has called ``hold``: lets this index serve its scope and retires the one before."""
        with self._database.connection(write=True) as connection:
            scope = select(_indexes.scope).where(_indexes.index_id == index_id).scalar_subquery()
            before = update(tables.indexes).where(_indexes.scope == scope, _indexes.state == "serving")
            connection.execute(before.values(state="retired"))
            connection.execute(
                update(tables.indexes).where(_indexes.index_id == index_id).values(state="serving", served_at=at)
            )

    def retire(self, index_id: str) -> None:
        """Inside a transaction that has called ``hold``: documents are no longer written to this index."""
        with self._database.connection(write=True) as connection:
            connection.execute(update(tables.indexes).where(_indexes.index_id == index_id).values(state="retired"))

    def remove(self, index_id: str) -> None:
        """Deletes the row of an index whose collection was dropped."""
        with self._database.connection(write=True) as connection:
            connection.execute(delete(tables.indexes).where(_indexes.index_id == index_id))


class SqlVectors:
    """Caches embeddings by model and by the hash of the text."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, model: str, hashes: Sequence[str], at: datetime) -> dict[str, NDArray[np.float32]]:
        """Returns the cached vectors, shape (dimension,) each, and notes their use."""
        found: dict[str, NDArray[np.float32]] = {}
        old: list[str] = []
        with self._database.connection() as connection:
            for some in slices(hashes):
                wanted = select(_vectors.text_hash, _vectors.vector, _vectors.used_at).where(
                    _vectors.embedding_model == model, _vectors.text_hash.in_(some)
                )
                for text_hash, vector, used_at in connection.execute(wanted):
                    found[text_hash] = np.frombuffer(vector, dtype="<f4")
                    if used_at < at - REUSE_NOTED_AFTER:
                        old.append(text_hash)
        if old:
            with self._database.connection(write=True) as connection:
                for some in slices(old):
                    used = _vectors.text_hash.in_(some)
                    statement = update(tables.vectors).where(_vectors.embedding_model == model, used)
                    connection.execute(statement.values(used_at=at))
        return found

    def put(self, model: str, made: Mapping[str, NDArray[np.float32]], at: datetime) -> None:
        """Stores vectors; does not change one that exists."""
        rows = [
            {
                "embedding_model": model,
                "text_hash": text_hash,
                "vector": np.asarray(vector, dtype="<f4").tobytes(),
                "used_at": at,
            }
            for text_hash, vector in sorted(made.items())
        ]
        if rows:
            with self._database.connection(write=True) as connection:
                connection.execute(insert_once(self._database.dialect, tables.vectors), rows)

    def prune(self, before: datetime) -> int:
        """Deletes the vectors that were last used before then; returns how many."""
        return prune(self._database, tables.vectors, _vectors.used_at < before)


def _index(row: RowMapping) -> Index:
    recipe = Recipe(
        embedding_model=row["embedding_model"],
        chunk_tokens=row["chunk_tokens"],
        overlap_tokens=row["overlap_tokens"],
    )
    return Index(
        index_id=row["index_id"],
        scope=row["scope"],
        recipe=recipe,
        dimension=row["dimension"],
        state=row["state"],
        created_at=row["created_at"],
        served_at=row["served_at"],
    )
