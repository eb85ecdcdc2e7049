"""Which version of a document is current: whatever order its events arrive in, the newest submission decides.

Newest is by (submitted_at, event id), the document's *fence*: it only rises. A submission whose content is what is
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
class Recipe:
    """How text becomes vectors. Another recipe makes other versions, so that chunks of the two never mix."""

    embedding_model: str
    chunk_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a document is to become. ``submission``: the event whose text must be embedded for it, if any."""

    target: DocumentState
    submission: Received[DocumentSubmitted] | None


def key_of(received: Received[DocumentEvent]) -> Key:
    """(tenant, document_id)."""
    return received.event.tenant, received.event.document_id


def fence_of(received: Received[DocumentEvent]) -> tuple[datetime, str]:
    """What orders a document's events; of two at the same moment, one wins everywhere."""
    return received.event.submitted_at, received.identity


def content_hash(event: DocumentSubmitted) -> str:
    """SHA-256 of everything that a reader of the document sees: text, its format, title, URI and metadata."""
    content = [event.text, event.title, event.uri, event.metadata]
    if event.format is not None:
        content.append(event.format)
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def version_of(received: Received[DocumentSubmitted], recipe: Recipe) -> str:
    """The version that a submission makes: the same for each delivery of it, and another for every other submission.

    Not of the content alone: a text that comes back after another one must not share chunk ids with its first
    version, which may still be waiting for deletion.
    """
    event = received.event
    return derived_id(
        "version",
        event.tenant,
        event.document_id,
        content_hash(event),
        event.submitted_at.isoformat(),
        received.identity,
        recipe.embedding_model,
        recipe.chunk_tokens,
        recipe.overlap_tokens,
    )


def decide(current: DocumentState | None, received: Received[DocumentEvent], recipe: Recipe) -> Decision:
    """What an event means for a document in its current state; None: never heard of."""
    event = received.event
    if current is not None and fence_of(received) <= (current.submitted_at, current.event_id):
        return "stale"
    if isinstance(event, DocumentWithdrawn):
        return "withdraw"
    if (
        current is not None
        and not current.withdrawn
        and current.content_hash == content_hash(event)
        and current.embedding_model == recipe.embedding_model
    ):
        return "unchanged"
    return "index"


def plan(current: DocumentState | None, events: Iterable[Received[DocumentEvent]], recipe: Recipe) -> Plan | None:
    """The outcome of some events of one document, in whatever order they come; None when all are stale.

    Only the text that is left in the end is to be embedded, however many were submitted in between.
    """
    state, submission = current, None
    for received in sorted(events, key=fence_of):
        decision = decide(state, received, recipe)
        if decision == "stale":
            continue
        if decision == "unchanged" and state is not None:
            state = replace(state, submitted_at=received.event.submitted_at, event_id=received.identity)
        elif isinstance(received.event, DocumentSubmitted):
            submission = Received(event=received.event, context=received.context, position=received.position)
            state = _submitted(submission, recipe)
        else:
            submission = None
            state = _withdrawn(received)
    if state is None or state is current:
        return None
    return Plan(target=state, submission=submission)


def _submitted(received: Received[DocumentSubmitted], recipe: Recipe) -> DocumentState:
    event = received.event
    return DocumentState(
        tenant=event.tenant,
        document_id=event.document_id,
        version=version_of(received, recipe),
        content_hash=content_hash(event),
        chunk_count=0,
        embedding_model=recipe.embedding_model,
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
