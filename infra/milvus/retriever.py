"""Searches current documents: Milvus finds the chunks, SQL says which version of a document is current."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelMissing, Unavailable
from schemas.features import DocumentState
from schemas.filters import Filter
from schemas.indexes import DEFAULT_SCOPE, Index, IndexState
from schemas.questions import SearchMode
from schemas.retrieval import Hit, Search
from schemas.words import content_words

FIRST_DEPTH = 8
FUSED_DEPTH = 50
"""How many hits of each ranking are fused at least."""
DEPTH_FACTOR = 4
MAX_DEPTH = 4096
"""The most chunks of a tenant that are searched for one text; Milvus allows 16,384."""
RANK_CONSTANT = 10.0
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): a hit scores 1 / (constant + its rank).
``benchmarks.retrieval`` chose depth and constant, and which words of a question are searched for."""
MOST_ROUNDS = 3
"""How often a search is repeated at most because a document was replaced during it."""

Versions = dict[tuple[str, str], DocumentState]


class QueryEmbedder(Protocol):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class QueryEmbedders(Protocol):
    def of(self, model: str) -> QueryEmbedder: ...


class ChunkSearch(Protocol):
    def search(
        self, vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]: ...

    def search_text(
        self, texts: Sequence[str], vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]: ...


class ChunkSearches(Protocol):
    def of(self, index: Index) -> ChunkSearch: ...


class ServingIndexes(Protocol):
    def active(self) -> list[Index]: ...


class CurrentVersions(Protocol):
    def current(self, keys: Sequence[tuple[str, str]]) -> Versions: ...


class Reranker(Protocol):
    """A cross-encoder."""

    def order(self, text: str, hits: Sequence[Hit]) -> list[Hit]:
        """Returns the hits, most relevant first."""
        ...


