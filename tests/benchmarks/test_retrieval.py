"""Exact search ranks by its mode, and the figures of the retrieval benchmark are computed correctly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.brute_force import BruteForce, CachedEmbedder, Recipe, chunk_documents
from benchmarks.retrieval import ask, floor_of, quality
from benchmarks.retrieval_data import Document, Question, halves
from infra.memory.embedder import MemoryEmbedder
from schemas.retrieval import Hit

DOCUMENTS = [
    Document(document_id="cats", title="Cats", heading=None, text="Cats purr at night."),
    Document(document_id="dogs", title="Dogs", heading="Sound > Loud", text="They bark at strangers."),
    Document(document_id="fish", title="Fish", heading=None, text="Silent swimmers of the sea."),
]
RECIPE = Recipe(chunk_tokens=16, overlap_tokens=2)


@pytest.fixture
def embedder() -> MemoryEmbedder:
    return MemoryEmbedder()


def search_with(embedder: MemoryEmbedder, recipe: Recipe = RECIPE) -> BruteForce:
    return BruteForce(chunk_documents(DOCUMENTS, embedder, recipe), embedder, recipe)


def names(hits: list[Hit]) -> list[str]:
    return [hit.chunk.document_id for hit in hits]


def test_text_search_finds_only_documents_with_a_word_of_the_question(embedder):
    (hits,) = search_with(embedder).search("text", ["Which dogs bark at the sea?"])
    assert names(hits) == ["dogs", "fish"]


def test_text_search_reads_title_and_heading_unless_the_recipe_excludes_them(embedder):
    assert names(search_with(embedder).search("text", ["loud"])[0]) == ["dogs"]
    bare = search_with(embedder, replace(RECIPE, headed=False))
    assert bare.search("text", ["loud"]) == [[]]


def test_dense_search_ranks_every_chunk_by_cosine(embedder):
    (hits,) = search_with(embedder).search("dense", ["cats purr"])
    assert names(hits)[0] == "cats"
    assert len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_hybrid_hits_carry_their_cosine(embedder):
    index = search_with(embedder)
    (dense,), (hybrid,) = (index.search(mode, ["dogs of the sea"]) for mode in ("dense", "hybrid"))
    assert {hit.chunk.chunk_id: hit.score for hit in hybrid} == {hit.chunk.chunk_id: hit.score for hit in dense}


def test_quality_is_the_mean_over_questions(embedder):
    questions = [Question(text="purr", document_id="cats"), Question(text="purr", document_id="fish")]
    recall, rank, gain = quality(search_with(embedder).search, "text", questions)
    assert (recall, rank, gain) == (0.5, 0.5, 0.5)


def test_questions_are_grouped_by_whether_their_document_is_published(embedder):
    questions = [Question(text="cats purr", document_id="cats"), Question(text="zebra stripes", document_id="zebras")]
    asked = ask(search_with(embedder).search, questions, {"cats", "dogs", "fish"})
    assert asked.published["words"].tolist() == [1.0]
    assert asked.unpublished["words"].tolist() == [0.0]


def test_a_floor_declines_at_most_a_tenth_of_the_questions_it_is_chosen_on():
    values = np.linspace(0, 1, 57)
    assert 0.08 < (values < floor_of(values)).mean() <= 0.10


def test_halves_depend_only_on_the_seed_and_do_not_overlap():
    first, second = halves(range(9), 3)
    assert (first, second) == halves(range(9), 3)
    assert sorted(first + second) == list(range(9))
    assert halves(range(9), 4) != (first, second)


def test_a_text_is_embedded_once_and_cached_for_the_next_run(tmp_path):
    seen: list[str] = []

    class Counting(MemoryEmbedder):
        def embed(self, texts):
            seen.extend(texts)
            return super().embed(texts)

    counting, path = Counting(), tmp_path / "kept" / "embeddings.npz"
    first = CachedEmbedder(counting, path).embed(["a cat", "a dog", "a cat"])
    again = CachedEmbedder(counting, path).embed(["a dog", "a fish"])
    assert seen == ["a cat", "a dog", "a fish"]
    assert np.array_equal(first[1], again[0])
    assert np.array_equal(first, MemoryEmbedder().embed(["a cat", "a dog", "a cat"]))
