"""The contract of the known topics: a database says when a topic is not the one that it belongs to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from schemas.delivery import InFlight, KafkaTopic, MetTopic
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FEEDBACK = KafkaTopic(name="feedback.v1", topic_id="t1", cluster_id="c1")
ANSWERS = KafkaTopic(name="answers.v1", topic_id="t2", cluster_id="c1")
RETRY = KafkaTopic(name="feedback.v1.recorder.retry", topic_id="t3", cluster_id="c1")
MARK = InFlight(
    topic="feedback.v1", partition=0, first=1, last=2, suspects_to=-1, attempts=1, alone=False, life="w1", since=NOW
)


def test_topics_that_are_met_again_are_no_news(stores: Stores):
    assert stores.known_topics.meet([FEEDBACK, ANSWERS], NOW) == {}
    assert stores.known_topics.meet([FEEDBACK, ANSWERS, RETRY], NOW + timedelta(days=1)) == {}
    assert stores.known_topics.all() == [
        MetTopic(topic=ANSWERS, met_at=NOW),
        MetTopic(topic=FEEDBACK, met_at=NOW),
        MetTopic(topic=RETRY, met_at=NOW + timedelta(days=1)),
    ]


def test_a_topic_that_was_made_anew_is_told_once(stores: Stores):
    stores.known_topics.meet([FEEDBACK, ANSWERS], NOW)
    anew = replace(FEEDBACK, topic_id="t9")

    assert stores.known_topics.meet([anew, ANSWERS], NOW) == {"feedback.v1": FEEDBACK}
    assert stores.known_topics.meet([anew, ANSWERS], NOW) == {}
    assert {met.topic.name: met.earlier_cluster for met in stores.known_topics.all()} == {
        "answers.v1": None,
        "feedback.v1": None,
    }


def test_another_cluster_is_told_once_and_remembered(stores: Stores):
    stores.known_topics.meet([FEEDBACK], NOW)
    moved = KafkaTopic(name="feedback.v1", topic_id="t9", cluster_id="c2")

    assert stores.known_topics.meet([moved], NOW + timedelta(hours=1)) == {"feedback.v1": FEEDBACK}
    assert stores.known_topics.meet([moved], NOW + timedelta(hours=2)) == {}
    assert stores.known_topics.all() == [
        MetTopic(topic=moved, met_at=NOW + timedelta(hours=1), earlier_cluster="c1"),
    ]
    assert stores.known_topics.meet([FEEDBACK], NOW + timedelta(hours=3)) == {"feedback.v1": moved}


def test_what_an_earlier_version_stored_by_name_belongs_to_the_first_topic_of_that_name(stores: Stores):
    for agent, identity in (
        ("recorder", "dlq:feedback.v1/0/17"),
        ("recorder", "dlq:feedback.v1.recorder.retry/0/17"),
        ("recorder", "dlq:feedback.v10/0/17"),
        ("recorder", "/web e1"),
    ):
        stores.journal.add(agent, identity, [], NOW)
    stores.marks.write("recorder", [MARK, replace(MARK, topic="answers.v1")])

    stores.known_topics.meet([FEEDBACK], NOW)

    known = ["dlq:feedback.v1@t1/0/17", "dlq:feedback.v1.recorder.retry/0/17", "dlq:feedback.v10/0/17", "/web e1"]
    assert set(stores.journal.find("recorder", [*known, "dlq:feedback.v1/0/17"])) == set(known)
    assert stores.marks.read("recorder") == [replace(MARK, topic="answers.v1"), replace(MARK, topic_id="t1")]
    stores.known_topics.meet([replace(FEEDBACK, topic_id="t9")], NOW)
    assert "dlq:feedback.v1@t1/0/17" in stores.journal.find("recorder", known)
    assert stores.marks.read("recorder")[1].topic_id == "t1"


def test_a_worker_that_meets_its_topics_changes_nothing_of_others(stores: Stores):
    stores.known_topics.meet([FEEDBACK], NOW)
    stores.known_topics.meet([ANSWERS], NOW)

    assert [met.topic for met in stores.known_topics.all()] == [ANSWERS, FEEDBACK]
