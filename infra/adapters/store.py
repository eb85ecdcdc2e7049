"""Finds adapters in a folder, each in a folder of its own named by its id."""

from __future__ import annotations

import re
from pathlib import Path

from infra.adapters.files import ADAPTER_ID, read_probes, verify
from infra.adapters.integrity import check_size
from infra.durable_files import remove_folder
from schemas.errors import AdapterMissing
from schemas.registry import Probe

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an id may be: it comes from a message, and becomes the name of a folder."""


class FolderAdapters:
    """Adapters below a folder, in PEFT's format; those larger than ``max_bytes``, where given, fail verification."""

    def __init__(self, folder: Path, *, max_bytes: int | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def path(self, adapter_id: str) -> Path:
        """Returns the folder of an adapter; raises AdapterMissing."""
        if not _ID.fullmatch(adapter_id):
            raise AdapterMissing(f"{adapter_id!r:.80} cannot be an adapter's id: release one that was trained here")
        path = self._folder / adapter_id
        if not path.is_dir():
            raise AdapterMissing(f"{adapter_id} is not in {self._folder}: train it again, or roll back")
        return path

    def ids(self) -> list[str]:
        """Returns the ids of the adapters that are installed, without those that were put there under other names."""
        if not self._folder.is_dir():
            return []
        return sorted(each.name for each in self._folder.iterdir() if ADAPTER_ID.fullmatch(each.name))

    def remove(self, adapter_id: str) -> bool:
        """Deletes an adapter and its probes. Returns False where it is gone already. Raises Unavailable."""
        return bool(ADAPTER_ID.fullmatch(adapter_id)) and remove_folder(self._folder / adapter_id)

    def verify(self, adapter_id: str) -> None:
        """Raises AdapterMissing unless the folder holds exactly what the id was made from, byte for byte."""
        path = self.path(adapter_id)
        if self._max_bytes is not None:
            check_size(adapter_id, path, self._max_bytes)
        verify(adapter_id, path)

    def probes(self, adapter_id: str) -> tuple[Probe, ...]:
        """Returns the probes that the adapter got when it was validated; empty without. Raises AdapterMissing."""
        return read_probes(self.path(adapter_id))
