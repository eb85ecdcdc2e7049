"""Keeps dataset snapshots as Parquet files below a folder, named by their content, with their manifests in SQL too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import delete, select

from infra.durable_files import new_folder, place, remove_folder, replace_file
from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once
from schemas.datasets import QUARANTINED_ROW, DatasetManifest, DatasetRow, QuarantinedRow
from schemas.errors import AdapterMissing, unavailable

ROWS, QUARANTINE, MANIFEST = "rows.parquet", "quarantined.jsonl", "manifest.json"
_manifest = TypeAdapter(DatasetManifest)
_row = TypeAdapter(DatasetRow)
_LATER = frozenset({"user", "tenant", "trust", "why"})
"""Fields of a row that datasets of earlier versions lack."""
_datasets = tables.datasets.c


class DatasetMissing(AdapterMissing):
    """A dataset's files are missing or changed, so that no adapter can be trained on it or judged by it."""


class FolderDatasets:
    """Snapshots below a folder that all workers can reach; manifests in the database."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
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
        """Stores rows as a dataset; the same rows are stored once. Raises Unavailable when the disk is full.

        ``quarantined``: the rows that were left out, which are stored beside the others, for people.
        """
        manifest = make_manifest(
            task,
            rows,
            created_at=created_at,
            window_start=window_start,
            window_end=window_end,
            quarantined=quarantined,
            folder=self._folder,
        )
        known = self.manifest(manifest.dataset_id)
        if known is not None and (self._folder / known.dataset_id / ROWS).is_file():
            return known
        with new_folder(self._folder) as part:
            replace_file(part / ROWS, [_parquet(rows)])
            replace_file(part / QUARANTINE, [QUARANTINED_ROW.dump_json(each) + b"\n" for each in quarantined])
            replace_file(part / MANIFEST, [_manifest.dump_json(manifest, indent=1)])
            place(part, self._folder / manifest.dataset_id)
        values = {
            "dataset_id": manifest.dataset_id,
            "task": task,
            "created_at": created_at,
            "manifest": json.loads(_manifest.dump_json(manifest)),
        }
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.datasets), values)
        return manifest

    def manifest(self, dataset_id: str) -> DatasetManifest | None:
        """Returns a dataset's manifest, or None."""
        wanted = select(_datasets.manifest).where(_datasets.dataset_id == dataset_id)
        with self._database.connection() as connection:
            found = connection.execute(wanted).scalar()
        return None if found is None else _manifest.validate_python(found)

    def latest(self, task: str) -> DatasetManifest | None:
        """Returns the manifest of the task's newest dataset, or None."""
        newest = select(_datasets.manifest).where(_datasets.task == task)
        newest = newest.order_by(_datasets.created_at.desc(), _datasets.dataset_id).limit(1)
        with self._database.connection() as connection:
            found = connection.execute(newest).scalar()
        return None if found is None else _manifest.validate_python(found)

    def recent(self, task: str | None, limit: int) -> list[DatasetManifest]:
        """Returns the manifests of a task's datasets, or of all tasks', newest first."""
        newest = select(_datasets.manifest).order_by(_datasets.created_at.desc(), _datasets.dataset_id).limit(limit)
        if task is not None:
            newest = newest.where(_datasets.task == task)
        with self._database.connection() as connection:
            return [_manifest.validate_python(each) for each in connection.execute(newest).scalars()]

    def older(self, before: datetime) -> list[DatasetManifest]:
        """Returns the datasets that were made before then, oldest first."""
        old = select(_datasets.manifest).where(_datasets.created_at < before).order_by(_datasets.created_at)
        with self._database.connection() as connection:
            return [_manifest.validate_python(each) for each in connection.execute(old).scalars()]

    def remove(self, dataset_id: str) -> None:
        """Inside a transaction: deletes a dataset, its rows and its manifest. Raises Unavailable."""
        with self._database.connection(write=True) as connection:
            connection.execute(delete(tables.datasets).where(_datasets.dataset_id == dataset_id))
        remove_folder(self._folder / dataset_id)

    def rows(self, dataset_id: str) -> list[DatasetRow]:
        """Reads a dataset's rows in the order they were stored. Raises DatasetMissing when they are gone or changed."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._folder / dataset_id / ROWS
        try:
            values = pq.read_table(path).to_pylist()
            rows = [_row.validate_python({**each, **_lists(each)}) for each in values]
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise unavailable(error) or DatasetMissing(
                f"the dataset {dataset_id} cannot be read from {path}: train again"
            ) from error
        manifest = self.manifest(dataset_id)
        if manifest is not None and dataset_id_of(manifest.task, rows) != dataset_id:
            raise DatasetMissing(f"the dataset {dataset_id} in {path} was changed: train again")
        return rows

    def quarantined(self, dataset_id: str) -> list[QuarantinedRow]:
        """Returns the rows that were left out of a dataset; none of one that an earlier version made.

        Raises DatasetMissing when the file cannot be read.
        """
        path = self._folder / dataset_id / QUARANTINE
        try:
            return [QUARANTINED_ROW.validate_json(line) for line in path.read_bytes().splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise unavailable(error) or DatasetMissing(f"{path} cannot be read: it was changed") from error


def dataset_id_of(task: str, rows: Sequence[DatasetRow]) -> str:
    """Computes a dataset's id: 32 hexadecimal digits of SHA-256 over the task and the rows, in any order."""
    digest = sha256(task.encode())
    for line in sorted(_row.dump_json(row, exclude=_absent(row)) for row in rows):
        digest.update(b"\n" + line)
    return digest.hexdigest()[:32]


def _absent(row: DatasetRow) -> set[str]:
    """The later fields that a row does not use. Without them the ids of older datasets stay what they are."""
    return {each.name for each in fields(DatasetRow) if each.name in _LATER and getattr(row, each.name) == each.default}


def make_manifest(
    task: str,
    rows: Sequence[DatasetRow],
    *,
    created_at: datetime,
    window_start: datetime | None,
    window_end: datetime | None,
    quarantined: Sequence[QuarantinedRow],
    folder: Path,
) -> DatasetManifest:
    """Builds the manifest, which describes the rows for whoever does not read them."""
    dataset_id = dataset_id_of(task, rows)
    return DatasetManifest(
        dataset_id=dataset_id,
        task=task,
        created_at=created_at,
        train_rows=sum(row.split == "train" for row in rows),
        holdout_rows=sum(row.split == "holdout" for row in rows),
        fresh_rows=sum(row.fresh for row in rows),
        counts=dict(Counter(row.origin for row in rows)),
        window_start=window_start,
        window_end=window_end,
        uri=(folder / dataset_id / ROWS).absolute().as_uri(),
        golden_rows=sum(row.split == "golden" for row in rows),
        by_user=dict(Counter(row.user for row in rows if row.user is not None).most_common()),
        by_tenant=dict(Counter(row.tenant for row in rows if row.tenant is not None).most_common()),
        quarantined=dict(Counter(each.reason for each in quarantined).most_common()),
    )


def _parquet(rows: Sequence[DatasetRow]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values: list[dict[str, object]] = [
        {
            **asdict(row),
            "sources": json.dumps(row.sources),
            "history": json.dumps([turn.model_dump() for turn in row.history]),
        }
        for row in rows
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(values), sink)
    return bytes(sink.getvalue().to_pybytes())


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    """Reads the columns that are lists in JSON. A file from before there was a column ``history`` has no turns."""
    return {"sources": json.loads(values["sources"]), "history": json.loads(values.get("history", "[]"))}
