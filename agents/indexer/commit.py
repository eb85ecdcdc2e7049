"""Changes the rows of documents inside the journal's transaction, once their chunks are in the vector stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.indexer.ports import Documents, Indexes, RetiredVersions
from agents.indexer.versions import NO_VERSION, DocumentEvent, DocumentUpdate, Key, key_of, version_of
from schemas.documents import DocumentIndexed, DocumentSubmitted, DocumentUnindexed
from schemas.envelope import Received
from schemas.errors import Unavailable
from schemas.features import DocumentState
from schemas.indexes import Index

LockedStates = dict[Key, DocumentState | None]
"""The rows of a batch's documents, read and locked once for the whole batch inside its transaction."""


class DocumentCommit:
    """Commits updates, and retires every version that is not current afterwards."""

    def __init__(self, documents: Documents, retired: RetiredVersions, indexes: Indexes) -> None:
        self._documents, self._retired, self._indexes = documents, retired, indexes

    def outcome(
        self, received: Received[DocumentEvent], update: DocumentUpdate | None, locked: LockedStates
    ) -> Outcome:
        """Returns an event's outcome. ``update``: what the batch makes of the event's document.

        ``locked``: one for the batch; the outcome of ``with_lock`` fills it.
        """
        event, key, time = received.event, key_of(received), received.context.time
        own = NO_VERSION
        if isinstance(event, DocumentSubmitted):
            own = version_of(Received(event=event, context=received.context, position=received.position))
        return Outcome(effect=lambda: (self._commit(key, update, own, time, locked),))

    def with_lock(self, first: Outcome, indexes: Sequence[Index], keys: Sequence[Key], locked: LockedStates) -> Outcome:
        """Returns the batch's first outcome, which also checks the indexes and locks the batch's documents.

        ``indexes``: those that the batch was written to. Its effect raises Unavailable if others are active by now.
        ``keys``: all documents of the batch. They are locked together, so that two workers cannot block each other.
        """
        written = {(index.index_id, index.state) for index in indexes}

        def effect() -> Sequence[Output | RunRequest]:
            if {(index.index_id, index.state) for index in self._indexes.active()} - written:
                raise Unavailable("another index is being built, or serves, since: trying again")
            found = self._documents.current(keys)
            locked.update({key: found.get(key) for key in keys})
            return first.effect() if first.effect else ()

        return replace(first, effect=effect)

    def _commit(
        self, key: Key, update: DocumentUpdate | None, own_version: str, time: datetime, locked: LockedStates
    ) -> Output:
        """Applies the update unless a newer state is there, and returns the event that describes the final state.

        ``own_version``: the version that this event makes. This attempt or an earlier one may have written its chunks,
        so it is retired unless it is current: a crash after the upsert leaves nothing behind, whoever goes on.
        """
        final = current = locked[key]
        if update is not None and _is_newer(update.target, current):
            if update.submission is None and not update.target.withdrawn and _version(current) != update.target.version:
                raise Unavailable(
                    f"document {key[1]!r} of {key[0]!r} was changed by another worker at the same time: trying again"
                )
            final = _with_counts(update, current)
            self._documents.put(final, update.submission.event if update.submission else None)
            locked[key] = final
        if final is None:
            raise Unavailable(f"document {key[1]!r} of {key[0]!r} vanished from the table: trying again")
        for version in sorted({_version(current), own_version} - {final.version, NO_VERSION}):
            self._retired.add(*key, version, time)
        return Output(event=_event_of(final), time=time)


def _is_newer(target: DocumentState, current: DocumentState | None) -> bool:
    return current is None or (target.submitted_at, target.event_id) > (current.submitted_at, current.event_id)


def _with_counts(update: DocumentUpdate, current: DocumentState | None) -> DocumentState:
    """Returns the update's state. Unchanged text keeps the counts of its row, which a rebuild may have changed."""
    if update.submission is not None or update.target.withdrawn or current is None:
        return update.target
    return replace(
        update.target,
        chunk_count=current.chunk_count,
        next_chunk_count=current.next_chunk_count,
        embedding_model=current.embedding_model,
    )


def _version(state: DocumentState | None) -> str:
    return NO_VERSION if state is None else state.version


def _event_of(state: DocumentState) -> DocumentIndexed | DocumentUnindexed:
    """Returns the event that describes the final state, which may come from this event or from a newer one."""
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
