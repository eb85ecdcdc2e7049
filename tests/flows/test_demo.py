"""The whole demo, with agents killed during its second half; then the lineage of its adapter, and a rollback."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.demo.shop import TASK, messages
from infra.settings import load
from infra.sql.database import Database
from infra.sql.runs import SqlRunStore
from schemas.delivery import Run
from schemas.event import JsonObject
from tests.fixtures.stack import RunningHome
from tests.flows.waiting import until

pytestmark = [pytest.mark.flow, pytest.mark.long, pytest.mark.timeout(3000)]

STAGE_SECONDS = 1200


@dataclass(frozen=True)
class Demo:
    """The demo's home, which still runs, the report that it printed last, and the runs whose workers were killed."""

    home: RunningHome
    report: JsonObject
    interrupted: list[Run]


@pytest.fixture(scope="module")
def demo(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    around = tmp_path_factory.mktemp("demo") / "home"
    home = RunningHome(around / "demo", models_folder)
    process = RunningHome(around, models_folder).start("demo", "--json", "--keep")
    try:
        interrupted = _kill_workers(home)
        output, _ = process.communicate(timeout=STAGE_SECONDS)
        assert process.returncode == 0, f"{output}\n{home.logs()}"
        yield Demo(home, json.loads(output.splitlines()[-1]), interrupted)
    finally:
        process.kill()
        home.run("down", check=False)


def _kill_workers(home: RunningHome) -> list[Run]:
    """Kills each worker of the second half once during its run, and another worker with it. Returns the runs."""
    until(lambda: (home.path / "everlearn.db").exists(), STAGE_SECONDS)
    with _runs(home) as runs:

        def second(agent: str, progress: float) -> Callable[[], Run | None]:
            """Waits for the agent's run after the one of the first adapter, until it has made this progress."""

            def found() -> Run | None:
                made = runs.of_task(agent, TASK, 20)
                for last in made[:1] if agent == "monitor" else made[:-1][:1]:
                    if last.state == "running" and last.progress.get("done", -1.0) >= progress:
                        return last
                return None

            return found

        interrupted = []
        for agent, progress, others in (
            ("monitor", 0.0, ("indexer-1",)),
            ("trainer", 0.3, ("recorder-1",)),
            ("validator", 0.3, ("promoter-1",)),
        ):
            interrupted.append(until(second(agent, progress), STAGE_SECONDS))
            pids = home.pids()
            for worker in (f"{agent}-1", *others):
                os.kill(pids[worker], signal.SIGKILL)
    return interrupted


@contextmanager
def _runs(home: RunningHome) -> Iterator[SqlRunStore]:
    database = Database(load(home.path, environ={}).sql_url())
    try:
        until(lambda: _has_tables(database), STAGE_SECONDS)
        yield SqlRunStore(database)
    finally:
        database.close()


def _has_tables(database: Database) -> bool:
    try:
        SqlRunStore(database).unfinished("trainer")
    except Exception:  # noqa: BLE001  # the tables do not exist yet
        return False
    return True


def test_the_new_product_line_is_learned_and_nothing_is_lost_although_agents_are_killed(demo: Demo) -> None:
    report = demo.report
    assert report["after"]["new"] >= report["before"]["new"] + 0.5
    assert report["after"]["old"] >= report["before"]["old"] - 0.05
    assert (report["failed"], report["wrong_adapter"]) == (0, 0)
    assert report["probed"] > 0
    with _runs(demo.home) as runs:
        ended = [runs.show(run.run_id) for run in demo.interrupted]
    assert [(run.agent, run.state, run.attempt) for run in ended if run is not None] == [
        ("monitor", "done", 2),
        ("trainer", "done", 2),
        ("validator", "done", 2),
    ]
    adapters = demo.home.json("adapters", "list")
    assert [each["state"] for each in adapters] == ["validated", "validated"]


def test_the_promotion_can_be_traced_to_the_corrections_that_caused_it(demo: Demo) -> None:
    (shown,) = demo.home.json("adapters", "show", demo.report["adapter_id"])
    lineage = shown["lineage"]
    assert lineage["cause"]["kind"] == "drift"
    assert Path(lineage["cause"]["report_uri"].removeprefix("file://")).is_file()
    assert lineage["corrections"]["count"] > 50
    answer = lineage["corrections"]["answers"][0]
    (row,) = demo.home.json("interactions", "show", answer)
    assert row["correction"]
    assert any("promoted" in each["event"] and each["role"] == "champion" for each in lineage["releases"])


def test_a_rollback_by_hand_returns_to_the_previous_adapter(demo: Demo) -> None:
    first = next(
        each["adapter_id"]
        for each in demo.home.json("adapters", "list")
        if each["adapter_id"] != demo.report["adapter_id"]
    )
    demo.home.run("rollback", TASK, "--reason", "a test", "--wait")
    (answer,) = demo.home.json("ask", messages("heldout_new")[20].text, "--task", TASK)
    assert answer["adapter_id"] == first
