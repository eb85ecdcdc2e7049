"""Drift checks in SQL, and the answers that they compare, selected from the feature table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.features import interaction_of
from infra.sql.statements import insert_once, prune, slices
from schemas.drift import DRIFT_CHECK, RATED, Baseline, DriftCheck
from schemas.features import Interaction

_checks = tables.drift_checks.c
_rows = tables.interactions.c


class SqlDriftChecks:
    """The drift checks, one row each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, check: DriftCheck) -> None:
        """Inside a transaction: adds a check; a second call with the same id changes nothing."""
        row = {
            "check_id": check.check_id,
            "task": check.task,
            "checked_at": check.checked_at,
            "baseline": check.baseline,
            "verdict": check.verdict,
            "report_uri": check.report_uri,
            "details": DRIFT_CHECK.dump_python(check, mode="json"),
        }
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.drift_checks), row)

    def recent(self, task: str | None, limit: int) -> list[DriftCheck]:
        """Returns the checks of a task, or of all tasks, newest first."""
        newest = select(_checks.details).order_by(_checks.checked_at.desc(), _checks.check_id)
        if task is not None:
            newest = newest.where(_checks.task == task)
        with self._database.connection() as connection:
            return [DRIFT_CHECK.validate_python(each) for each in connection.execute(newest.limit(limit)).scalars()]

    def of(self, check_ids: Sequence[str]) -> dict[str, DriftCheck]:
        """Returns the checks that exist, by id."""
        found: dict[str, DriftCheck] = {}
        with self._database.connection() as connection:
            for some in slices(check_ids):
                wanted = select(_checks.check_id, _checks.details).where(_checks.check_id.in_(some))
                for check_id, details in connection.execute(wanted):
                    found[check_id] = DRIFT_CHECK.validate_python(details)
        return found

    def forget_report(self, check_id: str) -> None:
        """Notes that the report of a check was deleted."""
        with self._database.transaction(), self._database.connection(write=True) as connection:
            known = self.of([check_id]).get(check_id)
            if known is not None:
                details = DRIFT_CHECK.dump_python(replace(known, report_uri=None), mode="json")
                changed = update(tables.drift_checks).where(_checks.check_id == check_id)
                connection.execute(changed.values(report_uri=None, details=details))

    def prune(self, before: datetime) -> int:
        """Deletes checks that were made before then, except each task's newest, a bounded number; returns how many."""
        newer = tables.drift_checks.alias("newer")
        followed = exists().where(newer.c.task == _checks.task, newer.c.checked_at > _checks.checked_at)
        return prune(self._database, tables.drift_checks, _checks.checked_at < before, followed)


class SqlAnswers:
    """Selects the answers of a baseline: the champion's since the baseline, and those it gave as the challenger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(
        self, task: str, baseline: Baseline, *, since: datetime | None = None, rated: bool = False, limit: int
    ) -> int:
        """Counts answers, up to ``limit``: optionally only those after ``since``, or only those that users rated."""
        wanted = select(_rows.answer_id).where(_belongs(task, baseline))
        if since is not None:
            wanted = wanted.where(_rows.answered_at > since)
        if rated:
            wanted = wanted.where(_rows.outcome.in_(RATED))
        with self._database.connection() as connection:
            counted = select(func.count()).select_from(wanted.limit(limit).subquery())
            return connection.execute(counted).scalar_one()

    def rows(self, task: str, baseline: Baseline, *, newest: bool = False, limit: int) -> list[Interaction]:
        """Returns the first answers, or the newest ones, oldest first."""
        order = (_rows.answered_at, _rows.answer_id)
        wanted = select(tables.interactions).where(_belongs(task, baseline)).limit(limit)
        wanted = wanted.order_by(*(each.desc() for each in order) if newest else order)
        with self._database.connection() as connection:
            rows = [interaction_of(row) for row in connection.execute(wanted).mappings()]
        return rows[::-1] if newest else rows

    def last_of_others(self, task: str, champion: str | None, sequence: int) -> int | None:
        """Returns the highest release sequence, up to ``sequence``, at which another champion answered, or None."""
        other = and_(
            _rows.task == task,
            _rows.arm == "champion",
            _rows.release_sequence <= sequence,
            _rows.failure.is_(None),  # a failure before the choice of an adapter names none
            _rows.adapter_id.is_distinct_from(champion),
        )
        with self._database.connection() as connection:
            return connection.execute(select(func.max(_rows.release_sequence)).where(other)).scalar()


def _belongs(task: str, baseline: Baseline) -> ColumnElement[bool]:
    since = and_(_rows.arm == "champion", _rows.release_sequence >= baseline.sequence)
    before = and_(_rows.arm == "challenger", _rows.adapter_id == baseline.champion)
    return and_(
        _rows.task == task,
        _rows.answered_at.is_not(None),
        or_(_rows.finish_reason.is_(None), _rows.finish_reason != "retrieve_only"),
        or_(since, before) if baseline.champion is not None else since,
    )
