"""The rows of a collection as arrays: those of segments, which never change, and those that are not in a segment yet.

milvus-lite walks over rows in Python at each search. Here the vectors' lengths, the words and the filters' masks of a
segment are computed once, and a write marks the few rows that it replaces as dead. A search then only does sums over
arrays.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from milvus_lite.schema.arrow_builder import build_data_schema
from milvus_lite.schema.types import CollectionSchema, DataType
from milvus_lite.search.filter import CompiledExpr
from milvus_lite.storage.segment import Segment

from infra.local.milvus_lite.library import Memtable, PrimaryKey, Record
from infra.local.milvus_lite.row_filter import evaluate
from infra.local.milvus_lite.vectors import Bools, SegmentVectors
from infra.local.milvus_lite.words import Entries, Postings, UnsortedWords, Words, entries, word_fields

CACHED_MASKS = 32
"""How many filters' masks a segment keeps; each takes a byte a row."""


@dataclass(frozen=True, kw_only=True)
class CompiledFilter:
    """A compiled filter expression. Its masks are cached under ``key``, unless that is None."""

    key: object
    compiled: CompiledExpr


@dataclass(frozen=True, kw_only=True)
class View:
    """Rows as one search sees them. ``live`` is the search's own copy; the other arrays only grow at their end."""

    live: Bools
    dense: dict[str, SegmentVectors]
    words: dict[str, Words]
    table: pa.Table
    mask: Callable[[CompiledFilter], Bools]

    def matching(self, chosen: CompiledFilter | None) -> Bools:
        """The live rows that match the filter."""
        return self.live if chosen is None else self.live & self.mask(chosen)[: len(self.live)]

    def records(self, rows: Iterable[int], names: Sequence[str]) -> list[Record]:
        """The named columns of some rows."""
        columns = [(name, self.table.column(name)) for name in names]
        return [{name: column[int(row)].as_py() for name, column in columns} for row in rows]


class CollectionRows:
    """All rows of a collection. One thread at a time may write; any number of threads may read at the same time."""

    def __init__(self, schema: CollectionSchema) -> None:
        self._schema = schema
        self._lock = threading.Lock()
        self._segments: tuple[SegmentRows, ...] = ()
        self._memtables: tuple[UnflushedRows, ...] = ()

    @property
    def memtable(self) -> Memtable:
        """The memtable that is written to."""
        return self._memtables[-1].memtable

    def start_memtable(self, memtable: Memtable) -> None:
        """Lets writes go to another memtable; the rows of those before stay visible until they are in a segment."""
        self._memtables = (*self._memtables, UnflushedRows(memtable, self._schema))

    def set_segments(
        self, segments: Sequence[Segment], *, flushed_sequence: int, deletes: dict[PrimaryKey, int], rows_return: bool
    ) -> None:
        """Takes over the library's segments, and forgets the memtables that are in them.

        ``flushed_sequence``: the last sequence number in a segment. ``deletes``: sequence number of the last delete of
        each primary key. ``rows_return``: rows that were replaced before may be live again.
        """
        known = {} if rows_return else {id(each.segment): each for each in self._segments}
        all_rows = tuple(known.get(id(each)) or SegmentRows(each, self._schema) for each in segments)
        with self._lock:
            for rows in all_rows:
                if id(rows.segment) not in known:
                    self._mark_replaced(rows, all_rows, deletes)
            self._segments = all_rows
            *earlier, current = self._memtables
            unflushed = [each for each in earlier if each.memtable.last_sequence > flushed_sequence]
            self._memtables = (*unflushed, current)

    def _mark_replaced(self, new: SegmentRows, all_rows: Sequence[SegmentRows], deletes: dict[PrimaryKey, int]) -> None:
        """Marks rows of a new segment that were replaced or deleted, and those of others that it replaces, as dead."""
        own = new.segment.pk_to_row
        for newest in (deletes, *(each.memtable.newest() for each in self._memtables)):
            for pk in own.keys() & newest.keys():
                new.mark_dead(pk, newest[pk])
        for other in all_rows:
            if other is not new:
                for pk in own.keys() & other.segment.pk_to_row.keys():
                    new.mark_dead(pk, int(other.segment.seqs[other.segment.pk_to_row[pk]]))
                    other.mark_dead(pk, int(new.segment.seqs[own[pk]]))

    def apply(self, pks: Sequence[PrimaryKey], sequences: Sequence[int], write: Callable[[], None]) -> None:
        """Calls ``write``, which writes these primary keys to the memtable, and marks their older rows as dead."""
        with self._lock:
            *earlier, current = self._memtables
            write()
            current.follow(pks)
            for unflushed in earlier:
                unflushed.mark_dead(pks)
            for segment in self._segments:
                for pk, sequence in zip(pks, sequences, strict=True):
                    segment.mark_dead(pk, sequence)

    def views(self) -> list[View]:
        """The rows as they are now."""
        with self._lock:
            views = [segment.view() for segment in self._segments]
            return views + [view for each in self._memtables if (view := each.view()) is not None]

    def count(self) -> int:
        """How many rows are live."""
        return sum(int(view.live.sum()) for view in self.views())

    def readers(self, pks: Iterable[PrimaryKey]) -> list[Callable[[], Record]]:
        """For each primary key that has a live row, a function that reads it."""
        readers: list[Callable[[], Record]] = []
        with self._lock:
            places: list[UnflushedRows | SegmentRows] = [*reversed(self._memtables), *self._segments]
            for pk in pks:
                found = (place.reader(pk) for place in places)
                if (reader := next(filter(None, found), None)) is not None:
                    readers.append(reader)
        return readers


