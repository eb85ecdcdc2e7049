"""``everlearn storage`` on an empty home, on one with SQLite, and on one with PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.cli.storage import amount
from infra.settings import Settings, load
from infra.sql.database import Database
from infra.sql.drift import SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from infra.sql.journal import SqlJournal
from infra.sql.migrate import migrate
from infra.sql.sizes import SqlSizes
from infra.training.datasets import FolderDatasets
from schemas.datasets import DatasetRow
from schemas.drift import DriftCheck
from schemas.features import Interaction, Stamp
from schemas.learning import Window
from schemas.registry import AdapterRecord
from tests.agents.cli.conftest import Everlearn, command_line
from tests.fixtures.registry import RegistryIn

NOW = datetime.now(UTC)
HEX = "0123456789abcdef" * 2


@pytest.fixture
def alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Everlearn:
    """The command line on a home whose stack never ran."""
    return command_line(tmp_path / "new", capsys)


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, registry_in: RegistryIn) -> Iterator[Settings]:
    """A home with old and new things of most kinds."""
    home = tmp_path / "home"
    home.mkdir()
    if request.param == "postgresql":
        url = request.getfixturevalue("migrated_postgres_url")
        (home / "everlearn.toml").write_text(f'[sql]\nurl = "{url}"\n')
    settings = load(home, environ={})
    migrate(settings.sql_url())
    database = Database(settings.sql_url())
    journal, features, checks = SqlJournal(database), SqlFeatureTable(database), SqlDriftChecks(database)
    for number, days in enumerate((1, 19.5, 25)):
        journal.add("recorder", f"e{number}", [], NOW - timedelta(days=days))
    for number, days in enumerate((1, 31, 364.5)):
        at = NOW - timedelta(days=days)
        row = Interaction(answer_id=f"a{number}", last_event_at=at, question="x" * 100)
        features.put_interaction(row if days == 31 else replace(row, answer_stamp=Stamp(time=at, event="e")))
    for name, days, verdict in (("quiet", 20, None), ("drift", 20, "outcomes"), ("new", 1, None)):
        at = NOW - timedelta(days=days)
        window = Window(start=at, end=at, rows=60)
        check_id = f"{name.encode().hex():0<32}"
        checks.add(
            DriftCheck(
                check_id=check_id, task="routing", checked_at=at, baseline=1, reference=window, current=window,
                findings=(), verdict=verdict,
            )
        )  # fmt: skip
        _file(home / "reports" / "drift" / "routing" / f"{check_id}.html", 1000, days)
    registry = registry_in(home)
    for letter, days in (("a", 400), ("b", 1)):
        at = NOW - timedelta(days=days)
        learned = DatasetRow(
            row_id=letter, input="i", output="o", origin="example", origin_id="e", at=at, split="train"
        )
        dataset = FolderDatasets(settings.datasets_folder, database).put("routing", [learned], created_at=at)
        adapter_id = letter + HEX[1:]
        registry.register(
            AdapterRecord(
                adapter_id=adapter_id, task="routing", base_model="m", dataset_id=dataset.dataset_id, run_id=letter,
                size_bytes=1, created_at=at,
            )
        )  # fmt: skip
        _file(home / "adapters" / adapter_id / "adapter_model.safetensors", 5000, days)
    _file(home / "work" / "runs" / "r1" / "adapter_model.safetensors", 700, 2)
    _file(home / "kafka" / "answers.v1-0" / "0.log", 900, 14)
    _file(home / "kafka" / "answers.v1-1" / "0.log", 90, 1)
    _file(home / "run" / "logs" / "recorder-1.log", 50, 0)
    yield settings
    database.close()


def _file(path: Path, size: int, days: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))
    os.utime(path.parent, (moment, moment))


def test_a_new_home_keeps_nothing(alone: Everlearn):
    assert (alone("storage").code, alone("storage", "--json").out) == (0, "")
    assert "keeps nothing yet: start it with 'everlearn up'" in alone("storage").out


def test_every_kind_says_what_it_takes_how_long_and_what_goes_next(kept: Settings, capsys: pytest.CaptureFixture[str]):
    result = command_line(kept.home, capsys)("storage", "--json")
    assert (result.code, result.err) == (0, "")
    kinds = {line["kind"]: line for line in result.lines}
    counts = {name: (line["count"], line["next"] and line["next"]["count"]) for name, line in kinds.items()}
    expected = {
        "feature rows": (3, 2),
        "journal": (3, 2),
        "drift checks": (3, 0),
        "drift reports": (3, 1),
        "adapters": (2, 1),
        "datasets": (2, 0),
        "run folders": (1, 1),
        "topic answers.v1": (2, 1),
        "logs": (1, None),
    }
    assert {name: counts[name] for name in expected} == expected
    assert kinds["adapters"]["next"]["bytes"] == 5000
    assert kinds["topic answers.v1"]["bytes"] == 990
    assert kinds["topic answers.v1"]["next"]["bytes"] == 900
    assert kinds["drift reports"]["next"]["bytes"] == 1000
    assert kinds["journal"]["deleted_by"] == "every agent"
    assert all(line["bytes"] > 0 and line["kept"] for line in kinds.values())
    assert "examples" not in kinds  # there are none


def test_people_see_a_line_a_kind_and_the_sum(kept: Settings, capsys: pytest.CaptureFixture[str]):
    result = command_line(kept.home, capsys)("storage")
    lines = result.out.splitlines()
    assert lines[0].split()[0] == "WHAT"
    assert any(line.startswith("adapters ") and "10.0 kB" in line and "1, 5.0 kB" in line for line in lines)
    assert lines[-1].endswith("in all")
    assert max(map(len, lines)) < 200


def test_a_database_that_is_away_is_named_and_files_are_still_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "everlearn.toml").write_text('[sql]\nurl = "postgresql+psycopg://u:secret@127.0.0.1:9/db"\n')
    _file(tmp_path / "run" / "logs" / "recorder-1.log", 50, 0)
    result = command_line(tmp_path, capsys)("storage", "--json")
    assert result.code == 1
    assert [line["kind"] for line in result.lines] == ["logs"]
    assert result.err.count("error: ") == 1
    assert "secret" not in result.err


def test_the_sizes_of_the_tables_add_up_to_the_database(migrated_url: str):
    database = Database(migrated_url)
    SqlJournal(database).add_many("recorder", [(f"e{number}", []) for number in range(5000)], NOW)
    sizes = SqlSizes(database).tables()
    assert sizes["journal"].rows == 5000
    assert sizes["journal"].bytes is not None
    assert 300_000 < sizes["journal"].bytes < 3_000_000
    if database.dialect == "sqlite":
        total = sum(each.bytes or 0 for each in sizes.values())
        file = Path(str(database.url.database))
        database.close()  # which brings the file up to date
        assert 0.9 * file.stat().st_size < total <= file.stat().st_size
    database.close()


@pytest.mark.parametrize(
    ("size", "words"),
    [(None, "–"), (0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e15, "3,000.0 TB")],
)
def test_amounts_are_in_human_units(size: float | None, words: str):
    assert amount(None if size is None else int(size)) == words
