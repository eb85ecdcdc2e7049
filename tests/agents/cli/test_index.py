"""``everlearn index``: what there is, what differs from what is configured, and asking for it to be built anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from infra.milvus.stores import MilvusChunks
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.indexes import SqlIndexes
from infra.sql.runs import SqlRunStore
from schemas.features import DocumentState
from schemas.indexes import Index
from schemas.retrieval import Chunk
from tests.agents.cli.conftest import Everlearn
from tests.fixtures.indexes import index

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MODEL = "all-MiniLM-L6-v2"
OWN = '\n[tasks.own]\ninstruction = "x"\nretrieval = true\nchunk_tokens = 64\n'


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def configure(home: Path, *lines: str) -> None:
    with (home / "everlearn.toml").open("a") as file:
        file.write("\n" + "\n".join(lines) + "\n")


def as_configured(index_id: str = "index0", scope: str = "", chunk_tokens: int = 206) -> Index:
    """The model reads 254 tokens, of which 48 are left for title and headings."""
    return index(index_id, scope, model=MODEL, chunk_tokens=chunk_tokens, overlap_tokens=30, dimension=384)


def add(database: Database, *indexes: Index) -> None:
    with database.transaction():
        for each in indexes:
            SqlIndexes(database).add(each)


def document(number: int, tenant: str = "default") -> DocumentState:
    return DocumentState(
        tenant=tenant,
        document_id=f"d{number:04}",
        version=f"v{number}",
        content_hash="h",
        chunk_count=2,
        embedding_model=MODEL,
        title="A title",
        uri="https://example.org",
        submitted_at=NOW + timedelta(seconds=number),
        event_id="e",
    )


def test_the_status_counts_what_sql_and_milvus_hold(
    everlearn: Everlearn, home: Path, database: Database, milvus_uri: str, unique_index: str
):
    configure(home, "[milvus]", f'uri = "{milvus_uri}"')
    serving = replace(as_configured(unique_index), served_at=NOW)
    add(database, serving)
    for number in range(3):
        SqlDocuments(database).put(document(number))
    SqlRetiredVersions(database).add("default", "d0", "v", NOW)
    chunks = MilvusChunks(milvus_uri, None, unique_index, 384)
    some = [Chunk(chunk_id=str(n), tenant="t", document_id="d", version="v", ordinal=n, text="x") for n in range(5)]
    chunks.upsert(some, np.ones((5, 384), dtype=np.float32))
    chunks.close()

    result = everlearn("index", "status", "--json")
    assert (result.code, result.err) == (0, "")
    assert result.lines == [
        {
            "documents": 3,
            "chunks": 6,
            "waiting_for_deletion": 1,
            "indexes": [
                {
                    "index_id": unique_index,
                    "scope": "",
                    "state": "serving",
                    "embedding_model": MODEL,
                    "chunk_tokens": 206,
                    "overlap_tokens": 30,
                    "dimension": 384,
                    "created_at": serving.created_at.isoformat(),
                    "served_at": NOW.isoformat(),
                    "stored_chunks": 5,
                }
            ],
            "differences": ["the shared index holds 5 of 6 chunks: run 'everlearn index rebuild'"],
            "rebuild": None,
        }
    ]
    totals, head, row, _ = everlearn("index", "status").out.splitlines()
    assert totals == "3 documents, 6 chunks; 1 replaced version to be deleted"
    assert head.split() == [
        "INDEX",
        "FOR",
        "STATE",
        "EMBEDDING",
        "MODEL",
        "TOKENS",
        "OVERLAP",
        "SINCE",
        "STORED",
        "CHUNKS",
    ]
    assert row.startswith(f"{unique_index}  every other task  serving  {MODEL}")
    assert row.endswith("  5")


def test_without_milvus_the_rest_is_told(everlearn: Everlearn, home: Path, database: Database):
    add(database, as_configured())
    result = everlearn("index", "status", "--json")
    assert (result.code, result.lines[0]["indexes"][0]["stored_chunks"]) == (0, None)
    assert result.err.startswith("the stored chunks were not counted: no embedded milvus runs in ")
    configure(home, "[milvus]", 'uri = "http://127.0.0.1:9"')
    assert "the stored chunks were not counted: Milvus at http://127.0.0.1:9" in everlearn("index", "status").err


def test_every_difference_ends_in_the_command_that_mends_it(everlearn: Everlearn, home: Path, database: Database):
    SqlDocuments(database).put(document(1))
    add(database, as_configured(chunk_tokens=100), as_configured("old", "support"))
    configure(home, OWN, "[embedding]", 'model = "another/model"', "[indexer]", "overlap_tokens = 7")
    assert everlearn("index", "status", "--json").lines[0]["differences"] == [
        f"the shared index was made with {MODEL}, and another/model is configured: run 'everlearn index rebuild'",
        "the shared index has an overlap of 30 tokens, and 7 are configured: run 'everlearn index rebuild'",
        "the index of own is missing: run 'everlearn index rebuild --task own'",
        "the task support asks for no index of its own any more: restart the indexer, and it shares the others'",
    ]


def test_chunks_are_compared_within_what_the_model_reads(everlearn: Everlearn, home: Path, database: Database):
    add(database, as_configured(chunk_tokens=100), as_configured("own", "own", chunk_tokens=64))
    configure(home, OWN, "[indexer]", "chunk_tokens = 8000")
    assert everlearn("index", "status", "--json").lines[0]["differences"] == [
        "the shared index has chunks of 100 tokens, and 206 are configured: run 'everlearn index rebuild'"
    ]


def test_no_index_yet_is_no_difference(everlearn: Everlearn, database: Database):
    assert everlearn("index", "status").out.splitlines() == [
        "0 documents, 0 chunks",
        "no index yet: an indexer makes it when it starts",
    ]


def test_a_rebuild_under_way_is_shown_with_its_progress(everlearn: Everlearn, database: Database):
    runs = SqlRunStore(database)
    runs.add("indexer", "r1", "rebuild", {"task": None, "cause": "c"}, {}, NOW)
    assert everlearn("index", "status").out.splitlines()[-1] == "the shared index is being rebuilt: waiting"
    runs.claim("indexer", "w", now=NOW, lease_seconds=60)
    runs.report("r1", 1, {"done": 0.25, "text": "1 of 4 documents", "eta_seconds": None})
    assert everlearn("index", "status").out.splitlines()[-1] == (
        "the shared index is being rebuilt: 25%, 1 of 4 documents"
    )
    shown = everlearn("index", "status", "--json").lines[0]["rebuild"]
    assert (shown["run_id"], shown["task"], shown["state"], shown["progress"]["done"]) == ("r1", None, "running", 0.25)


def test_the_documents_come_first_a_line_each(everlearn: Everlearn, database: Database):
    documents = SqlDocuments(database)
    with database.transaction():
        for number in range(1100):
            documents.put(document(number, "acme" if number % 2 else "default"))
        documents.put(replace(document(5000), withdrawn=True))
    *lines, last = everlearn("index", "status", "--documents", "--json").lines
    assert len(lines) == last["documents"] == 1100
    assert [(each["tenant"], each["document_id"]) for each in lines] == sorted(
        (each["tenant"], each["document_id"]) for each in lines
    )
    assert lines[0] == {
        "tenant": "acme",
        "document_id": "d0001",
        "version": "v1",
        "content_hash": "h",
        "chunks": 2,
        "title": "A title",
        "uri": "https://example.org",
        "submitted_at": (NOW + timedelta(seconds=1)).isoformat(),
    }
    assert everlearn("index", "status", "--documents").out.splitlines()[1].startswith("acme    d0001     2       ")


def test_a_status_loads_no_model(home: Path, database: Database):
    add(database, as_configured())
    code = (
        "import sys; from agents.cli.main import execute; "
        f"code = execute(['--home', {str(home)!r}, 'index', 'status', '--json']); "
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'transformers', 'sentence_transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_database_or_kafka_it_is_one_line(everlearn: Everlearn, without_kafka: Everlearn):
    assert "run 'everlearn up'" in everlearn("index", "status").err
    for result in (everlearn("index", "status"), without_kafka("index", "rebuild")):
        assert (result.code, result.err.count("\n")) == (1, 1)
