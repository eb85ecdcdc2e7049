"""A disk that becomes full under a running stack delays events; when there is room again, work goes on by itself."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from benchmarks.disk_full import Observer, Traffic, doubled, effects, missing
from benchmarks.small_disk import Balloon, CannotMount, small_disk
from infra.local.supervisor import Supervisor
from schemas.errors import Unavailable
from tests.fixtures.kafka import CACHE, prepared
from tests.fixtures.stack import Home
from tests.flows.waiting import until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(400)]
WORKERS = "answerer=0,loader=0,monitor=0,trainer=0,validator=0,promoter=0,quantizer=0"
MEGABYTES = 400
FULL_SECONDS = 15


def test_a_full_disk_delays_events_and_loses_none(models_folder: Path, tmp_path: Path):
    prepared()
    try:
        disk = small_disk(tmp_path / "disk", MEGABYTES)
        with disk as folder:
            home = Home(folder / "home", CACHE.parent)
            try:
                _run(home, folder)
            finally:
                home.close()
    except CannotMount as error:
        pytest.skip(f"needs a small file system: {error}")


def _run(home: Home, folder: Path) -> None:
    assert "ready in " in home.run("up", "--detach", "--workers", WORKERS).stdout
    before = home.status()
    assert before["ready"] is True
    assert f"the disk of {home.path} is nearly full" in before["warnings"][0]
    supervisor, observer = Supervisor(home.path / "run"), Observer(home.path)
    (folder / "document.md").write_text("A parcel takes three days.")
    with Traffic(home.path, questions=False) as traffic:
        until(lambda: len(traffic.confirmed) > 4)
        with Balloon(folder):
            # The broker halts when it cannot write; each event needs room.
            until(lambda: f"the disk of {home.path} is full" in home.status().get("problem", ""))
            until(lambda: traffic.refusals >= 2, FULL_SECONDS * 4)
            told = home.run(
                *("publish", "documents", str(folder / "document.md"), "--wait", "--timeout", "3"), check=False
            )
            assert told.returncode == 1
            assert f"the disk of {home.path} is full" in told.stderr.splitlines()[-1]
            assert supervisor.running
            full = len(traffic.confirmed)
        until(lambda: len(traffic.confirmed) > full + 4, 120)

    def all_have_an_outcome() -> bool:
        with contextlib.suppress(Unavailable):  # the broker has just been started again
            return not missing(observer.look(), traffic.confirmed)
        return False

    until(all_have_an_outcome, 120, every=1.0)
    until(lambda: home.status()["ready"], 60, every=1.0)
    assert doubled(observer.look(), traffic.confirmed) == 0
    assert observer.found.dead_letters == 0
    assert effects(home.path, traffic.confirmed) == (0, 0)
