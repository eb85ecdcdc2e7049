"""``everlearn promote`` and ``rollback``: what is impossible is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.cli.release import choose_adapter
from agents.delivery.dead_letters import Failure, dead_letter
from infra.kafka import RecordPublisher
from infra.registry.mlflow import MlflowRegistry
from infra.settings import load
from infra.sql.database import Database
from infra.sql.releases import SqlReleases
from schemas.delivery import Message
from schemas.envelope import EventContext, Position, encode
from schemas.errors import EverlearnError
from schemas.event import Event
from schemas.kafka import KafkaConnection
from schemas.learning import ExperimentRequested, PromotionRequested, RollbackRequested
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryStarted
from schemas.registry import AdapterRecord, AdapterState
from schemas.release_state import Release
from tests.agents.cli.conftest import Everlearn
from tests.agents.cli.peers import Peer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STEADY = Release(task="routing", sequence=1, champion="c" * 32, changed_at=NOW)


def record(adapter_id: str, state: AdapterState = "validated", minutes: int = 0) -> AdapterRecord:
    return AdapterRecord(
        adapter_id=adapter_id,
        task="routing",
        base_model="b",
        dataset_id="d",
        run_id="r",
        size_bytes=1,
        created_at=NOW + timedelta(minutes=minutes),
        state=state,
        reasons=("it forgets",) if state == "rejected" else (),
    )


NEWEST_FIRST = (
    record("ff01", "trained"),
    record("ee01", "rejected"),
    record("c" * 32),
    record("aa02"),
    record("aa01"),
)


@pytest.mark.parametrize(
    ("wanted", "chosen"), [(None, "aa02"), ("aa01", "aa01"), ("aa02", "aa02"), ("aa0", None), ("c", None)]
)
def test_an_adapter_is_meant_by_its_beginning_or_is_the_newest_validated_one(wanted: str | None, chosen: str | None):
    if chosen is None:
        with pytest.raises(EverlearnError):
            choose_adapter(NEWEST_FIRST, STEADY, wanted)
    else:
        assert choose_adapter(NEWEST_FIRST, STEADY, wanted).adapter_id == chosen


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("ff", "ff01 is not validated yet"),
        ("ee01", "ee01 was rejected: it forgets"),
        ("cc", f"{'c' * 32} is the champion of routing already"),
        ("bb", "the registry knows no adapter 'bb' of routing"),
        ("aa", "2 adapters of routing begin with 'aa': aa02, aa01; give more of the id"),
    ],
)
def test_what_cannot_be_promoted_is_refused_with_the_reason(wanted: str, reason: str):
    with pytest.raises(EverlearnError, match=reason):
        choose_adapter(NEWEST_FIRST, STEADY, wanted)


def test_without_any_validated_adapter_it_says_how_to_get_one():
    with pytest.raises(EverlearnError, match="run 'everlearn train routing'"):
        choose_adapter(NEWEST_FIRST[:3], STEADY, None)


@pytest.fixture
def releases(database_url: str) -> Iterator[SqlReleases]:
    database = Database(database_url)
    yield SqlReleases(database)
    database.close()


@pytest.fixture
def registry(home: Path) -> Iterator[MlflowRegistry]:
    settings = load(home, environ={})
    registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
    registry.prepare()
    for each in (record("a" * 32), record("e" * 32, "rejected", 1), record("c" * 32, minutes=2)):
        registry.register(replace(each, state="trained", reasons=()))
        registry.judge(each.adapter_id, state=each.state, scores={}, reasons=each.reasons, report_uri=None)
    yield registry
    registry.close()


def promotes(event: Event, context: EventContext) -> Iterable[Event]:
    """A promoter: does what it is asked, and nothing for whom it does not like."""
    if isinstance(event, PromotionRequested) and event.reason != "silence":
        yield AdapterPromoted(task=event.task, sequence=2, champion=event.adapter_id, previous="c" * 32)
    if isinstance(event, ExperimentRequested):
        yield CanaryStarted(
            task=event.task, sequence=2, challenger=event.adapter_id, stage="experiment", share=event.share
        )
    if isinstance(event, RollbackRequested):
        yield AdapterRolledBack(task=event.task, sequence=2, reason=event.reason or "")


@pytest.fixture
def promoter(kafka_config: KafkaConnection) -> Iterator[Peer]:
    with Peer(kafka_config, "requests.v1", promotes, agent="promoter") as peer:
        yield peer


def test_promotions_are_checked_asked_for_and_waited_for(
    everlearn: Everlearn, releases: SqlReleases, registry: MlflowRegistry, promoter: Peer
):
    releases.change(STEADY, event_type="x", cause=None, at=NOW)
    for arguments, reason in (
        (["nobody"], "there is no task 'nobody': choose from routing, support"),
        (["routing", "e"], f"{'e' * 32} was rejected: it forgets"),
        (["routing", "cccc"], f"{'c' * 32} is the champion of routing already"),
        (["routing", "none"], "the registry knows no adapter 'none' of routing"),
        (["support"], "no validated adapter of support is there"),
        (["routing", "--share", "nan"], "give a part of the users between 0 and 1"),
        (["routing", "--share", "0.5", "--reason", "x"], "--reason goes with a promotion"),
    ):
        result = everlearn("promote", *arguments)
        assert result.code in (1, 2)
        assert (reason in result.err, result.err.count("\n"), result.out) == (True, 1, "")
    assert promoter.seen == []

    asked = everlearn("promote", "routing")
    assert (asked.code, asked.out) == (0, f"asked to promote {'a' * 32} for routing\n")
    assert promoter.only_event() == PromotionRequested(task="routing", adapter_id="a" * 32, sequence=1)

    done = everlearn("promote", "routing", "aaa", "--reason", "I like it", "--wait")
    assert (done.code, done.out) == (0, f"routing: sequence 2, champion {'a' * 32}\n")

    tried = everlearn("promote", "routing", "--share", "0.25", "--wait", "--json")
    assert [(line["stage"], line["share"], line["challenger"]) for line in tried.lines] == [
        ("experiment", 0.25, "a" * 32)
    ]

    silence = everlearn("promote", "routing", "--reason", "silence", "--wait", "--timeout", "1")
    assert silence.code == 1
    assert "nothing came of it in 1 s" in silence.err


def test_a_rollback_is_checked_asked_for_and_waited_for(everlearn: Everlearn, releases: SqlReleases, promoter: Peer):
    nothing = everlearn("rollback", "routing")
    assert (nothing.code, nothing.out) == (1, "")
    assert nothing.err == "error: there is nothing to roll back: routing is served by the base model alone\n"
    assert everlearn("rollback", "nobody").code == 2
    releases.change(STEADY, event_type="x", cause=None, at=NOW)
    plan = f"takes {'c' * 32} of routing back; the base model alone answers all users then\n"
    shown = everlearn("rollback", "routing", "--dry-run")
    assert (shown.code, shown.out, promoter.seen) == (0, f"it {plan}", [])
    [line] = everlearn("rollback", "routing", "--dry-run", "--json").lines
    assert (line["sequence"], line["stage"], line.get("champion")) == (2, "steady", None)
    done = everlearn("rollback", "routing", "--reason", "it shouts", "--wait")
    assert (done.code, done.err) == (0, plan)
    assert done.out == "routing: sequence 2, champion none (the base model alone)\n"
    assert promoter.only_event() == RollbackRequested(task="routing", reason="it shouts", adapter_id="c" * 32)


def test_a_request_that_the_promoter_refuses_is_told_with_its_reason(
    everlearn: Everlearn, releases: SqlReleases, kafka_config: KafkaConnection
):
    releases.change(STEADY, event_type="x", cause=None, at=NOW)

    def refuse(event: Event, context: EventContext) -> Iterable[Event]:
        sent = encode(event, context)
        read = Message(position=Position("requests.v1", 0, 0), key=sent.key, value=sent.value, headers=sent.headers)
        failure = Failure(error="InvalidEvent", message="somebody was faster", attempts=1, first_failure=NOW)
        with RecordPublisher(kafka_config) as publisher:
            publisher.publish([dead_letter(read, "promoter", failure)])
        return ()

    with Peer(kafka_config, "requests.v1", refuse):
        result = everlearn("rollback", "routing", "--wait")
    assert result.code == 1
    assert result.err.splitlines()[1:] == ["error: the promoter refused: somebody was faster"]


def test_without_a_database_or_a_registry_it_is_one_line(everlearn: Everlearn, home: Path):
    for arguments in (["promote", "routing"], ["rollback", "routing"]):
        result = everlearn(*arguments)
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert "run 'everlearn up'" in result.err


def test_without_a_registry_a_promotion_is_one_line(everlearn: Everlearn, releases: SqlReleases):
    result = everlearn("promote", "routing")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "has no tables yet: run 'everlearn up'" in result.err
