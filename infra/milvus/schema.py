"""Defines the collection of an index in Milvus, and makes rows of chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infra.milvus.filter_language import to_stored
from schemas.retrieval import Chunk, headings_above

if TYPE_CHECKING:
    from pymilvus import CollectionSchema, MilvusClient

STORED = ("chunk_id", "tenant", "document_id", "version", "ordinal", "text", "title", "uri", "heading")
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""About the size of one upsert: it must fit into the time of a call, and a cluster refuses more than 64 MB."""
MAX_TEXT_BYTES = 65_535
"""Most bytes of UTF-8 in one text field of Milvus."""
ANALYZER = {"tokenizer": "standard", "filter": ["lowercase"]}


def schema(client: MilvusClient, dimension: int) -> CollectionSchema:
    """Returns the fields, and the function that makes BM25's ``words`` from ``searched``."""
    from pymilvus import DataType, Function, FunctionType

    # The dynamic field holds the metadata. A JSON field could too, but Milvus Lite filters by it row by row.
    made: CollectionSchema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    made.add_field("chunk_id", DataType.VARCHAR, is_primary=True, max_length=64)
    made.add_field("tenant", DataType.VARCHAR, max_length=64)
    made.add_field("document_id", DataType.VARCHAR, max_length=2048)  # 512 characters of up to four bytes
    made.add_field("version", DataType.VARCHAR, max_length=64)
    made.add_field("ordinal", DataType.INT64)
    made.add_field("text", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
    made.add_field("title", DataType.VARCHAR, max_length=4000, nullable=True)
    made.add_field("uri", DataType.VARCHAR, max_length=8000, nullable=True)
    made.add_field("heading", DataType.VARCHAR, max_length=8000, nullable=True)
    made.add_field(
        "searched", DataType.VARCHAR, max_length=MAX_TEXT_BYTES, enable_analyzer=True, analyzer_params=ANALYZER
    )
    made.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    made.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    made.add_function(
        Function(
            name="bm25", input_field_names=["searched"], output_field_names=["words"], function_type=FunctionType.BM25
        )
    )
    return made


def messages(chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> Iterator[list[dict[str, object]]]:
    """Yields rows in portions that fit into one call."""
    rows: list[dict[str, object]] = []
    size = 0
    for chunk, vector in zip(chunks, vectors, strict=True):
        row = {name: getattr(chunk, name) for name in STORED}
        row |= {**to_stored(chunk.metadata), "searched": _searched(chunk), "vector": vector.tolist()}
        rows.append(row)
        size += 4 * len(vector) + 4 * sum(len(str(row[name])) for name in row if name != "vector") + 512
        if size >= MAX_MESSAGE_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _searched(chunk: Chunk) -> str:
    """Returns the text whose words are searched: title and headings say what a chunk is about."""
    text = "\n".join([*headings_above(chunk.title, chunk.heading), chunk.text])
    return text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
