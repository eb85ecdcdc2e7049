"""The in-memory twin of ``infra.training.datasets``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from infra.memory.database import MemoryDatabase
from infra.training.datasets import DatasetMissing, make_manifest
from schemas.datasets import DatasetManifest, DatasetRow, QuarantinedRow


class MemoryDatasets:
    """Dataset snapshots in a dictionary."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def put(
        self,
        task: str,
        rows: Sequence[DatasetRow],
        *,
        created_at: datetime,
        window_start: datetime | None = None,
        window_end: datetime | None = None,
        quarantined: Sequence[QuarantinedRow] = (),
    ) -> DatasetManifest:
        """Stores the rows. The same rows are the same dataset, which is stored once."""
        manifest = make_manifest(
            task,
            rows,
            created_at=created_at,
            window_start=window_start,
            window_end=window_end,
            quarantined=quarantined,
            folder=Path("/memory"),
        )
        with self._database.table("datasets") as datasets:
            datasets.setdefault(manifest.dataset_id, (manifest, tuple(rows), tuple(quarantined)))
            kept: DatasetManifest = datasets[manifest.dataset_id][0]
        return kept

    def manifest(self, dataset_id: str) -> DatasetManifest | None:
        """Returns a dataset's manifest, or None."""
        with self._database.table("datasets") as datasets:
            return datasets[dataset_id][0] if dataset_id in datasets else None

    def latest(self, task: str) -> DatasetManifest | None:
        """Returns the manifest of the task's newest dataset, or None."""
        with self._database.table("datasets") as datasets:
            found = [manifest for manifest, *_ in datasets.values() if manifest.task == task]
        found.sort(key=lambda each: each.dataset_id)
        return max(found, key=lambda each: each.created_at, default=None)

    def recent(self, task: str | None, limit: int) -> list[DatasetManifest]:
        """Returns the manifests of a task's datasets, or of all tasks', newest first."""
        with self._database.table("datasets") as datasets:
            found = [manifest for manifest, *_ in datasets.values() if task in (None, manifest.task)]
        found.sort(key=lambda each: each.dataset_id)
        return sorted(found, key=lambda each: each.created_at, reverse=True)[:limit]

    def older(self, before: datetime) -> list[DatasetManifest]:
        """Returns the datasets that were made before then, oldest first."""
        with self._database.table("datasets") as datasets:
            found = [manifest for manifest, *_ in datasets.values() if manifest.created_at < before]
        return sorted(found, key=lambda each: each.created_at)

    def remove(self, dataset_id: str) -> None:
        """Inside a transaction: deletes a dataset, its rows and its manifest."""
        with self._database.table("datasets") as datasets:
            datasets.pop(dataset_id, None)

    def rows(self, dataset_id: str) -> list[DatasetRow]:
        """Returns its rows in the order in which they were put. Raises DatasetMissing."""
        with self._database.table("datasets") as datasets:
            if dataset_id not in datasets:
                raise DatasetMissing(f"the dataset {dataset_id} is not there: train again")
            return list(datasets[dataset_id][1])

    def quarantined(self, dataset_id: str) -> list[QuarantinedRow]:
        """Returns the rows that were left out of a dataset."""
        with self._database.table("datasets") as datasets:
            return list(datasets[dataset_id][2]) if dataset_id in datasets else []
