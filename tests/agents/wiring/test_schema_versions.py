"""A whole worker beside a database of another version: it says so, waits, and loses nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from infra.kafka import RecordPublisher, create_topics
from infra.kafka.fleet import Fleet
from infra.kafka.topics import record_counts
from infra.settings import load
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.migrate import known_revisions, migrate
from schemas.envelope import encode, new_context
from schemas.interactions import FeedbackGiven
from schemas.topics import dead_letter_topic
from tests.fixtures.kafka import PrivateBroker
from tests.flows.waiting import until

ROOT = Path(__file__).parents[3]
ADVICE = "version 9999, which this Everlearn does not know: install the newer Everlearn"


@pytest.mark.processes
def test_a_worker_waits_while_the_tables_are_newer_than_its_code(
    kafka_broker: Callable[[], PrivateBroker], tmp_path: Path
):
    config = kafka_broker().config
    create_topics(config)
    (tmp_path / "everlearn.toml").write_text(f'[kafka]\nbootstrap_servers = "{config.bootstrap_servers}"\n')
    url = load(tmp_path, environ={}).sql_url()
    migrate(url)
    database = Database(url)

    def set_version(version: str) -> None:
        with database.connection(write=True) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})

    log = tmp_path / "worker.log"
    line = [sys.executable, "-m", "agents", "--home", str(tmp_path), "run", "recorder"]
    set_version("9999")
    refused = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert ADVICE in refused.stderr

    with (
        log.open("wb") as output,
        subprocess.Popen([*line, "--worker", "recorder-1", "--no-setup"], cwd=ROOT, stderr=output) as worker,
    ):
        try:
            until(lambda: ADVICE in log.read_text())  # as 'everlearn up' starts it: an exit would be a restart
            assert worker.poll() is None
            set_version(known_revisions()[0])
            until(lambda: '"event": "ready"' in log.read_text())

            set_version("9999")
            with RecordPublisher(config) as publisher:
                event = FeedbackGiven(answer_id="a1", rating="up")
                publisher.publish([encode(event, new_context("/tests", now=datetime.now(UTC)))])
            with Fleet(config) as fleet:

                def detail() -> str:
                    reports = fleet.reports(0.2)
                    return (reports["recorder-1"].worker.detail or "") if "recorder-1" in reports else ""

                until(lambda: ADVICE in detail())
            features = SqlFeatureTable(database)
            assert features.get("a1") is None
            set_version(known_revisions()[0])
            until(lambda: features.get("a1") is not None)
        finally:
            worker.terminate()
    database.close()
    assert "Traceback" not in log.read_text()
    letters = dead_letter_topic("feedback.v1", "recorder")
    assert record_counts(config, [letters]) == {letters: 0}
