"""Which indexes are prepared for searches before a search needs them."""

from __future__ import annotations

from collections.abc import Iterable

from infra.memory.embedder import MemoryEmbedder
from infra.milvus.retriever import IndexPreparation
from schemas.indexes import Index
from tests.fixtures.indexes import index, serving

INDEXES = (
    index("a", model="one"),
    index("b", model="two", state="building"),
    index("c", model="three", state="retired"),
)


class Store:
    def __init__(self) -> None:
        self.prepared = False

    def prepare(self) -> None:
        self.prepared = True


class Stores:
    """Collections that remember whether they were prepared."""

    def __init__(self) -> None:
        self.stores: dict[str, Store] = {}
        self.kept: set[str] = set()

    def of(self, index: Index) -> Store:
        return self.stores.setdefault(index.index_id, Store())

    def keep(self, indexes: Iterable[Index]) -> None:
        self.kept = {each.index_id for each in indexes}

    def prepared(self) -> set[str]:
        return {name for name, store in self.stores.items() if store.prepared}


class Embedders:
    """Models that remember that they were loaded."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()

    def of(self, model: str) -> MemoryEmbedder:
        self.loaded.add(model)
        return MemoryEmbedder(model=model)


def test_a_start_waits_for_the_serving_indexes_alone() -> None:
    stores, embedders = Stores(), Embedders()
    IndexPreparation(indexes=serving(*INDEXES), stores=stores, embedders=embedders).prepare_serving()
    assert (stores.prepared(), embedders.loaded) == ({"a"}, {"one"})


def test_an_index_that_is_being_built_is_ready_before_it_serves_and_connections_to_gone_ones_end() -> None:
    stores, embedders = Stores(), Embedders()
    IndexPreparation(indexes=serving(*INDEXES), stores=stores, embedders=embedders).prepare_active()
    assert (stores.prepared(), embedders.loaded) == ({"a", "b"}, {"one", "two"})
    assert stores.kept == {"a", "b", "c"}
