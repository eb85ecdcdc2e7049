"""The vectors of rows and an exact search among them, most of it done on a quarter of their bytes.

A product of all vectors with a query is as slow as memory is: 15 to 40 ms at 100,000 x 384. So a scan of 8-bit codes
finds some hundred rows first (2 ms), whose scores are then worked out from the vectors themselves. How far the score of
the codes is from that of the vectors has a bound; where a row that was passed over could still be among the best, all
are worked out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CODED_ROWS = 2048
"""Fewer are not worth their codes."""
SCREENED = (512, 4096)
"""Rows whose scores are worked out after a scan of the codes: at first, and where those are too few to be sure."""
LEVELS = 127
ROUNDING = 1e-5
QUERIES_AT_ONCE = 32
"""Of one request: beyond, the scores of all rows for all queries would take much memory."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Found = tuple[Floats, NDArray[np.intp]]
"""Scores and rows, in no order."""


class SegmentVectors:
    """Vectors of shape (rows, dimension), searched by cosine similarity. A zero vector is similar to none."""

    def __init__(self, vectors: Floats, inverse: Floats | None = None) -> None:
        self.vectors = vectors
        if inverse is None:
            lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            inverse = (1 / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        self.inverse = inverse
        self._codes: Any = None

    @classmethod
    def joined(cls, parts: Sequence[SegmentVectors]) -> SegmentVectors:
        """The rows of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([each.vectors for each in parts]), np.concatenate([each.inverse for each in parts]))

    def coded(self) -> Self:
        """The same, with codes if they help: for rows that stay as they are."""
        if len(self.vectors) < CODED_ROWS:
            return self
        import faiss

        codes = faiss.IndexScalarQuantizer(
            self.vectors.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
        )
        parts = range(0, len(self.vectors), CODED_ROWS)
        # What all vectors have in common adds the same to each score: left out, the codes are the finer.
        self._common = np.mean([self._units(start).mean(axis=0) for start in parts], axis=0, dtype=np.float32)
        self._step = max(float(np.abs(self._units(start) - self._common).max()) for start in parts) / LEVELS or 1.0
        self._longest = self._away = 0.0
        for start in parts:
            units = self._units(start) - self._common
            levels = np.rint(units / np.float32(self._step))
            self._longest = max(self._longest, _longest(units))
            self._away = max(self._away, _longest(units - levels * np.float32(self._step)))
            codes.add(levels)
        self._codes = codes
        return self

    def best(self, queries: Floats, allowed: Bools, k: int) -> list[Found]:
        """For each query of shape (queries, dimension), at most k of the allowed rows. Raises ValueError."""
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"the field's vectors have {self.vectors.shape[1]} numbers each: {queries.shape} do not fit"
            )
        rows = np.flatnonzero(allowed)
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        units = (queries / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        if self._codes is None or len(rows) <= max(SCREENED[0], 4 * k):
            return self._all(units, rows, k)
        return [self._screened(unit, allowed, len(rows), k) or self._all(unit[None], rows, k)[0] for unit in units]

    def _all(self, units: Floats, rows: NDArray[np.intp], k: int) -> list[Found]:
        found: list[Found] = []
        for start in range(0, len(units), QUERIES_AT_ONCE):
            block = units[start : start + QUERIES_AT_ONCE].T
            if 2 * len(rows) < len(self.vectors):
                scores = (self.vectors[rows] @ block) * self.inverse[rows, None]
            else:
                scores = ((self.vectors @ block) * self.inverse[:, None])[rows]
            found += [top(score, rows, k) for score in np.minimum(scores, 1).T]
        return found

    def _screened(self, unit: Floats, allowed: Bools, rows: int, k: int) -> Found | None:
        """None where the codes do not tell the best rows from the others."""
        import faiss

        step = float(np.abs(unit).max()) / LEVELS or 1.0
        levels = np.rint(unit / np.float32(step))
        away = _longest(unit[None] - levels[None] * np.float32(step))
        # Both are off by at most so much; one is at most so long, and the other one and what it is off by.
        bound = away * self._longest + (1 + away) * self._away + ROUNDING
        chosen = None
        if rows < len(allowed):
            # Its declared types are those of C++, not of its Python calls.
            bits = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg, arg-type]
            chosen = faiss.SearchParameters(sel=bits)  # type: ignore[call-arg]
        faiss.omp_set_num_threads(1)  # of the calling thread alone
        for screened in SCREENED:
            if not 4 * k <= screened < rows:
                continue
            products, likely = self._codes.search(levels[None], screened, params=chosen)
            scores, best = top(self._scores(unit, likely[0]), likely[0], k)
            passed_over = float(products[0, -1]) * step * self._step + float(unit @ self._common) + bound
            if passed_over < float(scores.min()):
                return scores, best
        return None

    def _scores(self, unit: Floats, rows: NDArray[np.intp]) -> Floats:
        scores: Floats = np.minimum((self.vectors[rows] @ unit) * self.inverse[rows], np.float32(1))
        return scores

    def _units(self, start: int) -> Floats:
        part = slice(start, start + CODED_ROWS)
        return self.vectors[part] * self.inverse[part, None]


def _longest(vectors: Floats) -> float:
    return float(np.linalg.norm(vectors, axis=1).max())


def top(scores: Floats, rows: NDArray[np.intp], k: int) -> Found:
    """The at most k highest scores and their rows, in no order."""
    if len(rows) > k:
        chosen = np.argpartition(scores, len(rows) - k)[len(rows) - k :]
        return scores[chosen], rows[chosen]
    return scores, rows
