"""What people publish, as events: lines become documents, examples and feedback, or are refused."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agents.cli.jsonl import Faulty, checked, refuse_unknown
from schemas.documents import DEFAULT_TENANT, DocumentSubmitted, DocumentWithdrawn, Metadata
from schemas.interactions import ExampleSubmitted, FeedbackGiven

Document = DocumentSubmitted | DocumentWithdrawn

DOCUMENT_FIELDS = ("id", "text", "title", "uri", "tenant", "metadata", "format", "deleted")
EXAMPLE_FIELDS = ("task", "input", "output", "origin")
FEEDBACK_FIELDS = ("answer_id", "rating", "correction", "reason", "user")
CONTENT_FIELDS = ("text", "title", "uri", "metadata", "format")


@dataclass
class RisingClock:
    """Times that rise with each call, so that of two lines with one id the later wins."""

    now: Callable[[], datetime]
    last: datetime | None = None

    def __call__(self) -> datetime:
        time = self.now()
        if self.last is not None and time <= self.last:
            time = self.last + timedelta(microseconds=1)
        self.last = time
        return time


@dataclass(frozen=True, kw_only=True)
class DocumentLines:
    """Makes a document of a line's object.

    ``tenant`` is that of lines which name none, ``metadata`` what every document has that does not say otherwise.
    ``tenants``: those that there are; any where it is empty.
    """

    clock: Callable[[], datetime]
    tenant: str = DEFAULT_TENANT
    metadata: Metadata = field(default_factory=dict)
    tenants: tuple[str, ...] = ()

    def __call__(self, fields: dict[str, Any]) -> Document:
        refuse_unknown(fields, DOCUMENT_FIELDS)
        given = {name: value for name, value in fields.items() if value is not None and name not in ("id", "deleted")}
        given.setdefault("tenant", self.tenant)
        if self.tenants and given["tenant"] not in self.tenants:
            raise Faulty(unknown_tenant(str(given["tenant"]), self.tenants))
        given["submitted_at"] = self.clock()
        if "id" in fields:
            given["document_id"] = fields["id"]
        deleted = fields.get("deleted", False)
        if not isinstance(deleted, bool):
            raise Faulty("deleted: must be true or false")
        if not deleted:
            if isinstance(given.setdefault("metadata", {}), dict):
                given["metadata"] = {**self.metadata, **given["metadata"]}
            return checked(lambda: DocumentSubmitted(**given), {"document_id": "id"})
        extra = [name for name in CONTENT_FIELDS if name in given]
        if extra:
            raise Faulty(f"a deleted document has no {extra[0]}: leave out {extra[0]!r}, or 'deleted'")
        return checked(lambda: DocumentWithdrawn(**given), {"document_id": "id"})


def unknown_tenant(tenant: str, tenants: Sequence[str]) -> str:
    """One line that names the tenants there are."""
    return f"there is no tenant {tenant!r}: [tenants] names lists {', '.join(tenants)}"


def example(fields: dict[str, Any], tasks: Container[str], names: str, origin: str) -> ExampleSubmitted:
    """A labelled example of a configured task; ``names`` lists those for the refusal."""
    refuse_unknown(fields, EXAMPLE_FIELDS)
    made = checked(lambda: ExampleSubmitted(**{"origin": origin, **fields}))
    if made.task not in tasks:
        raise Faulty(f"the task {made.task!r} is not configured; there is {names}")
    return made


def feedback(fields: dict[str, Any]) -> FeedbackGiven:
    """What a user says of an answer."""
    refuse_unknown(fields, FEEDBACK_FIELDS)
    return checked(lambda: FeedbackGiven(**fields))
