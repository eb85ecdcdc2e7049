"""Finds adapters in a folder, each in a folder of its own named by its id."""

from __future__ import annotations

import re
from pathlib import Path

from agents.errors import AdapterMissing

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an id may be: it becomes the name of a folder, and comes from a message."""


class FolderAdapters:
    """Adapters below a folder, in PEFT's format."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, adapter_id: str) -> Path:
        """The folder of an adapter; raises AdapterMissing."""
        if not _ID.fullmatch(adapter_id):
            raise AdapterMissing(f"{adapter_id!r:.80} cannot be an adapter's id: release one that was trained here")
        path = self._folder / adapter_id
        if not path.is_dir():
            raise AdapterMissing(f"{adapter_id} is not in {self._folder}: train it again, or roll back")
        return path
