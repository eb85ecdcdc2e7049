"""Chunks fit the model, lose nothing, and are cut where a reader would cut."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from agents.indexer.chunks import (
    MAX_CHARACTERS,
    MAX_PREFIX_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    Span,
    make_chunks,
    split_document,
    text_to_embed,
)
from infra.conversion import read_html
from schemas.documents import DocumentSubmitted
from schemas.indexes import Recipe
from tests.agents.indexer.room import START

TOKEN = re.compile(r"\w+|[^\w\s]")
SENTENCE = "The quick brown fox jumps over the lazy dog again. "


def spans(text: str) -> list[Span]:
    return [match.span() for match in TOKEN.finditer(text)]


def split(text: str, max_tokens: int = 20, overlap_tokens: int = 5) -> list[str]:
    return split_document(text, spans(text), max_tokens=max_tokens, overlap_tokens=overlap_tokens)


def messy_text(seed: int) -> str:
    """Makes words of any length, runs of marks and spaces, empty lines, other scripts, characters without a token."""
    chance = random.Random(seed)
    parts = [
        "word",
        "x" * 40,
        "漢字",
        "é",
        "🙂",
        ".",
        "!?",
        "\u200b",
        "\u0301",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "。",
        "a.b",
    ]
    return "".join(chance.choice(parts) for _ in range(chance.randrange(1, 400)))


@pytest.mark.parametrize("seed", range(200))
def test_every_visible_character_is_in_some_chunk_in_order(seed: int) -> None:
    messy = messy_text(seed)
    # Every character but marks and spaces becomes one that occurs once, so that its chunk cannot be mistaken.
    unique = [each if each in ".!?。" or each.isspace() else chr(0x20000 + at) for at, each in enumerate(messy)]
    chunks = split_document("".join(unique), spans(messy), max_tokens=20, overlap_tokens=5)
    assert {each for each in unique if not each.isspace()} <= set("".join(chunks))
    assert sum(map(unique.count, ".!?。")) <= sum(map("".join(chunks).count, ".!?。"))
    firsts = [each for each in (next((x for x in chunk if x >= "\U00020000"), "") for chunk in chunks) if each]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("seed", range(50))
def test_no_chunk_is_empty_or_has_too_many_tokens_or_spaces_around_it(seed: int) -> None:
    for chunk in split(messy_text(seed)):
        assert chunk == chunk.strip() != ""
        assert len(spans(chunk)) <= 20


@pytest.mark.parametrize(("overlap", "least"), [(0, 0), (5, 1), (10, 1)])
def test_neighbours_share_up_to_the_overlap(overlap: int, least: int) -> None:
    text = " ".join(f"w{number}" for number in range(500))
    chunks = [set(chunk.split()) for chunk in split(text, 20, overlap)]
    shared = [len(left & right) for left, right in pairwise(chunks)]
    assert all(least <= count <= overlap for count in shared)


def test_a_short_text_is_one_chunk() -> None:
    assert split(f"  {SENTENCE}") == [SENTENCE.strip()]


def test_chunks_end_at_a_paragraph_before_they_end_at_a_sentence() -> None:
    paragraph = "One two three four. Five six seven eight nine ten eleven."
    assert split(f"{paragraph}\n\n{paragraph}\n\n{paragraph}", 20, 0) == [paragraph] * 3


def test_chunks_end_at_a_sentence_before_they_end_at_a_word() -> None:
    assert split(SENTENCE * 10, 15, 0) == [SENTENCE.strip()] * 10
    wide = "漢字 仮名 漢字 仮名。"
    assert split(wide * 4, 7, 0) == [wide] * 4


@pytest.mark.parametrize("pattern", [r"\w\w", r"\s?\w\w"])
def test_a_chunk_begins_with_a_whole_word(pattern: str) -> None:
    text = "abcdefghij " * 109
    tokens = [match.span() for match in re.finditer(pattern, text)]
    for chunk in split_document(text, tokens, max_tokens=43, overlap_tokens=12):
        assert chunk.startswith("abcdefghij")
        assert chunk.endswith("abcdefghij")


def test_a_line_of_50_000_characters_without_a_space_is_cut_and_kept() -> None:
    chunks = split("x" * 50_000)
    assert "".join(chunks) == "x" * 50_000
    assert max(map(len, chunks)) == MAX_CHARACTERS


def test_a_text_without_a_token_is_kept() -> None:
    assert split_document("\u200b\u200b", [], max_tokens=20, overlap_tokens=5) == ["\u200b\u200b"]
    assert split_document(" \n", [], max_tokens=20, overlap_tokens=5) == []
    chunks = split_document("\u200b" * 50_000, [], max_tokens=20, overlap_tokens=5)
    assert sum(map(len, chunks)) == 50_000
    assert max(map(len, chunks)) <= MAX_CHARACTERS


def test_a_long_gap_between_two_tokens_makes_no_chunk_too_long() -> None:
    text = "a" + "\u200b" * 60_000 + "b"
    chunks = split_document(text, [(0, 1), (60_001, 60_002)], max_tokens=20, overlap_tokens=5)
    assert max(map(len, chunks)) <= MAX_CHARACTERS
    assert "".join(chunks) == text


def test_the_time_grows_with_the_length_not_with_its_square() -> None:
    def seconds(repeats: int) -> float:
        text = SENTENCE * repeats
        tokens = spans(text)
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            split_document(text, tokens, max_tokens=220, overlap_tokens=30)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(8000) < 30 * seconds(1000)


@pytest.mark.parametrize("overlap", [-1, 20, 21])
def test_an_overlap_that_does_not_fit_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        split("text", 20, overlap)


@pytest.mark.parametrize(("max_tokens", "overlap"), [(1, 0), (2, 1), (3, 2), (16, 15)])
def test_the_smallest_chunks_and_the_greatest_overlaps_come_to_an_end(max_tokens: int, overlap: int) -> None:
    chunks = split(SENTENCE * 5, max_tokens, overlap)
    assert set(" ".join(chunks).split()) >= {"The", "again", "."} - {"."}
    assert chunks[-1].endswith(".")


def test_chunk_ids_depend_on_tenant_document_version_and_place_alone() -> None:
    recipe = Recipe(embedding_model="m", chunk_tokens=20, overlap_tokens=5)

    def ids(tenant: str, document_id: str, version: str) -> list[str]:
        event = DocumentSubmitted(document_id=document_id, tenant=tenant, text=SENTENCE * 9, submitted_at=START)
        return [chunk.chunk_id for chunk in make_chunks(event, version, spans, recipe, read_html)]

    assert ids("t", "d", "v") == ids("t", "d", "v")
    every = [*ids("t", "d", "v"), *ids("t", "d", "w"), *ids("t", "e", "v"), *ids("u", "d", "v")]
    assert len(set(every)) == len(every)


def test_the_title_is_embedded_with_each_chunk_but_not_stored_in_its_text() -> None:
    recipe = Recipe(embedding_model="m", chunk_tokens=20, overlap_tokens=5)
    event = DocumentSubmitted(document_id="d", text=SENTENCE * 9, title="T" * 1000, submitted_at=START)
    for chunk in make_chunks(event, "v", spans, recipe, read_html):
        assert "T" * 10 not in chunk.text
        assert text_to_embed(chunk) == "T" * MAX_TITLE_CHARACTERS + "\n" + chunk.text


def embedded(title: str | None, heading: str | None) -> str:
    """What goes before a chunk's text."""
    made = make_chunks(
        DocumentSubmitted(document_id="d", text="text", submitted_at=START),
        "v",
        spans,
        Recipe(embedding_model="m", chunk_tokens=20, overlap_tokens=5),
        read_html,
    )
    return text_to_embed(replace(made[0], title=title, heading=heading)).removesuffix("text")


def test_the_headings_are_embedded_below_the_title_which_is_not_said_twice() -> None:
    assert embedded(None, None) == ""
    assert embedded("Guide", "Setup > Linux") == "Guide\nSetup > Linux\n"
    assert embedded(None, "Guide > Setup") == "Guide > Setup\n"
    assert embedded("Guide", "Guide > Setup") == "Guide\nSetup\n"
    assert embedded("Guide", "Guide") == "Guide\n"
    assert embedded("Guide", "Guide to more") == "Guide\nGuide to more\n"


def test_of_headings_that_are_too_long_the_outermost_are_left_out() -> None:
    path = [f"{number} " + "h" * 58 for number in range(5)]
    assert embedded(None, " > ".join(path)) == " > ".join(path[2:]) + "\n"
    assert embedded("T" * 500, " > ".join(path)) == "T" * MAX_TITLE_CHARACTERS + "\n" + path[-1] + "\n"
    assert embedded(None, "h" * 500) == "h" * MAX_PREFIX_CHARACTERS + "\n"


def test_scripts_with_a_token_a_character_get_fewer_characters() -> None:
    assert embedded("漢" * 500, "字" * 500) == "漢" * 30 + "\n" + "字" * 18 + "\n"
