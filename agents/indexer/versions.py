"""Decides which version of a document is current: the newest submission, in whatever order events arrive.

Events are ordered by (submitted_at, event id), the document's *fence*, which only rises. A submission whose content is
current already raises the fence and keeps the chunks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.envelope import Received, derived_id
from schemas.features import DocumentState

DocumentEvent = DocumentSubmitted | DocumentWithdrawn
Key = tuple[str, str]
Decision = Literal["stale", "unchanged", "index", "withdraw"]
NO_VERSION = ""
"""The version of a document that is withdrawn: it has no chunks."""


@dataclass(frozen=True, kw_only=True)
class DocumentUpdate:
    """The state that a document gets. ``submission``: the event whose text must be embedded for it, if any."""

    target: DocumentState
    submission: Received[DocumentSubmitted] | None


def key_of(received: Received[DocumentEvent]) -> Key:
    """Returns (tenant, document_id)."""
    return received.event.tenant, received.event.document_id


def fence_of(received: Received[DocumentEvent]) -> tuple[datetime, str]:
    """Returns the key by which a document's events are ordered. Every worker orders equal times the same way."""
    return received.event.submitted_at, received.identity


def content_hash(event: DocumentSubmitted) -> str:
    """Returns the SHA-256 of all that a reader of the document sees (text, title, URI, metadata), and its format."""
    content: list[object] = [event.text, event.title, event.uri, event.metadata]
    if event.format is not None:
        content.append(event.format)
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def version_of(received: Received[DocumentSubmitted]) -> str:
    """Returns the version that a submission makes: the same at each delivery, and another for every other submission.

    It does not depend on the content alone: a text that comes back after another one must not share chunk ids with its
    first version, which may still be waiting for deletion.
    """
    event = received.event
    return derived_id(
        "version",
        event.tenant,
        event.document_id,
        content_hash(event),
        event.submitted_at.isoformat(),
        received.identity,
    )


def decide(current: DocumentState | None, received: Received[DocumentEvent]) -> Decision:
    """Decides what an event means for a document. ``current``: None if the document is not known."""
    event = received.event
    if current is not None and fence_of(received) <= (current.submitted_at, current.event_id):
        return "stale"
    if isinstance(event, DocumentWithdrawn):
        return "withdraw"
    if current is not None and not current.withdrawn and current.content_hash == content_hash(event):
        return "unchanged"
    return "index"


def plan_update(current: DocumentState | None, events: Iterable[Received[DocumentEvent]]) -> DocumentUpdate | None:
    """Combines some events of one document, in whatever order they come; returns None when all are stale.

    Only the final text has to be embedded, however many were submitted before it.
    """
    state, submission = current, None
    for received in sorted(events, key=fence_of):
        decision = decide(state, received)
        if decision == "stale":
            continue
        if decision == "unchanged" and state is not None:
            state = replace(state, submitted_at=received.event.submitted_at, event_id=received.identity)
        elif isinstance(received.event, DocumentSubmitted):
            submission = Received(event=received.event, context=received.context, position=received.position)
            state = _submitted(submission)
        else:
            submission = None
            state = _withdrawn(received)
    if state is None or state is current:
        return None
    return DocumentUpdate(target=state, submission=submission)


def _submitted(received: Received[DocumentSubmitted]) -> DocumentState:
    event = received.event
    return DocumentState(
        tenant=event.tenant,
        document_id=event.document_id,
        version=version_of(received),
        content_hash=content_hash(event),
        chunk_count=0,
        embedding_model="",
        title=event.title,
        uri=event.uri,
        submitted_at=event.submitted_at,
        event_id=received.identity,
    )


def _withdrawn(received: Received[DocumentEvent]) -> DocumentState:
    return DocumentState(
        tenant=received.event.tenant,
        document_id=received.event.document_id,
        version=NO_VERSION,
        content_hash="",
        chunk_count=0,
        embedding_model="",
        title=None,
        uri=None,
        submitted_at=received.event.submitted_at,
        event_id=received.identity,
        withdrawn=True,
    )
