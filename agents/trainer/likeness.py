"""Measures how alike texts are, by the words and the character sequences that they share.

It needs no model, so that the same rows are always chosen the same way, and in a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from scipy import sparse

NEAR = 0.8
"""Texts whose shingles have this Jaccard index or more are near-duplicates."""
SHINGLE = 4
"""The characters of a shingle."""
MOST_SHINGLES = 512
"""A longer text is represented by those of its shingles that have the lowest hashes (Broder 1997)."""
SPACE = 1 << 20
"""Shingles are hashed to this many numbers."""
BLOCK = 512
"""The texts that are compared with all others at once."""

Matrix = Any
"""A sparse matrix of scipy, a row a text."""


class Likeness:
    """The likeness of texts to each other, of any number that fits into memory as shingles."""

    def __init__(self, texts: Sequence[str]) -> None:
        indices = [_hashes(text) for text in texts]
        ends = np.cumsum([0, *(len(each) for each in indices)])
        flat = np.concatenate([np.empty(0, dtype=np.int64), *indices]) if indices else np.empty(0, dtype=np.int64)
        self._shingles: Matrix = sparse.csr_matrix(
            (np.ones(len(flat), dtype=np.float32), flat, ends), shape=(len(texts), SPACE)
        )
        self._sizes = np.diff(ends).astype(np.float32)

    def near_duplicates(self, second_from: int = 0) -> Iterator[tuple[int, int]]:
        """Yields pairs of numbers of texts that are nearly the same (Jaccard index), the lower number first.

        Pairs come in rising order of the first number. ``second_from``: only pairs whose second number is this or more.
        """
        for start, shared in self._products(self._shingles):
            found = shared.tocoo()
            rows, columns, both = found.row + start, found.col, found.data
            near = both >= NEAR * (self._sizes[rows] + self._sizes[columns] - both)
            wanted = near & (rows < columns) & (columns >= second_from)
            yield from zip(rows[wanted].tolist(), columns[wanted].tolist(), strict=True)

    def similarities(self, chosen: Sequence[int]) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.float32]]]]:
        """Yields for each chosen text its cosine similarity, 0 to 1, to every text; rare shingles count more."""
        total = max(1, self._shingles.shape[0])
        frequency = np.bincount(self._shingles.indices, minlength=SPACE)
        weights = np.log((1 + total) / (1 + frequency)).astype(np.float32)
        weighted = self._shingles @ sparse.diags(weights, dtype=np.float32)
        lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        unit = sparse.diags(1 / np.maximum(lengths, 1e-6), dtype=np.float32) @ weighted
        places = np.asarray(chosen, dtype=np.int64)
        for start, block in self._products(unit, places):
            dense = block.toarray()
            for place, row in enumerate(dense):
                yield int(places[start + place]), row

    @staticmethod
    def _products(matrix: Matrix, places: Any = None) -> Iterator[tuple[int, Matrix]]:
        """Yields the products of some of the rows, or of all, with all rows, a block at a time."""
        across = matrix.T.tocsr()
        some = matrix if places is None else matrix[places]
        for start in range(0, some.shape[0], BLOCK):
            yield start, some[start : start + BLOCK] @ across


def alike(one: str, other: str) -> float:
    """Returns the Jaccard index of the shingles of two texts, 0 to 1."""
    a, b = set(_hashes(one).tolist()), set(_hashes(other).tolist())
    return len(a & b) / len(a | b) if a | b else 1.0


@lru_cache(maxsize=1 << 15)  # a selection looks at each text several times
def _hashes(text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The hashed words and character sequences of a text, each once, in rising order."""
    words = ["".join(each for each in word if each.isalnum()) for word in text.casefold().split()]
    words = [word for word in words if word]
    joined = f" {' '.join(words)} "
    parts = {joined[at : at + SHINGLE] for at in range(max(1, len(joined) - SHINGLE + 1))} if words else {text}
    hashes = np.fromiter({crc32(part.encode("utf-8", "replace")) % SPACE for part in parts}, dtype=np.int64)
    return np.sort(hashes)[:MOST_SHINGLES].astype(np.int64)
