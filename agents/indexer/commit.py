"""What happens to a document's row inside the journal's transaction, once its chunks are in the vector store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.indexer.ports import Documents, Indexes, RetiredVersions
from agents.indexer.versions import NO_VERSION, DocumentEvent, Key, Plan, key_of, version_of
from schemas.documents import DocumentIndexed, DocumentSubmitted, DocumentUnindexed
from schemas.envelope import Received
from schemas.errors import Unavailable
from schemas.features import DocumentState
from schemas.indexes import Index

Standing = dict[Key, DocumentState | None]
"""What the table says of a batch's documents, read and locked once for all of them in the batch's transaction."""


class DocumentCommit:
    """Makes plans true, and retires every version that is not current in the end."""

    def __init__(self, documents: Documents, retired: RetiredVersions, indexes: Indexes) -> None:
        self._documents, self._retired, self._indexes = documents, retired, indexes

    def outcome(self, received: Received[DocumentEvent], planned: Plan | None, standing: Standing) -> Outcome:
        """What an event leads to once what was planned for its document is in the vector stores.

        ``standing``: one for the batch, filled by the outcome of ``unless_changed``.
        """
        event, key, time = received.event, key_of(received), received.context.time
        own = NO_VERSION
        if isinstance(event, DocumentSubmitted):
            own = version_of(Received(event=event, context=received.context, position=received.position))
        return Outcome(effect=lambda: (self.settle(key, planned, own, time, standing),))

    def unless_changed(
        self, indexes: Sequence[Index], keys: Sequence[Key], standing: Standing, outcome: Outcome
    ) -> Outcome:
        """The batch's first outcome, if the indexes are still those that the batch was written to and counted for.

        ``keys``: all documents of the batch, which are locked together, so that two workers never wait for each other.
        """
        written = {(index.index_id, index.state) for index in indexes}

        def effect() -> Sequence[Output | RunRequest]:
            if {(index.index_id, index.state) for index in self._indexes.active()} - written:
                raise Unavailable("another index is being built, or serves, since: trying again")
            found = self._documents.current(keys)
            standing.update({key: found.get(key) for key in keys})
            return outcome.effect() if outcome.effect else ()

        return replace(outcome, effect=effect)

    def settle(self, key: Key, plan: Plan | None, own_version: str, time: datetime, standing: Standing) -> Output:
        """Puts the plan's state unless a newer one stands, and says what stands then.

        ``own_version``: what the event at hand made, or an earlier attempt at it may have left in the vector store;
        unless it is current it is retired. So a crash after the upsert leaves nothing behind, whoever goes on.
        """
        final = current = standing[key]
        if plan is not None and _is_newer(plan.target, current):
            if plan.submission is None and not plan.target.withdrawn and _version(current) != plan.target.version:
                raise Unavailable(
                    f"document {key[1]!r} of {key[0]!r} was changed by another worker meanwhile: trying again"
                )
            final = _counted(plan, current)
            self._documents.put(final, plan.submission.event if plan.submission else None)
            standing[key] = final
        if final is None:
            raise Unavailable(f"document {key[1]!r} of {key[0]!r} vanished from the table meanwhile: trying again")
        for version in sorted({_version(current), own_version} - {final.version, NO_VERSION}):
            self._retired.add(*key, version, time)
        return Output(event=_told(final), time=time)


def _is_newer(target: DocumentState, current: DocumentState | None) -> bool:
    return current is None or (target.submitted_at, target.event_id) > (current.submitted_at, current.event_id)


def _counted(plan: Plan, current: DocumentState | None) -> DocumentState:
    """The plan's state; a text that stays keeps its counts, which a rebuild may have changed since it was planned."""
    if plan.submission is not None or plan.target.withdrawn or current is None:
        return plan.target
    return replace(
        plan.target,
        chunk_count=current.chunk_count,
        next_chunk_count=current.next_chunk_count,
        embedding_model=current.embedding_model,
    )


def _version(state: DocumentState | None) -> str:
    return NO_VERSION if state is None else state.version


def _told(state: DocumentState) -> DocumentIndexed | DocumentUnindexed:
    """Every event is answered with what stands once it is done: its own submission, or a newer one."""
    if state.withdrawn:
        return DocumentUnindexed(document_id=state.document_id, tenant=state.tenant, submitted_at=state.submitted_at)
    return DocumentIndexed(
        document_id=state.document_id,
        tenant=state.tenant,
        content_hash=state.content_hash,
        chunk_count=state.chunk_count,
        embedding_model=state.embedding_model,
        submitted_at=state.submitted_at,
    )
