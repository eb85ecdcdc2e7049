"""The benchmarks' own BM25 and rank fusion agree with values computed by hand, and with Milvus Lite."""

from __future__ import annotations

import math

import pytest

from benchmarks.bm25 import Bm25, fuse

TEXTS = ["the cat sat", "the dog sat on the dog", "a bird"]


def test_the_score_is_the_sum_over_the_querys_words():
    index = Bm25(TEXTS, k1=1.5, b=0.75)
    dog, mean = math.log(1 + (3 - 1 + 0.5) / 1.5), 11 / 3
    norm = 1.5 * (1 - 0.75 + 0.75 * 6 / mean)
    assert index.scores("Dog?").tolist() == pytest.approx([0, dog * 2 * 2.5 / (2 + norm), 0])


def test_milvus_lite_scores_the_same():
    from milvus_lite.analyzer import StandardAnalyzer, compute_tf
    from milvus_lite.index.sparse_inverted import SparseInvertedIndex

    standard, lite = StandardAnalyzer(), SparseInvertedIndex(k1=1.2, b=0.6)
    lite.build([compute_tf(standard.analyze(text)) for text in TEXTS])
    query = "The dog, the DOG and a naïve cat_2"
    places, distances = lite.search([compute_tf(standard.analyze(query))], top_k=3)
    ours = Bm25(TEXTS, k1=1.2, b=0.6).scores(query)
    assert {int(place): -float(distance) for place, distance in zip(places[0], distances[0], strict=True)} == (
        pytest.approx(dict(enumerate(ours.tolist())), rel=1e-5)
    )


def test_a_query_of_unknown_words_scores_nothing_anywhere():
    assert Bm25(TEXTS, k1=1.5, b=0.75).scores("zebra").tolist() == [0, 0, 0]


def test_texts_without_words_and_an_empty_collection_can_be_searched():
    assert Bm25(["", "..."], k1=1.5, b=0.75).scores("cat").tolist() == [0, 0]
    assert Bm25([], k1=1.5, b=0.75).scores("cat").tolist() == []


def test_fusion_adds_weight_over_constant_plus_rank():
    # 7 is second and first: 1/62 + 1/61. 5 and 9 are in one list each, 5 at a better rank.
    assert fuse([[5, 7], [7, 9]], [1, 1], constant=60) == [7, 5, 9]
    assert fuse([[5, 7], [9, 7]], [1, 3], constant=60) == [7, 9, 5]


def test_fusion_breaks_ties_by_the_first_ranking():
    assert fuse([[2, 1], [1, 2]], [1, 1], constant=60) == [2, 1]
