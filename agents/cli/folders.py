"""A folder's documents that have changed since it was last published, and those that are gone."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents.cli.files import DocumentFiles
from agents.cli.jsonl import Item, Refusal
from agents.cli.listing import Listing
from agents.cli.sources import Document
from infra.conversion import CONVERSION, MAX_FILE_BYTES
from infra.published_files import FileState, PublishedFiles
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.errors import EverlearnError

TICK_NANOSECONDS = 2_000_000_000
"""The coarsest clock of a file system: a file younger than this may change again and look the same."""


@dataclass(kw_only=True)
class Folder:
    """Gives, as it is iterated, what must be sent; ``confirmed`` is told what Kafka has, and remembers it.

    ``everything``: whether unchanged files are sent too, also those whose ids another folder has, and whether a folder
    that has become empty is believed.
    """

    path: Path
    listing: Listing
    files: DocumentFiles
    published: PublishedFiles
    everything: bool = False
    on_file: Callable[[int], None] = lambda _count: None
    unchanged: int = 0
    _states: dict[str, FileState] = field(default_factory=dict)
    _touched: dict[str, FileState] = field(default_factory=dict)
    _elsewhere: dict[str, Path] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item[Document] | Refusal]:
        """Raises EverlearnError when the folder is empty and was not."""
        known = self.published.load()
        self._elsewhere = {name: folder for name, folder in self.published.elsewhere().items() if name not in known}
        if known and not self.everything and not self.listing.files and not self.listing.refusals:
            raise EverlearnError(
                f"{self.path} is empty, and {len(known):,} documents were published from it: nothing is withdrawn; "
                "if they are meant to go, say so with --all"
            )
        yield from self.listing.refusals
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
        """Remembers documents that Kafka has, and forgets those that were withdrawn."""
        sent = [each.document_id for each in events if isinstance(each, DocumentSubmitted)]
        withdrawn = [each.document_id for each in events if isinstance(each, DocumentWithdrawn)]
        states = {each: self._states.pop(each) for each in sent if each in self._states}
        self.published.take(each for each in sent if each in self._elsewhere)
        self.published.remember(states, withdrawn)

    def finished(self) -> None:
        """Remembers that files which were touched are equal, so that the next publish need not read them."""
        if self._touched:
            self.published.refresh(self._touched)

    def _taken(self, document_id: str) -> str:
        return (
            f"the document {document_id!r} was published from {self._elsewhere[document_id]}: keep the two apart with "
            "--prefix, or publish from here from now on with --all"
        )

    def _changed(
        self, document_id: str, path: Path, options: str, before: FileState | None
    ) -> Item[Document] | Refusal | None:
        """The file to send, or why it cannot be; None where Kafka has it as it is."""
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
            pass  # whoever reads it says what is wrong with it
        return self.files.read(path, document_id)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
