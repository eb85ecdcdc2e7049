"""The indexer's handler: documents become chunks with vectors, and one version of each is current."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from agents.errors import InvalidEvent, Unavailable
from agents.indexer.ports import Documents, Indexes, KeptVectors, RetiredVersions, VectorStores
from agents.indexer.settling import Settlement
from agents.indexer.versions import NO_VERSION, DocumentEvent, Key, Plan, key_of, plan, version_of
from agents.indexer.writing import IndexWriter, Version
from agents.outcome import NOTHING, Outcome, Output
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.envelope import Received
from schemas.event import Event
from schemas.indexes import DEFAULT_SCOPE, Index

SWEEP_AT_ONCE = 512


class Indexer:
    """Keeps the indexes and the table of documents in step."""

    def __init__(
        self,
        *,
        writer: IndexWriter,
        stores: VectorStores,
        indexes: Indexes,
        documents: Documents,
        retired: RetiredVersions,
        vectors: KeptVectors,
        keep_vectors: timedelta,
        tenants: Collection[str] = (),
    ) -> None:
        """``tenants``: whose documents are taken; everybody's where it is empty."""
        self._writer, self._stores, self._indexes = writer, stores, indexes
        self._documents, self._retired, self._vectors = documents, retired, vectors
        self._keep_vectors, self._tenants = keep_vectors, tenants
        self._settlement = Settlement(documents, retired)

    async def index(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """Embeds and stores in a thread what is new; the effects then make it current, in the journal's transaction."""
        return await asyncio.to_thread(self._index, [self._checked(received) for received in batch])

    async def sweep(self, scheduled: datetime) -> Outcome:
        """A tick: deletes what a crash, or a vector store that was away, has left of retired versions."""
        await asyncio.to_thread(self._sweep)
        await asyncio.to_thread(self._vectors.prune, scheduled - self._keep_vectors)
        return NOTHING

    def _checked(self, received: Received[Event]) -> Received[DocumentEvent]:
        event = received.event
        if not isinstance(event, DocumentSubmitted | DocumentWithdrawn):
            raise InvalidEvent(f"the indexer does not read {event.type}: send it to the topic it belongs to")
        if self._tenants and event.tenant not in self._tenants:
            raise InvalidEvent(
                f"there is no tenant {event.tenant!r}: [tenants] names lists {', '.join(sorted(self._tenants))}"
            )
        return Received(event=event, context=received.context, position=received.position)

    def _index(self, batch: Sequence[Received[DocumentEvent]]) -> list[Outcome]:
        if not batch:
            return []
        events: dict[Key, list[Received[DocumentEvent]]] = defaultdict(list)
        for received in batch:
            events[key_of(received)].append(received)
        states = self._documents.current(list(events))
        indexes = self._indexes.active()
        plans = self._store(indexes, {key: plan(states.get(key), events[key]) for key in events})
        outcomes = [self._outcome(received, plans[key_of(received)]) for received in batch]
        # Once a batch is enough: its effects run in one transaction, and the last ``after`` once that is committed.
        first = replace(outcomes[0], effect=self._unless_changed(indexes, outcomes[0]))
        outcomes = [first, *outcomes[1:]]
        return outcomes[:-1] + [replace(outcome, after=self._sweep) for outcome in outcomes[-1:]]

    def _store(self, indexes: Sequence[Index], plans: Mapping[Key, Plan | None]) -> dict[Key, Plan | None]:
        """Writes what is new to every index; the plans with their numbers of chunks filled in."""
        done = dict(plans)
        fresh = [
            Version(each.submission.event, each.target.version)
            for each in plans.values()
            if each is not None and each.submission is not None
        ]
        if fresh and not any(index.scope == DEFAULT_SCOPE for index in indexes):
            raise Unavailable("there is no index yet: start an indexer, or wait for the one that is starting")
        for index in indexes:
            counts = self._writer.write(index, fresh) if fresh else {}
            for key, count in counts.items() if index.scope == DEFAULT_SCOPE else ():
                made = done[key]
                if made is None:
                    continue
                if index.state == "building":
                    target = replace(made.target, next_chunk_count=count)
                else:
                    model = index.recipe.embedding_model
                    target = replace(made.target, chunk_count=count, embedding_model=model)
                done[key] = replace(made, target=target)
        return done

    def _unless_changed(self, indexes: Sequence[Index], outcome: Outcome) -> Callable[[], Sequence[Output]]:
        """The outcome's effect, if the indexes are still those that the batch was written to and counted for."""
        written = {(index.index_id, index.state) for index in indexes}

        def effect() -> Sequence[Output]:
            if {(index.index_id, index.state) for index in self._indexes.active()} - written:
                raise Unavailable("another index is being built, or serves, since: trying again")
            return [each for each in (outcome.effect() if outcome.effect else ()) if isinstance(each, Output)]

        return effect

    def _outcome(self, received: Received[DocumentEvent], planned: Plan | None) -> Outcome:
        event, key, time = received.event, key_of(received), received.context.time
        own = NO_VERSION
        if isinstance(event, DocumentSubmitted):
            own = version_of(Received(event=event, context=received.context, position=received.position))
        return Outcome(effect=lambda: (self._settlement.settle(key, planned, own, time),))

    def _sweep(self) -> None:
        while versions := self._retired.list(SWEEP_AT_ONCE):
            for index in self._indexes.active():
                self._stores.of(index).delete(versions)
            self._retired.remove(versions)
