"""A file as a document: its text, its title and how the text is structured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agents.cli.jsonl import Faulty, Item, Refusal
from agents.cli.sources import Document, DocumentLines
from infra.conversion import FORMATS, MAX_FILE_BYTES, Converted, Unreadable, decode_utf8

MARKDOWN = frozenset({".md", ".markdown"})
PLAIN = frozenset({".txt"})
SUFFIXES = MARKDOWN | PLAIN | FORMATS
LONGEST_TITLE = 1000
FENCES = ("```", "~~~")


class Converts(Protocol):
    """Gives a file as Markdown, or raises Unreadable."""

    def convert(self, path: Path) -> Converted: ...


def is_document(path: Path) -> bool:
    """Whether a file of that name is one document."""
    return path.suffix.lower() in SUFFIXES


@dataclass(frozen=True, kw_only=True)
class DocumentFiles:
    """Makes a document of a file; ``build`` knows the tenant, the metadata and the time."""

    build: DocumentLines
    converter: Converts

    def read(self, path: Path, document_id: str) -> Item[Document] | Refusal:
        """The file as a document, or why it cannot be one."""
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

    def _fields(self, path: Path) -> dict[str, Any]:
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
