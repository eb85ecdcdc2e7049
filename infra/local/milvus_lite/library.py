"""Gives the private parts of milvus-lite public names; no other file of this package uses a private name of a library.

milvus-lite has no public interface below its gRPC service, so a search of our own has to reach into its collection.
pyproject.toml therefore pins its version. ``PRIVATE_NAMES`` lists each private name and ``REPLACED_GLOBALS`` each
module variable that is replaced, with the reason. After an upgrade, run ``tests/infra/local/milvus_lite``:

- ``test_library.py`` fails first and names what is gone or has other parameters;
- ``test_search.py`` then compares our answers with the library's after random writes;
- ``test_server.py`` shows that no row is lost.

grpc, pyarrow, pymilvus and faiss are used through their public interfaces only. pymilvus' generated module
``pymilvus.grpc_gen`` is undocumented, but milvus-lite's own server uses the same function of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import milvus_lite.analyzer.hash
import milvus_lite.analyzer.protocol
import milvus_lite.db
import milvus_lite.engine.collection
import pyarrow as pa
from milvus_lite.engine.collection import Collection
from milvus_lite.engine.operation import InsertOp, Operation
from milvus_lite.index.spec import IndexSpec
from milvus_lite.schema.types import CollectionSchema
from milvus_lite.search.filter import CompiledExpr
from milvus_lite.storage.memtable import MemTable
from milvus_lite.storage.segment import Segment

PrimaryKey = int | str
Record = dict[str, Any]
"""A row as the library returns it: values by field name."""
Hits = list[list[Record]]

PRIVATE_NAMES = {
    "Collection._memtable": (
        "replaced by a property: the library puts a new memtable here when it writes the old one out, and that is when "
        "our copy of its rows has to change"
    ),
    "Collection._refresh_segment_cache": "overridden: called whenever the set of segments has changed",
    "Collection._segment_cache": "read: the segments of the manifest, in their order",
    "Collection._apply": "overridden: each insert and delete passes through it, after the log and before the memtable",
    "Collection._wal": "called by the overridden _apply: writes the log",
    "Collection._trigger_flush": (
        "overridden: after a failure the library would go on, and delete the log of rows that are in no segment"
    ),
    "Collection._get_raw": "overridden: upsert reads the old row through it, also while rows are written out",
    "Collection._num_entities": "overridden: the row count",
    "Collection._build_or_load_segment_index": "overridden: keeps the library from writing a copy of the vectors",
    "Collection._compile_filter": "overridden: its cache of compiled filters is not safe for two threads",
    "Collection._manifest": "read: the last sequence number that has been written out",
    "Collection._delta_index": "read: which primary keys have been deleted",
    "Collection._maintenance_lock": "held while segments are compared after a partition was dropped",
    "DeltaIndex._map": "read: sequence number of the last delete, by primary key; there is no way to list the keys",
    "MemTable._pk_index": "read: batch and row of a live primary key; the public way copies all of them",
    "MemTable._insert_batches": "read: the batches of rows, which are otherwise only returned one row at a time",
    "MemTable._build_data_table": "replaced: it makes a Python object of each value of a segment, tenths of a second",
}
"""Each private name of milvus-lite that this file uses, as class and attribute, with the reason."""

REPLACED_GLOBALS = {
    "milvus_lite.db.Collection": "the class of the collections that the database opens",
    "milvus_lite.engine.collection.MEMTABLE_MEMORY_LIMIT": "how many bytes of rows wait in memory for a segment",
    "milvus_lite.analyzer.protocol.term_to_id": "the number of a word: computed byte by byte in Python, so we cache it",
}
"""Each module variable of milvus-lite that ``install`` replaces in the server's process."""


def install(collection: type[LibraryCollection], *, memtable_bytes: int, cached_words: int) -> None:
    """Makes this process's MilvusLite open collections of the given class."""
    milvus_lite.db.Collection = collection
    milvus_lite.engine.collection.MEMTABLE_MEMORY_LIMIT = memtable_bytes
    milvus_lite.analyzer.protocol.term_to_id = lru_cache(maxsize=cached_words)(milvus_lite.analyzer.hash.term_to_id)


class Memtable:
    """The library's memtable: the rows that are not in a segment yet."""

    def __init__(self, table: MemTable) -> None:
        self.library_table = table

    @property
    def batches(self) -> list[pa.RecordBatch]:
        """All inserted rows in their order, also those that were overwritten."""
        return cast(list[pa.RecordBatch], self.library_table._insert_batches)

    @property
    def keys(self) -> list[PrimaryKey]:
        """The primary keys of the live rows."""
        return list(self.library_table._pk_index)

    def place(self, pk: PrimaryKey) -> tuple[int, int] | None:
        """Number of the batch and of the row in it of a live primary key."""
        found = self.library_table._pk_index.get(pk)
        return None if found is None else (found[0], found[1])

    def read(self, batch: int, row: int) -> Record:
        """The row at a place."""
        return cast(Record, self.library_table.materialize_row(batch, row))

    def apply(self, batch: pa.RecordBatch, *, insert: bool) -> None:
        """Writes rows, or the primary keys of a delete."""
        (self.library_table.apply_insert if insert else self.library_table.apply_delete)(batch)

    @property
    def last_sequence(self) -> int:
        """The highest sequence number in it, -1 if there is none."""
        return int(self.library_table.max_seq)

    def newest(self) -> dict[PrimaryKey, int]:
        """The sequence number of the last insert or delete of each primary key."""
        deleted = {pk: entry[0] for pk, entry in self.library_table.delete_index_snapshot().items()}
        return deleted | {pk: place[2] for pk, place in self.library_table.pk_index_snapshot()}

    def replace_table_builder(self, build: Callable[[Sequence[tuple[int, int]]], pa.Table]) -> None:
        """Lets ``build`` make a segment's table of batch and row numbers, without the column of the partition."""
        self.library_table._build_data_table = build


