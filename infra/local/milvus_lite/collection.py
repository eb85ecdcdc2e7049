"""A milvus-lite collection that answers searches from arrays, which each write keeps up to date.

It returns what the library's collection returns, except for the BM25 scores and the visibility that the package's
docstring describes. Requests that Everlearn does not make (grouping, ranges, several partitions, other indexes) go to
the library's own search.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from milvus_lite.analyzer.factory import create_analyzer
from milvus_lite.analyzer.sparse import compute_tf
from milvus_lite.constants import DEFAULT_PARTITION
from milvus_lite.engine.projection import ProjectionPlan, build_projection_plan, project_record
from milvus_lite.index.brute_force import BruteForceIndex
from milvus_lite.schema.types import CollectionSchema
from milvus_lite.storage.segment import Segment

from infra.local.milvus_lite.library import Hits, LibraryCollection, Memtable, PrimaryKey, Record
from infra.local.milvus_lite.ranking import Candidate, by_vectors, by_words
from infra.local.milvus_lite.rows import CollectionRows, CompiledFilter, View, vector_fields
from infra.local.milvus_lite.words import word_fields

ONLY_THE_LIBRARY_ANSWERS = ("group_by_field", "radius", "range_filter", "ranker")
"""Options of a search that go to the library's own search."""


