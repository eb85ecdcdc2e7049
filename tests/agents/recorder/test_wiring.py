"""The recorder as it really runs: its rows and the journal are one transaction."""

from __future__ import annotations

import pytest

from agents.wiring.database import database_of
from agents.wiring.platform import parts
from agents.wiring.recorder import build
from infra.settings import Settings, load
from infra.sql.features import SqlFeatureTable
from infra.sql.migrate import migrate
from schemas.topics import TOPICS
from tests.agents.recorder.delivery import Delivery
from tests.agents.recorder.facts import answer, feedback


@pytest.fixture
def settings(tmp_path):
    settings = load(home=tmp_path, environ={"EVERLEARN_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    migrate(settings.sql_url())
    yield settings
    database_of(settings).close()


def delivery(settings: Settings) -> Delivery:
    platform = parts(settings)
    return Delivery(build(settings).dispatch(), platform.database, platform.journal)


def test_it_reads_the_topics_that_the_table_gives_it(settings):
    worker = build(settings)
    assert worker.agent == "recorder"
    assert set(worker.topics) == {topic.name for topic in TOPICS if "recorder" in topic.readers}


async def test_a_row_and_its_journal_entry_are_committed_together(settings):
    recorder = delivery(settings)
    await recorder.deliver(feedback("up"), answer())
    row = SqlFeatureTable(database_of(settings)).get("q-1")
    assert row is not None
    assert (row.revision, row.outcome) == (2, "approved")


async def test_neither_is_kept_when_the_transaction_fails(settings):
    recorder = delivery(settings)
    batch = [answer(), feedback("up")]
    outcomes = list(zip(batch, await recorder.handle(batch), strict=True))

    def fail(number: int) -> None:
        if number == 1:
            raise RuntimeError("the second event spoils the batch")

    with pytest.raises(RuntimeError):
        recorder.commit(outcomes, before_each=fail)
    assert SqlFeatureTable(database_of(settings)).recent(None, 9) == []
    assert recorder.journal.find("recorder", [each.identity for each in batch]) == {}
    recorder.commit(outcomes)
    assert len(SqlFeatureTable(database_of(settings)).recent(None, 9)) == 1
