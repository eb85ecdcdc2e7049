"""The contract of the journal: an event is recorded once, and its outputs can be published again byte for byte."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from infra.sql.records import pack, unpack
from schemas.delivery import InFlight, JournalEntry
from schemas.envelope import Record
from schemas.errors import AlreadyJournaled
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
EVERY_BYTE = bytes(range(256))


def record(value: bytes | None = b"{}", key: bytes | None = b"k") -> Record:
    return Record(
        topic="answers.v1",
        key=key,
        value=value,
        headers=(("ce_id", b"1"), ("ce_id", EVERY_BYTE), ("käse", b""), ("content-type", b"application/json")),
    )


AWKWARD = (record(EVERY_BYTE, key=b"\x00\xff"), record(b""), record(None, key=None), record(EVERY_BYTE * 4000))


def mark(partition: int, first: int = 0) -> InFlight:
    return InFlight(
        topic="answers.v1",
        partition=partition,
        first=first,
        last=2**40,
        suspects_to=first + 9,
        attempts=1,
        alone=False,
        life="w1",
        since=NOW,
    )


def test_outputs_come_back_to_the_byte_and_in_order(stores: Stores):
    stores.journal.add("recorder", "source 1", AWKWARD, NOW)

    assert stores.journal.find("recorder", ["source 1"]) == {
        "source 1": JournalEntry(outputs=AWKWARD, published=False),
    }


def test_only_what_is_journaled_is_found_and_each_agent_finds_its_own(stores: Stores):
    stores.journal.add("recorder", "a", [record()], NOW)
    stores.journal.add("indexer", "a", [], NOW)
    stores.journal.add("indexer", "ß'\"%_ 𝛼", [], NOW)

    assert set(stores.journal.find("recorder", ["a", "b"])) == {"a"}
    assert set(stores.journal.find("indexer", ["a", "ß'\"%_ 𝛼", "A"])) == {"a", "ß'\"%_ 𝛼"}
    assert stores.journal.find("recorder", []) == {}


def test_a_second_entry_for_the_same_event_is_refused_and_changes_nothing(stores: Stores):
    stores.journal.add("recorder", "a", [record(b"first")], NOW)

    def add_both() -> None:
        with stores.database.transaction():
            stores.journal.add("recorder", "b", [], NOW)
            stores.journal.add("recorder", "a", [record(b"second")], NOW)

    with pytest.raises(AlreadyJournaled, match="read the journal"):
        add_both()

    assert stores.journal.find("recorder", ["a", "b"]) == {
        "a": JournalEntry(outputs=(record(b"first"),), published=False)
    }


def test_a_batch_of_500_is_added_found_and_marked(stores: Stores):
    identities = [f"source {number}" for number in range(500)]
    stores.journal.add_many("recorder", [(identity, [record()]) for identity in identities], NOW)
    stores.journal.mark_published("recorder", identities[:499])

    found = stores.journal.find("recorder", [*identities, *(f"unknown {number}" for number in range(1500))])

    assert len(found) == 500
    assert [identity for identity in identities if not found[identity].published] == ["source 499"]


def test_a_batch_with_one_known_event_is_refused_whole(stores: Stores):
    stores.journal.add("recorder", "c", [], NOW)

    with pytest.raises(AlreadyJournaled):
        stores.journal.add_many("recorder", [("a", []), ("c", []), ("d", [])], NOW)

    assert set(stores.journal.find("recorder", ["a", "c", "d"])) == {"c"}


def test_an_entry_without_outputs_counts_as_published(stores: Stores):
    stores.journal.add("recorder", "a", [], NOW)

    assert stores.journal.find("recorder", ["a"])["a"].published
    assert stores.journal.unpublished("recorder", "") == {}


def test_confirmed_outputs_are_dropped_and_the_entry_stays(stores: Stores):
    stores.journal.add_many("recorder", [("a", AWKWARD), ("b", AWKWARD)], NOW)
    stores.journal.mark_published("recorder", ["a"])
    stores.journal.mark_published("recorder", ["a"])

    assert stores.journal.find("recorder", ["a", "b"]) == {
        "a": JournalEntry(outputs=(), published=True),
        "b": JournalEntry(outputs=AWKWARD, published=False),
    }


def test_marking_nothing_and_unknown_events_is_harmless(stores: Stores):
    stores.journal.mark_published("recorder", [])
    stores.journal.mark_published("recorder", ["unknown"])
    stores.journal.add_many("recorder", [], NOW)

    assert stores.journal.find("recorder", ["unknown"]) == {}


def test_unpublished_lists_entries_of_a_prefix_taken_literally(stores: Stores):
    stores.journal.add("monitor", "tick:a_1", [record()], NOW)
    stores.journal.add("monitor", "tick:ab1", [record()], NOW)
    stores.journal.add("monitor", "TICK:a_1", [record()], NOW)
    stores.journal.add("monitor", "tick:a_2", [record()], NOW)
    stores.journal.add("trainer", "tick:a_1", [record()], NOW)
    stores.journal.mark_published("monitor", ["tick:a_2"])

    found = stores.journal.unpublished("monitor", "tick:a_")

    assert found == {"tick:a_1": JournalEntry(outputs=(record(),), published=False)}


def test_pruning_takes_old_published_entries_of_that_agent_only(stores: Stores):
    stores.journal.add_many("recorder", [(f"old {number}", []) for number in range(2500)], NOW)
    stores.journal.add("recorder", "old, not confirmed", [record()], NOW)
    stores.journal.add("recorder", "new", [], NOW + timedelta(hours=1))
    stores.journal.add("indexer", "old 1", [], NOW)

    assert stores.journal.prune("recorder", NOW) == 0
    assert stores.journal.prune("recorder", NOW + timedelta(microseconds=1)) == 2500
    assert set(stores.journal.find("recorder", ["old 1", "old, not confirmed", "new"])) == {"old, not confirmed", "new"}
    assert set(stores.journal.find("indexer", ["old 1"])) == {"old 1"}


def test_the_digest_of_an_event_is_kept_with_its_entry(stores: Stores):
    stores.journal.add_many("recorder", [("a", []), ("tick", [])], NOW, {"a": b"8 bytes!"})

    found = stores.journal.find("recorder", ["a", "tick"])

    assert {name: entry.digest for name, entry in found.items()} == {"a": b"8 bytes!", "tick": None}


def test_the_newest_entry_of_an_agent_tells_when_it_last_worked(stores: Stores):
    assert stores.journal.newest("recorder") is None
    stores.journal.add("recorder", "a", [], NOW + timedelta(seconds=5))
    stores.journal.add("recorder", "b", [], NOW)
    stores.journal.add("indexer", "a", [], NOW + timedelta(days=1))

    assert stores.journal.newest("recorder") == NOW + timedelta(seconds=5)


def test_a_time_without_a_zone_is_refused_and_another_zone_is_the_same_moment(stores: Stores):
    with pytest.raises(Exception, match="names no time zone"):
        stores.journal.add("recorder", "a", [], NOW.replace(tzinfo=None))
    stores.journal.add("recorder", "b", [], NOW.astimezone(timezone(timedelta(hours=9))))

    assert stores.journal.find("recorder", ["a"]) == {}
    assert stores.journal.prune("recorder", NOW + timedelta(seconds=1)) == 1


def test_marks_are_replaced_by_partition_and_kept_by_agent(stores: Stores):
    stores.marks.write("recorder", [mark(1), mark(0)])
    stores.marks.write("indexer", [mark(0, first=7)])
    stores.marks.write("recorder", [replace(mark(1, first=5), alone=True, attempts=3, life="w2", topic_id="t1")])
    stores.marks.write("recorder", [])

    assert stores.marks.read("recorder") == [
        mark(0),
        replace(mark(1, first=5), alone=True, attempts=3, life="w2", topic_id="t1"),
    ]
    assert stores.marks.read("indexer") == [mark(0, first=7)]
    assert stores.marks.read("answerer") == []


def test_packed_records_are_read_back_the_same():
    assert unpack(pack(AWKWARD)) == AWKWARD
    assert unpack(pack([])) == ()


def test_damaged_records_are_refused_rather_than_read_wrongly():
    packed = pack(AWKWARD[:1])

    for damaged in (b"", b"\x02" + packed[1:], packed[:-1], packed[:3]):
        with pytest.raises(ValueError, match=r"packed records"):
            unpack(damaged)
