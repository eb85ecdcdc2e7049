"""Says which disks of a home are full or nearly so: stores fail on a full disk with many different errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Settings

MEGABYTE = 1024 * 1024
SCARCE_MB = 500
"""With less room than this a disk counts as nearly full."""
FULL_MB = 20
"""With less room than this a disk counts as full: Kafka, SQLite or Milvus need several megabytes to go on."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The disk of one or several of a home's folders, by the first of them."""

    place: Path
    free_mb: int

    @property
    def full(self) -> bool:
        """Whether stores on it cannot be written."""
        return self.free_mb < FULL_MB

    def __str__(self) -> str:
        if self.full:
            return disk_is_full(self.place)
        return f"the disk of {self.place} is nearly full: {self.free_mb} MB free; make room before the stores stop"


def disk_is_full(place: Path) -> str:
    """The sentence that names a full disk and what to do."""
    free_mb = shutil.disk_usage(place).free // MEGABYTE
    return f"the disk of {place} is full: {free_mb} MB free; make room, work goes on by itself"


def scarce_disks(settings: Settings, scarce_mb: int = SCARCE_MB) -> list[Disk]:
    """The disks of the stores of a home with less room than this, each once."""
    found: dict[int, Disk] = {}
    for place in _places(settings):
        if not place.exists():
            continue
        device = place.stat().st_dev
        if device not in found:
            found[device] = Disk(place=place, free_mb=shutil.disk_usage(place).free // MEGABYTE)
    return [disk for disk in found.values() if disk.free_mb < scarce_mb]


def _places(settings: Settings) -> Iterable[Path]:
    home = settings.home
    yield home
    yield from (settings.run_folder, settings.adapters_folder, settings.datasets_folder, settings.reports_folder)
    yield from (settings.registry_folder, home / "kafka", home / "milvus", home / "work")
    for url in (settings.sql_url(), settings.registry_url()):
        if url.startswith("sqlite:///"):
            yield Path(url.removeprefix("sqlite:///")).parent
