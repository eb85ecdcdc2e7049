"""A search by meaning, by words, by both, and among the documents that a filter lets through."""

from __future__ import annotations

from infra.milvus.retriever import fused
from schemas.filters import parse_filter
from schemas.retrieval import Chunk, Hit, Search
from tests.infra.retrieval import World


def test_by_words_a_rare_one_finds_what_meaning_does_not(world: World) -> None:
    world.write("d", "v1", "the pump P-4711 leaks", "water runs out of the pump", "a red apple")
    world.make_current("d", "v1")
    assert world.found("P-4711", mode="text", k=1) == ["the pump P-4711 leaks"]
    assert world.found("nothing of this", mode="text") in ([], ["water runs out of the pump"])


def test_a_title_and_a_heading_are_searched_with_the_text(world: World) -> None:
    chunk = Chunk(
        chunk_id="c",
        tenant="default",
        document_id="d",
        version="v1",
        ordinal=0,
        text="Turn it off first.",
        title="Manual",
        heading="Repairs > Gearbox",
    )
    world.chunks.upsert([chunk], world.embedder.embed([chunk.text]))
    world.make_current("d", "v1")
    assert world.found("gearbox", mode="text") == [chunk.text]


def test_what_both_rankings_hold_comes_before_what_one_holds() -> None:
    def hit(name: str, score: float) -> Hit:
        chunk = Chunk(chunk_id=name, tenant="t", document_id=name, version="v", ordinal=0, text=name)
        return Hit(chunk=chunk, score=score)

    a, b, c = hit("a", 0.9), hit("b", 0.8), hit("c", 0.1)
    assert fused([[a, b], [b, c]]) == [b, a, c]
    assert fused([[], []]) == []


def test_a_filter_holds_for_every_mode(world: World) -> None:
    for number, lang in enumerate(("en", "es")):
        chunk = Chunk(
            chunk_id=f"c{number}",
            tenant="default",
            document_id="d",
            version="v1",
            ordinal=number,
            text=f"red apple {lang}",
            metadata={"lang": lang, "year": 2020 + number},
        )
        world.chunks.upsert([chunk], world.embedder.embed([chunk.text]))
    world.make_current("d", "v1")
    for mode in ("dense", "text", "hybrid"):
        assert world.found("red apple", mode=mode, where=parse_filter('lang = "es"')) == ["red apple es"]
        assert world.found("red apple", mode=mode, where=parse_filter("year < 2021")) == ["red apple en"]


def test_searches_whose_filters_python_takes_for_equal_are_not_done_together(world: World) -> None:
    for name, value in (("number", 1), ("truth", True)):
        made = Chunk(chunk_id=name, tenant="default", document_id=name, version="v" + name, ordinal=0, text=name,
                     metadata={"a": value})  # fmt: skip
        world.chunks.upsert([made], world.embedder.embed([name]))
        world.make_current(name, "v" + name)
    searches = [Search(text="x", tenant="default", k=3, where=parse_filter(where)) for where in ("a = 1", "a = true")]
    found = world.retriever.search(searches)
    assert [[hit.chunk.text for hit in hits] for hits in found] == [["number"], ["truth"]]
