"""A database that fails is waited for, whatever fails; a value that can never be stored is not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import errors as postgres
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from agents.delivery.outcome import Outcome
from infra.sql.database import Database
from infra.sql.failures import failures_as_unavailable
from infra.sql.journal import SqlJournal
from infra.sql.runs import SqlLeases
from schemas.envelope import Received, Record
from schemas.errors import Unavailable
from schemas.event import Event
from tests.agents.delivery.rig import Rig, feedback
from tests.fixtures.disk import SmallDisk

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LARGE = Record(topic="answers.v1", key=b"k", value=os.urandom(200_000), headers=())
LITE = make_url("sqlite:////data/everlearn.db")
SERVER = make_url("postgresql+psycopg://me:s3cret@host/db")


def wrapped(error: Exception, module: type[Exception]) -> DBAPIError:
    """The error as SQLAlchemy raises it."""
    made = DBAPIError.instance("INSERT", {}, error, module)
    assert isinstance(made, DBAPIError)
    return made


def execute(database: Database, *statements: str) -> None:
    with database.connection() as connection:
        for statement in statements:
            connection.execute(text(statement))


FAILED_STATES = {
    "08006": "connection failure",
    "0A000": "cached plan must not change result type",
    "25006": "cannot execute INSERT in a read-only transaction",
    "25P02": "current transaction is aborted",
    "28P01": "password authentication failed",
    "3D000": "database does not exist",
    "3F000": "no schema has been selected",
    "40001": "could not serialize access",
    "40P01": "deadlock detected",
    "42501": "permission denied for table journal",
    "42703": "column does not exist",
    "42P01": "relation does not exist",
    "53100": "could not extend file: No space left on device",
    "53200": "out of memory",
    "53300": "sorry, too many clients already",
    "55P03": "canceling statement due to lock timeout",
    "57014": "canceling statement due to statement timeout",
    "57P01": "terminating connection due to administrator command",
    "57P02": "terminating connection because of crash of another server process",
    "57P03": "the database system is starting up",
    "58030": "could not read file: Input/output error",
    "XX000": "internal error",
    "XX001": "invalid page in block 3",
}
INPUT_STATES = {
    "22001": "value too long for type",
    "22003": "integer out of range",
    "22021": "invalid byte sequence for encoding",
    "23502": "null value in column",
    "54000": "index row size exceeds maximum",
    "42601": "syntax error",
    "0A000": "this function is not supported",
}


@pytest.mark.parametrize(("state", "message"), FAILED_STATES.items(), ids=FAILED_STATES)
def test_a_failure_of_postgresql_is_unavailable(state: str, message: str):
    with pytest.raises(Unavailable, match=message) as caught, failures_as_unavailable(SERVER):
        raise wrapped(postgres.lookup(state)(message), psycopg.Error)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(("state", "message"), INPUT_STATES.items(), ids=INPUT_STATES)
def test_a_value_that_postgresql_refuses_each_time_is_not_unavailable(state: str, message: str):
    with pytest.raises(DBAPIError), failures_as_unavailable(SERVER):
        raise wrapped(postgres.lookup(state)(message), psycopg.Error)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (sqlite3.OperationalError("database or disk is full"), "make room on its disk"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "make the file and its folder writable"),
        (sqlite3.OperationalError("database is locked"), "wait, or end it"),
        (sqlite3.OperationalError("disk I/O error"), "check that it runs"),
        (sqlite3.OperationalError("unable to open database file"), "run 'everlearn up'"),
        (sqlite3.DatabaseError("database disk image is malformed"), "the file is damaged"),
        (sqlite3.DatabaseError("file is not a database"), "the file is something else"),
        (sqlite3.InternalError("corrupted"), "check that it runs"),
    ],
    ids=str,
)
def test_a_failure_of_sqlite_is_unavailable_with_what_to_do(error: sqlite3.Error, advice: str):
    with pytest.raises(Unavailable, match=advice), failures_as_unavailable(LITE):
        raise wrapped(error, sqlite3.Error)


@pytest.mark.parametrize("error", [sqlite3.DataError("string or blob too big"), sqlite3.IntegrityError("NOT NULL")])
def test_a_value_that_sqlite_refuses_each_time_is_not_unavailable(error: sqlite3.Error):
    with pytest.raises(DBAPIError), failures_as_unavailable(LITE):
        raise wrapped(error, sqlite3.Error)


@pytest.mark.parametrize("error", [PoolTimeout("QueuePool limit reached"), PendingRollbackError("roll back first")])
def test_a_pool_without_a_connection_is_unavailable(error: Exception):
    with pytest.raises(Unavailable), failures_as_unavailable(LITE):
        raise error


@pytest.fixture
def full(migrated_sqlite_url: str) -> Iterator[tuple[Database, sqlite3.Connection]]:
    """A real SQLITE_FULL: the connections of this database may not add a page. The second is for making room."""
    database = Database(migrated_sqlite_url)
    with database.connection() as connection:
        limit = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute(f"PRAGMA max_page_count = {limit}")
    yield database, raw
    database.close()


async def test_a_full_sqlite_is_waited_for_and_dead_letters_nothing(full: tuple[Database, sqlite3.Connection]):
    database, raw = full
    journal, rig, waits = SqlJournal(database), Rig(), []

    async def handle(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        for received in batch:
            journal.add("other", received.identity, [LARGE], NOW)
        return [rig.counted(received) for received in batch]

    async def sleep(seconds: float) -> None:
        waits.append(delivery.waiting)
        if len(waits) == 8:
            raw.execute("PRAGMA max_page_count = 1000000")
        await rig.clock.sleep(seconds)

    delivery = rig.delivery(handle, sleep=sleep)
    await delivery.deliver([feedback(1)])
    assert len(waits) == 8
    assert all("disk is full; make room on its disk" in str(reason) for reason in waits)
    assert (rig.dead_letters(), rig.counts()) == ([], {"a1": 1})


def test_a_sqlite_file_on_a_full_disk_and_on_one_that_only_reads_is_unavailable_until_it_is_mended(
    migrated_sqlite_url: str, small_disk: SmallDisk
):
    file = small_disk.folder / "everlearn.db"
    file.write_bytes(Path(migrated_sqlite_url.removeprefix("sqlite:///")).read_bytes())
    database = Database(f"sqlite:///{file}")
    journal = SqlJournal(database)
    journal.add("recorder", "before", [LARGE], NOW)
    small_disk.fill()
    with pytest.raises(Unavailable, match=r"disk is full; make room|disk I/O error"):
        journal.add("recorder", "full", [LARGE], NOW)
    small_disk.make_room()
    journal.add("recorder", "room", [LARGE], NOW)
    database.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.folder)], check=True)
    with pytest.raises(Unavailable, match=r"readonly database; make the file and its folder|unable to open"):
        journal.add("recorder", "read only", [LARGE], NOW)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk.folder)], check=True)
    journal.add("recorder", "writable", [LARGE], NOW)
    assert set(journal.find("recorder", ["before", "full", "room", "read only", "writable"])) == {
        "before",
        "room",
        "writable",
    }
    database.close()


def test_too_many_connections_are_unavailable(migrated_postgres_url: str):
    admin = Database(migrated_postgres_url)
    with admin.connection(write=True) as connection:
        connection.execute(text("CREATE ROLE limited LOGIN SUPERUSER CONNECTION LIMIT 1"))
        # The limit of a role does not bind a superuser.
        connection.execute(text("ALTER ROLE limited NOSUPERUSER; GRANT SELECT ON leases TO limited"))
    url = make_url(migrated_postgres_url).set(username="limited").render_as_string(hide_password=False)
    first, second = Database(url), Database(url)
    with first.connection() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(Unavailable, match="too many connections"):
            SqlLeases(second).last("tick")
    first.close()
    assert SqlLeases(second).last("tick") is None
    second.close()
    with admin.connection(write=True) as connection:
        connection.execute(text("DROP OWNED BY limited; DROP ROLE limited"))
    admin.close()


@pytest.mark.parametrize(
    ("limit", "statement", "reason"),
    [
        ("SET LOCAL statement_timeout = 50", "SELECT pg_sleep(60)", "statement timeout"),
        ("SET LOCAL temp_file_limit = 1", "SELECT count(*) FROM (SELECT n FROM generate_series(1, 2000000) n ORDER BY "
         "-n) s", "temporary file size exceeds"),
    ],
)  # fmt: skip
def test_a_limit_of_the_server_is_unavailable(migrated_postgres_url: str, limit: str, statement: str, reason: str):
    database = Database(migrated_postgres_url)
    with pytest.raises(Unavailable, match=reason):
        execute(database, limit, statement)
    database.close()


def test_a_lock_that_another_holds_is_unavailable(migrated_postgres_url: str):
    holder, other = Database(migrated_postgres_url), Database(migrated_postgres_url)
    with holder.transaction(), holder.connection() as connection:
        connection.execute(text("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Unavailable, match="lock timeout"):
            execute(other, "SET LOCAL lock_timeout = 50", "SELECT * FROM leases")
    holder.close()
    other.close()
