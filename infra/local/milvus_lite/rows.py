"""Rows of a Milvus Lite collection as arrays: of a segment, which never changes, and of what is not in one yet.

The library walks rows in Python at each search. Here a segment's norms, words and filter masks are worked out once,
and a write marks the few rows that it replaces, so that a search is left with sums over arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from milvus_lite.schema.types import DataType

from infra.local.milvus_lite.row_filter import evaluate
from infra.local.milvus_lite.vectors import Bools, SegmentVectors
from infra.local.milvus_lite.words import Entries, Postings, Scanned, Words, entries, word_fields

MASKS_KEPT = 32
"""Filters whose masks a segment keeps: a byte a row each."""


@dataclass(frozen=True, kw_only=True)
class CompiledFilter:
    """A compiled filter expression. What rows it lets through is kept under the key, its text and time zone, if any."""

    key: tuple[str, str | None] | None
    compiled: Any


@dataclass(frozen=True, kw_only=True)
class View:
    """Rows as one search sees them: ``live`` is this search's own copy, and the rest only ever grows at its end."""

    live: Bools
    dense: dict[str, SegmentVectors]
    words: dict[str, Words]
    table: pa.Table
    mask: Callable[[CompiledFilter], Bools]

    def allowed(self, chosen: CompiledFilter | None) -> Bools:
        """The live rows that the filter lets through."""
        return self.live if chosen is None else self.live & self.mask(chosen)[: len(self.live)]

    def records(self, rows: Iterable[int], names: Sequence[str]) -> list[dict[str, Any]]:
        """The named columns of some rows."""
        columns = [(name, self.table.column(name)) for name in names]
        return [{name: column[int(row)].as_py() for name, column in columns} for row in rows]


class SegmentRows:
    """A segment of the library's, and which of its rows are live. A row that died stays dead."""

    def __init__(self, segment: Any, schema: Any) -> None:
        self.segment = segment
        self.live = np.ones(segment.num_rows, dtype=bool)
        self._dense = {name: SegmentVectors(segment.vector_data(name)[0]).coded() for name in vector_fields(schema)}
        self._words: dict[str, Words] = {
            name: Postings(segment.table.column(name), segment.num_rows) for name in word_fields(schema)
        }
        self._masks: dict[tuple[str, str | None], Bools] = {}
        self._lock = threading.Lock()

    def kill(self, pk: Any, newer: int) -> None:
        """Marks the row of the primary key as dead if it is older than the sequence number."""
        row = self.segment.pk_to_row.get(pk)
        if row is not None and self.segment.seqs[row] < newer:
            self.live[row] = False

    def view(self) -> View:
        return View(
            live=self.live.copy(), dense=self._dense, words=self._words, table=self.segment.table, mask=self._mask
        )

    def _mask(self, chosen: CompiledFilter) -> Bools:
        if chosen.key is None:
            return evaluate(chosen.compiled, self.segment.table)
        found = self._masks.get(chosen.key)
        if found is None:
            found = evaluate(chosen.compiled, self.segment.table)
            with self._lock:
                while len(self._masks) >= MASKS_KEPT:
                    del self._masks[next(iter(self._masks))]
                self._masks[chosen.key] = found
        return found


class UnflushedRows:
    """The library's table of unflushed rows, followed batch by batch. Rows that were overwritten stay, dead."""

    def __init__(self, table: Any, schema: Any) -> None:
        self.table = table
        self._batches = 0
        self._vectors: dict[str, list[SegmentVectors]] = {name: [] for name in vector_fields(schema)}
        self._entries: dict[str, list[Entries]] = {name: [] for name in word_fields(schema)}
        self._starts: list[int] = []
        self._rows: pa.Table | None = None
        self._row_of: dict[Any, int] = {}
        self.live = np.zeros(0, dtype=bool)
        self._masks: dict[tuple[str, str | None], Bools] = {}
        self._lock = threading.Lock()
        # The library builds each value of a segment as a Python object, for tenths of a second.
        table._build_data_table = self._taken
        self.follow(list(table._pk_index))

    def follow(self, pks: Iterable[Any]) -> None:
        """Takes in what the table was just given of these primary keys."""
        for batch in self.table._insert_batches[self._batches :]:
            self._append(batch)
        for pk in pks:
            place = self.table._pk_index.get(pk)
            before = self._row_of.pop(pk, None)
            if before is not None:
                self.live[before] = False
            if place is not None:
                self._row_of[pk] = row = self._starts[place[0]] + place[1]
                self.live[row] = True

    def find(self, pk: Any) -> tuple[int, int] | None:
        """Number of the batch and row in it of the live row of a primary key."""
        if pk not in self._row_of:
            return None
        batch, row, _ = self.table._pk_index[pk]
        return batch, row

    def forget(self, pks: Iterable[Any]) -> None:
        """Marks rows as dead that a later table replaced."""
        for pk in pks:
            row = self._row_of.pop(pk, None)
            if row is not None:
                self.live[row] = False

    def view(self) -> View | None:
        """None where there are no rows."""
        if self._rows is None:
            return None
        for name, vectors in self._vectors.items():
            self._vectors[name] = [SegmentVectors.joined(vectors)]
        words: dict[str, Words] = {}
        for name, parts in self._entries.items():
            if len(parts) > 1:
                places, numbers, counts = zip(*parts, strict=True)
                self._entries[name] = [(np.concatenate(places), np.concatenate(numbers), np.concatenate(counts))]
            words[name] = Scanned(self._entries[name][0], len(self.live))
        dense = {name: each[0] for name, each in self._vectors.items()}
        return View(live=self.live.copy(), dense=dense, words=words, table=self._rows, mask=self._mask)

    def _append(self, batch: pa.RecordBatch) -> None:
        start = len(self.live)
        self._starts.append(start)
        self._batches += 1
        rows = pa.Table.from_batches([batch])
        self._rows = rows if self._rows is None else pa.concat_tables([self._rows, rows])
        for name, vectors in self._vectors.items():
            column = batch.column(name)
            flat = column.flatten().to_numpy(zero_copy_only=False)
            vectors.append(SegmentVectors(flat.reshape(len(column), -1)))
        for name, parts in self._entries.items():
            places, words, counts = entries(rows.column(name))
            parts.append((places + np.int32(start), words, counts))
        self.live = np.concatenate([self.live, np.zeros(batch.num_rows, dtype=bool)])

    def _mask(self, chosen: CompiledFilter) -> Bools:
        with self._lock:
            table = self._rows
            assert table is not None
            if chosen.key is None:
                return evaluate(chosen.compiled, table)
            known = self._masks.pop(chosen.key, np.zeros(0, dtype=bool))
            if len(known) < table.num_rows:
                known = np.concatenate([known, evaluate(chosen.compiled, table.slice(len(known)))])
            while len(self._masks) >= MASKS_KEPT:
                del self._masks[next(iter(self._masks))]
            self._masks[chosen.key] = known
            return known

    def _taken(self, places: Sequence[tuple[int, int]]) -> pa.Table:
        table = pa.Table.from_batches(self.table._insert_batches)
        starts = np.cumsum([0] + [batch.num_rows for batch in self.table._insert_batches])
        rows = table.take(pa.array([starts[batch] + row for batch, row in places], type=pa.int64()))
        return rows.select(self.table._data_schema.names).cast(self.table._data_schema).combine_chunks()


def vector_fields(schema: Any) -> list[str]:
    """The fields of dense vectors that each row has."""
    return [field.name for field in schema.fields if field.dtype == DataType.FLOAT_VECTOR and not field.nullable]
