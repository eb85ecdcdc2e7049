"""Relevance rises with similarity and with shared words, and ignores words that every question has."""

from __future__ import annotations

import pytest

from agents.answerer.retrieval import relevance
from benchmarks.relevance import cosine_alone, words_alone
from schemas.retrieval import Chunk, Hit
from schemas.words import content_words


def hit(text: str, score: float, title: str | None = None, heading: str | None = None) -> Hit:
    chunk = Chunk(
        chunk_id=text, tenant="t", document_id=text, version="1", ordinal=0, text=text, title=title, heading=heading
    )
    return Hit(chunk=chunk, score=score)


def test_function_words_say_nothing_about_a_question():
    assert content_words("What did the Owner of Fort Tilden do in 1920, and who's the owner?") == [
        "owner", "fort", "tilden", "1920"
    ]  # fmt: skip


def test_a_question_of_function_words_alone_keeps_them():
    assert content_words("Who are you?") == ["who", "are", "you"]


def test_relevance_is_the_mean_of_cosine_and_share_of_words():
    assert relevance("Who owned Fort Tilden?", [hit("The fort was sold.", 0.4)]) == pytest.approx((0.4 + 1 / 3) / 2)


def test_the_words_of_title_and_heading_count():
    found = hit("It was sold.", 0.4, title="Fort Tilden", heading="History > Owned by")
    assert words_alone("Who owned Fort Tilden?", [found]) == 1.0


def test_cosine_and_words_are_of_the_same_hit():
    like, wordy = hit("nothing in common", 0.8), hit("fort tilden", 0.0)
    assert relevance("Fort Tilden", [like, wordy]) == pytest.approx(0.5)
    assert cosine_alone("Fort Tilden", [like, wordy]) == 0.8


def test_hits_beyond_the_best_do_not_count():
    poor = [hit(f"other {number}", 0.1) for number in range(5)]
    assert relevance("Fort Tilden", [*poor, hit("Fort Tilden", 1.0)]) == pytest.approx(0.05)


@pytest.mark.parametrize("question", ["Fort Tilden", "?!"])
def test_nothing_found_or_nothing_asked_is_not_relevant(question):
    assert relevance(question, []) == 0.0
    assert relevance("?!", [hit("fort", -0.2)]) == 0.0
