"""What people publish, as events: lines and files become documents, examples and feedback, or are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agents.commands.jsonl import Faulty, Item, Refusal, checked, refuse_unknown
from schemas.documents import DEFAULT_TENANT, DocumentSubmitted, DocumentWithdrawn
from schemas.interactions import ExampleSubmitted, FeedbackGiven

Document = DocumentSubmitted | DocumentWithdrawn

DOCUMENT_FIELDS = ("id", "text", "title", "uri", "tenant", "metadata", "deleted")
EXAMPLE_FIELDS = ("task", "input", "output", "origin")
FEEDBACK_FIELDS = ("answer_id", "rating", "correction", "reason", "user")
TEXT_SUFFIXES = frozenset({".md", ".txt"})
LONGEST_TITLE = 1000


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
    """Makes a document of a line's object. ``tenant`` is that of lines which name none."""

    clock: Callable[[], datetime]
    tenant: str = DEFAULT_TENANT

    def __call__(self, fields: dict[str, Any]) -> Document:
        refuse_unknown(fields, DOCUMENT_FIELDS)
        given = {name: value for name, value in fields.items() if value is not None and name not in ("id", "deleted")}
        given.setdefault("tenant", self.tenant)
        given["submitted_at"] = self.clock()
        if "id" in fields:
            given["document_id"] = fields["id"]
        deleted = fields.get("deleted", False)
        if not isinstance(deleted, bool):
            raise Faulty("deleted: must be true or false")
        if not deleted:
            return checked(lambda: DocumentSubmitted(**given), {"document_id": "id"})
        extra = [name for name in ("text", "title", "uri", "metadata") if name in given]
        if extra:
            raise Faulty(f"a deleted document has no {extra[0]}: leave out {extra[0]!r}, or 'deleted'")
        return checked(lambda: DocumentWithdrawn(**given), {"document_id": "id"})


@dataclass(kw_only=True)
class Folder:
    """A folder's text files as documents; ``passed_over`` counts the others by ending, once all were seen."""

    path: Path
    clock: Callable[[], datetime]
    tenant: str = DEFAULT_TENANT
    passed_over: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[Item[Document] | Refusal]:
        for path in sorted(self.path.rglob("*")):
            relative = path.relative_to(self.path)
            if any(part.startswith(".") for part in relative.parts) or not path.is_file():
                continue
            if path.suffix.lower() not in TEXT_SUFFIXES:
                self.passed_over[path.suffix.lower() or "no ending"] += 1
                continue
            yield self.read(path, relative.as_posix())

    def read(self, path: Path, document_id: str) -> Item[Document] | Refusal:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return Refusal(str(path), f"byte {error.start + 1} is not UTF-8")
        except OSError as error:
            return Refusal(str(path), f"cannot be read: {error.strerror}")
        fields = {"id": document_id, "text": text, "title": title_of(text, path)}
        try:
            return Item(str(path), DocumentLines(clock=self.clock, tenant=self.tenant)(fields))
        except Faulty as error:
            return Refusal(str(path), str(error))


def title_of(text: str, path: Path) -> str:
    """The first Markdown heading, or the file's name where there is none."""
    if path.suffix.lower() == ".md":
        for line in text.splitlines():
            marks = len(line) - len(line.lstrip("#"))
            if 1 <= marks <= 6 and line[marks : marks + 1] in (" ", "\t") and line[marks:].strip(" \t#"):
                return line[marks:].strip(" \t#")[:LONGEST_TITLE]
    return path.name


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
