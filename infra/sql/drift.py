"""Drift checks in SQL, and the answers that they compare, selected from the feature table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, case, func, select, true, update

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.features import interaction_of
from infra.sql.statements import insert_once, prune, slices
from schemas.drift import DRIFT_CHECK, Baseline, DriftCheck
from schemas.features import Interaction

_checks = tables.drift_checks.c
_rows = tables.interactions.c
_arms = tables.arm_tallies.c


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
        same_task = tables.drift_checks.alias("same_task")
        newest = select(func.max(same_task.c.checked_at)).where(same_task.c.task == _checks.task).scalar_subquery()
        return prune(self._database, tables.drift_checks, _checks.checked_at < before, _checks.checked_at < newest)


class SqlAnswers:
    """Selects the answers of a baseline: the champion's since the baseline, and those it gave as the challenger.

    The order is that of the releases, and of the times within a release. So an index gives the first or the newest
    answers, and no query reads more than ``limit`` of them, however many there are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(
        self, task: str, baseline: Baseline, *, since: datetime | None = None, rated: bool = False, limit: int
    ) -> int:
        """Counts answers, up to ``limit``: optionally only those after ``since``, or only those that users rated.

        With ``since``, only the newest ``limit`` answers are looked at.
        """
        looked_at = found = 0
        with self._database.connection() as connection:
            for part in reversed(_parts(connection, task, baseline)):
                newest = select(_rows.answered_at).where(part, tables.HAS_ANSWER)
                if rated:
                    newest = newest.where(tables.IS_RATED)
                newest = newest.order_by(_rows.release_sequence.desc(), _rows.answered_at.desc())
                some = newest.limit(limit - looked_at).subquery()
                later = some.c.answered_at > since if since is not None else true()
                counted = select(func.count(), func.coalesce(func.sum(case((later, 1), else_=0)), 0)).select_from(some)
                rows, wanted = connection.execute(counted).one()
                looked_at, found = looked_at + rows, found + wanted
                if looked_at >= limit:
                    break
        return found

    def rows(self, task: str, baseline: Baseline, *, newest: bool = False, limit: int) -> list[Interaction]:
        """Returns the first answers, or the newest ones, oldest first."""
        order = (_rows.release_sequence, _rows.answered_at, _rows.answer_id)
        found: list[Interaction] = []
        with self._database.connection() as connection:
            parts = _parts(connection, task, baseline)
            for part in reversed(parts) if newest else parts:
                wanted = select(tables.interactions).where(part, tables.HAS_ANSWER).limit(limit - len(found))
                wanted = wanted.order_by(*(each.desc() for each in order) if newest else order)
                found += [interaction_of(row) for row in connection.execute(wanted).mappings()]
                if len(found) >= limit:
                    break
        return found[::-1] if newest else found

    def last_of_others(self, task: str, champion: str | None, sequence: int) -> int | None:
        """Returns the highest release sequence, up to ``sequence``, at which another champion answered, or None."""
        same = tables.arm_tallies.alias()
        answered = select(func.sum(same.c.asked) - func.sum(same.c.failed)).where(
            *(same.c[name] == _arms[name] for name in ("task", "arm", "release_sequence", "adapter_id"))
        )
        others = (
            select(_arms.release_sequence)
            .where(
                _arms.task == task,
                _arms.arm == "champion",
                _arms.release_sequence <= sequence,
                _arms.adapter_id != (champion or ""),
                answered.scalar_subquery() > 0,  # a failure before the choice of an adapter names none
            )
            .order_by(_arms.release_sequence.desc())
        )
        with self._database.connection() as connection:
            return connection.execute(others.limit(1)).scalar()


def _parts(connection: Connection, task: str, baseline: Baseline) -> list[ColumnElement[bool]]:
    """Returns conditions that together select the answers of a baseline: a part after the other, in their order.

    An index gives each part's answers in order. The champion was tried in releases before the baseline only.
    """
    parts = []
    if baseline.champion is not None and not baseline.renewed:
        tried = select(_arms.release_sequence).where(
            _arms.task == task,
            _arms.arm == "challenger",
            _arms.adapter_id == baseline.champion,
            _arms.release_sequence < baseline.sequence,
        )
        for sequence in connection.execute(tried.distinct().order_by(_arms.release_sequence)).scalars():
            trial = and_(_rows.task == task, _rows.arm == "challenger", _rows.release_sequence == sequence)
            parts.append(trial & (_rows.adapter_id == baseline.champion))
    return [*parts, and_(_rows.task == task, _rows.arm == "champion", _rows.release_sequence >= baseline.sequence)]
