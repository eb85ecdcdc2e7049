"""A new Kafka with the old database, and a topic that is deleted and made anew: offsets repeat, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from agents.wiring.run import AGENTS
from infra.kafka import RecordPublisher, StoredRecord, create_topics, read_all
from infra.settings import load
from infra.sql.database import Database
from infra.sql.releases import SqlReleases
from schemas.envelope import Record, decode, encode, new_context
from schemas.interactions import FeedbackGiven
from schemas.kafka import KafkaConnection
from schemas.promotions import AdapterPromoted
from schemas.release_state import Release
from schemas.topics import dead_letter_topic
from tests.fixtures.kafka import CACHE, PrivateBroker, prepared
from tests.fixtures.stack import Home
from tests.flows.faults.scene import Scene
from tests.flows.waiting import until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(400)]
WORKERS = ("--workers", ",".join(f"{agent}=0" for agent in AGENTS if agent not in ("recorder", "promoter")))
LETTERS = dead_letter_topic("feedback.v1", "recorder")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    prepared()
    made = Home(tmp_path / "home", CACHE.parent)
    yield made
    made.close()


def _feedback(name: str, *, malformed: bool = False) -> Record:
    event = FeedbackGiven(answer_id="a1", rating="up")
    record = encode(event, new_context("/tests", now=datetime.now(UTC), event_id=name))
    return Record(
        topic=record.topic, key=record.key, value=b"{}" if malformed else record.value, headers=record.headers
    )


class Kafka:
    """The embedded broker of a running home."""

    def __init__(self, home: Home) -> None:
        self.config = KafkaConnection(bootstrap_servers=home.status()["endpoints"]["kafka"])

    def send(self, *records: Record) -> None:
        with RecordPublisher(self.config) as publisher:
            publisher.publish(records)

    def wait(self, topic: str, count: int = 1) -> Sequence[StoredRecord]:
        def found() -> Sequence[StoredRecord] | None:
            records = list(read_all(self.config, [topic]))
            return records if len(records) >= count else None

        return until(found, 60, every=0.5)


def test_a_home_that_meets_a_new_kafka_loses_nothing_says_so_and_publishes_its_releases(home: Home) -> None:
    stack = home.up(*WORKERS)
    kafka = Kafka(home)
    kafka.send(_feedback("e1", malformed=True), _feedback("e2"))
    kafka.wait(LETTERS)
    kafka.wait("interactions.v1")
    assert "notice" not in home.status()
    _release(home)
    assert [_sequence(record) for record in kafka.wait("promotions.v1")] == [1]
    home.run("down")
    stack.wait(40)

    shutil.rmtree(home.path / "kafka")
    home.up(*WORKERS)
    kafka = Kafka(home)
    assert [_sequence(record) for record in kafka.wait("promotions.v1")] == [1]
    kafka.send(_feedback("e3", malformed=True), _feedback("e4"))
    (letter,) = kafka.wait(LETTERS)
    assert dict(letter.headers)["ce_id"] == b"e3"
    kafka.wait("interactions.v1")

    notice = home.status()["notice"]
    assert "now meets" in notice
    assert "publish documents FOLDER --all" in notice
    assert home.status()["ready"] is True
    assert notice.partition(": ")[2] in (home.path / "run" / "logs" / "recorder-1.log").read_text()


def _release(home: Home) -> None:
    """Stores a release that the topic does not have."""
    database = Database(load(home.path).sql_url())
    now = datetime.now(UTC)
    release = Release(task="routing", sequence=1, champion="a1", reason="a test", changed_at=now)
    SqlReleases(database).change(release, event_type=AdapterPromoted.type, cause=None, at=now)
    database.close()


def _sequence(record: StoredRecord) -> int:
    event, _ = decode("promotions.v1", record.value, record.headers, now=datetime.now(UTC))
    assert isinstance(event, AdapterPromoted)
    return event.sequence


def test_a_topic_that_is_made_anew_while_it_is_read_is_read_from_its_beginning(
    kafka_broker: Callable[[], PrivateBroker], tmp_path: Path
) -> None:
    broker = kafka_broker()
    create_topics(broker.config)
    scene = Scene(broker.bootstrap, tmp_path)
    try:
        scene.publish(300)
        scene.start(scene.plan())
        scene.run_until(lambda: scene.effects() == 300, 60)
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            admin.delete_topics(["feedback.v1"])
        create_topics(broker.config)
        scene.publish(50)
        count = scene.finish()
        assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count
        assert "was deleted and made anew" in scene.log()
    finally:
        scene.close()
