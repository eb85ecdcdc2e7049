"""Which workers are alive, by their last heartbeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from infra.kafka import RecordPublisher, StoredRecord
from infra.kafka.fleet import DeadWorkers, Fleet, WorkerReport, alive, latest, silence_bound
from schemas.envelope import EventContext, Position, Record, encode
from schemas.fleet import WorkerReported
from schemas.kafka import KafkaConnection

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SILENCE = silence_bound(2.0)


def report(worker: str, state: str = "ready", age: float = 0.0, pid: int = 1) -> WorkerReport:
    event = WorkerReported(worker=worker, agent="indexer", host="h", pid=pid, state=state)
    return WorkerReport(worker=event, time=NOW - timedelta(seconds=age))


def record(each: WorkerReport, now: datetime = NOW) -> Record:
    return encode(each.worker, EventContext(id="1", source="/everlearn/indexer", time=each.time - NOW + now))


def stored(each: Record) -> StoredRecord:
    position = Position(each.topic, 0, 0)
    return StoredRecord(position=position, key=each.key, value=each.value, headers=each.headers, time=NOW)


def test_the_last_heartbeat_of_each_worker_counts():
    said = [report("a", age=9, pid=1), report("b", pid=2), report("a", age=1, pid=3), report("a", age=5, pid=4)]
    known = latest({}, [stored(record(each)) for each in said], now=NOW)
    assert {name: each.worker.pid for name, each in known.items()} == {"a": 3, "b": 2}


def test_what_is_no_heartbeat_is_passed_over():
    broken = stored(Record(topic="fleet.v1", key=b"a", value=b"{", headers=()))
    tombstone = stored(Record(topic="fleet.v1", key=b"a", value=None, headers=record(report("a")).headers))
    assert latest({}, [broken, tombstone, stored(record(report("a")))], now=NOW).keys() == {"a"}


def test_the_silent_and_the_stopping_are_not_alive():
    reports = {
        "fresh": report("fresh", age=9),
        "waiting": report("waiting", "waiting"),
        "silent": report("silent", age=11),
        "stopping": report("stopping", "stopping"),
    }
    assert alive(reports, now=NOW, silence=SILENCE).keys() == {"fresh", "waiting"}


def test_slower_heartbeats_allow_longer_silence():
    assert silence_bound(0.5) == timedelta(seconds=10)
    assert silence_bound(30.0) == timedelta(seconds=150)


def test_the_fleet_is_followed_from_its_beginning(kafka_config: KafkaConnection):
    now = datetime.now(UTC)
    with RecordPublisher(kafka_config) as publisher:
        publisher.publish([record(report("follow-1"), now)])
        with Fleet(kafka_config) as fleet:
            assert "follow-1" in fleet.reports()
            publisher.publish([record(report("follow-2"), now)])
            while "follow-2" not in fleet.reports(wait_seconds=1.0):
                pass


def test_a_tombstone_ends_a_worker_until_it_reports_again():
    tombstone = stored(Record(topic="fleet.v1", key=b"a", value=None, headers=()))
    known = latest({}, [stored(record(report("a"))), stored(record(report("b"))), tombstone], now=NOW)
    assert known.keys() == {"b"}
    assert latest(known, [stored(record(report("a")))], now=NOW).keys() == {"a", "b"}


def test_the_last_reports_of_dead_workers_go_each_agents_own_and_once(kafka_config: KafkaConnection):
    now = datetime.now(UTC)
    old, day = [report("buried-1", age=90_000), report("buried-2", age=90_000)], timedelta(days=1)
    others = [
        report("kept-1", age=80_000),
        WorkerReport(worker=report("kept-2").worker.model_copy(update={"agent": "trainer"}), time=old[0].time),
    ]
    with RecordPublisher(kafka_config) as publisher:
        publisher.publish([record(each, now) for each in [*old, *others]])
    dead = DeadWorkers(kafka_config, "indexer", keep=day)
    assert dead.bury(now) == 2
    with Fleet(kafka_config) as fleet:
        known = fleet.reports()
    assert {name for name in known if name.startswith(("buried", "kept"))} == {"kept-1", "kept-2"}
    assert dead.bury(now) == 0