class MilvusRetriever:
    """Satisfies the answerer's Retriever."""

    def __init__(
        self,
        *,
        indexes: ServingIndexes,
        stores: ChunkSearches,
        embedders: QueryEmbedders,
        documents: CurrentVersions,
        reranker: Reranker | None = None,
        reranked: int = 0,
    ) -> None:
        """``reranked``: how many hits of each search the reranker sorts."""
        self._indexes, self._stores, self._embedders, self._documents = indexes, stores, embedders, documents
        self._reranker, self._reranked = reranker, reranked

    def search(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """Returns the hits of each search, best first: only current versions, only the search's tenant.

        Raises Unavailable.
        """
        for _ in range(MOST_ROUNDS):
            indexes = self._serving()
            found = self._search(searches, indexes)
            if self._serving() == indexes:
                break  # else another index has begun to serve, and only that one has the newest documents
        return found

    def _serving(self) -> dict[str, Index]:
        return {index.scope: index for index in self._indexes.active() if index.state == "serving"}

    def _search(self, searches: Sequence[Search], serving: Mapping[str, Index]) -> list[list[Hit]]:
        results: list[list[Hit]] = [[] for _ in searches]
        wanted = [place for place, each in enumerate(searches) if each.k > 0]
        if not wanted:
            return results
        alike: dict[tuple[str, Index, SearchMode, str], list[int]] = defaultdict(list)
        for place in wanted:
            each = searches[place]
            index = serving.get(each.scope) or serving.get(DEFAULT_SCOPE)
            if index is not None:  # else nothing was ever indexed
                # By the filter's text, because in Python the filters a = 1 and a = true are equal.
                alike[each.tenant, index, each.mode, repr(each.where)].append(place)
        for (tenant, index, mode, _), places in alike.items():
            where = searches[places[0]].where
            chunks, embedder = self._stores.of(index), self._embedder_of(index)
            texts = [searches[place].text for place in places]
            k = max(max(searches[place].k for place in places), self._reranked)
            found = _Group(chunks, self._documents, tenant, where, texts, embedder.embed(texts)).search(mode, k)
            for place, hits in zip(places, found, strict=True):
                results[place] = self._ordered(searches[place], hits)[: searches[place].k]
        return results

    def _embedder_of(self, index: Index) -> QueryEmbedder:
        try:
            return self._embedders.of(index.recipe.embedding_model)
        except ModelMissing as error:
            raise Unavailable(f"an index was made with a model that this machine does not have: {error}") from error

    def _ordered(self, search: Search, hits: list[Hit]) -> list[Hit]:
        if self._reranker is None or not hits:
            return hits
        return self._reranker.order(search.text, hits[: max(self._reranked, search.k)])


class PreparedStore(Protocol):
    def prepare(self) -> None: ...


class PreparedStores(Protocol):
    def of(self, index: Index) -> PreparedStore: ...

    def keep(self, indexes: Iterable[Index]) -> None: ...


class ListedIndexes(Protocol):
    def all(self) -> list[Index]: ...


class IndexPreparation:
    """Loads the models of indexes and connects to their collections, so that no search has to wait for it."""

    def __init__(self, *, indexes: ListedIndexes, stores: PreparedStores, embedders: QueryEmbedders) -> None:
        self._indexes, self._stores, self._embedders = indexes, stores, embedders

    def prepare_serving(self) -> None:
        """Prepares the indexes that serve now. Raises Unavailable or ModelMissing."""
        self._prepare({"serving"})

    def prepare_active(self) -> None:
        """Prepares the indexes that are being built too, and closes connections to collections that are gone."""
        self._prepare({"serving", "building"})

    def _prepare(self, states: Collection[IndexState]) -> None:
        known = self._indexes.all()
        self._stores.keep(known)
        for index in known:
            if index.state in states:
                self._embedders.of(index.recipe.embedding_model)
                self._stores.of(index).prepare()


class _Group:
    """Searches several texts together: of one tenant, in one collection, with one filter."""

    def __init__(
        self,
        chunks: ChunkSearch,
        documents: CurrentVersions,
        tenant: str,
        where: Filter | None,
        texts: Sequence[str],
        vectors: NDArray[np.float32],
    ) -> None:
        self._chunks, self._documents, self._tenant, self._where = chunks, documents, tenant, where
        self._texts, self._vectors = texts, vectors

    def search(self, mode: SearchMode, k: int) -> list[list[Hit]]:
        if mode != "hybrid":
            return self._ranking(mode, k, k)
        depth = max(FUSED_DEPTH, k)
        for _ in range(MOST_ROUNDS):
            rankings = self._ranking("dense", depth, k), self._ranking("text", depth, k)
            found = [fused(each) for each in zip(*rankings, strict=True)]
            states = self._states(found)
            if all(_is_current(hit, states) for hits in found for hit in hits):
                break  # else a document was replaced between the rankings: one has its old text, the other the new one
        return [[hit for hit in hits if _is_current(hit, states)][:k] for hits in found]

    def _ranking(self, mode: SearchMode, k: int, enough: int) -> list[list[Hit]]:
        """Returns the current ones among the k best hits of each text, or among more where fewer than ``enough`` are.

        Milvus also holds chunks that are not current: those of replaced or withdrawn versions until they are swept, and
        those of a bulk load before their versions count. Where they push current chunks out of the first k, the search
        goes deeper for these texts, up to MAX_DEPTH. A document that was replaced between the search and the query to
        SQL would be missing, so its texts are searched again.
        """
        results: list[list[Hit]] = [[] for _ in self._texts]
        waiting = list(range(len(self._texts)))
        depth = min(max(k, FIRST_DEPTH), MAX_DEPTH)
        rounds: dict[int, int] = defaultdict(int)
        seen: set[tuple[str, str]] = set()
        while waiting:
            found = self._found(mode, waiting, depth)
            states = self._states(found)
            replaced = {
                (document_id, state.version) for (_, document_id), state in states.items() if not state.withdrawn
            } - {(hit.chunk.document_id, hit.chunk.version) for hits in found for hit in hits}
            again, short = [], []
            for place, hits in zip(waiting, found, strict=True):
                results[place] = [hit for hit in hits if _is_current(hit, states)][:k]
                unsure = {
                    (hit.chunk.document_id, states[self._tenant, hit.chunk.document_id].version)
                    for hit in hits
                    if (self._tenant, hit.chunk.document_id) in states
                } & (replaced - seen)
                if unsure and rounds[place] < MOST_ROUNDS:
                    rounds[place] += 1
                    again.append(place)
                elif len(results[place]) < enough and len(hits) >= depth and depth < MAX_DEPTH:
                    short.append(place)
            seen |= replaced
            waiting = again or short
            if again:
                waiting = sorted({*again, *short})
            else:
                depth = min(depth * DEPTH_FACTOR, MAX_DEPTH)
        return results

    def _found(self, mode: SearchMode, places: Sequence[int], k: int) -> list[list[Hit]]:
        vectors = self._vectors[list(places)]
        if mode == "dense":
            return self._chunks.search(vectors, tenant=self._tenant, k=k, where=self._where)
        texts = [" ".join(content_words(self._texts[place])) or self._texts[place] for place in places]
        return self._chunks.search_text(texts, vectors, tenant=self._tenant, k=k, where=self._where)

    def _states(self, found: Sequence[Sequence[Hit]]) -> Versions:
        keys = sorted({(self._tenant, hit.chunk.document_id) for hits in found for hit in hits})
        return self._documents.current(keys) if keys else {}


def fused(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Fuses the rankings of one search by reciprocal rank fusion; ties by cosine, then by chunk id."""
    points: dict[str, float] = defaultdict(float)
    hits: dict[str, Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            points[hit.chunk.chunk_id] += 1.0 / (RANK_CONSTANT + rank)
            hits.setdefault(hit.chunk.chunk_id, hit)
    return sorted(hits.values(), key=lambda hit: (-points[hit.chunk.chunk_id], -hit.score, hit.chunk.chunk_id))


def _is_current(hit: Hit, states: Versions) -> bool:
    state = states.get((hit.chunk.tenant, hit.chunk.document_id))
    return state is not None and not state.withdrawn and state.version == hit.chunk.version
