"""up, status and init: what needs no running stack."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.cli.context import CommandContext
from agents.cli.init import attribute_docs, initialise, render
from agents.cli.main import cli, execute
from agents.cli.stack import parse_workers
from agents.cli.status import describe
from agents.wiring.run import AGENTS
from infra import document_settings, policies
from infra import settings as settings_module
from infra.document_settings import IndexerSettings
from infra.kafka.fleet import WorkerReport
from infra.local.endpoints import read_endpoints, write_endpoints
from infra.local.ports import free_port
from infra.local.programs import agent_program, workers_of
from infra.local.supervisor import Process
from infra.settings import load
from schemas.errors import ConfigurationError, Misuse
from schemas.fleet import Serving, WorkerReported


def said(name: str, pid: int = 7, state: str = "ready") -> WorkerReport:
    worker = WorkerReported(
        worker=name, agent="answerer", host="h", pid=pid, state=state, lag=3, serves=(Serving(task="support"),)
    )
    return WorkerReport(worker=worker, time=datetime.now(UTC))


def process(name: str, pid: int | None = 7, state: str = "RUNNING") -> Process:
    return Process(name=name, group="agents", pid=pid, state=state)


def test_runs_help_names_every_agent():
    shown = " ".join(CliRunner().invoke(cli, ["run", "--help"]).output.split())
    assert f"Agents: {', '.join(AGENTS)}." in shown


def test_one_worker_of_each_agent_unless_said():
    assert parse_workers("") == dict.fromkeys(AGENTS, 1)
    assert parse_workers("answerer=3, recorder=0") == {**dict.fromkeys(AGENTS, 1), "answerer": 3, "recorder": 0}


@pytest.mark.parametrize("text", ["answer=1", "answerer", "answerer=x", "answerer=-1", "answerer=65", "=2"])
def test_workers_that_make_no_sense_are_misuse(text: str):
    with pytest.raises(Misuse):
        parse_workers(text)


def test_workers_are_numbered_and_started_with_their_home_and_configuration(tmp_path: Path):
    (tmp_path / "other.toml").write_text("")
    found = load(tmp_path / "home", tmp_path / "other.toml", environ={})
    workers = workers_of({"indexer": 0, "answerer": 2})
    assert [worker.name for worker in workers] == ["answerer-1", "answerer-2"]
    command = agent_program(found, workers[1]).command
    assert command[1:3] == ["-m", "agents"]
    assert command[3:] == [
        *("--home", str(tmp_path / "home"), "--config", str(tmp_path / "other.toml")),
        *("run", "answerer", "--worker", "answerer-2", "--no-setup"),
    ]


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


def test_down_without_a_stack_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert execute(["--home", str(tmp_path), "down"]) == 0
    assert capsys.readouterr().out == f"nothing runs in {tmp_path}\n"


def test_running_an_unknown_agent_names_those_that_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert execute(["--home", str(tmp_path), "run", "indexr"]) == 2
    assert capsys.readouterr().err == f"error: there is no agent 'indexr': choose from {', '.join(AGENTS)}\n"


def test_a_worker_name_for_several_agents_is_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert execute(["--home", str(tmp_path), "run", "indexer", "recorder", "--worker", "x"]) == 2
    assert "--worker names a single worker" in capsys.readouterr().err


def test_running_an_agent_without_a_stack_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert execute(["--home", str(tmp_path), "run", "recorder"]) == 1
    assert capsys.readouterr().err.startswith(f"error: no embedded kafka runs in {tmp_path}: start it with")


def test_endpoints_are_what_every_command_of_the_home_finds(tmp_path: Path):
    (tmp_path / "run").mkdir()
    found = load(tmp_path, environ={})
    assert read_endpoints(found) == {}
    write_endpoints(found, {"kafka": 9092, "milvus": 19530})
    assert read_endpoints(found) == {"kafka": "127.0.0.1:9092", "milvus": "http://127.0.0.1:19530"}
    assert found.kafka_bootstrap() == "127.0.0.1:9092"


def test_a_new_home_has_two_tasks_and_every_default(tmp_path: Path):
    initialise(tmp_path / "home")
    made = load(tmp_path / "home", environ={})
    assert made.model_copy(update={"tasks": {}, "config": None}) == settings_module.Settings(home=tmp_path / "home")
    assert (made.tasks["support"].retrieval, made.tasks["routing"].retrieval) == (True, False)
    assert made.tasks["routing"].metric == "exact_match"
    assert made.tasks["routing"].labels


def test_every_commented_setting_may_be_uncommented(tmp_path: Path):
    lines = render().splitlines()
    lines = [line[1:] if line.startswith("#") and line[1:2].isalpha() else line for line in lines]
    lines = [line for line in lines if not line.endswith("(unset)")]
    path = tmp_path / "everlearn.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    uncommented = load(tmp_path, environ={})
    assert uncommented.indexer == IndexerSettings()
    assert uncommented.kafka == settings_module.KafkaSettings()


def test_every_setting_but_the_secrets_is_in_the_file_with_its_docs():
    text = render()
    tables = tomllib.loads(text)
    docs = {**attribute_docs(settings_module), **attribute_docs(document_settings), **attribute_docs(policies)}
    for name, field in settings_module.Settings.model_fields.items():
        table = field.annotation
        if not (isinstance(table, type) and issubclass(table, policies.Table)):
            continue
        assert name in tables
        for setting, each in table.model_fields.items():
            secret = "SecretStr" in str(each.annotation)
            assert (f"\n#{setting} = " in text) is not secret
            first_words = docs[table.__name__][setting].replace("``", "'").split()[:3]
            assert " ".join(first_words) in text


def test_init_leaves_what_exists_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert execute(["--home", str(tmp_path / "h"), "init"]) == 0
    (tmp_path / "h" / "everlearn.toml").write_text("# mine\n")
    assert execute(["--home", str(tmp_path / "h"), "init"]) == 1
    assert "is there already: edit it" in capsys.readouterr().err
    assert (tmp_path / "h" / "everlearn.toml").read_text() == "# mine\n"


def test_init_where_nothing_can_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written .*choose another --home"):
        initialise(tmp_path / "file" / "home")
