"""Makes documents of JSON lines, of files and of folders."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from agents.cli.jsonl import Faulty, Item, Refusal, checked, refuse_unknown
from agents.cli.output import JsonObject
from infra.conversion import CONVERSION, FORMATS, MAX_FILE_BYTES, Converted, Unreadable, decode_utf8
from infra.published_files import FileState, PublishedFiles
from schemas.documents import DEFAULT_TENANT, DocumentSubmitted, DocumentWithdrawn, Metadata
from schemas.errors import EverlearnError

Document = DocumentSubmitted | DocumentWithdrawn
DOCUMENT_FIELDS = ("id", "text", "title", "uri", "tenant", "metadata", "format", "deleted")
CONTENT_FIELDS = ("text", "title", "uri", "metadata", "format")


@dataclass
class RisingClock:
    """Gives a later time at each call, so that the last of several lines with one id wins."""

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

    ``tenant`` is for lines that name none. ``metadata`` is added to every document, where a line's own keys win.
    ``tenants`` are the allowed ones; any tenant is allowed where it is empty.
    """

    clock: Callable[[], datetime]
    tenant: str = DEFAULT_TENANT
    metadata: Metadata = field(default_factory=dict)
    tenants: tuple[str, ...] = ()

    def __call__(self, fields: JsonObject) -> Document:
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
    """One line that names the configured tenants."""
    return f"there is no tenant {tenant!r}: [tenants] names lists {', '.join(tenants)}"


MARKDOWN = frozenset({".md", ".markdown"})
PLAIN = frozenset({".txt"})
SUFFIXES = MARKDOWN | PLAIN | FORMATS
LONGEST_TITLE = 1000
FENCES = ("```", "~~~")


class Converts(Protocol):
    """Converts a file to Markdown, or raises Unreadable."""

    def convert(self, path: Path) -> Converted: ...


def is_document(path: Path) -> bool:
    """Whether a file with that suffix can be published as one document."""
    return path.suffix.lower() in SUFFIXES


@dataclass(frozen=True, kw_only=True)
class DocumentFiles:
    """Makes a document of a file. ``build`` adds the tenant, the metadata and the time."""

    build: DocumentLines
    converter: Converts

    def read(self, path: Path, document_id: str) -> Item[Document] | Refusal:
        """The file as a document, or the reason why it cannot be one."""
        if document_id != document_id.encode("utf-8", "replace").decode():
            return Refusal(str(path), "has a name that is not UTF-8: rename it")
        try:
            size = path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise Unreadable(f"has {size / 1024**2:,.0f} MB; {MAX_FILE_BYTES // 1024**2} MB is the most: split it")
            return Item(str(path), self.build({"id": document_id, **self._fields(path)}))
        except FileNotFoundError:
            return Refusal(str(path), "is gone since it was found: publish again")
        except OSError as error:
            return Refusal(str(path), f"cannot be read: {error.strerror}")
        except (Faulty, Unreadable) as error:
            return Refusal(str(path), str(error))

    def _fields(self, path: Path) -> JsonObject:
        suffix = path.suffix.lower()
        if suffix in FORMATS:
            found = self.converter.convert(path)
            title = (found.title or path.name)[:LONGEST_TITLE]
            return {"text": found.text, "title": title, "format": "markdown"}
        text = decode_utf8(path.read_bytes())
        if suffix in PLAIN:
            return {"text": text, "title": path.name, "format": "text"}
        return {"text": text, "title": first_heading(text) or path.name, "format": "markdown"}


def first_heading(text: str) -> str | None:
    """The first Markdown heading that is not part of a block of code."""
    fence = ""
    for line in text.splitlines():
        start = line.lstrip()[:3]
        if start in FENCES and fence in ("", start):
            fence = "" if fence else start
        marks = len(line) - len(line.lstrip("#"))
        if not fence and 1 <= marks <= 6 and line[marks : marks + 1] in (" ", "\t") and line[marks:].strip(" \t#"):
            return line[marks:].strip(" \t#")[:LONGEST_TITLE]
    return None


@dataclass
class Listing:
    """Files by document id, sorted. ``unreadable``: folders that could not be read, as prefixes of ids."""

    files: dict[str, Path] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)
    """The kind of each other file: its suffix, ``link`` or ``special file``."""
    refusals: list[Refusal] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[str]:
        return Counter(self.passed_over.values())

    def may_hold(self, document_id: str) -> bool:
        """Whether the file exists, or may exist in a folder that could not be read."""
        return document_id in self.files or any(document_id.startswith(f"{each}/") for each in self.unreadable)


def list_folder(root: Path, prefix: str = "") -> Listing:
    """Lists a folder without hidden files and folders. Raises EverlearnError when it cannot be read.

    ``prefix`` starts each document's id; the file's path in the folder follows it.

    A link to a folder is never followed: it may form a cycle, and a target inside the folder is listed under its own
    path. A link to a file is followed where that file lies in the folder.
    """
    found = Listing()
    real = root.resolve()
    try:
        entries = _entries(root)
    except OSError as error:
        raise EverlearnError(
            f"{root} cannot be read ({error.strerror}): nothing is published and nothing withdrawn"
        ) from None
    _add_entries(entries, prefix, real, found)
    found.files = dict(sorted(found.files.items()))
    return found


