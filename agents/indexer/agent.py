"""The indexer's handler: documents become chunks with vectors, and one version of each is current."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from agents.errors import InvalidEvent
from agents.indexer.chunking import make_chunks, text_to_embed
from agents.indexer.ports import Documents, Embedder, RetiredVersions, VectorStore
from agents.indexer.settling import Settlement
from agents.indexer.versions import NO_VERSION, DocumentEvent, Key, Plan, Recipe, key_of, plan, version_of
from agents.outcome import NOTHING, Outcome
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.envelope import Received
from schemas.event import Event
from schemas.retrieval import Chunk

SWEEP_AT_ONCE = 512


class Indexer:
    """Keeps the vector store and the table of documents in step."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        chunks: VectorStore,
        documents: Documents,
        retired: RetiredVersions,
        recipe: Recipe,
    ) -> None:
        self._embedder = embedder
        self._chunks = chunks
        self._documents = documents
        self._retired = retired
        self._recipe = recipe
        self._settlement = Settlement(documents, retired)

    async def index(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """Embeds and stores in a thread what is new; the effects then make it current, in the journal's transaction."""
        return await asyncio.to_thread(self._index, [_document_event(received) for received in batch])

    async def sweep(self, scheduled: datetime) -> Outcome:
        """A tick: deletes what a crash, or a vector store that was away, has left of retired versions."""
        await asyncio.to_thread(self._sweep)
        return NOTHING

    def _index(self, batch: Sequence[Received[DocumentEvent]]) -> list[Outcome]:
        events: dict[Key, list[Received[DocumentEvent]]] = defaultdict(list)
        for received in batch:
            events[key_of(received)].append(received)
        states = self._documents.current(list(events))
        plans = self._store({key: plan(states.get(key), events[key], self._recipe) for key in events})
        outcomes = [self._outcome(received, plans[key_of(received)]) for received in batch]
        # Once a batch is enough: the last event's is called after all are committed.
        return outcomes[:-1] + [replace(outcome, after=self._sweep) for outcome in outcomes[-1:]]

    def _store(self, plans: dict[Key, Plan | None]) -> dict[Key, Plan | None]:
        """Embeds all new texts together; the plans with their numbers of chunks filled in."""
        fresh: list[Chunk] = []
        counted = dict(plans)
        for key, each in plans.items():
            if each is not None and each.submission is not None:
                made = make_chunks(each.submission.event, each.target.version, self._embedder.token_spans, self._recipe)
                fresh += made
                counted[key] = replace(each, target=replace(each.target, chunk_count=len(made)))
        if fresh:
            self._chunks.upsert(fresh, self._embedder.embed([text_to_embed(chunk) for chunk in fresh]))
        return counted

    def _outcome(self, received: Received[DocumentEvent], planned: Plan | None) -> Outcome:
        event, key, time = received.event, key_of(received), received.context.time
        own = NO_VERSION
        if isinstance(event, DocumentSubmitted):
            own = version_of(Received(event=event, context=received.context, position=received.position), self._recipe)
        return Outcome(effect=lambda: (self._settlement.settle(key, planned, own, time),))

    def _sweep(self) -> None:
        while versions := self._retired.list(SWEEP_AT_ONCE):
            self._chunks.delete(versions)
            self._retired.remove(versions)


def _document_event(received: Received[Event]) -> Received[DocumentEvent]:
    if not isinstance(received.event, DocumentSubmitted | DocumentWithdrawn):
        raise InvalidEvent(f"the indexer does not read {received.event.type}: send it to the topic it belongs to")
    return Received(event=received.event, context=received.context, position=received.position)
