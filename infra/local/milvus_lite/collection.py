"""A Milvus Lite collection that searches arrays, keeps them up to date at each write, and lets no search wait for one.

What it answers is what the library answers, with two differences: BM25 takes its statistics from all live rows of the
collection (the library's are each segment's own, so that its scores do not compare), and rows stay visible while they
are written out (the library shows them neither in the table they leave nor in the segment they go to).
Requests beyond what Everlearn makes (groups, ranges, partitions, other indexes) are the library's to answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from milvus_lite.constants import DEFAULT_PARTITION
from milvus_lite.engine.collection import Collection
from milvus_lite.engine.operation import InsertOp
from milvus_lite.engine.projection import build_projection_plan, project_record
from milvus_lite.index.brute_force import BruteForceIndex

from infra.local.milvus_lite.ranking import Candidate, by_vectors, by_words
from infra.local.milvus_lite.rows import CompiledFilter, SegmentRows, UnflushedRows, View, vector_fields
from infra.local.milvus_lite.words import word_fields

Records = list[dict[str, Any]]
Hits = list[Records]


class SearchedCollection(Collection):  # type: ignore[misc] # the library is untyped
    """To be put in the place of the library's Collection. Written to by one thread at a time."""

    def __init__(self, name: str, data_dir: str, schema: Any, *args: Any, **options: Any) -> None:
        self._visible = threading.Lock()
        self._compiling = threading.Lock()
        self._segments: tuple[SegmentRows, ...] = ()
        self._tables: tuple[UnflushedRows, ...] = ()
        self._vector_fields, self._word_fields = vector_fields(schema), word_fields(schema)
        super().__init__(name, data_dir, schema, *args, **options)

    # What is visible

    @property
    def _memtable(self) -> Any:
        return self._tables[-1].table

    @_memtable.setter
    def _memtable(self, table: Any) -> None:
        # The table before stays visible until the manifest names the segment of its rows.
        self._tables = (*self._tables, UnflushedRows(table, self._schema))

    def _refresh_segment_cache(self, anew: bool = False) -> None:
        super()._refresh_segment_cache()
        known = {} if anew else {id(each.segment): each for each in self._segments}
        segments = tuple(
            known.get(id(each)) or SegmentRows(each, self._schema) for each in self._segment_cache.values()
        )
        with self._visible:
            for rows in segments:
                if id(rows.segment) not in known:
                    self._bury(rows, segments)
            self._segments = segments
            flushed = self._manifest.current_seq
            self._tables = (*(each for each in self._tables[:-1] if each.table.max_seq > flushed), self._tables[-1])

    def drop_partition(self, partition_name: str) -> None:
        """Removes a partition; rows that it had newer versions of are there again."""
        super().drop_partition(partition_name)
        with self._maintenance_lock:
            self._refresh_segment_cache(anew=True)

    def _bury(self, new: SegmentRows, segments: Sequence[SegmentRows]) -> None:
        """Marks the rows of a new segment that are no more, and those of others that it replaces."""
        mine = new.segment.pk_to_row
        for pk in mine.keys() & self._delta_index._map.keys():
            new.kill(pk, self._delta_index._map[pk])
        for unflushed in self._tables:
            table = unflushed.table
            for pk in mine.keys() & table._delete_index.keys():
                new.kill(pk, table._delete_index[pk][0])
            for pk in mine.keys() & table._pk_index.keys():
                new.kill(pk, table._pk_index[pk][2])
        for other in segments:
            if other is not new:
                for pk in mine.keys() & other.segment.pk_to_row.keys():
                    new.kill(pk, int(other.segment.seqs[other.segment.pk_to_row[pk]]))
                    other.kill(pk, int(new.segment.seqs[mine[pk]]))

    def _apply(self, op: Any) -> None:
        insert = isinstance(op, InsertOp)
        (self._wal.write_insert if insert else self._wal.write_delete)(op.batch)
        pks = op.batch.column(self._pk_name).to_pylist()
        seqs = op.batch.column("_seq").to_pylist()
        with self._visible:
            *earlier, unflushed = self._tables
            (unflushed.table.apply_insert if insert else unflushed.table.apply_delete)(op.batch)
            unflushed.follow(pks)
            for table in earlier:
                table.forget(pks)
            for segment in self._segments:
                for pk, seq in zip(pks, seqs, strict=True):
                    segment.kill(pk, seq)

    def _views(self) -> list[View]:
        with self._visible:
            views = [segment.view() for segment in self._segments]
            return views + [view for table in self._tables if (view := table.view()) is not None]

    def _build_or_load_segment_index(self, segment: Any, spec: Any) -> None:
        if spec.index_type != "FLAT":
            super()._build_or_load_segment_index(segment, spec)
        elif spec.field_name not in segment.indexes:
            # The library writes a copy of the vectors beside the segment, and holds it in memory after a restart.
            vectors, _ = segment.vector_data(spec.field_name)
            segment.attach_index(BruteForceIndex.build(vectors, spec.metric_type), spec.field_name)

    # What is asked

    def search(self, query_vectors: Any, top_k: int = 10, metric_type: str | None = None, **options: Any) -> Hits:
        """The library's answers to a vector or text search, best first."""
        field = self._resolve_anns_field(options.get("anns_field"))
        metric = self.resolve_search_metric(field, metric_type)
        plain = all(options.get(each) is None for each in ("group_by_field", "radius", "range_filter", "ranker"))
        if not plain or not query_vectors or top_k < 1 or not self._whole(options.get("partition_names")):
            return cast(Hits, super().search(query_vectors, top_k, metric_type, **options))
        self._require_loaded()
        offset = options.get("offset") or 0
        chosen = self._filter(options.get("expr"), options.get("timezone"))
        if field in self._word_fields:
            self._validate_sparse_tuning(field, metric, options.get("search_params") or {})
            queries = self._prepare_sparse_queries(query_vectors, field)
            views = self._views()
            allowed = [view.allowed(chosen) for view in views]
            found = by_words(views, allowed, field, queries, top_k + offset, *self._bm25(field))
        elif field in self._vector_fields and metric == "COSINE" and self._exact(field):
            vectors = np.asarray(query_vectors, dtype=np.float32)
            views = self._views()
            allowed = [view.allowed(chosen) for view in views]
            found = by_vectors(views, allowed, field, vectors, top_k + offset)
        else:
            return cast(Hits, super().search(query_vectors, top_k, metric_type, **options))
        return self._hits(views, [each[offset:] for each in found], options.get("output_fields"))

    def query(self, expr: str | None = None, output_fields: list[str] | None = None, **options: Any) -> Records:
        """The records that a filter lets through, all of them or ``limit`` from ``offset`` on."""
        if options.get("order_by_pk") or not self._whole(options.get("partition_names")):
            return cast(Records, super().query(expr, output_fields, **options))
        self._require_loaded()
        plan = build_projection_plan(output_fields, self._schema, api_kind="query")
        chosen = self._filter(expr, options.get("timezone"), cached=False)
        limit, offset = options.get("limit"), options.get("offset") or 0
        end = None if limit is None else offset + limit
        records: Records = []
        for view in self._views():
            rows = np.flatnonzero(view.allowed(chosen))[: None if end is None else end - len(records)]
            records += view.records(rows, _columns(plan, self._pk_name))
        return [project_record(each, self._schema, plan) for each in records[offset:]]

    def get(
        self,
        pks: list[Any],
        partition_names: list[str] | None = None,
        expr: str | None = None,
        output_fields: list[str] | None = None,
        timezone: str | None = None,
    ) -> Records:
        """The records of primary keys, in their order; those that are not there are left out."""
        if partition_names or expr:
            return cast(Records, super().get(pks, partition_names, expr, output_fields, timezone))
        self._require_loaded()
        plan = build_projection_plan(output_fields, self._schema, api_kind="get")
        return [project_record(make(), self._schema, plan) for make in self._found(pks)]

    def _get_raw(self, pk: Any) -> dict[str, Any] | None:
        for make in self._found([pk]):
            return {name: value for name, value in make().items() if name != "$meta"}
        return None

    def _num_entities(self, partition_names: list[str] | None) -> int:
        if not self._whole(partition_names):
            return int(super()._num_entities(partition_names))
        return sum(int(view.live.sum()) for view in self._views())

    def _found(self, pks: Sequence[Any]) -> list[Callable[[], dict[str, Any]]]:
        """For each primary key that has a live row, what makes its record."""
        found: list[Callable[[], dict[str, Any]]] = []
        with self._visible:
            for pk in pks:
                for unflushed in reversed(self._tables):
                    place = unflushed.find(pk)
                    if place is not None:
                        found.append(partial(unflushed.table.materialize_row, *place))
                        break
                else:
                    for each in self._segments:
                        row = each.segment.find_row(pk)
                        if row is not None and each.live[row]:
                            found.append(partial(each.segment.row_to_dict, row))
                            break
        return found

    def _compile_filter(self, *args: Any, **options: Any) -> Any:
        # The library's cache of compiled filters takes no two threads at once.
        with self._compiling:
            return super()._compile_filter(*args, **options)

    def _filter(self, text: str | None, timezone: str | None, *, cached: bool = True) -> CompiledFilter | None:
        if not text:
            return None
        compiled = self._compile_filter(text, timezone=timezone)
        return CompiledFilter(key=(text, self._effective_timezone(timezone)) if cached else None, compiled=compiled)

    def _whole(self, partition_names: Sequence[str] | None) -> bool:
        """Whether a request is about all rows: of a collection with one partition, which all but a few have."""
        return len(self._manifest.list_partitions()) == 1 and list(partition_names or [DEFAULT_PARTITION]) == [
            DEFAULT_PARTITION
        ]

    def _exact(self, field: str) -> bool:
        spec = self._index_specs.get(field)
        return spec is None or spec.index_type == "FLAT"

    def _bm25(self, field: str) -> tuple[float, float]:
        spec = self._index_specs.get(field)
        params = spec.build_params if spec else {}
        return float(params.get("bm25_k1", 1.5)), float(params.get("bm25_b", 0.75))

    def _hits(self, views: Sequence[View], found: Sequence[list[Candidate]], output_fields: list[str] | None) -> Hits:
        plan = build_projection_plan(output_fields, self._schema, api_kind="search")
        names = _columns(plan, self._pk_name)
        hits: Hits = []
        for candidates in found:
            hits.append([])
            for score, number, row in candidates:
                (record,) = views[number].records([row], names)
                entity = project_record(record, self._schema, plan)
                hits[-1].append({"id": record[self._pk_name], "distance": score, "entity": entity})
        return hits


def _columns(plan: Any, primary_key: str) -> list[str]:
    names = [primary_key, *plan.response_schema_fields, *(["$meta"] if plan.include_raw_meta else [])]
    return list(dict.fromkeys(names))
