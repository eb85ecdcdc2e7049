"""``everlearn simulate``, ``promoter explain`` and the warnings of ``tasks check``, in homes where nothing runs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.promoter import changes
from infra.settings import load
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.migrate import migrate
from infra.sql.releases import SqlReleases
from schemas.features import Interaction
from schemas.questions import Arm
from schemas.release_state import Release
from tests.agents.cli.conftest import TASKS, Everlearn, command_line

START = datetime(2026, 1, 5, tzinfo=UTC)
LAX = """
[tasks.routing.promoter]
margin = 0.3
"""


def home_with(tmp_path: Path, text: str = TASKS) -> Path:
    (tmp_path / "everlearn.toml").write_text(text)
    return tmp_path


@pytest.fixture
def everlearn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Everlearn:
    return command_line(home_with(tmp_path), capsys)


def record(home: Path, rows: list[Interaction]) -> None:
    url = load(home).sql_url()
    migrate(url)
    database = Database(url)
    features = SqlFeatureTable(database)
    with database.transaction():
        for row in rows:
            features.put_interaction(row)
    database.close()


def row(number: int, *, user: str) -> Interaction:
    at = START + timedelta(minutes=number)
    return Interaction(
        answer_id=f"a{number}", task="routing", user=user, question=f"Where {number % 50}?", answer="delivery",
        outcome="disapproved" if number % 5 == 0 else "approved", rating="up", latency_ms=80.0, answered_at=at,
        last_event_at=at, arm="champion", release_sequence=0,
    )  # fmt: skip


def test_canaries_are_simulated_without_a_stack_or_a_database(everlearn: Everlearn, tmp_path: Path):
    ran = everlearn("simulate", "canary", "--bad", "0.3", "--canaries", "20", "--json")
    assert ran.code == 0
    [found] = ran.lines
    assert found["tasks"] == ["routing", "support"]  # which have one policy
    assert [line["challenger"] for line in found["lines"]] == ["half as bad", "as good", "worse by 10%", "worse by 25%"]
    assert found["lines"][0]["promoted"] > 0.8
    assert found["lines"][3]["rolled_back"] > 0.8
    page = Path(found["report"])
    assert page == tmp_path / "reports" / "simulations" / "canary-routing-support.html"
    assert "worse by 25%" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["lines"] == found["lines"]


def test_a_table_is_for_people_and_names_the_guardrails(everlearn: Everlearn):
    ran = everlearn("simulate", "canary", "routing", "--bad", "0.5", "--canaries", "10")
    assert ran.code == 0
    assert ran.out.startswith("routing: shares 10%, 50%\nCHAMPION  CHALLENGER")
    assert "report: " in ran.out
    assert "is more than 2 times as slow" in ran.err


def test_canaries_are_drawn_from_the_homes_own_users(everlearn: Everlearn, tmp_path: Path):
    record(tmp_path, [row(number, user=f"u{number % 60}") for number in range(300)])
    ran = everlearn("simulate", "canary", "routing", "--history", "--canaries", "10", "--json")
    assert ran.code == 0
    [found] = ran.lines
    assert found["traffic"] == {"source": "history", "raters": 60, "users": 60}
    as_good = found["lines"][1]
    assert (as_good["champion_bad"], as_good["undecided"]) == (0.2, 1.0)
    ran = everlearn("simulate", "canary", "routing", "--history", "--canaries", "10")
    assert (
        "up to 100% stay undecided: 30 users of each arm must rate at each share, and 60 users rate in all" in ran.err
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["canary", "nothing"], "nothing"),
        (["canary", "--history"], "--history needs a TASK"),
        (["canary", "routing", "--history", "--bad", "0.2"], "leave out --bad and --moves"),
        (["canary", "--bad", "0.8", "--moves", "0.3"], "out of 0 to 1: give a smaller change"),
        (["canary", "--bad", "1"], "--bad"),
        (["drift", "--rows", "300"], "less than both windows have, 600"),
        (["drift", "--history"], "--history needs a TASK"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(everlearn: Everlearn, arguments: list[str], said: str):
    ran = everlearn("simulate", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_without_a_database_or_ratings_there_is_no_history(everlearn: Everlearn, tmp_path: Path):
    assert "there is no database" in everlearn("simulate", "canary", "routing", "--history").err
    record(tmp_path, [])
    ran = everlearn("simulate", "canary", "routing", "--history")
    assert ran.code == 1
    assert ran.err == "error: nobody has rated an answer of routing yet: simulate without --history\n"
    record(tmp_path, [row(number, user="ann") for number in range(30)])
    ran = everlearn("simulate", "canary", "routing", "--history")
    assert ran.code == 1
    assert ran.err == (
        "error: 1 user of routing rated answers, and 10 are needed to draw others from: simulate without --history\n"
    )


def test_drift_checks_are_simulated_without_a_stack_or_a_database(everlearn: Everlearn, tmp_path: Path):
    ran = everlearn("simulate", "drift", "routing", "--streams", "3", "--rows", "1500", "--json")
    assert ran.code == 0
    [found] = ran.lines
    assert all(line["drifted"] <= 0.2 for line in found["stable"])
    by_name = {line["drift"]: line for line in found["drifts"]}
    assert by_name["new topics at 50%"]["said"] == 1
    assert by_name["new topics at 50%"]["questions"] <= 600
    assert "new topics at 50%" in (tmp_path / "reports" / "simulations" / "drift-routing.html").read_text()


def test_a_policy_that_contradicts_itself_is_named_by_check_and_by_explain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    everlearn = command_line(home_with(tmp_path, TASKS.replace("[tasks.support]", LAX + "\n[tasks.support]")), capsys)
    checked = everlearn("tasks", "check")
    assert checked.code == 0  # a warning, and no fault
    warning = "a challenger with 15% bad answers against 5% is promoted in "
    assert f"warning: routing: [promoter] contradicts itself: {warning}" in checked.err
    assert "support" not in checked.err
    explained = everlearn("promoter", "explain", "routing", "--canaries", "10", "--json")
    assert explained.code == 0
    assert explained.lines[1]["challenger"] == "as good"
    assert f"warning: {warning}" in explained.err


def test_status_shows_how_a_canary_stands(everlearn: Everlearn, tmp_path: Path):
    def asked(number: int, arm: Arm, answer: str) -> Interaction:
        return replace(row(number, user=f"u{number}"), answer=answer, arm=arm, release_sequence=1, outcome="unrated")

    rows = [asked(number, "champion", "delivery") for number in range(9)]
    record(tmp_path, [*rows, *(asked(number, "challenger", "I cannot say.") for number in range(10, 12))])
    database = Database(load(tmp_path).sql_url())
    begun = changes.start(Release(task="routing"), "a", stage="canary", share=0.1, reason="", at=START)
    SqlReleases(database).change(begun.release, event_type=begun.kind.type, cause=None, at=START)
    database.close()
    [found] = everlearn("status", "--json").lines
    assert found["canaries"]["routing"][0] == "0 of 0 users' ratings were bad, 0 of 0 of the champion's"
    declined = "2 of 2 (100%) users' answers declined, 0 of 9 (0%) of the champion's (10% more is allowed)"
    assert declined in found["canaries"]["routing"]
    shown = everlearn("status").out
    assert (
        f"canary of routing, the challenger's users and the champion's:\n  {found['canaries']['routing'][0]}" in shown
    )
    assert f"  {declined}\n" in shown
