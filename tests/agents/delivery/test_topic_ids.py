"""What a worker knows of the topics that it reads, and when it notices that one was made anew."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from agents.delivery.topic_ids import TopicIds, TopicMadeAnew
from infra.memory.database import MemoryDatabase
from infra.memory.kafka import MemoryKafka
from infra.memory.kafka_topics import MemoryKnownTopics
from schemas.errors import Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Scene:
    """A Kafka, a database, and the workers that meet there."""

    def __init__(self) -> None:
        self.kafka, self.database = MemoryKafka(), MemoryDatabase()

    def worker(self) -> TopicIds:
        known = MemoryKnownTopics(self.database)
        return TopicIds(["answers.v1", "feedback.v1"], self.kafka, known, clock=lambda: NOW)


async def test_a_worker_that_meets_what_it_knows_logs_nothing() -> None:
    scene = Scene()
    await scene.worker().learn()
    with capture_logs() as logs:
        worker = scene.worker()
        await worker.learn()
        await worker.check()
    assert logs == []
    assert worker["feedback.v1"] == "feedback.v1 of cluster-1"


async def test_a_topic_that_is_made_anew_ends_its_worker_and_is_logged_by_the_next_one() -> None:
    scene = Scene()
    worker = scene.worker()
    await worker.learn()
    scene.kafka.topic_ids["feedback.v1"] = "another"
    with pytest.raises(TopicMadeAnew, match="was deleted and made anew"):
        await worker.check()
    worker.forget()  # also when partitions were assigned since, and no message came
    with pytest.raises(TopicMadeAnew):
        await worker.check()
    following = scene.worker()
    with capture_logs() as logs:
        await following.learn()
    assert [(line["event"], line["topics"]) for line in logs] == [("topics made anew", ["feedback.v1"])]
    assert following.fingerprint != worker.fingerprint


async def test_the_member_of_a_group_keeps_its_name_while_its_topics_are_the_same() -> None:
    scene = Scene()
    workers = [scene.worker(), scene.worker()]
    for worker in workers:
        await worker.learn()
    assert workers[0].fingerprint == workers[1].fingerprint
    scene.kafka.cluster_id = "cluster-2"
    workers[1].forget()
    await workers[1].learn()
    assert workers[0].fingerprint != workers[1].fingerprint


async def test_ids_that_were_learned_stay_until_they_are_learned_again() -> None:
    scene = Scene()
    worker = scene.worker()
    await worker.learn()
    scene.kafka.topic_ids["feedback.v1"] = "another"
    worker.forget()
    assert worker["feedback.v1"] == "feedback.v1 of cluster-1"
    scene.kafka.away = True
    with pytest.raises(Unavailable):
        await worker.learn()
    scene.kafka.away = False
    await worker.learn()
    assert worker["feedback.v1"] == "another"
