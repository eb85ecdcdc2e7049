"""The supervisor, with small real programs that misbehave in every way a process can."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.die_with_parent import PID_DIGITS, bound_command
from infra.local.locks import try_lock
from infra.local.supervisor import Supervisor
from infra.local.supervisord_conf import SERVICES, Program, socket_path
from schemas.errors import ConfigurationError, Unavailable

SLEEPER = "import time; print('here', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
POLITE = (
    "import signal, sys, time; print('here', flush=True);"
    "signal.signal(signal.SIGTERM, lambda *_: (print(sys.argv[2], file=open(sys.argv[1], 'a')), sys.exit()));"
    "time.sleep(600)"
)
ODD_NAMES = ["a b", "semi ;colon", "hash # mark", "per%cent %(x)s", "quo'te\"s", "über-Größe", "x" * 150]


def program(name: str, code: str, *arguments: str, **fields) -> Program:
    return Program(name=name, command=[sys.executable, "-c", code, *arguments], **fields)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def lives(process: int | None) -> bool:
    """Whether a process runs. A zombie does not: the process that should have read its exit code was killed."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def said(supervisor: Supervisor, name: str) -> int:
    return len(supervisor.last_lines(name, 1000))


def pid(supervisor: Supervisor, name: str) -> int | None:
    return next(each.pid for each in supervisor.processes() if each.name == name)


def launched(folder: Path, *programs: Program, start: Sequence[Program] | None = None) -> Supervisor:
    supervisor = Supervisor(folder)
    lock = try_lock(folder / "lock")
    assert lock is not None
    supervisor.launch(programs, lock)
    for each in programs if start is None else start:
        supervisor.start(each)
    return supervisor


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*programs: Program, folder: Path = tmp_path / "run", **fields) -> Supervisor:
        made.append(launched(folder, *programs, **fields))
        return made[-1]

    yield make
    # The last one first: of two in one folder, only the last one's process can be waited for.
    for each in reversed(made):
        each.stop(20.0)


def test_programs_run_log_and_stop(launch):
    supervisor = launch(program("one", SLEEPER), program("two", SLEEPER, group=SERVICES))
    until(lambda: supervisor.last_lines("one") == ["here"] and supervisor.last_lines("two") == ["here"])
    pids = [each.pid for each in supervisor.processes()]
    assert supervisor.running
    supervisor.stop(10.0)
    assert not any(lives(each) for each in pids)
    assert not supervisor.running
    assert list(supervisor.folder.glob("*.pid")) == []


def test_agents_stop_before_the_services_that_they_use(launch, tmp_path):
    order = tmp_path / "order"
    supervisor = launch(
        program("kafka", POLITE, str(order), "kafka", group=SERVICES),
        program("agent", POLITE, str(order), "agent"),
    )
    until(lambda: supervisor.last_lines("kafka") and supervisor.last_lines("agent"))
    supervisor.stop(10.0)
    assert order.read_text().split() == ["agent", "kafka"]


def test_what_is_killed_is_started_again(launch):
    supervisor = launch(program("one", SLEEPER, stable_seconds=1.0))
    until(lambda: supervisor.processes()[0].state == "RUNNING")
    first = pid(supervisor, "one")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: pid(supervisor, "one") not in (None, first))


