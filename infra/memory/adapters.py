"""The in-memory twin of ``infra.adapters.store``."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import AdapterMissing
from schemas.registry import Probe


class MemoryAdapters:
    """Adapters in a dictionary. ``changed``: ids whose files were changed."""

    def __init__(self, folders: dict[str, Path] | None = None) -> None:
        self.folders = dict(folders or {})
        self.probed: dict[str, tuple[Probe, ...]] = {}
        self.changed: set[str] = set()

    def path(self, adapter_id: str) -> Path:
        try:
            return self.folders[adapter_id]
        except KeyError:
            raise AdapterMissing(f"{adapter_id} is not here: train it again, or roll back") from None

    def verify(self, adapter_id: str) -> None:
        self.path(adapter_id)
        if adapter_id in self.changed:
            raise AdapterMissing(f"{adapter_id}: its files were changed: train it again, or roll back")

    def probes(self, adapter_id: str) -> tuple[Probe, ...]:
        self.path(adapter_id)
        return self.probed.get(adapter_id, ())
