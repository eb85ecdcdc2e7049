"""``everlearn train``: asks, shows how far it is, and ends with an adapter or with the trainer's reason."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.envelope import EventContext
from schemas.event import Event
from schemas.kafka import KafkaConnection
from schemas.learning import AdapterTrained, TrainingDeclined, TrainingRequested
from tests.agents.cli.conftest import Everlearn
from tests.agents.cli.peers import Peer

ADAPTER, DATASET = "a" * 32, "d" * 32


def trains(event: Event, context: EventContext) -> Iterable[Event]:
    """A trainer: declines where it is told to, is silent where it is told to, and first tells of somebody else's."""
    assert isinstance(event, TrainingRequested)
    if event.reason == "silence":
        return
    yield TrainingDeclined(task=event.task, reason="not yours", cause="somebody-else")
    if event.reason == "decline":
        yield TrainingDeclined(task=event.task, reason="3 rows to train on, and 40 are needed", cause=context.id)
        return
    yield AdapterTrained(
        task=event.task, adapter_id=ADAPTER, base_model="b", dataset_id=DATASET, run_id="r", cause=context.id
    )


def test_it_asks_and_returns_at_once_or_waits_for_the_adapter_or_the_reason(
    everlearn: Everlearn, database_url: str, kafka_config: KafkaConnection
):
    with Peer(kafka_config, "requests.v1", trains, agent="trainer") as trainer:
        asked = everlearn("train", "routing", "--json")
        done = everlearn("train", "routing", "--reason", "new labels", "--wait")
        shown = everlearn("train", "routing", "--wait", "--json")
        declined = everlearn("train", "routing", "--reason", "decline", "--wait")
        silence = everlearn("train", "routing", "--reason", "silence", "--wait", "--timeout", "1")

    assert (asked.code, asked.lines[0]["task"]) == (0, "routing")
    assert (done.code, done.out) == (0, f"trained {ADAPTER} of routing on dataset {DATASET}\n")
    assert shown.lines[0]["adapter_id"] == ADAPTER
    assert (declined.code, declined.out) == (1, "")
    assert declined.err == "error: routing was not trained: 3 rows to train on, and 40 are needed\n"
    assert silence.code == 1
    assert "no adapter of routing came within 1 s" in silence.err
    assert [event.reason for event in trainer.seen if isinstance(event, TrainingRequested)][:2] == [None, "new labels"]


def test_an_unknown_task_is_refused_before_anything_is_sent(everlearn: Everlearn, database_url: str):
    result = everlearn("train", "nobody")

    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "there is no task 'nobody'" in result.err


def test_without_kafka_it_is_one_line(without_kafka: Everlearn):
    result = without_kafka("train", "routing")

    assert (result.code, result.err.count("\n")) == (1, 1)
