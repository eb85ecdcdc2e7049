"""A full disk is named with what to do, once for all stores on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.disks import FULL_MB, MEGABYTE, Disk, disk_is_full, scarce_disks
from infra.settings import Settings


def test_a_disk_is_full_or_nearly_full_and_says_what_to_do(tmp_path: Path):
    full = Disk(place=tmp_path, free_mb=FULL_MB - 1)
    assert full.full
    assert str(full).startswith(f"the disk of {tmp_path} is full: ")
    assert str(full).endswith(" MB free; make room, work goes on by itself")
    scarce = Disk(place=tmp_path, free_mb=FULL_MB)
    assert not scarce.full
    assert str(scarce) == (
        f"the disk of {tmp_path} is nearly full: {FULL_MB} MB free; make room before the stores stop"
    )
    free_mb = int(disk_is_full(tmp_path).split(": ")[1].split()[0])
    assert 0 <= free_mb <= shutil.disk_usage(tmp_path).total // MEGABYTE


def test_a_disk_is_named_once_and_only_when_its_room_is_little(tmp_path: Path):
    settings = Settings(home=tmp_path)
    for name in ("kafka", "milvus", "work"):
        (tmp_path / name).mkdir()
    assert [disk.place for disk in scarce_disks(settings, scarce_mb=10**12)] == [tmp_path]
    assert scarce_disks(settings, scarce_mb=0) == []
    assert scarce_disks(Settings(home=tmp_path / "missing"), scarce_mb=10**12) == []