def _add_entries(entries: Iterator[os.DirEntry[str]], prefix: str, real: Path, found: Listing) -> None:
    for entry in entries:
        relative, path = prefix + entry.name, Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            try:
                inside = _entries(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                found.refusals.append(Refusal(str(path), f"cannot be read: {error.strerror}"))
                found.unreadable.append(relative)
                continue
            _add_entries(inside, f"{relative}/", real, found)
        elif entry.is_symlink() and not _inside(path, real):
            found.passed_over[relative] = "link"
        elif not entry.is_symlink() and not entry.is_file(follow_symlinks=False):
            found.passed_over[relative] = "special file"
        elif is_document(path):
            found.files[relative] = path
        else:
            found.passed_over[relative] = path.suffix.lower() or "no ending"


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return iter([each for each in entries if not each.name.startswith(".")])


def _inside(link: Path, real: Path) -> bool:
    """Whether a link leads to a file in the folder."""
    try:
        return link.is_file() and link.resolve().is_relative_to(real)
    except (OSError, RuntimeError):  # a cycle of links
        return False


Indexed = Callable[[Sequence[str]], Mapping[str, datetime]]
"""Returns by document id the time of the newest submission or withdrawal that SQL knows; without unknown ids."""

ON_ITS_WAY = timedelta(minutes=10)
"""A document that was sent less than this long ago may not have reached SQL yet."""
TICK_NANOSECONDS = 2_000_000_000
"""The coarsest clock of a file system. A younger file may change again without a new modification time."""


@dataclass(kw_only=True)
class Folder:
    """Yields the documents of a folder that must be sent. ``confirmed`` remembers those that Kafka has.

    ``everything`` also sends unchanged files and files whose ids another folder has, and withdraws all documents of a
    folder that has become empty. ``indexed``: what SQL holds of these documents. What it lost is sent again: after
    it was replaced, restored from a backup, or upgraded by a migration that deletes documents. None: SQL is not asked.
    """

    path: Path
    listing: Listing
    files: DocumentFiles
    published: PublishedFiles
    everything: bool = False
    indexed: Indexed | None = None
    on_file: Callable[[int], None] = lambda _count: None
    unchanged: int = 0
    lost: int = 0
    """How many unchanged files are sent because SQL does not hold them."""
    _states: dict[str, FileState] = field(default_factory=dict)
    _touched: dict[str, FileState] = field(default_factory=dict)
    _elsewhere: dict[str, Path] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item[Document] | Refusal]:
        """Raises EverlearnError when the folder is empty now and had documents before."""
        known = self.published.load()
        self._elsewhere = {name: folder for name, folder in self.published.elsewhere().items() if name not in known}
        if known and not self.everything and not self.listing.files and not self.listing.refusals:
            raise EverlearnError(
                f"{self.path} is empty, and {len(known):,} documents were published from it: nothing is withdrawn; "
                "if they are meant to go, say so with --all"
            )
        yield from self.listing.refusals
        if not self.everything:
            lost = self._lost({name: state for name, state in known.items() if name in self.listing.files})
            self.lost = len(lost)
            known |= {name: replace(known[name], options="") for name in lost}
        options = json.dumps({"conversion": CONVERSION, "metadata": self.files.build.metadata}, sort_keys=True)
        for document_id, path in self.listing.files.items():
            if document_id in self._elsewhere and not self.everything:
                found: Item[Document] | Refusal | None = Refusal(str(path), self._taken(document_id))
            else:
                found = self._changed(document_id, path, options, known.get(document_id))
            self.on_file(1)
            if found is not None:
                yield found
        for document_id in known:
            if not self.listing.may_hold(document_id):
                withdrawn = self.files.build({"id": document_id, "deleted": True})
                yield Item(str(self.path / document_id), withdrawn)

    def confirmed(self, events: Sequence[Document]) -> None:
        """Remembers documents that Kafka has confirmed, and forgets withdrawn ones."""
        sent = [each.document_id for each in events if isinstance(each, DocumentSubmitted)]
        withdrawn = [each.document_id for each in events if isinstance(each, DocumentWithdrawn)]
        times = {each.document_id: each.submitted_at for each in events}
        states = {
            each: replace(self._states.pop(each), submitted_at=times[each]) for each in sent if each in self._states
        }
        self.published.take(each for each in sent if each in self._elsewhere)
        self.published.remember(states, withdrawn)

    def finished(self) -> None:
        """Stores the new times of files whose content is the same, so that the next publish need not read them."""
        if self._touched:
            self.published.refresh(self._touched)

    def _lost(self, known: Mapping[str, FileState]) -> set[str]:
        """Returns the documents that were published, and that SQL does not hold or only in an older version."""
        if self.indexed is None or not known:
            return set()
        now = datetime.now(UTC)
        found = self.indexed(list(known))
        return {
            name
            for name, state in known.items()
            if (name not in found or (state.submitted_at is not None and found[name] < state.submitted_at))
            and (state.published_at is None or state.published_at + ON_ITS_WAY < now)
        }

    def _taken(self, document_id: str) -> str:
        return (
            f"the document {document_id!r} was published from {self._elsewhere[document_id]}: keep the two apart with "
            "--prefix, or publish from here from now on with --all"
        )

    def _changed(
        self, document_id: str, path: Path, options: str, before: FileState | None
    ) -> Item[Document] | Refusal | None:
        """The file to send, or the reason why it cannot be sent; None where Kafka has this content."""
        if self.everything or (before is not None and before.options != options):
            before = None
        try:
            status = path.stat()
            if before is not None and (before.mtime_ns, before.size) == (status.st_mtime_ns, status.st_size):
                self.unchanged += 1
                return None
            if status.st_size <= MAX_FILE_BYTES:
                settled = status.st_mtime_ns < time.time_ns() - TICK_NANOSECONDS
                mtime_ns = status.st_mtime_ns if settled else None
                state = FileState(mtime_ns, status.st_size, _hash(path), options)
                if before is not None and before.sha256 == state.sha256:
                    self.unchanged += 1
                    self._touched[document_id] = state
                    return None
                self._states[document_id] = state
        except OSError:
            pass  # reading it below reports the fault
        return self.files.read(path, document_id)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
