"""Evaluates a compiled filter over many rows.

Once a filter reads a JSON field, the library turns whole rows into Python objects, including their vectors: 4 s at
100,000 rows. Here each part of a conjunction is evaluated separately: on arrays where Arrow can do it, otherwise once
for each distinct value of the field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pyarrow as pa
from milvus_lite.search.filter import CompiledExpr, ast, evaluate_mask
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
_ARROW_NODES = (
    ast.And,
    ast.Or,
    ast.Not,
    ast.CmpOp,
    ast.InOp,
    ast.FieldRef,
    ast.ListLit,
    ast.StringLit,
    ast.IntLit,
    ast.FloatLit,
    ast.BoolLit,
)
"""The kinds of expressions that Arrow evaluates on whole columns."""


def evaluate(compiled: CompiledExpr, table: pa.Table) -> Bools:
    """Which rows of the table match the filter. As in the library, a comparison with null does not match."""
    matching = np.ones(table.num_rows, dtype=bool)
    # A conjunction with an unknown part does not match either, so each part can be evaluated separately.
    for part in compiled.ast.operands if isinstance(compiled.ast, ast.And) else (compiled.ast,):
        matching &= _part(replace(compiled, ast=part), table)
    return matching


def _part(compiled: CompiledExpr, table: pa.Table) -> Bools:
    nodes = list(_nodes(compiled.ast))
    names = sorted({node.name for node in nodes if isinstance(node, ast.FieldRef)})
    if all(isinstance(node, _ARROW_NODES) for node in nodes) and names:
        return _mask(replace(compiled, backend="arrow"), table.select(names))
    if any(isinstance(node, ast.MetaAccess) for node in nodes):
        names.append("$meta")
    if not names:
        return _mask(compiled, table)
    if len(names) > 1 or not pa.types.is_string(table.schema.field(names[0]).type):
        return _mask(compiled, table.select(names))
    column = table.column(names[0]).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # combine_chunks found no chunks, or too much data for one
        return _mask(compiled, table.select(names))
    distinct = column.dictionary_encode(null_encoding="encode")
    found = _mask(compiled, pa.table({names[0]: distinct.dictionary}))
    matching: Bools = found[distinct.indices.to_numpy()]
    return matching


def _mask(compiled: CompiledExpr, table: pa.Table) -> Bools:
    found: Bools = evaluate_mask(compiled, table)
    return found


def _nodes(node: object) -> Iterator[object]:
    if is_dataclass(node):
        yield node
        for each in fields(node):
            yield from _nodes(getattr(node, each.name))
    elif isinstance(node, tuple):
        for each in node:
            yield from _nodes(each)
