"""Searches vectors exactly by cosine similarity, and reads only a quarter of their bytes for most searches.

Multiplying all vectors with a query is limited by the memory's speed: 15 to 40 ms for 100,000 vectors of 384 numbers.
A scan of vectors quantized to 8 bits therefore selects some hundred candidates (2 ms), and their exact scores are
computed from the vectors themselves. The error of a quantized score has a known bound. If a row that was not selected
could still be among the best, the scores of all rows are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

QUANTIZED_ROWS = 2048
"""With fewer rows, quantizing saves no time."""
CANDIDATES = (512, 4096)
"""How many candidates to select: at first, and again when the first ones may miss one of the best."""
LEVELS = 127
ROUNDING_ERROR = 1e-5
QUERIES_AT_ONCE = 32
"""The scores of all rows for more queries of one request would take too much memory."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Found = tuple[Floats, NDArray[np.intp]]
"""Scores and rows, in no order."""


class SegmentVectors:
    """Vectors of shape (rows, dimension). A zero vector has the similarity 0 to every other."""

    def __init__(self, vectors: Floats, inverse_norms: Floats | None = None) -> None:
        self.vectors = vectors
        if inverse_norms is None:
            lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            inverse_norms = (1 / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        self.inverse_norms = inverse_norms
        self._quantized: Any = None

    @classmethod
    def joined(cls, parts: Sequence[SegmentVectors]) -> SegmentVectors:
        """The rows of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([each.vectors for each in parts]), np.concatenate([each.inverse_norms for each in parts])
        )

    def quantized(self) -> Self:
        """Prepares the quantized scan where it saves time, for vectors that will not change; returns itself."""
        if len(self.vectors) < QUANTIZED_ROWS:
            return self
        import faiss

        quantized = faiss.IndexScalarQuantizer(
            self.vectors.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
        )
        parts = range(0, len(self.vectors), QUANTIZED_ROWS)
        # The mean adds the same to each score. Without it the values are smaller, and the steps between them finer.
        self._mean = np.mean([self._units(start).mean(axis=0) for start in parts], axis=0, dtype=np.float32)
        self._step = max(float(np.abs(self._units(start) - self._mean).max()) for start in parts) / LEVELS or 1.0
        self._max_norm = self._max_error = 0.0
        for start in parts:
            units = self._units(start) - self._mean
            levels = np.rint(units / np.float32(self._step))
            self._max_norm = max(self._max_norm, _max_norm(units))
            self._max_error = max(self._max_error, _max_norm(units - levels * np.float32(self._step)))
            quantized.add(levels)
        self._quantized = quantized
        return self

    def best(self, queries: Floats, matching: Bools, k: int) -> list[Found]:
        """For each query of shape (queries, dimension), at most k of the matching rows. Raises ValueError."""
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"the field's vectors have {self.vectors.shape[1]} numbers each: {queries.shape} do not fit"
            )
        rows = np.flatnonzero(matching)
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        units = (queries / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        if self._quantized is None or len(rows) <= max(CANDIDATES[0], 4 * k):
            return self._among_all(units, rows, k)
        return [
            self.among_candidates(unit, matching, len(rows), k) or self._among_all(unit[None], rows, k)[0]
            for unit in units
        ]

    def _among_all(self, units: Floats, rows: NDArray[np.intp], k: int) -> list[Found]:
        found: list[Found] = []
        for start in range(0, len(units), QUERIES_AT_ONCE):
            block = units[start : start + QUERIES_AT_ONCE].T
            if 2 * len(rows) < len(self.vectors):
                scores = (self.vectors[rows] @ block) * self.inverse_norms[rows, None]
            else:
                scores = ((self.vectors @ block) * self.inverse_norms[:, None])[rows]
            found += [top(score, rows, k) for score in np.minimum(scores, 1).T]
        return found

    def among_candidates(self, unit: Floats, matching: Bools, rows: int, k: int) -> Found | None:
        """At most k of the matching rows, whose number is ``rows``; None where the quantized scan leaves a doubt."""
        import faiss

        step = float(np.abs(unit).max()) / LEVELS or 1.0
        levels = np.rint(unit / np.float32(step))
        error = _max_norm(unit[None] - levels[None] * np.float32(step))
        # |q·v − q̂·v̂| ≤ |q − q̂|·|v| + |q̂|·|v − v̂|, where |q̂| ≤ 1 + |q − q̂|.
        bound = error * self._max_norm + (1 + error) * self._max_error + ROUNDING_ERROR
        chosen = None
        if rows < len(matching):
            # faiss declares the types of C++, not those of its Python calls.
            bits = faiss.IDSelectorBitmap(np.packbits(matching, bitorder="little"))  # type: ignore[call-arg, arg-type]
            chosen = faiss.SearchParameters(sel=bits)  # type: ignore[call-arg]
        faiss.omp_set_num_threads(1)  # holds for the calling thread only
        for count in CANDIDATES:
            if not 4 * k <= count < rows:
                continue
            products, candidates = self._quantized.search(levels[None], count, params=chosen)
            scores, best = top(self._scores(unit, candidates[0]), candidates[0], k)
            best_of_others = float(products[0, -1]) * step * self._step + float(unit @ self._mean) + bound
            if best_of_others < float(scores.min()):
                return scores, best
        return None

    def _scores(self, unit: Floats, rows: NDArray[np.intp]) -> Floats:
        scores: Floats = np.minimum((self.vectors[rows] @ unit) * self.inverse_norms[rows], np.float32(1))
        return scores

    def _units(self, start: int) -> Floats:
        part = slice(start, start + QUANTIZED_ROWS)
        return self.vectors[part] * self.inverse_norms[part, None]


def _max_norm(vectors: Floats) -> float:
    return float(np.linalg.norm(vectors, axis=1).max())


def top(scores: Floats, rows: NDArray[np.intp], k: int) -> Found:
    """The at most k highest scores and their rows, in no order."""
    if len(rows) > k:
        chosen = np.argpartition(scores, len(rows) - k)[len(rows) - k :]
        return scores[chosen], rows[chosen]
    return scores, rows