def test_what_dies_at_once_is_started_again_later_and_later(launch):
    supervisor = launch(program("one", "import time; print(time.monotonic(), flush=True); raise SystemExit(3)"))
    until(lambda: said(supervisor, "one") >= 4)
    times = [float(line) for line in supervisor.last_lines("one", 4)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps[0] >= 0.9
    assert gaps[2] > gaps[0] + 0.5, "supervisord looks once a second, so neighbours may be equal"


def test_the_exit_code_of_the_last_death_is_kept_also_when_the_program_lives_again(launch, tmp_path):
    once = (
        "import pathlib, sys, time; mark = pathlib.Path(sys.argv[1]);"
        "mark.exists() and time.sleep(600); mark.touch(); sys.exit(78)"
    )
    supervisor = launch(program("one", once, str(tmp_path / "mark")), program("two", SLEEPER))
    until(lambda: supervisor.exit_codes() == {"one": 78} and pid(supervisor, "one") is not None)
    living = pid(supervisor, "two")
    assert living is not None
    os.kill(living, signal.SIGKILL)
    until(lambda: supervisor.exit_codes() == {"one": 78, "two": -1})


def test_what_ignores_sigterm_is_killed_after_its_bound(launch):
    supervisor = launch(program("deaf", DEAF, stop_seconds=2.0))
    until(lambda: supervisor.last_lines("deaf") == ["deaf"])
    began = time.monotonic()
    supervisor.stop(15.0)
    assert 1.5 < time.monotonic() - began < 8
    assert not supervisor.running


def test_a_killed_supervisor_leaves_no_process_behind(launch, tmp_path):
    order = tmp_path / "order"
    supervisor = launch(
        program("kafka", POLITE, str(order), "kafka", group=SERVICES, death_signal=signal.SIGTERM),
        program("deaf", DEAF),
    )
    until(lambda: supervisor.last_lines("kafka") and supervisor.last_lines("deaf"))
    pids = [each.pid for each in supervisor.processes()]
    os.kill(int((supervisor.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: not any(lives(each) for each in pids), 5)
    assert order.read_text() == "kafka\n", "a service closes its files even then"
    until(lambda: not supervisor.running, 2)


def test_what_outlives_a_killed_supervisor_is_ended_by_the_next_start(launch):
    stubborn = program("deaf", DEAF, group=SERVICES, death_signal=signal.SIGTERM)
    first = launch(stubborn)
    until(lambda: first.last_lines("deaf") == ["deaf"])
    orphan = pid(first, "deaf")
    os.kill(int((first.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: not first.running, 5)
    assert lives(orphan)
    second = launch(program("one", SLEEPER))
    assert not lives(orphan)
    until(lambda: second.last_lines("one") == ["here"])


STARTER = """
import sys, time
from pathlib import Path
from tests.infra.local.test_supervisor import SLEEPER, launched, program
one, two = program("one", SLEEPER), program("two", SLEEPER)
supervisor = launched(Path(sys.argv[1]), one, two, start=[one])
if sys.argv[2] == "release":
    supervisor.release()
print(supervisor.processes()[0].pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["tied", "release"])
def test_killing_who_started_it_ends_everything_unless_it_was_released(how, tmp_path):
    folder = tmp_path / "run"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(folder), how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    supervisor = Supervisor(folder)
    if how == "tied":
        until(lambda: not supervisor.running and not lives(child), 10)
    else:
        supervisor.start(program("two", SLEEPER))
        until(lambda: supervisor.last_lines("two") == ["here"])
        assert pid(supervisor, "one") == child
        supervisor.stop(10.0)
        assert not lives(child)


def test_only_one_at_a_time_may_hold_a_folder(launch):
    supervisor = launch(program("one", SLEEPER))
    until(lambda: supervisor.last_lines("one"))
    assert supervisor.running
    assert try_lock(supervisor.folder / "lock") is None
    supervisor.stop(10.0)
    lock = try_lock(supervisor.folder / "lock")
    assert lock is not None
    lock.close()


def test_what_is_started_while_another_supervisord_stops_is_left_alone(launch, tmp_path):
    folder = tmp_path / "run"
    first = launch(program("one", SLEEPER), folder=folder)
    until(lambda: first.last_lines("one") == ["here"])
    with ThreadPoolExecutor() as beside:
        stopped = beside.submit(Supervisor(folder).stop, 20.0)
        while (lock := try_lock(folder / "lock")) is None:
            pass
        second = Supervisor(folder)
        second.launch([program("two", SLEEPER)], lock)
        try:
            second.start(program("two", SLEEPER))
            living = pid(second, "two")
            stopped.result(30)
            assert second.running
            assert pid(second, "two") == living
            assert lives(living)
        finally:
            second.stop(20.0)
    assert not lives(living)


def test_a_supervisord_that_is_being_started_is_stopped_too(launch, tmp_path):
    folder = tmp_path / "run"
    lock = try_lock(folder / "lock")  # as 'up' has it while it downloads
    assert lock is not None
    with ThreadPoolExecutor() as beside:
        stopped = beside.submit(Supervisor(folder).stop, 20.0)
        supervisor = Supervisor(folder)
        try:
            supervisor.launch([], lock)
        except Unavailable as error:  # it was stopped before it could answer
            assert "was stopped while it started" in str(error)  # noqa: PT017  # either is right
        stopped.result(30)
    assert supervisor.wait() == 0


def test_stopping_what_does_not_run_is_harmless(tmp_path):
    Supervisor(tmp_path / "nothing").stop(1.0)
    with pytest.raises(Unavailable, match="start it with 'everlearn up'"):
        Supervisor(tmp_path / "nothing").processes()


@pytest.mark.parametrize(
    "name", ["a b", "semi ;colon", "hash # mark", "per%cent %(x)s", "quo'te\"s", "über-Größe", "x" * 150]
)
def test_a_folder_of_any_name_will_do(launch, tmp_path, name):
    folder = tmp_path / name / "run"
    supervisor = launch(
        program("one", "import sys; print(ascii(sys.argv[1:]))", str(folder), "", "%d ;x"), folder=folder
    )
    until(lambda: supervisor.last_lines("one"))
    assert supervisor.last_lines("one")[0] == ascii([str(folder), "", "%d ;x"])
    assert len(os.fsencode(socket_path(folder))) <= 100


def test_a_program_that_is_not_there_is_told_by_its_log(launch):
    supervisor = launch(Program(name="missing", command=["/nonexistent/program"]))
    until(lambda: "Error: " in " ".join(supervisor.last_lines("missing", 50)))  # the traceback's last line
    assert "No such file or directory: '/nonexistent/program'" in " ".join(supervisor.last_lines("missing", 50))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written .*--home"):
        try_lock(tmp_path / "file" / "run" / "lock")


CHATTY = "import time; [(print('x' * 5000, flush=True), time.sleep(0.05)) for _ in iter(int, 1)]"


def test_a_full_disk_under_its_logs_ends_neither_supervisord_nor_a_program(launch, tmp_path):
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    for name in ("supervisord.log", "supervisord-output.log", "one.log"):
        (logs / name).symlink_to("/dev/full")  # each write fails as on a full disk
    supervisor = launch(program("one", CHATTY, stable_seconds=1.0))
    until(lambda: supervisor.processes()[0].state == "RUNNING")
    first = pid(supervisor, "one")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: pid(supervisor, "one") not in (None, first))
    until(lambda: supervisor.processes()[0].state == "RUNNING")
    assert supervisor.running


def test_a_process_id_is_written_over_the_last_one_without_more_room(tmp_path):
    file = tmp_path / "one.pid"
    file.write_text(f"{10**PID_DIGITS - 1}")
    # No file may be longer than it is now, as on a disk without a free block.
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({PID_DIGITS}, {PID_DIGITS}));"
    bound = bound_command(["sleep", "600"], signal.SIGKILL, file)
    with subprocess.Popen([sys.executable, "-c", f"{limited} import os; os.execv({bound[0]!r}, {bound!r})"]) as process:
        until(lambda: file.read_text().split() == [str(process.pid)])
        process.kill()
