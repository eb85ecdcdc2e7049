"""Forked programs behave like executed ones, apart from the imports that they share."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from supervisor import loggers
from supervisor.states import ProcessStates

from infra.local.supervisor import Supervisor
from infra.local.supervisord import LONGEST_PAUSE_SECONDS, LogFile, Process
from infra.local.supervisord_conf import Program
from tests.infra.local.test_supervisor import launch, lives, pid, until

__all__ = ["launch"]

PACKAGE = "import os; LOADED_BY = os.getpid()"
MAIN = """
import json, os, signal, subprocess, sys, threading, time
from shared import LOADED_BY

what = sys.argv[1]
if what == "tell":
    def place(number):
        handler = signal.getsignal(number)
        return "raises" if handler is signal.default_int_handler else str(handler)
    print(json.dumps({
        "loaded by": LOADED_BY,
        "arguments": sys.argv[1:],
        "signals": {name: place(getattr(signal, name)) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD")},
        "parent": os.environ["EVERLEARN_PARENT_PID"],
        "name": os.environ["SUPERVISOR_PROCESS_NAME"],
        "child": subprocess.run(["echo", "a child"], capture_output=True, text=True).stdout,
        "file": os.path.basename(sys.argv[0]),
        "open": sorted(int(each) for each in os.listdir("/proc/self/fd")),
    }), flush=True)
    time.sleep(600)
if what == "code":
    sys.exit(int(sys.argv[2]))
if what == "words":
    sys.exit("some words")
raise RuntimeError("a fault")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where supervisord runs and finds the package."""
    package = tmp_path / "run" / "shared"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    (package / "__main__.py").write_text(MAIN)
    return tmp_path / "run"


def shared_program(name: str, *arguments: str, **fields: Any) -> Program:
    return Program(name=name, command=[sys.executable, "-m", "shared", *arguments], **fields)


def output(supervisor: Supervisor, name: str, lines: int = 1) -> dict[str, Any]:
    until(lambda: len(supervisor.last_lines(name)) >= lines)
    return dict(json.loads(supervisor.last_lines(name)[-1]))


def supervisord(supervisor: Supervisor) -> int:
    return int((supervisor.folder / "supervisord.pid").read_text())


def test_a_forked_program_is_like_an_executed_one_except_that_supervisord_has_imported_its_package(launch, folder):
    executed, forked = shared_program("executed", "tell", "a b", ""), shared_program("forked", "tell", "a b", "")
    supervisor = launch(executed, forked, start=[executed])
    assert supervisor.preload(["shared"])
    supervisor.start(forked)
    one, other = output(supervisor, "executed"), output(supervisor, "forked")
    assert one.pop("loaded by") == pid(supervisor, "executed")
    assert other.pop("loaded by") == supervisord(supervisor)
    for each, name in ((one, "executed"), (other, "forked")):
        assert int(each.pop("parent")) == pid(supervisor, name)
        assert each.pop("name") == name
    assert one == other
    title = Path(f"/proc/{pid(supervisor, 'forked')}/cmdline").read_bytes().split(b"\0")[0].decode()
    assert title == f"{sys.executable} -m shared tell a b "
    supervisor.stop(10.0)
    assert list(folder.glob("*.pid")) == []


def test_a_start_logs_nothing_that_looks_like_a_fault(launch, folder):
    supervisor = launch(shared_program("executed", "tell"))
    until(lambda: supervisor.last_lines("executed"))
    levels = [line.split()[2] for line in (folder / "logs" / "supervisord.log").read_text().splitlines()]
    assert "INFO" in levels
    assert set(levels) == {"INFO"}


def test_a_forked_program_that_is_killed_is_forked_again_and_does_not_outlive_its_supervisor(launch, folder):
    program = shared_program("forked", "tell", stable_seconds=1.0)
    supervisor = launch(program, start=[])
    supervisor.preload(["shared"])
    supervisor.start(program)
    output(supervisor, "forked")
    first = pid(supervisor, "forked")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert output(supervisor, "forked", lines=2)["loaded by"] == supervisord(supervisor)
    second = pid(supervisor, "forked")
    assert second not in (None, first)
    os.kill(supervisord(supervisor), signal.SIGKILL)
    until(lambda: not lives(second), 5)
    until(lambda: not supervisor.running, 2)


def test_the_exit_code_of_a_forked_program_is_reported_like_any_other(launch, folder):
    programs = [
        shared_program("good", "code", "0"),
        shared_program("wrong", "code", "78"),
        shared_program("words", "words"),
        shared_program("fault", "fault"),
    ]
    supervisor = launch(*programs, start=[])
    supervisor.preload(["shared"])
    for each in programs:
        supervisor.start(each)
    until(lambda: supervisor.exit_codes() == {"good": 0, "wrong": 78, "words": 1, "fault": 1})
    assert supervisor.last_lines("words")[-1] == "some words"
    assert supervisor.last_lines("fault")[-1] == "RuntimeError: a fault"


def test_a_package_that_starts_a_thread_when_it_is_imported_is_executed_instead(launch, folder):
    (folder / "shared" / "__init__.py").write_text(
        f"{PACKAGE}\nimport threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    program = shared_program("one", "tell")
    supervisor = launch(program, start=[])
    assert not supervisor.preload(["shared"])
    supervisor.start(program)
    assert output(supervisor, "one")["loaded by"] == pid(supervisor, "one")


def test_the_pause_before_a_start_has_a_bound():
    process = Process(SimpleNamespace())
    pauses = []
    for _ in range(60):
        process.state = ProcessStates.STARTING
        process.change_state(ProcessStates.BACKOFF)
        pauses.append(process.backoff)
    assert pauses[:4] == [1, 2, 3, 4]
    assert max(pauses) == LONGEST_PAUSE_SECONDS


def test_a_log_file_that_could_not_be_opened_after_a_rotation_is_opened_when_it_can_be(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = LogFile(str(folder / "one.log"), "a", maxBytes=10, backupCount=1)
    (folder / "one.log").unlink()
    folder.rmdir()
    logger = loggers.Logger(handlers=[file])
    logger.info(b"longer than ten bytes")
    logger.info(b"dropped: there is no folder")
    folder.mkdir()
    logger.info(b"here")
    file.close()
    assert (folder / "one.log").read_bytes() == b"here"
