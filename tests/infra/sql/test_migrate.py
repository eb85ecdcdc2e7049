"""Migrations work in any folder and in several processes at once, and say clearly when versions do not fit."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from infra.sql.database import Database
from infra.sql.migrate import SCRIPTS, check_migrated, known_revisions, migrate, require_version
from infra.sql.tables import METADATA
from schemas.errors import ConfigurationError, Unavailable


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgres_url"))
    return f"sqlite:///{tmp_path / 'new' / 'folder' / '50% of it.db'}"


def set_revision(url: str, revision: str) -> None:
    database = Database(url)
    with database.connection(write=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    database.close()


def test_the_migrated_schema_is_the_one_that_the_stores_use(empty_url: str):
    migrate(empty_url)

    database = Database(empty_url)
    with database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
        indexes = {index["name"] for name in METADATA.tables for index in inspect(connection).get_indexes(name)}
    assert indexes == {index.name for table in METADATA.tables.values() for index in table.indexes}
    check_migrated(database)
    database.close()


def test_migrating_again_changes_nothing_and_works_from_any_folder(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    migrate(empty_url)
    migrate(empty_url)

    database = Database(empty_url)
    check_migrated(database)
    database.close()


def test_several_processes_may_migrate_at_once(empty_url: str):
    processes = [multiprocessing.get_context("spawn").Process(target=migrate, args=(empty_url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0]
    database = Database(empty_url)
    check_migrated(database)
    database.close()


def test_a_schema_of_another_version_is_named_with_what_to_do(empty_url: str):
    migrate(empty_url)
    database = Database(empty_url)
    set_revision(empty_url, "9999")
    with pytest.raises(ConfigurationError, match="9999, which this Everlearn does not know: install the newer"):
        check_migrated(database)
    with pytest.raises(ConfigurationError, match="install the newer"):
        migrate(empty_url)

    with database.connection(write=True) as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(ConfigurationError, match="older than this Everlearn: run 'everlearn up'"):
        check_migrated(database)
    database.close()


def test_a_workers_database_waits_while_its_schema_is_of_another_version(empty_url: str):
    before = Database(empty_url, check=require_version)
    if empty_url.startswith("postgresql"):
        with pytest.raises(Unavailable, match="run 'everlearn up'"), before.transaction():
            pass
    migrate(empty_url)
    with before.transaction():
        pass
    before.close()

    for revision, advice in (("9999", "install the newer Everlearn"), ("0001", "older than this .* 'everlearn up'")):
        set_revision(empty_url, revision)
        database = Database(empty_url, check=require_version)
        with pytest.raises(Unavailable, match=advice), database.transaction():
            pass
        with pytest.raises(Unavailable, match=advice), database.connection():
            pass
        set_revision(empty_url, known_revisions()[0])
        with database.transaction():
            pass
        database.close()


def test_a_schema_that_becomes_newer_while_a_worker_runs_is_noticed_at_once(empty_url: str):
    migrate(empty_url)
    database = Database(empty_url, check=require_version)
    with database.transaction():
        pass
    set_revision(empty_url, "9999")
    with pytest.raises(Unavailable, match="install the newer Everlearn"), database.transaction():
        pass
    database.close()


def test_the_versions_are_those_of_alembic():
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    assert [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()] == list(known_revisions())


def test_a_database_without_tables_wants_everlearn_up(empty_postgres_url: str):
    database = Database(empty_postgres_url)
    with pytest.raises(ConfigurationError, match="run 'everlearn up'"):
        check_migrated(database)
    database.close()


def test_a_missing_file_wants_everlearn_up_and_is_not_created(tmp_path: Path):
    path = tmp_path / "everlearn.db"
    with pytest.raises(ConfigurationError, match=r"there is no database .*everlearn.db: run 'everlearn up'"):
        check_migrated(Database(f"sqlite:///{path}"))
    assert not path.exists()


def test_a_file_that_cannot_be_created_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"cannot be opened or created .*: make its folder writable"):
        migrate(f"sqlite:///{tmp_path / 'file' / 'everlearn.db'}")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be opened or created"):
        migrate(f"sqlite:///{tmp_path / 'folder.db'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be opened or created"):
        migrate(f"sqlite:///{tmp_path / 'everlearn.db'}")


def test_a_file_that_is_no_database_is_named(tmp_path: Path):
    path = tmp_path / "everlearn.db"
    path.write_bytes(b"This is text, and long enough to be read as the header of a database. " * 20)
    with pytest.raises(
        ConfigurationError, match=r"everlearn.db cannot be opened .*file is not a database.*another home"
    ):
        migrate(f"sqlite:///{path}")
    with pytest.raises(Unavailable, match=r"everlearn.db: file is not a database; .* choose another"):
        check_migrated(Database(f"sqlite:///{path}"))


def test_a_migrated_file_is_in_wal_mode(migrated_sqlite_url: str):
    connection = sqlite3.connect(migrated_sqlite_url.removeprefix("sqlite:///"))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
