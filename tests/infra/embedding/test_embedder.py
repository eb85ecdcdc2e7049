"""What every embedder does: the memory twin's and the real model's contract; then what only the real one can show."""

import threading

import numpy as np
import pytest

from infra.embedding.embedder import SentenceTransformerEmbedder, token_limit
from infra.memory.embedder import MemoryEmbedder
from infra.settings import Settings
from schemas.errors import ModelMissing
from schemas.policies import EmbeddingSettings


@pytest.fixture(params=["memory", "sentence-transformers"])
def embedder(request):
    return MemoryEmbedder() if request.param == "memory" else request.getfixturevalue("sentence_embedder")


def test_embeddings_have_unit_length_and_the_stated_dimension(embedder):
    vectors = embedder.embed(["a", "a longer text about boats", "", "日本"])
    assert vectors.shape == (4, embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_texts_give_no_embeddings(embedder):
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_the_order_of_the_texts_is_kept_whatever_their_lengths(embedder):
    texts = ["word " * length for length in (40, 1, 90, 3, 200, 2)]
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    np.testing.assert_allclose(embedder.embed(texts), alone, atol=1e-5)


def test_texts_about_the_same_are_more_alike_than_others(embedder):
    question, near, far = embedder.embed(
        ["how do I reset my password", "how to reset a forgotten password", "the river floods the green valley"]
    )
    assert question @ near > question @ far + 0.2


def test_spans_of_tokens_cover_the_text_in_order(embedder):
    text = "Hello  Wörld, it's 2026!\n日本語 ok"
    spans = embedder.token_spans(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    assert {place for start, end in spans for place in range(start, end)} == {
        place for place, character in enumerate(text) if not character.isspace()
    }


def test_spans_of_a_long_text_are_not_cut_off(embedder):
    text = "word " * 3000
    spans = embedder.token_spans(text)
    assert len(spans) == 3000
    assert spans[-1] == (14995, 14999)


def test_a_text_longer_than_the_model_is_embedded_all_the_same(embedder):
    assert embedder.embed(["word " * 3000]).shape == (1, embedder.dimension)


def test_the_shipped_model_counts_its_tokens_without_the_special_ones(sentence_embedder):
    assert (sentence_embedder.model, sentence_embedder.dimension, sentence_embedder.max_tokens) == (
        "all-MiniLM-L6-v2",
        384,
        254,
    )


def test_threads_may_embed_and_split_at_once(sentence_embedder):
    expected = sentence_embedder.embed(["a boat", "the sea " * 50])
    failures = []

    def work():
        try:
            for _ in range(5):
                np.testing.assert_allclose(sentence_embedder.embed(["a boat", "the sea " * 50]), expected, atol=1e-5)
                assert len(sentence_embedder.token_spans("the sea " * 400)) == 800
        except BaseException as error:  # noqa: BLE001  # a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("name", ["no-such-embedder-7f3a", "/no/such/folder"])
def test_a_missing_embedding_model_is_named_in_one_line(name, tmp_path):
    settings = Settings(home=tmp_path, embedding=EmbeddingSettings(model=name))
    with pytest.raises(ModelMissing, match=r"\[embedding\] model") as raised:
        SentenceTransformerEmbedder(settings)
    assert "\n" not in str(raised.value)


def test_the_limit_is_told_without_loading_the_model_and_never_fetched(sentence_embedder, tmp_path):
    assert token_limit(sentence_embedder.model) == sentence_embedder.max_tokens
    assert token_limit("nobody/no-such-model") is None
    assert token_limit(str(tmp_path)) is None
