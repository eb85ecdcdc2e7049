"""A search of quantized vectors finds the same rows as one of all vectors, on any data and behind any filter."""

from __future__ import annotations

import numpy as np
import pytest

from infra.local.milvus_lite.vectors import CANDIDATES, Floats, SegmentVectors

DIMENSION = 32
ROWS = CANDIDATES[-1] + 1000


def even(random: np.random.Generator) -> Floats:
    return random.standard_normal((ROWS, DIMENSION), dtype=np.float32)


def with_outliers(random: np.random.Generator) -> Floats:
    vectors = even(random)
    vectors[::50] = np.eye(DIMENSION, dtype=np.float32)[random.integers(0, DIMENSION, len(vectors[::50]))]
    vectors[7::100] = 0
    return vectors * random.uniform(0.01, 100, (ROWS, 1)).astype(np.float32)


def nearly_one(random: np.random.Generator) -> Floats:
    """All so close that quantizing makes them equal."""
    return np.ones((ROWS, DIMENSION), dtype=np.float32) + 1e-3 * even(random)


def one_sided(random: np.random.Generator) -> Floats:
    """Similar to each other by 0.9, as the vectors of some embedding models are."""
    return even(random) + np.float32(3)


@pytest.mark.parametrize("make", [even, one_sided, with_outliers, nearly_one])
@pytest.mark.parametrize("share", [1.0, 0.6, 0.1, 0.002])
def test_the_best_rows_are_those_of_all_vectors(make, share: float) -> None:
    random = np.random.default_rng(5)
    vectors = make(random)
    allowed = random.random(ROWS) < share
    queries = np.concatenate(
        [
            vectors[1:2],
            random.standard_normal((5, DIMENSION), dtype=np.float32),
            np.ones((1, DIMENSION), dtype=np.float32),
        ]
    )
    found = SegmentVectors(vectors).quantized().best(queries, allowed, 16)
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    for query, (scores, rows) in zip(queries.astype(np.float64), found, strict=True):
        exact = wide @ query / np.where(lengths == 0, 1, lengths) / np.linalg.norm(query)
        assert allowed[rows].all()
        assert len(set(rows.tolist())) == len(rows) == min(16, allowed.sum())
        assert np.sort(scores) == pytest.approx(np.sort(exact[allowed])[-16:], abs=2e-6)
        assert scores == pytest.approx(exact[rows], abs=2e-6)


@pytest.mark.parametrize("shift", [0.0, 1.5, 3.0])
def test_quantized_vectors_are_enough_where_vectors_differ(shift: float) -> None:
    random = np.random.default_rng(6)
    made = random.standard_normal((ROWS, 384), dtype=np.float32) + np.float32(shift)
    vectors = SegmentVectors(made).quantized()
    unit = made[0] * vectors.inverse_norms[0]
    assert vectors.among_candidates(unit, np.ones(ROWS, dtype=bool), ROWS, 16) is not None


def test_a_query_of_another_dimension_is_an_error_that_says_so() -> None:
    vectors = SegmentVectors(even(np.random.default_rng(7))).quantized()
    with pytest.raises(ValueError, match="have 32 numbers each"):
        vectors.best(np.ones((1, 16), dtype=np.float32), np.ones(ROWS, dtype=bool), 1)
