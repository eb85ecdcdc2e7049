"""Which working folders of runs are deleted: never that of a run that is queued or running."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agents.delivery.run_folders import RunFolders
from infra.memory.database import MemoryDatabase
from infra.memory.runs import MemoryRunStore
from schemas.policies import RetentionPolicy
from tests.agents.delivery.rig import START

POLICY = RetentionPolicy(run_folder_days=1, failed_run_folder_days=14)
LONG_AGO = START - timedelta(days=400)


class Runs:
    """Runs and their folders, all last changed long ago."""

    def __init__(self, folder: Path) -> None:
        self.store, self.folder = MemoryRunStore(MemoryDatabase()), folder

    def add(self, name: str, *, agent: str = "trainer", state: str, ended_at: datetime = LONG_AGO) -> None:
        if state != "forgotten":
            self.store.add(agent, name, "train", {}, {}, LONG_AGO)
        if state not in ("queued", "forgotten"):
            self.store.claim(agent, name, now=LONG_AGO, lease_seconds=1)
        if state in ("done", "failed"):
            assert self.store.finish(name, 1, state=state, result={}, now=ended_at)
        path = self.folder / name
        path.mkdir(parents=True)
        (path / "adapter_model.safetensors").write_bytes(b"weights")
        os.utime(path, (ended_at.timestamp(), ended_at.timestamp()))

    def clean(self, now: datetime = START, policy: RetentionPolicy = POLICY) -> set[str]:
        """Returns the folders that are deleted."""
        before = {each.name for each in self.folder.iterdir()}
        count = RunFolders(agent="trainer", folder=self.folder, runs=self.store, policy=policy).clean(now)
        gone = before - {each.name for each in self.folder.iterdir()}
        assert count == len(gone)
        return gone


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def test_the_folder_of_a_queued_or_running_run_stays_however_old_it_is(runs: Runs) -> None:
    for state in ("queued", "running"):
        runs.add(state, state=state)
    assert runs.clean() == set()
    assert runs.clean(policy=RetentionPolicy(run_folder_days=0, failed_run_folder_days=0)) == set()


def test_a_failed_runs_folder_stays_longer_than_that_of_a_run_that_succeeded(runs: Runs) -> None:
    for days in (0, 2, 15):
        for state in ("done", "failed"):
            runs.add(f"{state} {days}", state=state, ended_at=START - timedelta(days=days))
    assert runs.clean() == {"done 2", "done 15", "failed 15"}


def test_another_agents_folders_are_its_own_and_those_without_a_row_are_anybodys(runs: Runs) -> None:
    runs.add("checked", agent="monitor", state="done")
    runs.add("forgotten", state="forgotten")
    runs.add("forgotten lately", state="forgotten", ended_at=START - timedelta(days=13))
    assert runs.clean() == {"forgotten"}


def test_a_folder_that_cannot_be_deleted_is_logged_and_the_others_go(runs: Runs) -> None:
    for name in "abc":
        runs.add(name, state="done")
    gone: list[str] = []

    def remove(path: Path) -> None:
        if path.name == "a":
            raise PermissionError(13, "not yours")
        if path.name == "b":
            raise FileNotFoundError(2, "another worker was first")
        gone.append(path.name)

    with capture_logs() as logs:
        folders = RunFolders(agent="trainer", folder=runs.folder, runs=runs.store, policy=POLICY, remove=remove)
        assert folders.clean(START) == 1
    assert gone == ["c"]
    assert [Path(line["folder"]).name for line in logs] == ["a"]


def test_a_home_without_runs_has_nothing_to_delete(tmp_path: Path) -> None:
    store = MemoryRunStore(MemoryDatabase())
    assert RunFolders(agent="trainer", folder=tmp_path / "none", runs=store, policy=POLICY).clean(START) == 0
