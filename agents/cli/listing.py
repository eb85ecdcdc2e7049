"""What a folder holds: files to publish, what is passed over, and what cannot be looked into."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agents.cli.files import is_document
from agents.cli.jsonl import Refusal
from schemas.errors import EverlearnError


@dataclass
class Listing:
    """Files by the ids of their documents, sorted; ``closed``: the folders that could not be read, as ids begin."""

    files: dict[str, Path] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)
    """Of each other file its kind: an ending, ``link`` or ``special file``."""
    refusals: list[Refusal] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[str]:
        return Counter(self.passed_over.values())

    def may_hold(self, document_id: str) -> bool:
        """Whether the file is there, or may be, in a folder that could not be read."""
        return document_id in self.files or any(document_id.startswith(f"{each}/") for each in self.closed)


def list_folder(root: Path, prefix: str = "") -> Listing:
    """What the folder holds, hidden files and folders left out. Raises EverlearnError when it cannot be read.

    ``prefix``: what each document's id begins with; the file's path in the folder follows.

    A link to a folder is never followed: it may lead around in a circle, and what it leads to inside has a path of
    its own. A link to a file is, where that file lies in the folder.
    """
    found = Listing()
    real = root.resolve()
    try:
        entries = _entries(root)
    except OSError as error:
        raise EverlearnError(
            f"{root} cannot be read ({error.strerror}): nothing is published and nothing withdrawn"
        ) from None
    _look(entries, prefix, real, found)
    found.files = dict(sorted(found.files.items()))
    return found


def _look(entries: Iterator[os.DirEntry[str]], prefix: str, real: Path, found: Listing) -> None:
    for entry in entries:
        relative, path = prefix + entry.name, Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            try:
                inside = _entries(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                found.refusals.append(Refusal(str(path), f"cannot be read: {error.strerror}"))
                found.closed.append(relative)
                continue
            _look(inside, f"{relative}/", real, found)
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
    except (OSError, RuntimeError):  # a circle of links
        return False
