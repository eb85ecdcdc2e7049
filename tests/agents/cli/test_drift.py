"""``everlearn drift`` on real Kafka and a real database, with a small program in the monitor's place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from infra.sql.database import Database
from infra.sql.drift import SqlDriftChecks
from schemas.drift import DriftCheck, Finding
from schemas.envelope import EventContext
from schemas.event import Event
from schemas.kafka import KafkaConnection
from schemas.learning import DriftCheckRequested, Window
from tests.agents.cli.conftest import Everlearn
from tests.agents.cli.peers import Peer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WINDOW = Window(start=NOW, end=NOW, rows=60)
FINDING = Finding(kind="outcomes", p_value=0.001, effect=0.3, flagged=True, detail="worse")


def check(check_id: str, minutes: int = 0, *, task: str = "routing", verdict: str | None = "outcomes") -> DriftCheck:
    return DriftCheck(
        check_id=check_id,
        task=task,
        checked_at=NOW + timedelta(minutes=minutes),
        baseline=0,
        reference=WINDOW,
        current=WINDOW,
        findings=(FINDING,),
        verdict=verdict,
        remedy="retrain" if verdict else "none",
        reasons=("answers got\nworse",),
        report_uri=f"file:///a%20home/{check_id}.html",
    )


def too_few(check_id: str, minutes: int) -> DriftCheck:
    return DriftCheck(
        check_id=check_id,
        task="support",
        checked_at=NOW + timedelta(minutes=minutes),
        baseline=0,
        reference=WINDOW,
        current=WINDOW,
        findings=(),
        reasons=("too few answers",),
    )


@pytest.fixture
def checks(database_url: str):
    database = Database(database_url)
    yield SqlDriftChecks(database)
    database.close()


def monitor(config: KafkaConnection, checks: SqlDriftChecks, *, to_label: tuple[str, ...] = ()) -> Peer:
    """Checks at once what it is asked to: routing has drifted, support has too few answers."""

    def react(event: Event, context: EventContext) -> Iterable[Event]:
        assert isinstance(event, DriftCheckRequested)
        checks.add(
            too_few(context.id, 9) if event.task == "support" else replace(check(context.id, 9), to_label=to_label)
        )
        return ()

    return Peer(config, "requests.v1", react)


def test_checks_are_listed_newest_first(everlearn: Everlearn, checks: SqlDriftChecks):
    checks.add(check("c1"))
    checks.add(check("c2", 1, verdict=None))
    checks.add(too_few("c3", 2))
    result = everlearn("drift", "reports")
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()][1:] for line in result.out.splitlines()]
    assert cells == [
        ["TASK", "VERDICT", "REMEDY", "REFERENCE", "CURRENT", "REPORT", "LABEL FIRST"],
        ["support", "not checked", "none", "60", "60", "too few answers"],
        ["routing", "no drift", "none", "60", "60", "/a home/c2.html"],
        ["routing", "outcomes", "retrain", "60", "60", "/a home/c1.html"],
    ]


def test_answers_that_are_to_be_labelled_are_named(
    everlearn: Everlearn, checks: SqlDriftChecks, kafka_config: KafkaConnection
):
    named = tuple(f"a{number}" for number in range(5))
    checks.add(replace(check("c1"), remedy="label", to_label=named))
    [_, line] = everlearn("drift", "reports").out.splitlines()
    assert line.endswith("/a home/c1.html  a0, a1, a2")
    [whole] = everlearn("drift", "reports", "--json").lines
    assert whole["to_label"] == list(named)
    with monitor(kafka_config, checks, to_label=named):
        result = everlearn("drift", "check", "routing", "--wait")
    assert "label first: a0, a1, a2, a3, a4" in result.out.splitlines()


def test_programs_get_whole_checks_of_a_task(everlearn: Everlearn, checks: SqlDriftChecks):
    checks.add(check("c1"))
    checks.add(too_few("c3", 2))
    [line] = everlearn("drift", "reports", "routing", "--json").lines
    assert (line["check_id"], line["verdict"], line["report"]) == ("c1", "outcomes", "/a home/c1.html")
    assert line["findings"][0]["p_value"] == 0.001


def test_the_newest_reports_path_is_printed_alone(everlearn: Everlearn, checks: SqlDriftChecks):
    checks.add(check("c1"))
    checks.add(too_few("c3", 2))
    assert everlearn("drift", "reports", "--open").out == "/a home/c1.html\n"


def test_without_any_check_the_next_step_is_said(everlearn: Everlearn, checks: SqlDriftChecks):
    assert "ask for one with 'everlearn drift check TASK --wait'" in everlearn("drift", "reports").out
    result = everlearn("drift", "reports", "--open")
    assert (result.code, result.out) == (1, "")
    assert "there is no report yet" in result.err


def test_a_check_is_asked_for_and_waited_for(
    everlearn: Everlearn, checks: SqlDriftChecks, kafka_config: KafkaConnection
):
    checks.add(check("c1"))
    with monitor(kafka_config, checks):
        result = everlearn("drift", "check", "routing", "--wait")
    assert result.code == 0
    first, second = result.out.splitlines()
    assert first == "routing: drift of outcomes, remedy retrain: answers got worse"
    assert second.startswith("report: /a home/")


def test_all_tasks_are_checked_where_none_is_named_and_too_few_answers_are_one_line(
    everlearn: Everlearn, checks: SqlDriftChecks, kafka_config: KafkaConnection
):
    with monitor(kafka_config, checks) as peer:
        result = everlearn("drift", "check", "--wait")
    assert result.code == 0
    assert "support: not checked: too few answers" in result.out.splitlines()
    assert {event.key for event in peer.seen} == {"routing", "support"}


def test_without_waiting_the_request_is_confirmed(everlearn: Everlearn, checks: SqlDriftChecks):
    assert "asked for a check of routing" in everlearn("drift", "check", "routing").out
    assert json.loads(everlearn("drift", "check", "routing", "--json").out) == {"task": "routing", "requested": True}


def test_nobody_there_to_check_is_one_line(everlearn: Everlearn, checks: SqlDriftChecks):
    result = everlearn("drift", "check", "routing", "--wait", "--timeout", "0.5")
    assert (result.code, result.out) == (1, "")
    assert "no check of routing was made within 0.5 s: see in 'everlearn status'" in result.err


def test_an_unknown_task_is_misuse(everlearn: Everlearn, checks: SqlDriftChecks):
    result = everlearn("drift", "check", "nope")
    assert result.code == 2
    assert "there is no task 'nope': choose from routing, support" in result.err
