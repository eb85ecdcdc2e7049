"""Real databases: many writers at once, and one clear line for each failure."""

from __future__ import annotations

import contextvars
import multiprocessing
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from infra.sql.database import Database, parse_url
from infra.sql.journal import SqlJournal
from infra.sql.migrate import check_migrated
from infra.sql.runs import SqlLeases
from schemas.envelope import Record
from schemas.errors import ConfigurationError, Unavailable

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TRANSACTIONS = 300


def write_much(url: str, worker: int, results: Any) -> None:
    """A worker process: many short transactions that read first and then write."""
    try:
        database = Database(url)
        journal = SqlJournal(database)
        record = Record(topic="answers.v1", key=b"k", value=b"x" * 500, headers=())
        for number in range(TRANSACTIONS):
            with database.transaction():
                journal.find("recorder", [str(number)])
                journal.add("recorder", f"{worker} {number}", [record], NOW)
            journal.mark_published("recorder", [f"{worker} {number}"])
        results.put(None)
    except Exception as error:  # noqa: BLE001  # whatever it is, the test must see it
        results.put(f"{type(error).__name__}: {error}")


def test_no_write_of_several_processes_at_once_fails(migrated_url: str):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])  # once for all processes: the imports take longer than their work
    results = processes.Queue()
    workers = [processes.Process(target=write_much, args=(migrated_url, worker, results)) for worker in range(3)]
    for worker in workers:
        worker.start()
    failures = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(10)

    assert failures == [None, None, None]
    database = Database(migrated_url)
    found = SqlJournal(database).find("recorder", [f"{w} {n}" for w in range(3) for n in range(TRANSACTIONS)])
    assert len(found) == 3 * TRANSACTIONS
    assert all(entry.published for entry in found.values())
    database.close()


def test_a_writer_that_never_ends_makes_others_wait_and_then_say_so(migrated_sqlite_url: str):
    database = Database(migrated_sqlite_url, busy_seconds=0.2)
    blocker = sqlite3.connect(migrated_sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match=r"database is locked; another process has held the write lock for too long"):
        SqlJournal(database).add("recorder", "a", [], NOW)
    assert SqlJournal(database).find("recorder", ["a"]) == {}

    blocker.rollback()
    blocker.close()
    SqlJournal(database).add("recorder", "a", [], NOW)
    database.close()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("", "is not an SQLAlchemy URL"),
        ("not a url", "is not an SQLAlchemy URL"),
        ("postgresql://u:s3cret@host:port/db", "is not an SQLAlchemy URL"),
        ("mysql://u:s3cret@host/db", "names 'mysql', which is not supported"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///a.db?mode=ro", "must name a file"),
        ("sqlite://host/a.db", "must name a file"),
    ],
)
def test_a_wrong_url_is_refused_in_one_line_without_its_password(url: str, line: str):
    with pytest.raises(ConfigurationError, match=line) as refused:
        Database(url)

    assert "write one like" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_any_way_to_write_a_postgresql_url_uses_the_same_driver():
    for prefix in ("postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"):
        assert parse_url(f"{prefix}://u@host/db").drivername == "postgresql+psycopg"


def test_an_unreachable_server_is_unavailable_in_one_line_without_its_password():
    database = Database("postgresql://user:s3cret@127.0.0.1:1/everlearn")

    with pytest.raises(Unavailable, match=r"postgresql://user:\*\*\*@127.0.0.1:1/everlearn") as refused:
        SqlLeases(database).last("tick")
    with pytest.raises(Unavailable), database.transaction():
        pytest.fail("the transaction must not begin")
    with pytest.raises(Unavailable):
        check_migrated(database)

    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_connection_that_the_server_ends_is_unavailable_and_the_next_call_works(migrated_postgres_url: str):
    database = Database(migrated_postgres_url)
    leases = SqlLeases(database)
    other = Database(migrated_postgres_url)

    def end_the_others() -> None:
        with other.connection(write=True) as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )

    def use_after_the_end() -> None:
        with database.transaction():
            leases.set_last("tick", NOW)
            end_the_others()
            leases.last("tick")

    with pytest.raises(Unavailable, match=r"check that it runs, or set \[sql\] url"):
        use_after_the_end()
    assert leases.last("tick") is None

    end_the_others()
    assert leases.last("tick") is None
    database.close()
    other.close()


