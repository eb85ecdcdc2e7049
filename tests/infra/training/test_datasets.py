"""What every store of datasets promises: rows come back as they were put, under a name that is their content."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.memory.database import MemoryDatabase
from infra.memory.datasets import MemoryDatasets
from infra.sql.database import Database
from infra.training.datasets import DatasetMissing, FolderDatasets, dataset_id_of
from schemas.datasets import DatasetRow, QuarantinedRow
from schemas.questions import Turn

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def row(number: int, *, split: str = "train", fresh: bool = True) -> DatasetRow:
    return DatasetRow(
        row_id=f"r{number}",
        input=f"ä message\n{number}",
        output="skates",
        origin="correction",
        origin_id=f"a{number}",
        at=NOW + timedelta(seconds=number),
        split=split,  # type: ignore[arg-type]  # a literal in a test
        fresh=fresh,
        sources=({"chunk_id": "c", "text": "a page", "score": 0.5},),
    )


TURNS = (Turn(role="user", text="ä?\n"), Turn(role="assistant", text="☃"))
ROWS = [row(1), row(2, split="holdout"), replace(row(3, fresh=False), history=TURNS)]
Datasets = FolderDatasets | MemoryDatasets


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def datasets(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "memory":
        yield MemoryDatasets(MemoryDatabase())
        return
    name = {"sqlite": "migrated_sqlite_url", "postgresql": "migrated_postgres_url"}[request.param]
    database = Database(request.getfixturevalue(name))
    yield FolderDatasets(tmp_path / "datasets", database)
    database.close()


def test_rows_come_back_as_they_were_put(datasets: Datasets):
    manifest = datasets.put("routing", ROWS, created_at=NOW, window_start=NOW, window_end=NOW)

    assert datasets.rows(manifest.dataset_id) == ROWS
    assert datasets.manifest(manifest.dataset_id) == manifest
    assert (manifest.train_rows, manifest.holdout_rows, manifest.fresh_rows) == (2, 1, 2)
    assert manifest.counts == {"correction": 3}


def test_the_same_rows_are_the_same_dataset_kept_once(datasets: Datasets):
    first = datasets.put("routing", ROWS, created_at=NOW)
    again = datasets.put("routing", ROWS[::-1], created_at=NOW + timedelta(hours=1))

    assert again == first
    assert datasets.latest("routing") == first


def test_another_row_or_task_is_another_dataset(datasets: Datasets):
    first = datasets.put("routing", ROWS, created_at=NOW)
    second = datasets.put("routing", ROWS[:2], created_at=NOW + timedelta(hours=1))
    other = datasets.put("support", ROWS, created_at=NOW + timedelta(hours=2))

    assert len({first.dataset_id, second.dataset_id, other.dataset_id}) == 3
    assert datasets.latest("routing") == second
    assert datasets.latest("support") == other


def test_rows_of_this_version_come_back_whole_and_the_manifest_counts_them(datasets: Datasets):
    rows = [
        replace(row(1), user="ann", tenant="shop", trust="owner", why="corrected by ann (owner)"),
        replace(row(2), user="session:s", trust="anonymous"),
        replace(row(3), origin="example", split="golden", why="example"),
    ]
    out = [QuarantinedRow(reason="label", row=row(4), detail="ä\n"), QuarantinedRow(reason="label", row=row(5))]

    manifest = datasets.put("routing", rows, created_at=NOW, quarantined=out)

    assert datasets.rows(manifest.dataset_id) == rows
    assert datasets.quarantined(manifest.dataset_id) == out
    assert datasets.quarantined("d" * 32) == []
    assert (manifest.train_rows, manifest.golden_rows) == (2, 1)
    assert (manifest.by_user, manifest.by_tenant) == ({"ann": 1, "session:s": 1}, {"shop": 1})
    assert manifest.quarantined == {"label": 2}
    assert datasets.manifest(manifest.dataset_id) == manifest


def test_the_newest_datasets_are_listed_first(datasets: Datasets):
    made = [
        datasets.put(task, ROWS[:count], created_at=NOW + timedelta(hours=count))
        for count, task in ((1, "routing"), (2, "support"), (3, "routing"))
    ]

    assert datasets.recent(None, 2) == [made[2], made[1]]
    assert datasets.recent("routing", 9) == [made[2], made[0]]
    assert datasets.recent("unknown", 9) == []


def test_what_was_never_put_is_not_there(datasets: Datasets):
    assert datasets.manifest("d" * 32) is None
    assert datasets.latest("routing") is None
    with pytest.raises(DatasetMissing, match="train again"):
        datasets.rows("d" * 32)


def test_a_snapshot_that_was_changed_or_damaged_is_not_used(migrated_sqlite_url: str, tmp_path: Path):
    database = Database(migrated_sqlite_url)
    datasets = FolderDatasets(tmp_path, database)
    manifest = datasets.put("routing", ROWS, created_at=NOW)
    other = datasets.put("routing", ROWS[:1], created_at=NOW)
    path, another = (tmp_path / each.dataset_id / "rows.parquet" for each in (manifest, other))

    path.write_bytes(another.read_bytes())
    with pytest.raises(DatasetMissing, match="was changed"):
        datasets.rows(manifest.dataset_id)
    path.write_bytes(b"PAR1")
    with pytest.raises(DatasetMissing, match="cannot be read"):
        datasets.rows(manifest.dataset_id)
    database.close()


def test_its_name_does_not_depend_on_the_order():
    assert dataset_id_of("routing", ROWS) == dataset_id_of("routing", ROWS[::-1])


def test_old_datasets_are_listed_and_removed_whole(datasets: Datasets, tmp_path: Path):
    old = datasets.put("routing", ROWS, created_at=NOW)
    new = datasets.put("routing", ROWS[:2], created_at=NOW + timedelta(days=1))
    assert datasets.older(NOW) == []
    assert [each.dataset_id for each in datasets.older(NOW + timedelta(days=2))] == [old.dataset_id, new.dataset_id]
    for _ in range(2):
        datasets.remove(old.dataset_id)
    assert datasets.manifest(old.dataset_id) is None
    with pytest.raises(DatasetMissing):
        datasets.rows(old.dataset_id)
    assert datasets.rows(new.dataset_id) == ROWS[:2]
    if isinstance(datasets, FolderDatasets):
        assert {each.name for each in (tmp_path / "datasets").iterdir()} == {new.dataset_id}
    assert datasets.put("routing", ROWS, created_at=NOW + timedelta(days=3)).created_at == NOW + timedelta(days=3)
    assert datasets.rows(old.dataset_id) == ROWS


def test_a_dataset_from_before_conversations_keeps_its_name_and_is_read(migrated_sqlite_url: str, tmp_path: Path):
    database = Database(migrated_sqlite_url)
    datasets = FolderDatasets(tmp_path, database)
    manifest = datasets.put("routing", ROWS[:2], created_at=NOW)
    path = tmp_path / manifest.dataset_id / "rows.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["history"]), path)

    assert manifest.dataset_id == "23250dc503a313ea518c0196b91fd0cc"
    assert datasets.rows(manifest.dataset_id) == ROWS[:2]
    database.close()
