"""The words of rows: which rows hold a word and how often, read from the word counts that Milvus Lite stores packed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from milvus_lite.schema.types import FunctionType
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Places = NDArray[np.int32]
Entries = tuple[Places, NDArray[np.uint32], Floats]
"""Row, word and count of each word of each row."""


class Words(Protocol):
    """Which rows hold a word, and how many words a row has."""

    lengths: Floats

    def find(self, word: int) -> tuple[Places, Floats]:
        """The rows that hold the word, each once, and how often each does."""
        ...


class Postings:
    """The words of a segment, grouped by word."""

    def __init__(self, column: pa.ChunkedArray, rows: int) -> None:
        places, words, counts = entries(column)
        self.lengths = np.bincount(places, weights=counts, minlength=rows).astype(np.float32)
        order = np.argsort(words, kind="stable")
        words = words[order]
        self._places, self._counts = places[order], counts[order]
        first = np.flatnonzero(np.diff(words, prepend=words[:1] ^ 1)) if len(words) else np.zeros(0, dtype=np.int64)
        self._words = words[first]
        self._edges = np.append(first, len(words))

    def find(self, word: int) -> tuple[Places, Floats]:
        at = int(np.searchsorted(self._words, np.uint32(word)))
        if at == len(self._words) or self._words[at] != word:
            return self._places[:0], self._counts[:0]
        chosen = slice(self._edges[at], self._edges[at + 1])
        return self._places[chosen], self._counts[chosen]


class Scanned:
    """The words of a few rows, which are looked through: sorting them at each write would take longer."""

    def __init__(self, found: Entries, rows: int) -> None:
        self._places, self._words, self._counts = found
        self.lengths = np.bincount(self._places, weights=self._counts, minlength=rows).astype(np.float32)

    def find(self, word: int) -> tuple[Places, Floats]:
        found = np.flatnonzero(self._words == np.uint32(word))
        return self._places[found], self._counts[found]


def word_fields(schema: Any) -> list[str]:
    """The fields of word counts that the server makes from a text."""
    bm25 = [each for each in schema.functions or () if each.function_type == FunctionType.BM25]
    return [each.output_field_names[0] for each in bm25]


def entries(column: pa.ChunkedArray) -> Entries:
    """Of a column of (uint32, float32) pairs, packed one after the other."""
    packed = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    _, edges, data = packed.buffers()
    edges = np.frombuffer(edges, dtype=np.int32)[packed.offset : packed.offset + len(packed) + 1]
    pairs = np.frombuffer(data or b"", dtype=[("word", "<u4"), ("count", "<f4")], count=edges[-1] // 8)[edges[0] // 8 :]
    places = np.repeat(np.arange(len(packed), dtype=np.int32), np.diff(edges) // 8)
    return places, np.ascontiguousarray(pairs["word"]), np.ascontiguousarray(pairs["count"])
