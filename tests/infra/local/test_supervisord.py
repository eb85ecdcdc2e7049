"""Programs that start warm: as new as one that is started cold, but for the imports that they share."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.local.supervisor import Supervisor
from infra.local.supervisord_conf import Program
from tests.infra.local.test_supervisor import launch, lives, pid, until

__all__ = ["launch"]

SHARED = "import os; LOADED_BY = os.getpid()"
MAIN = """
import json, os, signal, subprocess, sys, threading, time
from warm import LOADED_BY

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
    """supervisord runs here, and finds the package here."""
    package = tmp_path / "run" / "warm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SHARED)
    (package / "__main__.py").write_text(MAIN)
    return tmp_path / "run"


def warm(name: str, *arguments: str, **fields: Any) -> Program:
    return Program(name=name, command=[sys.executable, "-m", "warm", *arguments], **fields)


def told(supervisor: Supervisor, name: str, lives_told: int = 1) -> dict[str, Any]:
    until(lambda: len(supervisor.last_lines(name)) >= lives_told)
    return dict(json.loads(supervisor.last_lines(name)[-1]))


def supervisord(supervisor: Supervisor) -> int:
    return int((supervisor.folder / "supervisord.pid").read_text())


def test_a_warm_program_is_as_a_cold_one_but_for_who_has_loaded_what_it_shares(launch, folder):
    cold, hot = warm("cold", "tell", "a b", ""), warm("hot", "tell", "a b", "")
    supervisor = launch(cold, hot, start=[cold])
    assert supervisor.preload(["warm"])
    supervisor.start(hot)
    one, other = told(supervisor, "cold"), told(supervisor, "hot")
    assert one.pop("loaded by") == pid(supervisor, "cold")
    assert other.pop("loaded by") == supervisord(supervisor)
    for each, name in ((one, "cold"), (other, "hot")):
        assert int(each.pop("parent")) == pid(supervisor, name)
        assert each.pop("name") == name
    assert one == other
    title = Path(f"/proc/{pid(supervisor, 'hot')}/cmdline").read_bytes().split(b"\0")[0].decode()
    assert title == f"{sys.executable} -m warm tell a b "
    supervisor.stop(10.0)
    assert list(folder.glob("*.pid")) == []


def test_a_warm_program_that_is_killed_starts_warm_again_and_none_outlives_its_supervisor(launch, folder):
    program = warm("hot", "tell", stable_seconds=1.0)
    supervisor = launch(program, start=[])
    supervisor.preload(["warm"])
    supervisor.start(program)
    told(supervisor, "hot")
    first = pid(supervisor, "hot")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert told(supervisor, "hot", lives_told=2)["loaded by"] == supervisord(supervisor)
    second = pid(supervisor, "hot")
    assert second not in (None, first)
    os.kill(supervisord(supervisor), signal.SIGKILL)
    until(lambda: not lives(second), 5)
    until(lambda: not supervisor.running, 2)


def test_how_a_warm_program_ended_is_told_as_of_any_other(launch, folder):
    programs = [warm("good", "code", "0"), warm("wrong", "code", "78"), warm("words", "words"), warm("fault", "fault")]
    supervisor = launch(*programs, start=[])
    supervisor.preload(["warm"])
    for each in programs:
        supervisor.start(each)
    until(lambda: supervisor.exit_codes() == {"good": 0, "wrong": 78, "words": 1, "fault": 1})
    assert supervisor.last_lines("words")[-1] == "some words"
    assert supervisor.last_lines("fault")[-1] == "RuntimeError: a fault"


def test_what_starts_a_thread_when_it_is_loaded_is_not_shared(launch, folder):
    (folder / "warm" / "__init__.py").write_text(
        f"{SHARED}\nimport threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    program = warm("one", "tell")
    supervisor = launch(program, start=[])
    assert not supervisor.preload(["warm"])
    supervisor.start(program)
    assert told(supervisor, "one")["loaded by"] == pid(supervisor, "one")