class LibraryCollection(Collection):  # type: ignore[misc] # the library is untyped
    """The library's collection, whose private methods call the public methods here that raise NotImplementedError.

    Only one thread at a time may write to it. Some of the methods run during ``__init__`` already.
    """

    def __init__(self, name: str, data_dir: str, schema: CollectionSchema, *args: object, **options: object) -> None:
        self._compiling = threading.Lock()
        super().__init__(name, data_dir, schema, *args, **options)

    # What a subclass defines

    def memtable(self) -> Memtable:
        """The memtable that is written to."""
        raise NotImplementedError

    def memtable_started(self, memtable: Memtable) -> None:
        """Called with the new memtable, before the rows of the old one are written out."""
        raise NotImplementedError

    def segments_changed(self, segments: Sequence[Segment], *, rows_return: bool = False) -> None:
        """Called with all segments once some were added or removed.

        ``rows_return``: a partition is gone, and older versions of its rows may count again.
        """
        raise NotImplementedError

    def write(self, batch: pa.RecordBatch, *, insert: bool) -> None:
        """Applies rows, or the primary keys of a delete, which are in the log already."""
        raise NotImplementedError

    def stored_row(self, pk: PrimaryKey) -> Record | None:
        """The live row of a primary key."""
        raise NotImplementedError

    def row_count(self, partition_names: list[str] | None) -> int | None:
        """How many live rows there are, or None to let the library count."""
        raise NotImplementedError

    def attach_flat_index(self, segment: Segment, field: str, metric: str) -> None:
        """Attaches an index that searches all vectors of the segment."""
        raise NotImplementedError

    def not_written(self, error: Exception) -> None:
        """Ends the process: a write to the disk has failed in the middle."""
        raise NotImplementedError

    # What a subclass may call

    def flushed_sequence(self) -> int:
        """The last sequence number whose row is in a segment."""
        return int(self._manifest.current_seq)

    def flushed_deletes(self) -> dict[PrimaryKey, int]:
        """The sequence number of the last delete of each primary key, of those that were written out."""
        return cast(dict[PrimaryKey, int], self._delta_index._map)

    def drop_partition(self, partition_name: str) -> None:
        """Removes a partition. Rows that it had newer versions of become visible again."""
        super().drop_partition(partition_name)
        with self._maintenance_lock:  # the library's thread changes segments too
            self.segments_changed(tuple(self._segment_cache.values()), rows_return=True)

    def compile_filter(self, text: str, timezone: str | None) -> CompiledExpr:
        """The compiled filter expression."""
        return self._compile_filter(text, timezone=timezone)

    # What the library calls

    @property
    def _memtable(self) -> MemTable:
        return self.memtable().library_table

    @_memtable.setter
    def _memtable(self, table: MemTable) -> None:
        self.memtable_started(Memtable(table))

    def _refresh_segment_cache(self) -> None:
        super()._refresh_segment_cache()
        self.segments_changed(tuple(self._segment_cache.values()))

    def _apply(self, op: Operation) -> None:
        insert = isinstance(op, InsertOp)
        try:
            (self._wal.write_insert if insert else self._wal.write_delete)(op.batch)
        except Exception as error:  # whatever it is, half of a record may be in the log
            self.not_written(error)
            raise
        self.write(op.batch, insert=insert)

    def _trigger_flush(self) -> None:
        try:
            super()._trigger_flush()
        except Exception as error:  # the rows are in the log only, which the next flush would delete
            self.not_written(error)
            raise

    def _get_raw(self, pk: PrimaryKey) -> Record | None:
        return self.stored_row(pk)

    def _num_entities(self, partition_names: list[str] | None) -> int:
        count = self.row_count(partition_names)
        return int(super()._num_entities(partition_names)) if count is None else count

    def _build_or_load_segment_index(self, segment: Segment, spec: IndexSpec) -> None:
        if spec.index_type == "FLAT":
            self.attach_flat_index(segment, spec.field_name, spec.metric_type)
        else:
            super()._build_or_load_segment_index(segment, spec)

    def _compile_filter(self, expr_str: str, timezone: str | None = None) -> CompiledExpr:
        with self._compiling:
            return super()._compile_filter(expr_str, timezone)
