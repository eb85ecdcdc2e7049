"""The contract of the table of documents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from schemas.features import DocumentState
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
STATE = DocumentState(
    tenant="default",
    document_id="Ünïcode/'\" 𝛼",
    version="v1",
    content_hash="abc",
    chunk_count=3,
    embedding_model="minilm",
    title=None,
    uri="https://example.org",
    submitted_at=NOW,
    event_id="e1",
)
KEY = (STATE.tenant, STATE.document_id)


def test_a_documents_state_comes_back_as_it_was_put(stores: Stores):
    stores.documents.put(STATE)

    assert stores.documents.current([KEY, ("default", "unknown")]) == {KEY: STATE}
    assert stores.documents.current([]) == {}


def test_a_newer_state_replaces_the_older_one_and_withdrawn_ones_stay(stores: Stores):
    withdrawn = replace(STATE, version="v2", chunk_count=0, withdrawn=True, title="gone")
    stores.documents.put(STATE)
    stores.documents.put(withdrawn)

    assert stores.documents.current([KEY]) == {KEY: withdrawn}


def test_tenants_do_not_see_each_others_documents(stores: Stores):
    other = replace(STATE, tenant="other", version="v9")
    stores.documents.put(STATE)
    stores.documents.put(other)

    assert stores.documents.current([("other", STATE.document_id)]) == {("other", STATE.document_id): other}


def test_times_of_another_zone_come_back_as_the_same_moment_in_utc(stores: Stores):
    stores.documents.put(replace(STATE, submitted_at=NOW.astimezone(timezone(timedelta(hours=-5)))))

    submitted_at = stores.documents.current([KEY])[KEY].submitted_at
    assert submitted_at == NOW
    assert submitted_at.utcoffset() == timedelta(0)


def test_1200_documents_are_read_at_once(stores: Stores):
    with stores.database.transaction():
        for number in range(1200):
            stores.documents.put(replace(STATE, document_id=str(number)))

    assert len(stores.documents.current([("default", str(number)) for number in range(1500)])) == 1200


def test_retired_versions_are_listed_oldest_first_until_they_are_removed(stores: Stores):
    stores.retired.add("default", "a", "v2", NOW + timedelta(seconds=2))
    stores.retired.add("default", "b", "v1", NOW)
    stores.retired.add("default", "a", "v1", NOW + timedelta(seconds=1))
    stores.retired.add("default", "b", "v1", NOW + timedelta(seconds=9))

    assert stores.retired.list(2) == [("default", "b", "v1"), ("default", "a", "v1")]
    stores.retired.remove([("default", "b", "v1"), ("default", "a", "v1"), ("default", "never", "v1")])
    stores.retired.remove([])
    assert stores.retired.list(10) == [("default", "a", "v2")]
