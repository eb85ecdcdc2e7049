"""What users wrote is readable by nobody but the user that runs Everlearn, whatever the umask was."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agents.cli.init import initialise
from infra.durable_files import new_folder, place, replace_file
from infra.private_files import UMASK, make_private
from infra.published_files import FileState, PublishedFiles
from infra.registry.connection import MlflowConnection
from infra.sql.database import Database
from infra.sql.migrate import migrate


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Lets everybody read what is created, as on most machines."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def readable_by_others(folder: Path) -> set[str]:
    return {
        str(each.relative_to(folder))
        for each in (folder, *folder.rglob("*"))
        if not each.is_symlink() and stat.S_IMODE(each.stat().st_mode) & 0o077
    }


def test_a_new_home_and_its_settings_are_private(tmp_path: Path):
    initialise(tmp_path / "home")
    assert readable_by_others(tmp_path / "home") == set()


def test_the_database_is_private_with_the_files_that_sqlite_puts_beside_it(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'everlearn.db'}"
    migrate(url)
    with closing(Database(url)) as database, database.connection(write=True) as connection:
        connection.exec_driver_sql("DELETE FROM documents")
        beside = {each.name for each in tmp_path.iterdir()}
        assert beside == {"everlearn.db", "everlearn.db-wal", "everlearn.db-shm"}
        assert readable_by_others(tmp_path) - {"."} == set()


def test_the_registrys_database_is_private(tmp_path: Path):
    path = tmp_path / "registry.db"
    MlflowConnection(f"sqlite:///{path}", tmp_path)._create_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_list_of_published_files_is_private(tmp_path: Path):
    published = PublishedFiles(tmp_path / "home" / "published.db", "k", "t", tmp_path)
    published.remember({"a": FileState(1, 1, "a", "{}")})
    assert readable_by_others(tmp_path / "home") == set()


def test_the_files_of_an_old_home_are_mended_and_the_shared_models_and_targets_of_links_are_not(tmp_path: Path):
    home, outside = tmp_path / "home", tmp_path / "outside"
    outside.write_text("of somebody else")
    for name in ("everlearn.db", "run/logs/a.log", "datasets/d/rows.parquet", "models/m/model.bin"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
    (home / "program").write_text("x")
    (home / "program").chmod(0o755)
    (home / "link").symlink_to(outside)
    make_private(home, shared=[home / "models"])
    assert readable_by_others(home) == {"models", "models/m", "models/m/model.bin"}
    assert stat.S_IMODE((home / "program").stat().st_mode) == 0o700
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    (home / "later").write_text("x")
    assert stat.S_IMODE((home / "later").stat().st_mode) == 0o600


def test_a_file_that_is_not_ours_stops_nothing(tmp_path: Path):
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    make_private(tmp_path / "no such home")
    make_private(tmp_path)


@pytest.mark.parametrize(("umask_", "folder_mode", "file_mode"), [(0o022, 0o755, 0o644), (UMASK, 0o700, 0o600)])
def test_files_that_are_written_whole_follow_the_umask(tmp_path: Path, umask_: int, folder_mode: int, file_mode: int):
    os.umask(umask_)
    with new_folder(tmp_path) as part:
        replace_file(part / "rows", [b"x"])
        place(part, tmp_path / "dataset")
    assert stat.S_IMODE((tmp_path / "dataset").stat().st_mode) == folder_mode
    assert stat.S_IMODE((tmp_path / "dataset" / "rows").stat().st_mode) == file_mode


def test_a_database_that_others_made_keeps_its_mode_until_up_mends_it(tmp_path: Path):
    path = tmp_path / "everlearn.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE x (y)")
    migrate(f"sqlite:///{path}")
    make_private(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
