"""``everlearn status``: workers by what they and the supervisor report."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.cli.context import CommandContext
from agents.cli.main import cli, execute
from agents.cli.status import describe
from agents.wiring.tasks import fingerprints
from infra.kafka.fleet import WorkerReport
from infra.local.free_port import free_port
from infra.local.supervisor import Process
from infra.settings import load
from infra.sql.database import Database
from infra.sql.kafka_topics import SqlKnownTopics
from infra.sql.migrate import migrate
from infra.sql.releases import SqlReleases
from schemas.delivery import KafkaTopic
from schemas.fleet import Serving, WorkerReported
from schemas.release_state import Release


def said(name: str, pid: int = 7, state: str = "ready") -> WorkerReport:
    worker = WorkerReported(
        worker=name, agent="answerer", host="h", pid=pid, state=state, lag=3, serves=(Serving(task="support"),)
    )
    return WorkerReport(worker=worker, time=datetime.now(UTC))


def process(name: str, pid: int | None = 7, state: str = "RUNNING") -> Process:
    return Process(name=name, group="agents", pid=pid, state=state)


def test_a_worker_that_said_it_is_ready_is_ready():
    (row,) = describe({"answerer-1": said("answerer-1")}, [process("answerer-1")])
    assert row["ready"] is True
    assert (row["agent"], row["pid"], row["lag"]) == ("answerer", 7, 3)
    assert row["serves"] == [{"task": "support", "sequence": 0, "adapters": []}]


def test_the_word_of_a_process_that_was_restarted_since_does_not_count():
    (row,) = describe({"answerer-1": said("answerer-1", pid=6)}, [process("answerer-1", pid=7)])
    assert (row["ready"], row["state"], row["pid"]) == (False, "starting", 7)


def test_a_worker_that_keeps_dying_is_shown():
    (row,) = describe({}, [process("answerer-1", pid=None, state="BACKOFF")])
    assert (row["ready"], row["state"], row["agent"]) == (False, "backoff", "answerer")


def test_workers_of_other_machines_are_shown_too():
    rows = describe({"answerer-1": said("answerer-1"), "far": said("far", state="waiting")}, [process("answerer-1")])
    assert [(row["worker"], row["ready"]) for row in rows] == [("answerer-1", True), ("far", False)]


def test_status_without_a_stack_says_how_to_start_it(tmp_path: Path):
    result = CliRunner().invoke(
        cli, ["--home", str(tmp_path), "status", "--json"], obj=CommandContext(), standalone_mode=False
    )
    assert result.return_value == 1
    found = json.loads(result.stdout)
    assert found == {"ready": False, "workers": [], "endpoints": {}, "problem": found["problem"]}
    assert "start it with 'everlearn up'" in found["problem"]


def test_status_with_kafka_elsewhere_and_away_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    port = free_port()
    (tmp_path / "everlearn.toml").write_text(
        f'[kafka]\nbootstrap_servers = "127.0.0.1:{port}"\n[milvus]\nuri = "http://127.0.0.1:1"\n'
    )
    assert execute(["--home", str(tmp_path), "status"]) == 1
    output = capsys.readouterr()
    assert output.err.splitlines()[0].startswith(
        f"error: Kafka at 127.0.0.1:{port} does not answer: Connection refused"
    )


def test_status_says_for_a_week_that_the_home_met_another_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    url = f"sqlite:///{tmp_path}/everlearn.db"
    migrate(url)
    database = Database(url)
    topics = SqlKnownTopics(database)
    first = KafkaTopic(name="feedback.v1", topic_id="t1", cluster_id="c1")
    topics.meet([first], datetime.now(UTC))

    def status() -> list[str]:
        execute(["--home", str(tmp_path), "status"])
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("notice: ")]

    assert status() == []
    topics.meet([replace(first, topic_id="t2", cluster_id="c2")], datetime.now(UTC))
    (notice,) = status()
    assert "was used with the Kafka cluster c1 and now meets c2" in notice
    assert "everlearn publish documents FOLDER --all" in notice
    topics.meet([replace(first, topic_id="t3", cluster_id="c3")], datetime.now(UTC) - timedelta(days=8))
    assert status() == []
    database.close()


def test_a_task_that_is_not_the_one_of_its_champion_is_named_by_status_and_by_the_check_of_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    url = f"sqlite:///{tmp_path}/everlearn.db"
    migrate(url)
    tables = '[tasks.routing]\ninstruction = "Which team?"\nlabels = ["returns", "{}"]\n'
    (tmp_path / "everlearn.toml").write_text(tables.format("billing"))
    known = fingerprints(load(tmp_path))["routing"]
    database = Database(url)
    release = Release(task="routing", sequence=1, champion="a1", fingerprints={"a1": known})
    with database.transaction():
        SqlReleases(database).change(release, event_type="t", cause=None, at=datetime.now(UTC))

    def said(*arguments: str) -> str:
        execute(["--home", str(tmp_path), *arguments])
        return capsys.readouterr().out

    assert "another task" not in said("status") + said("tasks", "check")
    (tmp_path / "everlearn.toml").write_text(tables.format("accounts"))
    sentence = "a1 was validated on another task (labels: from 2 with 'billing' to 2 with 'accounts')"
    assert f"task routing: {sentence}\n" in said("status")
    assert json.loads(said("status", "--json"))["changed"] == {"routing": [sentence]}
    assert f"tasks.routing: {sentence}\n" in said("tasks", "check")
    checked = json.loads(said("tasks", "check", "--json"))
    assert (checked["faults"], checked["changed"]) == ([], {"routing": [sentence]})

    unknown = Release(task="routing", sequence=1, champion="a1")
    with database.transaction():
        SqlReleases(database).amend(unknown)
    assert "another task" not in said("status")
    assert "tasks.routing: a1 does not say which task it was trained on" in said("tasks", "check")
    database.close()
