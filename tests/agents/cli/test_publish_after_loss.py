"""What a home's SQL has lost is published again by the next ``everlearn publish documents``."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command

from infra.conversion import CONVERSION
from infra.published_files import FILE_NAME, FileState, PublishedFiles
from infra.settings import load
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments
from infra.sql.migrate import _config, migrate
from schemas.features import DocumentState
from tests.agents.cli.conftest import Everlearn

SENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def folder(without_kafka: Everlearn, tmp_path: Path) -> Path:
    """Two files, of which the home knows that they were published, as an earlier version wrote it down."""
    made = tmp_path / "docs"
    made.mkdir()
    with closing(sqlite3.connect(tmp_path / "alone" / FILE_NAME)) as database, database:
        database.execute(
            "CREATE TABLE published_files (cluster TEXT NOT NULL, tenant TEXT NOT NULL, folder BLOB NOT NULL, "
            "path TEXT NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, "
            "options TEXT NOT NULL, published_at TEXT NOT NULL, "
            "PRIMARY KEY (cluster, tenant, folder, path)) WITHOUT ROWID"
        )
        for name in ("a.md", "b.md"):
            (made / name).write_text("# A title\n\ntext")
            os.utime(made / name, (1_700_000_000, 1_700_000_000))
            state = (made / name).stat()
            row = ("127.0.0.1:9", "default", os.fsencode(made.resolve()), name, state.st_mtime_ns, state.st_size)
            options = json.dumps({"conversion": CONVERSION, "metadata": {}})
            database.execute(
                "INSERT INTO published_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, "ab" * 32, options, SENT.isoformat()),
            )
    return made


@pytest.fixture
def url(without_kafka: Everlearn, tmp_path: Path) -> str:
    return load(tmp_path / "alone", environ={}).sql_url()


def document(name: str, at: datetime = SENT) -> DocumentState:
    return DocumentState(
        tenant="default", document_id=name, version="v", content_hash="h", chunk_count=1, embedding_model="m",
        title=None, uri=None, submitted_at=at, event_id="e",
    )  # fmt: skip


def planned(everlearn: Everlearn, folder: Path) -> tuple[list[str], int]:
    result = everlearn("publish", "documents", folder, "--dry-run", "--json")
    assert result.code == 0, result.err
    return result.lines[0]["send"], result.lines[0]["unchanged"]


def hold(url: str, *states: DocumentState) -> None:
    database = Database(url)
    documents = SqlDocuments(database)
    with database.transaction():
        for state in states:
            documents.put(state)
    database.close()


def test_documents_that_a_migration_deletes_are_published_again(without_kafka: Everlearn, folder: Path, url: str):
    sqlite3.connect(url.removeprefix("sqlite:///")).close()
    database = Database(url)
    with database.connection(write=True) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for name in ("a.md", "b.md"):
            values = f"'default', '{name}', 'v', 'h', 1, 'm', '2026-01-01 00:00:00.000000', 'e', FALSE"
            columns = "tenant, document_id, version, content_hash, chunk_count, embedding_model, submitted_at, event_id"
            connection.exec_driver_sql(f"INSERT INTO documents ({columns}, withdrawn) VALUES ({values})")
    database.close()
    migrate(url)

    assert planned(without_kafka, folder) == (["a.md", "b.md"], 0)


def test_nothing_is_sent_again_while_sql_holds_it(without_kafka: Everlearn, folder: Path, url: str):
    migrate(url)
    hold(url, document("a.md"), document("b.md"))
    assert planned(without_kafka, folder) == ([], 2)


def test_what_a_backup_did_not_hold_is_sent_again(without_kafka: Everlearn, folder: Path, url: str, tmp_path: Path):
    migrate(url)
    hold(url, document("a.md"), document("b.md"))
    published = PublishedFiles(tmp_path / "alone" / FILE_NAME, "127.0.0.1:9", "default", folder.resolve())
    newer = replace(published.load()["a.md"], submitted_at=SENT + timedelta(days=1))
    published.refresh({"a.md": newer})
    assert published.load()["a.md"].submitted_at == newer.submitted_at
    assert planned(without_kafka, folder) == (["a.md"], 1)


def test_another_database_gets_everything(without_kafka: Everlearn, folder: Path, url: str, tmp_path: Path):
    migrate(url)
    hold(url, document("a.md"), document("b.md"))
    other = f"sqlite:///{tmp_path / 'other.db'}"
    migrate(other)
    with (tmp_path / "alone" / "everlearn.toml").open("a") as file:
        file.write(f'\n[sql]\nurl = "{other}"\n')
    assert planned(without_kafka, folder) == (["a.md", "b.md"], 0)


def test_a_machine_that_only_publishes_trusts_what_it_wrote_down(without_kafka: Everlearn, folder: Path):
    assert planned(without_kafka, folder) == ([], 2)


def test_a_database_that_cannot_be_asked_is_named_and_nothing_is_sent_again(
    without_kafka: Everlearn, folder: Path, tmp_path: Path
):
    with (tmp_path / "alone" / "everlearn.toml").open("a") as file:
        file.write('\n[sql]\nurl = "postgresql+psycopg://ada:s3cret@127.0.0.1:9/x"\n')
    result = without_kafka("publish", "documents", folder, "--dry-run", "--json")
    assert result.code == 0
    assert "warning: whether all of these documents are indexed is not known: SQL at" in result.err
    assert "s3cret" not in result.err


def test_a_state_of_an_earlier_version_has_no_time(folder: Path, tmp_path: Path):
    published = PublishedFiles(tmp_path / "alone" / FILE_NAME, "127.0.0.1:9", "default", folder.resolve())
    (state, _) = published.load().values()
    assert (state.submitted_at, state.published_at) == (None, SENT)
    published.remember({"a.md": FileState(5, 1, "cd", "{}", submitted_at=SENT)})
    published.refresh({"a.md": FileState(6, 1, "cd", "{}")})
    assert published.load()["a.md"].submitted_at == SENT
