"""The in-memory twin of the adapter store: folders by id, as a dictionary."""

from __future__ import annotations

from pathlib import Path

from agents.errors import AdapterMissing


class MemoryAdapters:
    """Adapters that were put in."""

    def __init__(self, folders: dict[str, Path] | None = None) -> None:
        self.folders = dict(folders or {})

    def path(self, adapter_id: str) -> Path:
        try:
            return self.folders[adapter_id]
        except KeyError:
            raise AdapterMissing(f"{adapter_id} is not here: train it again, or roll back") from None
