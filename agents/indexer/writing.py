"""Writes documents to an index: splits them, embeds new texts, and stores chunks while the next are embedded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from agents.indexer.chunks import make_chunks, text_to_embed
from agents.indexer.ports import Embedder, Embedders, HtmlReader, KeptVectors, Vectors, VectorStore, VectorStores
from agents.indexer.versions import DocumentUpdate, Key
from schemas.documents import DocumentSubmitted
from schemas.errors import ModelMissing, Unavailable
from schemas.features import DocumentState
from schemas.indexes import DEFAULT_SCOPE, Index
from schemas.retrieval import Chunk

TEXTS_AT_ONCE = 256
"""How many texts are embedded together: enough for batches of similar length, few enough that storing keeps up."""


@dataclass(frozen=True)
class Version:
    """A submission and the name of the version that it makes."""

    event: DocumentSubmitted
    name: str

    @property
    def key(self) -> Key:
        return self.event.tenant, self.event.document_id


class IndexWriter:
    """Writes versions of documents to indexes. One thread at a time may use it."""

    def __init__(
        self,
        embedders: Embedders,
        stores: VectorStores,
        vectors: KeptVectors,
        now: Callable[[], datetime],
        on_embedded: Callable[[int], None] = lambda _texts: None,
        *,
        read_html: HtmlReader,
    ) -> None:
        """``on_embedded`` is called after each portion, with the number of texts that were embedded."""
        self._embedders, self._stores, self._vectors, self._now = embedders, stores, vectors, now
        self._on_embedded, self._read_html = on_embedded, read_html
        self.embedded_at = 0.0
        """When texts were last embedded, on ``time.monotonic``'s clock. The watchdog reads it during long batches."""

    def write(self, index: Index, versions: Sequence[Version]) -> dict[Key, int]:
        """Returns the number of chunks of each document once all are searchable. Raises Unavailable.

        Writing again is harmless.
        """
        embedder, store = self._embedder_of(index), self._stores.of(index)
        chunks: list[Chunk] = []
        counts: dict[Key, int] = {}
        for version in versions:
            made = make_chunks(version.event, version.name, embedder.token_spans, index.recipe, self._read_html)
            counts[version.key] = len(made)
            chunks += made
        if chunks:
            self._store(embedder, store, chunks, index.dimension)
        return counts

    def _embedder_of(self, index: Index) -> Embedder:
        try:
            return self._embedders.of(index.recipe.embedding_model)
        except ModelMissing as error:  # another machine may have the model, so the documents wait
            raise Unavailable(f"an index was made with a model that this machine does not have: {error}") from error

    def write_updates(
        self, indexes: Sequence[Index], updates: Mapping[Key, DocumentUpdate | None]
    ) -> dict[Key, DocumentUpdate | None]:
        """Writes new texts to every index, and returns the updates with their chunk counts. Raises Unavailable."""
        done = dict(updates)
        fresh = [
            Version(each.submission.event, each.target.version)
            for each in updates.values()
            if each is not None and each.submission is not None
        ]
        if not fresh:
            return done
        if not any(index.scope == DEFAULT_SCOPE for index in indexes):
            raise Unavailable("there is no index yet: start an indexer, or wait for the one that is starting")
        for index in indexes:
            counts = self.write(index, fresh)
            for key, count in counts.items() if index.scope == DEFAULT_SCOPE else ():
                made = done[key]
                if made is not None:
                    done[key] = replace(made, target=_with_count(made.target, index, count))
        return done

    def _store(self, embedder: Embedder, store: VectorStore, chunks: Sequence[Chunk], dimension: int) -> None:
        every = [text_to_embed(chunk) for chunk in chunks]
        hashes = [_hash(text) for text in every]
        texts = dict(zip(hashes, every, strict=True))
        found = self._vectors.find(embedder.model, list(texts), self._now())
        # A model may have been replaced under its old name by one with another dimension.
        known = {each: vector for each, vector in found.items() if len(vector) == dimension}
        waiting = dict(enumerate(hashes))
        # Texts of similar length together, so that little is computed for padding.
        missing = sorted(texts.keys() - known.keys(), key=lambda each: (len(texts[each]), each))
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="storing") as pool:
            storing: Future[None] | None = None
            for start in range(0, len(missing) or 1, TEXTS_AT_ONCE):
                some = missing[start : start + TEXTS_AT_ONCE]
                known |= self._embed(embedder, {each: texts[each] for each in some})
                ready = [index for index, each in waiting.items() if each in known]
                for index in ready:
                    del waiting[index]
                vectors = np.asarray([known[hashes[index]] for index in ready], dtype=np.float32)
                if storing is not None:
                    storing.result()  # at most one portion waits, however slow the store is
                storing = pool.submit(store.upsert, [chunks[index] for index in ready], vectors)
            if storing is not None:
                storing.result()

    def _embed(self, embedder: Embedder, texts: Mapping[str, str]) -> dict[str, Vectors]:
        if not texts:
            return {}
        made = dict(zip(texts, embedder.embed(list(texts.values())), strict=True))
        # Store the vectors before the chunks, so that nothing is embedded again after a crash.
        self._vectors.put(embedder.model, made, self._now())
        self.embedded_at = time.monotonic()
        self._on_embedded(len(made))
        return made


def _with_count(state: DocumentState, index: Index, count: int) -> DocumentState:
    if index.state == "building":
        return replace(state, next_chunk_count=count)
    return replace(state, chunk_count=count, embedding_model=index.recipe.embedding_model)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
