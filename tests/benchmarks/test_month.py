"""Forty days of a small home: what must remain is there, what is old is gone, and the home stops growing."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from benchmarks.month import FIRST_DAY, REFERENCE, TASK, Day, Home, Load, bound, settings_in, simulate
from infra.sql import tables
from infra.sql.statements import slices
from schemas.policies import RetentionPolicy
from tests.fixtures.registry import RegistryIn

DAYS = 40
LOAD = Load(answers=96, trainings=1, dataset_rows=50, adapter_bytes=20_000, report_bytes=10_000, alarms=0.5)
POLICY = RetentionPolicy(
    feature_days=18, pending_days=16, journal_days=16, run_days=6, run_folder_days=1, failed_run_folder_days=3,
    report_days=3, alarm_report_days=16, check_days=17, rejected_adapter_days=4, adapter_days=32, rollbacks=2,
    release_days=16, dataset_days=5, registry_days=34,
)  # fmt: skip
END = FIRST_DAY + timedelta(days=DAYS)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, registry_template: Path):
    """A home after forty days, and what each day left."""
    import shutil

    folder = tmp_path_factory.mktemp("month")
    shutil.copytree(registry_template, folder, dirs_exist_ok=True)
    home = Home(settings_in(folder, POLICY), LOAD)
    days = list(simulate(home, DAYS))
    yield home, days
    home.close()


Lived = tuple[Home, list[Day]]


def rows_of(home: Home, table: str) -> int:
    with home.database.connection() as connection:
        return int(connection.execute(select(func.count()).select_from(tables.METADATA.tables[table])).scalar_one())


def oldest(home: Home, column: str) -> datetime:
    table, _, name = column.partition(".")
    with home.database.connection() as connection:
        found: datetime = connection.execute(select(func.min(tables.METADATA.tables[table].c[name]))).scalar_one()
    return found


def test_each_day_stays_under_its_bound_and_the_home_stops_growing(lived: Lived) -> None:
    _, days = lived
    for day in days:
        most = bound(LOAD, POLICY, day.number)
        assert {name: size for name, size in {**day.sizes, "Kafka": day.kafka}.items() if size > most[name]} == {}
    assert days[-1].sizes["SQL"] < 1.15 * days[25].sizes["SQL"]
    for part in ("reports", "run folders", "datasets"):
        assert days[-1].sizes[part] < 1.5 * days[20].sizes[part], part


def test_what_serves_and_what_a_rollback_returns_to_is_there_with_its_dataset(lived: Lived) -> None:
    home, _ = lived
    release = home.releases.current(TASK)
    kept = release.adapters
    assert release.champion == home.promoted[-1]
    assert kept == set(home.promoted[-1 - POLICY.rollbacks :])
    present = {each.name for each in home.settings.adapters_folder.iterdir()}
    assert kept <= present
    for adapter_id in kept:
        record = home.registry.find(adapter_id)
        assert record is not None
        assert len(home.datasets.rows(record.dataset_id)) == LOAD.dataset_rows
        assert (home.settings.adapters_folder / adapter_id / "probes.json").is_file()
    champion = home.registry.find(release.champion or "")
    assert champion is not None
    assert champion.aliases == ("champion",)


def test_adapters_that_nothing_needs_are_gone_and_datasets_follow_them(lived: Lived) -> None:
    home, _ = lived
    records = {each.adapter_id: each for each in home.registry.adapters()}
    present = {each.name for each in home.settings.adapters_folder.iterdir()}
    kept = home.releases.current(TASK).adapters
    for adapter_id in present - kept:
        days = POLICY.rejected_adapter_days if records[adapter_id].state == "rejected" else POLICY.adapter_days
        assert records[adapter_id].created_at > END - timedelta(days=days + 2)  # the mark comes a round before
    assert len(present) < DAYS
    datasets = {each.name for each in home.settings.datasets_folder.iterdir()}
    assert {records[each].dataset_id for each in present} <= datasets
    assert len(datasets) < DAYS
    assert len(records) < DAYS  # the registry has forgotten the first ones


def test_rows_are_as_old_as_they_may_be_and_none_younger_is_missing(lived: Lived) -> None:
    home, _ = lived
    assert END - timedelta(days=POLICY.journal_days) <= oldest(home, "journal.at") < END - timedelta(days=15.9)
    assert END - timedelta(days=POLICY.run_days) <= oldest(home, "runs.finished_at") < END - timedelta(days=5)
    assert END - timedelta(days=POLICY.check_days) <= oldest(home, "drift_checks.checked_at") < END - timedelta(days=15)
    young = END - timedelta(days=POLICY.feature_days)
    answered = tables.interactions.c.answered_at
    with home.database.connection() as connection:

        def count(*conditions: object) -> int:
            wanted = select(func.count()).select_from(tables.interactions).where(*conditions)  # type: ignore[arg-type]
            return int(connection.execute(wanted).scalar_one())

        assert count(answered >= young) == LOAD.answers * POLICY.feature_days
        reference = count(answered <= FIRST_DAY + REFERENCE)
        assert reference >= LOAD.answers  # the day's first batch, which all falls into the first hour
        assert count(answered < young) == reference
        assert count(answered.is_(None), tables.interactions.c.last_event_at < END - timedelta(days=16)) == 0


def test_the_retention_suite_has_lost_no_row(lived: Lived) -> None:
    home, _ = lived
    assert rows_of(home, "retention_rows") == home.suite_rows > 0


def test_reports_of_checks_that_found_drift_outlive_the_others_and_rows_name_only_what_is_there(lived: Lived) -> None:
    home, _ = lived
    folder = home.settings.reports_folder / "drift" / TASK
    present = {each.stem for each in folder.glob("*.html")}
    assert {each.stem for each in folder.glob("*.json")} == present
    checks = {each.check_id: each for each in home.checks.recent(TASK, 10_000)}
    for check_id, check in checks.items():
        days = POLICY.alarm_report_days if check.verdict else POLICY.report_days
        assert (check.checked_at >= END - timedelta(days=days)) is (check_id in present)
        assert (check.report_uri is not None) is (check_id in present)
    assert present <= checks.keys()


def test_only_the_last_days_run_folders_are_there(lived: Lived) -> None:
    home, _ = lived
    names = [each.name for each in (home.settings.home / "work" / "runs").iterdir()]
    ended = [run.finished_at for some in slices(names) for run in map(home.runs.show, some) if run is not None]
    assert len(ended) == len(names) > 0
    assert min(each for each in ended if each is not None) >= END - timedelta(days=POLICY.run_folder_days)


def test_a_month_is_counted_in_what_it_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, registry_in: RegistryIn
):
    from benchmarks.month import print_days

    registry_in(tmp_path)
    home = Home(settings_in(tmp_path, POLICY), LOAD)
    print_days(home, 2)
    home.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["day", "1", "2", "bound"]