def test_a_deadlock_is_unavailable_so_that_it_is_tried_again(migrated_postgres_url: str):
    database = Database(migrated_postgres_url)
    both_hold_one = threading.Barrier(2)
    failures: list[BaseException] = []

    def lock(first: str, second: str) -> None:
        try:
            with database.transaction(), database.connection() as connection:
                database.lock(connection, [first])
                both_hold_one.wait()
                database.lock(connection, [second])
        except Unavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=lock, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(failures) == 1
    assert "deadlock detected" in str(failures[0])
    database.close()


def test_missing_tables_are_unavailable_and_say_what_to_do(empty_postgres_url: str, tmp_path: Path):
    sqlite3.connect(tmp_path / "empty.db").close()
    for url in (empty_postgres_url, f"sqlite:///{tmp_path / 'empty.db'}"):
        database = Database(url)
        with pytest.raises(Unavailable, match="run 'everlearn up'"):
            SqlLeases(database).last("tick")
        database.close()


def test_a_user_without_rights_and_a_server_that_only_reads_are_unavailable(migrated_postgres_url: str):
    database = Database(migrated_postgres_url)

    def write_with(setting: str) -> None:
        with database.transaction(), database.connection() as connection:
            connection.execute(text(setting))
            SqlLeases(database).set_last("tick", NOW)

    with pytest.raises(Unavailable, match="permission denied for table leases; grant its user the right"):
        write_with("SET LOCAL ROLE pg_monitor")
    with pytest.raises(Unavailable, match="read-only transaction"):
        write_with("SET TRANSACTION READ ONLY")
    database.close()


def test_a_file_that_is_not_there_is_unavailable_and_is_not_created(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'gone.db'}")

    with pytest.raises(Unavailable, match=r"gone.db: unable to open database file; run 'everlearn up'"):
        SqlLeases(database).last("tick")

    assert not (tmp_path / "gone.db").exists()


def test_a_value_that_can_never_be_stored_is_not_unavailable(migrated_postgres_url: str):
    database = Database(migrated_postgres_url)
    with pytest.raises(ProgrammingError), database.connection() as connection:
        connection.execute(text("SELECT 1 FROM"))
    with pytest.raises(Exception, match="index row") as refused:
        SqlJournal(database).add("recorder", "".join(chr(0x4E00 + n) for n in range(6000)), [], NOW)

    assert not isinstance(refused.value, Unavailable)
    database.close()


def test_a_task_that_outlives_the_transaction_it_was_started_in_gets_a_connection_of_its_own(migrated_url: str):
    database = Database(migrated_url)
    leases = SqlLeases(database)
    with database.transaction():
        leases.set_last("tick", NOW)
        inherited = contextvars.copy_context()

    assert inherited.run(leases.last, "tick") == NOW
    assert inherited.run(lambda: database.current) is None
    database.close()


def test_another_thread_does_not_see_what_is_not_committed(migrated_url: str):
    database = Database(migrated_url)
    leases = SqlLeases(database)
    seen: list[datetime | None] = []
    with database.transaction():
        leases.set_last("tick", NOW)
        reader = threading.Thread(target=lambda: seen.append(leases.last("tick")))
        reader.start()
        reader.join()

    assert seen == [None]
    assert leases.last("tick") == NOW
    database.close()


class Note:
    """Counts how often it was made and written."""

    made = written = 0

    def __init__(self, database: Database) -> None:
        Note.made += 1
        self.database = database

    def write(self) -> None:
        assert self.database.current is not None
        Note.written += 1


def test_what_is_written_last_is_written_once_a_transaction_and_not_after_a_failure(migrated_url: str):
    database = Database(migrated_url)
    Note.made = Note.written = 0
    with database.transaction():
        first = database.last_write(Note)
        with database.transaction():
            assert database.last_write(Note) is first
        assert Note.written == 0
    assert (Note.made, Note.written) == (1, 1)

    def fail() -> None:
        with database.transaction():
            assert database.last_write(Note) is not first
            raise RuntimeError("the handler failed")

    with pytest.raises(RuntimeError, match="the handler failed"):
        fail()
    assert (Note.made, Note.written) == (2, 1)
    with pytest.raises(RuntimeError, match="no transaction is open"):
        database.last_write(Note)
    database.close()
