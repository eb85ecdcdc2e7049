"""'everlearn up', 'status' and 'down' with real services and real agents."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from agents.wiring.run import AGENTS
from tests.fixtures.kafka import CACHE, prepared
from tests.fixtures.stack import Home, RunningHome
from tests.flows.waiting import until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(400)]
RECORDER_ONLY = ("--workers", ",".join(f"{agent}=0" for agent in AGENTS if agent != "recorder"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all tests: it must work again, however its last stack ended."""
    return tmp_path_factory.mktemp("stack") / "home"


@pytest.fixture
def home(folder: Path) -> Iterator[Home]:
    prepared()
    made = Home(folder, CACHE.parent)
    yield made
    made.close()


def test_sigkill_leaves_no_process_and_the_next_up_works_on_other_ports(home: Home):
    process = home.up(*RECORDER_ONLY)
    assert home.status()["endpoints"]["kafka"]
    process.kill()
    process.wait()
    until(lambda: not home.processes(), 20)
    assert home.run("status", check=False).returncode == 1

    process = home.up(*RECORDER_ONLY)
    assert home.status()["ready"] is True
    os.kill(int((home.path / "run" / "supervisord.pid").read_text()), signal.SIGKILL)
    assert process.wait(30) == 1
    assert "the supervisor was killed" in home.up_log.read_text()
    until(lambda: not home.processes(), 20)
    assert home.run("status", check=False).returncode == 1

    with taken(9092, 19530):
        process = home.up(*RECORDER_ONLY)
        status = home.status()
        assert status["ready"] is True
        assert not status["endpoints"]["kafka"].endswith(":9092")
        assert not status["endpoints"]["milvus"].endswith(":19530")
    home.ends_by(process, signal.SIGINT)


@contextmanager
def taken(*ports: int) -> Iterator[None]:
    """Listens on these ports."""
    with ExitStack() as servers:
        for port in ports:
            server = servers.enter_context(socket.socket())
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server may have used it a moment ago
            with suppress(OSError):  # another process listens there, which is just as good
                server.bind(("127.0.0.1", port))
                server.listen()
        yield


def test_two_stacks_that_start_at_the_same_time_use_separate_services(home: Home, tmp_path: Path):
    none = ("--workers", ",".join(f"{agent}=0" for agent in AGENTS))
    other = Home(tmp_path / "home", CACHE.parent)
    try:
        with ThreadPoolExecutor() as beside:
            first, second = beside.map(lambda each: each.up(*none), (home, other))
        endpoints = [{*each.status()["endpoints"].values()} for each in (home, other)]
        assert len(set.union(*endpoints)) == 4
        home.ends_by(first, signal.SIGHUP)  # as when its terminal is closed
        assert other.status()["endpoints"]
        assert json.loads(other.run("topics", "--json").stdout.splitlines()[0])
        assert other.run("down").stdout == "stopped\n"
        assert second.wait(20) == 0
        assert other.processes() == {}
    finally:
        other.close()


def test_what_a_stack_has_left_behind_does_not_keep_the_next_one_from_starting(home: Home):
    run = home.path / "run"
    with subprocess.Popen(["sleep", "600"]) as innocent:
        for name in ("kafka", "supervisord", "recorder-1"):
            (run / f"{name}.pid").write_text(str(innocent.pid))  # a process id that another process has now
        (run / "supervisor.sock").write_text("")
        (run / "endpoints.json").write_text('{"kafka": "127.0.0.1:9"}')
        process = home.up(*RECORDER_ONLY)
        assert home.status()["ready"] is True
        home.ends_by(process, signal.SIGINT)
        assert innocent.poll() is None
        innocent.kill()


def test_of_two_ups_at_once_one_starts_and_an_up_beside_a_down_starts_or_is_refused(home: Home):
    with ThreadPoolExecutor() as beside:
        both = [beside.submit(home.run, "up", "--detach", *RECORDER_ONLY, check=False) for _ in range(2)]
        refused, started = sorted((each.result() for each in both), key=lambda each: each.stdout)
    assert started.returncode == 0, started.stderr
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: a stack runs in {home.path} already")
    assert home.status()["ready"] is True

    with ThreadPoolExecutor() as beside:
        stopping = beside.submit(home.run, "down")
        until(lambda: not home.status()["ready"], 60, every=0.1)
        again = home.run("up", "--detach", *RECORDER_ONLY, check=False)
        assert stopping.result().stdout == "stopped\n"
    if again.returncode == 0:
        assert home.status()["ready"] is True, home.logs()
    else:
        assert "a stack runs in" in again.stderr.splitlines()[-1]
    home.run("down")
    assert home.processes() == {}


def test_an_agent_that_cannot_start_is_reported_with_its_reason_and_the_stack_stops(home: Home):
    workers = ",".join(f"{agent}=0" for agent in AGENTS if agent not in ("indexer", "recorder"))
    done = home.run("up", "--workers", workers, check=False, environ={"EVERLEARN_EMBEDDING_MODEL": "/no/such/model"})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "indexer-1 is configured wrongly" in last, "it must be reported before the worker is restarted"
    assert "/no/such/model" in last
    log = (home.path / "run" / "logs" / "indexer-1.log").read_text()
    assert log.count("error: ") == 1, f"a worker with a wrong configuration must not be restarted: {log}"
    assert home.processes() == {}


def test_agents_can_run_in_separate_processes_beside_a_stack(home: Home):
    stack = home.up("--workers", ",".join(f"{agent}=0" for agent in AGENTS))
    runner = home.start("run", "recorder", "recorder")
    until(lambda: sum(worker["ready"] for worker in home.status()["workers"]) == 2, 60, every=1.0)
    runner.send_signal(signal.SIGTERM)
    output, _ = runner.communicate(timeout=40)
    assert runner.returncode == 0, output
    assert not [each for each in home.processes().values() if " run recorder" in each]
    home.ends_by(stack, signal.SIGTERM)


def test_a_home_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    home = Home(tmp_path / "file" / "home", CACHE.parent)
    done = home.run("up", check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr


def test_start_up_logs_hold_nothing_that_looks_like_a_fault(running_home: RunningHome):
    logs = running_home.path / "run" / "logs"
    workers = [worker["worker"] for worker in running_home.status()["workers"]]
    assert {json.loads(first_line(logs / f"{worker}.log"))["event"] for worker in workers} == {"ready"}
    started, _, _ = (logs / "kafka.log").read_text().partition("Kafka Server started")
    assert {line.split()[2] for line in started.splitlines()} == {"INFO"}


def test_the_whole_stack_is_ready_and_small_and_a_second_up_is_refused(running_home: RunningHome):
    (status,) = running_home.json("status")
    assert status["ready"] is True, status
    assert sorted(worker["agent"] for worker in status["workers"]) == sorted(["answerer", *AGENTS])
    assert all({"agent", "pid", "ready", "lag", "serves"} <= set(worker) for worker in status["workers"])
    assert status["endpoints"].keys() == {"kafka", "milvus"}
    assert 500 < running_home.idle_mb < 4096
    second = running_home.run("up", check=False)
    assert second.returncode == 1
    assert second.stderr.splitlines() == [
        f"error: a stack runs in {running_home.path} already: 'everlearn status' shows it, 'everlearn down' stops it"
    ]


def first_line(path: Path) -> str:
    return path.read_text().splitlines()[0]