class SearchedCollection(LibraryCollection):
    """Replaces the library's Collection. Only one thread at a time may write to it."""

    def __init__(self, name: str, data_dir: str, schema: CollectionSchema, *args: object, **options: object) -> None:
        self.rows = CollectionRows(schema)
        self.vector_fields = vector_fields(schema)
        fields = {field.name: field for field in schema.fields}
        self.analyzers = {
            output: create_analyzer(fields[text].analyzer_params) for output, text in word_fields(schema).items()
        }
        super().__init__(name, data_dir, schema, *args, **options)

    # Called by the library

    def memtable(self) -> Memtable:
        return self.rows.memtable

    def memtable_started(self, memtable: Memtable) -> None:
        self.rows.start_memtable(memtable)

    def segments_changed(self, segments: Sequence[Segment], *, rows_return: bool = False) -> None:
        self.rows.set_segments(
            segments,
            flushed_sequence=self.flushed_sequence(),
            deletes=self.flushed_deletes(),
            rows_return=rows_return,
        )

    def write(self, batch: pa.RecordBatch, *, insert: bool) -> None:
        pks, sequences = batch.column(self.pk_field).to_pylist(), batch.column("_seq").to_pylist()
        self.rows.apply(pks, sequences, lambda: self.memtable().apply(batch, insert=insert))

    def stored_row(self, pk: PrimaryKey) -> Record | None:
        for read in self.rows.readers([pk]):
            return {name: value for name, value in read().items() if name != "$meta"}
        return None

    def row_count(self, partition_names: list[str] | None) -> int | None:
        return self.rows.count() if self._covers_all_rows(partition_names) else None

    def attach_flat_index(self, segment: Segment, field: str, metric: str) -> None:
        if field not in segment.indexes:
            # The library writes a copy of the vectors beside the segment, and holds it in memory after a restart.
            vectors, _ = segment.vector_data(field)
            segment.attach_index(BruteForceIndex.build(vectors, metric), field)

    def not_written(self, error: Exception) -> None:
        # A log ends for its reader where a record is incomplete, so no record may follow one. The next process reads
        # what is complete, and begins a log of its own.
        sys.stderr.write(f"{self.data_dir} cannot be written, so the server starts again: {error}\n")
        sys.stderr.flush()
        signal.raise_signal(signal.SIGKILL)

    # Called for a client's request

    def search(self, query_vectors: list[Any], top_k: int = 10, metric_type: str | None = None, **options: Any) -> Hits:
        """The hits of a vector or text search, best first."""
        if query_vectors and top_k > 0 and self._answers(options):
            field = options.get("anns_field") or next(iter(self.vector_fields), "")
            metric = self.resolve_search_metric(field, metric_type)
            k = top_k + (options.get("offset") or 0)
            chosen = self._filter(options)
            if self._is_exact(field) and field in self.vector_fields and metric == "COSINE":
                views = self.rows.views()
                matching = [view.matching(chosen) for view in views]
                vectors = np.asarray(query_vectors, dtype=np.float32)
                return self._hits(views, by_vectors(views, matching, field, vectors, k), options)
            texts = all(isinstance(query, str) for query in query_vectors)
            if field in self.analyzers and texts and not options.get("search_params"):
                words = [compute_tf(self.analyzers[field].analyze(query)) for query in query_vectors]
                views = self.rows.views()
                matching = [view.matching(chosen) for view in views]
                return self._hits(views, by_words(views, matching, field, words, k, *self._bm25(field)), options)
        return cast(Hits, super().search(query_vectors, top_k, metric_type, **options))

    def query(self, expr: str | None = None, output_fields: list[str] | None = None, **options: Any) -> list[Record]:
        """The records that match a filter, all of them or ``limit`` from ``offset`` on."""
        if options.get("order_by_pk") or not self._answers(options):
            return cast(list[Record], super().query(expr, output_fields, **options))
        plan = build_projection_plan(output_fields, self.schema, api_kind="query")
        # Not cached: such filters name single documents, and are rarely repeated.
        chosen = self._filter({**options, "expr": expr}, cached=False)
        limit, offset = options.get("limit"), options.get("offset") or 0
        end = None if limit is None else offset + limit
        records: list[Record] = []
        for view in self.rows.views():
            rows = np.flatnonzero(view.matching(chosen))[: None if end is None else end - len(records)]
            records += view.records(rows, self._columns(plan))
        return [project_record(each, self.schema, plan) for each in records[offset:]]

    def get(
        self,
        pks: list[PrimaryKey],
        partition_names: list[str] | None = None,
        expr: str | None = None,
        output_fields: list[str] | None = None,
        timezone: str | None = None,
    ) -> list[Record]:
        """The records of primary keys, in their order; those that do not exist are left out."""
        if partition_names or expr or not self._answers({}):
            return cast(list[Record], super().get(pks, partition_names, expr, output_fields, timezone))
        plan = build_projection_plan(output_fields, self.schema, api_kind="get")
        return [project_record(read(), self.schema, plan) for read in self.rows.readers(pks)]

    def _answers(self, options: dict[str, Any]) -> bool:
        """Whether our own search answers. The library raises the error for a collection that is not loaded."""
        return (
            self.load_state == "loaded"
            and all(options.get(name) is None for name in ONLY_THE_LIBRARY_ANSWERS)
            and self._covers_all_rows(options.get("partition_names"))
        )

    def _covers_all_rows(self, partition_names: Sequence[str] | None) -> bool:
        """Whether the partitions are all there are, which is so for a collection that has only the default one."""
        asked = list(partition_names or [DEFAULT_PARTITION])
        return len(self.list_partitions()) == 1 and asked == [DEFAULT_PARTITION]

    def _filter(self, options: dict[str, Any], *, cached: bool = True) -> CompiledFilter | None:
        if not options.get("expr"):
            return None
        compiled = self.compile_filter(options["expr"], options.get("timezone"))
        # Times in the syntax tree are in UTC already, so that it is a key whatever the time zone.
        return CompiledFilter(key=compiled.ast if cached else None, compiled=compiled)

    def _is_exact(self, field: str) -> bool:
        index = self.get_index_info(field)
        return index is None or index["index_type"] == "FLAT"

    def _bm25(self, field: str) -> tuple[float, float]:
        index = self.get_index_info(field)
        params = index["build_params"] if index else {}
        return float(params.get("bm25_k1", 1.5)), float(params.get("bm25_b", 0.75))

    def _hits(self, views: Sequence[View], found: Sequence[list[Candidate]], options: dict[str, Any]) -> Hits:
        plan = build_projection_plan(options.get("output_fields"), self.schema, api_kind="search")
        names = self._columns(plan)
        hits: Hits = []
        for candidates in found:
            hits.append([])
            for score, number, row in candidates[options.get("offset") or 0 :]:
                (record,) = views[number].records([row], names)
                entity = project_record(record, self.schema, plan)
                hits[-1].append({"id": record[self.pk_field], "distance": score, "entity": entity})
        return hits

    def _columns(self, plan: ProjectionPlan) -> list[str]:
        names = [self.pk_field, *plan.response_schema_fields, *(["$meta"] if plan.include_raw_meta else [])]
        return list(dict.fromkeys(names))
