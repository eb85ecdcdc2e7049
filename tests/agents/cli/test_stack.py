"""``everlearn up``, ``down`` and ``run``: what needs no running stack."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.cli.main import cli, execute
from agents.cli.stack import parse_workers, tell_of_disks
from agents.wiring.run import AGENTS
from benchmarks.small_disk import Balloon, CannotMount, small_disk
from infra.disks import FULL_MB
from infra.local.endpoints import read_endpoints, write_endpoints
from infra.local.programs import agent_program, workers_of
from infra.settings import Settings, load
from schemas.errors import Misuse
from tests.flows.waiting import until


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


def test_down_without_a_stack_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert execute(["--home", str(tmp_path), "down"]) == 0
    assert capsys.readouterr().out == f"nothing runs in {tmp_path}\n"


def test_a_full_disk_is_told_by_up_and_by_status_until_there_is_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    try:
        with small_disk(tmp_path / "disk", 2 * FULL_MB) as home:
            look = tell_of_disks(Settings(home=home))
            look()
            with Balloon(home):
                until(lambda: shutil.disk_usage(home).free == 0)
                look()
                look()
                assert execute(["--home", str(home), "status"]) == 1
                assert execute(["--home", str(home), "drift", "reports"]) == 1
            look()
            look()
    except CannotMount as error:
        pytest.skip(str(error))
    full = f"the disk of {home} is full: 0 MB free; make room, work goes on by itself"
    told, status, command, room = capsys.readouterr().err.splitlines()
    assert told == f"warning: {full}"
    assert status == f"error: {full}; nothing runs in {home}: start it with 'everlearn up'"
    assert command == f"error: there is no database {home}/everlearn.db: run 'everlearn up' to create it; {full}"
    assert room == f"there is room on the disk of {home} again"


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


def test_down_works_though_the_configuration_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "everlearn.toml").write_text("[trainer]\nepochs = -1\n")
    assert execute(["--home", str(tmp_path), "down"]) == 0
    said = capsys.readouterr()
    assert said.out == f"nothing runs in {tmp_path}\n"
    assert "trainer.epochs" in said.err
