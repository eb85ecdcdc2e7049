"""Finds the rows that contain a word, and how often, from the word counts that milvus-lite stores with each row."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa
from milvus_lite.schema.types import CollectionSchema, FunctionType
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int32]
Entries = tuple[Rows, NDArray[np.uint32], Floats]
"""One entry for each word of each row: the row, the number of the word, and how often it occurs."""


class Words(Protocol):
    """Rows by word."""

    lengths: Floats
    """How many words each row has."""

    def find(self, word: int) -> tuple[Rows, Floats]:
        """The rows that contain the word, each once, and how often each does."""
        ...


class Postings:
    """An inverted index of a segment: entries sorted by word, so that one binary search finds a word's rows."""

    def __init__(self, column: pa.ChunkedArray, rows: int) -> None:
        row_numbers, words, counts = entries(column)
        self.lengths = np.bincount(row_numbers, weights=counts, minlength=rows).astype(np.float32)
        order = np.argsort(words, kind="stable")
        words = words[order]
        self._rows, self._counts = row_numbers[order], counts[order]
        first = np.flatnonzero(np.diff(words, prepend=words[:1] ^ 1)) if len(words) else np.zeros(0, dtype=np.int64)
        self._words = words[first]
        self._bounds = np.append(first, len(words))

    def find(self, word: int) -> tuple[Rows, Floats]:
        at = int(np.searchsorted(self._words, np.uint32(word)))
        if at == len(self._words) or self._words[at] != word:
            return self._rows[:0], self._counts[:0]
        chosen = slice(self._bounds[at], self._bounds[at + 1])
        return self._rows[chosen], self._counts[chosen]


class UnsortedWords:
    """The words of the few rows outside segments. Each search scans them; sorting at each write would take longer."""

    def __init__(self, found: Entries, rows: int) -> None:
        self._rows, self._words, self._counts = found
        self.lengths = np.bincount(self._rows, weights=self._counts, minlength=rows).astype(np.float32)

    def find(self, word: int) -> tuple[Rows, Floats]:
        found = np.flatnonzero(self._words == np.uint32(word))
        return self._rows[found], self._counts[found]


def word_fields(schema: CollectionSchema) -> dict[str, str]:
    """The fields of word counts, each with the text field from which the library makes it."""
    bm25 = [each for each in schema.functions or () if each.function_type == FunctionType.BM25]
    return {each.output_field_names[0]: each.input_field_names[0] for each in bm25}


def entries(column: pa.ChunkedArray) -> Entries:
    """The entries of a column, in which each row packs pairs of a uint32 word and a float32 count."""
    packed = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    _, offsets, data = packed.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[packed.offset : packed.offset + len(packed) + 1]
    pairs = np.frombuffer(data or b"", dtype=[("word", "<u4"), ("count", "<f4")], count=bounds[-1] // 8)[
        bounds[0] // 8 :
    ]
    row_numbers = np.repeat(np.arange(len(packed), dtype=np.int32), np.diff(bounds) // 8)
    return row_numbers, np.ascontiguousarray(pairs["word"]), np.ascontiguousarray(pairs["count"])