class SegmentRows:
    """A segment of the library, and which of its rows are live. A row that died stays dead."""

    def __init__(self, segment: Segment, schema: CollectionSchema) -> None:
        self.segment = segment
        self.live = np.ones(segment.num_rows, dtype=bool)
        self._dense = {name: SegmentVectors(segment.vector_data(name)[0]).quantized() for name in vector_fields(schema)}
        self._words: dict[str, Words] = {
            name: Postings(segment.table.column(name), segment.num_rows) for name in word_fields(schema)
        }
        self._masks: dict[object, Bools] = {}
        self._masks_lock = threading.Lock()

    def mark_dead(self, pk: PrimaryKey, newer: int) -> None:
        """Marks the row of the primary key as dead if it is older than the sequence number."""
        row = self.segment.pk_to_row.get(pk)
        if row is not None and self.segment.seqs[row] < newer:
            self.live[row] = False

    def reader(self, pk: PrimaryKey) -> Callable[[], Record] | None:
        """A function that reads the live row of a primary key."""
        row = self.segment.find_row(pk)
        return partial(self.segment.row_to_dict, row) if row is not None and self.live[row] else None

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
            with self._masks_lock:
                _cache(self._masks, chosen.key, found)
        return found


class UnflushedRows:
    """The rows of a memtable, followed batch by batch. Rows that were overwritten stay in the arrays, dead."""

    def __init__(self, memtable: Memtable, schema: CollectionSchema) -> None:
        self.memtable = memtable
        self.live = np.zeros(0, dtype=bool)
        self._schema = schema
        self._starts: list[int] = []
        """The row at which each batch begins."""
        self._vectors: dict[str, list[SegmentVectors]] = {name: [] for name in vector_fields(schema)}
        self._entries: dict[str, list[Entries]] = {name: [] for name in word_fields(schema)}
        self._rows: pa.Table | None = None
        self._row_of: dict[PrimaryKey, int] = {}
        self._masks: dict[object, Bools] = {}
        self._masks_lock = threading.Lock()
        memtable.replace_table_builder(self._data_table)
        self.follow(memtable.keys)

    def follow(self, pks: Iterable[PrimaryKey]) -> None:
        """Takes over what has just been written to the memtable of these primary keys."""
        for batch in self.memtable.batches[len(self._starts) :]:
            self._append(batch)
        self.mark_dead(pks)
        for pk in pks:
            place = self.memtable.place(pk)
            if place is not None:
                batch_number, row_in_batch = place
                self._row_of[pk] = row = self._starts[batch_number] + row_in_batch
                self.live[row] = True

    def mark_dead(self, pks: Iterable[PrimaryKey]) -> None:
        """Marks the rows of these primary keys as dead."""
        for pk in pks:
            row = self._row_of.pop(pk, None)
            if row is not None:
                self.live[row] = False

    def reader(self, pk: PrimaryKey) -> Callable[[], Record] | None:
        """A function that reads the live row of a primary key."""
        row = self._row_of.get(pk)
        if row is None:
            return None
        batch = bisect_right(self._starts, row) - 1
        return partial(self.memtable.read, batch, row - self._starts[batch])

    def view(self) -> View | None:
        """None where there are no rows."""
        if self._rows is None:
            return None
        for name, vectors in self._vectors.items():
            self._vectors[name] = [SegmentVectors.joined(vectors)]
        words: dict[str, Words] = {}
        for name, parts in self._entries.items():
            if len(parts) > 1:
                rows, numbers, counts = zip(*parts, strict=True)
                self._entries[name] = [(np.concatenate(rows), np.concatenate(numbers), np.concatenate(counts))]
            words[name] = UnsortedWords(self._entries[name][0], len(self.live))
        dense = {name: each[0] for name, each in self._vectors.items()}
        return View(live=self.live.copy(), dense=dense, words=words, table=self._rows, mask=self._mask)

    def _append(self, batch: pa.RecordBatch) -> None:
        start = len(self.live)
        self._starts.append(start)
        rows = pa.Table.from_batches([batch])
        self._rows = rows if self._rows is None else pa.concat_tables([self._rows, rows])
        for name, vectors in self._vectors.items():
            column = batch.column(name)
            flat = column.flatten().to_numpy(zero_copy_only=False)
            vectors.append(SegmentVectors(flat.reshape(len(column), -1)))
        for name, parts in self._entries.items():
            row_numbers, words, counts = entries(rows.column(name))
            parts.append((row_numbers + np.int32(start), words, counts))
        self.live = np.concatenate([self.live, np.zeros(batch.num_rows, dtype=bool)])

    def _mask(self, chosen: CompiledFilter) -> Bools:
        with self._masks_lock:
            table = self._rows
            assert table is not None
            if chosen.key is None:
                return evaluate(chosen.compiled, table)
            known = self._masks.pop(chosen.key, np.zeros(0, dtype=bool))
            if len(known) < table.num_rows:
                known = np.concatenate([known, evaluate(chosen.compiled, table.slice(len(known)))])
            _cache(self._masks, chosen.key, known)
            return known

    def _data_table(self, places: Sequence[tuple[int, int]]) -> pa.Table:
        """A segment's table of the rows at these places, each a batch and a row in it."""
        schema = build_data_schema(self._schema)
        rows = pa.array([self._starts[batch] + row for batch, row in places], type=pa.int64())
        table = pa.Table.from_batches(self.memtable.batches).take(rows)
        return table.select(schema.names).cast(schema).combine_chunks()


def _cache(masks: dict[object, Bools], key: object, mask: Bools) -> None:
    """Adds a mask and drops the oldest ones beyond the limit."""
    while len(masks) >= CACHED_MASKS:
        del masks[next(iter(masks))]
    masks[key] = mask


def vector_fields(schema: CollectionSchema) -> list[str]:
    """The names of the fields that hold a dense vector in each row."""
    return [field.name for field in schema.fields if field.dtype == DataType.FLOAT_VECTOR and not field.nullable]
