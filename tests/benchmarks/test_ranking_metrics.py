"""Ranking metrics agree with values computed by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.ranking_metrics import best_first, ndcg_at, recall_at, reciprocal_rank_at


def test_a_document_ranks_by_its_best_chunk():
    assert best_first(["b", "a", "b", "c", "a"]) == ["b", "a", "c"]


@pytest.mark.parametrize(("k", "share"), [(1, 0.0), (2, 0.5), (3, 0.5), (4, 1.0), (9, 1.0)])
def test_recall_is_the_share_of_the_relevant_among_the_first_k(k, share):
    assert recall_at(k, ["a", "b", "c", "d"], {"b", "d"}) == share


@pytest.mark.parametrize(("k", "value"), [(1, 0.0), (2, 0.0), (3, 1 / 3), (10, 1 / 3)])
def test_reciprocal_rank_counts_only_the_first_relevant_document_within_k(k, value):
    assert reciprocal_rank_at(k, ["a", "b", "c", "d"], {"c", "d"}) == value


def test_ndcg_discounts_by_the_logarithm_of_the_rank():
    assert ndcg_at(10, ["a", "b", "c"], {"c"}) == pytest.approx(1 / math.log2(4))
    best = 1 + 1 / math.log2(3)
    assert ndcg_at(10, ["a", "x", "b"], {"a", "b"}) == pytest.approx((1 + 1 / math.log2(4)) / best)


def test_ndcg_is_one_when_the_first_k_are_all_relevant_even_if_there_are_more():
    assert ndcg_at(2, ["a", "b", "x"], {"a", "b", "c"}) == pytest.approx(1.0)


def test_an_empty_result_scores_zero():
    assert recall_at(5, [], {"a"}) == reciprocal_rank_at(5, [], {"a"}) == ndcg_at(5, [], {"a"}) == 0.0


@pytest.mark.parametrize("metric", [recall_at, reciprocal_rank_at, ndcg_at])
def test_a_question_without_a_relevant_document_is_refused(metric):
    with pytest.raises(ValueError, match="leave it out"):
        metric(5, ["a"], set())
