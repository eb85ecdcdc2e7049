"""The promoter as it really runs: its topics, its settings, and a release that is one transaction with the journal."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agents.wiring.database import database_of
from agents.wiring.platform import parts
from agents.wiring.promoter import build
from infra.settings import Settings, load
from infra.sql.migrate import migrate
from infra.sql.releases import SqlReleases
from schemas.envelope import EventContext, Position, Received
from schemas.errors import ConfigurationError
from schemas.tasks import Task
from schemas.topics import TOPICS
from tests.agents.promoter.room import START, validated


@pytest.fixture
def settings(tmp_path: Path):
    settings = load(home=tmp_path, environ={"EVERLEARN_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    migrate(settings.sql_url())
    yield settings
    database_of(settings).close()


def test_it_reads_the_topics_that_the_table_gives_it(settings: Settings):
    worker = build(settings)
    assert worker.agent == "promoter"
    assert set(worker.topics) == {topic.name for topic in TOPICS if "promoter" in topic.readers}


@pytest.mark.parametrize("shares", ["[]", "[0.5, 0.1]", "[0.1, 0.1]", "[0.0, 0.5]", "[0.5, 1.0]"])
def test_shares_that_do_not_rise_between_0_and_1_are_refused(tmp_path: Path, shares: str):
    (tmp_path / "everlearn.toml").write_text(f"[promoter]\nshares = {shares}\n")
    with pytest.raises(ConfigurationError, match=r"give rising shares of the users, such as \[0.1, 0.5\]"):
        build(load(home=tmp_path, environ={}))


@pytest.mark.parametrize(("task", "share"), [("routing", 0.3), ("support", 0.1)])
async def test_a_task_may_have_a_canary_of_its_own(settings: Settings, task: str, share: float):
    routing = Task(name="routing", instruction="x", promoter={"shares": [0.3]})
    worker = build(settings.model_copy(update={"tasks": {"routing": routing}}))
    received = Received(
        event=validated("a", task=task),
        context=EventContext(id="1", source="/t", time=START),
        position=Position("validations.v1", 0, 0),
    )
    [outcome] = await worker.dispatch()([received])
    assert outcome.effect is not None
    with database_of(settings).transaction():
        outcome.effect()
    assert SqlReleases(database_of(settings)).current(task).share == share


async def test_a_release_and_its_journal_entry_are_committed_together(settings: Settings):
    platform, releases = parts(settings), SqlReleases(database_of(settings))
    received = Received(
        event=validated("a"),
        context=EventContext(id="1", source="/t", time=START),
        position=Position("validations.v1", 0, 0),
    )
    [outcome] = await build(settings).dispatch()([received])
    assert outcome.effect is not None

    def commit(fails: bool) -> None:
        with platform.database.transaction():
            assert outcome.effect is not None
            assert len(outcome.effect()) == 1
            platform.journal.add("promoter", received.identity, (), START)
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        commit(fails=True)
    assert releases.current("routing").sequence == 0
    commit(fails=False)
    assert replace(releases.current("routing"), changed_at=None).challenger == "a"
    assert list(platform.journal.find("promoter", [received.identity])) == [received.identity]


def test_describing_the_worker_loads_neither_mlflow_nor_torch(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from infra.settings import load; "
        "from agents.wiring.promoter import build; "
        f"build(load(home=Path({str(tmp_path)!r}), environ={{}})); "
        "sys.exit(' '.join({'mlflow', 'torch', 'evidently', 'pandas'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
