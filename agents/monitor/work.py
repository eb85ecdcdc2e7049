"""A drift check's child process: the windows from SQL, their questions embedded, the tests, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agents.delivery.progress import write_progress
from agents.monitor import windows
from agents.monitor.differences import Floats, nearest
from agents.monitor.verdict import Judged, VerdictPolicy, judge
from agents.monitor.windows import WindowPolicy, Windows
from agents.wiring.children import settings_of
from infra.embedding.embedder import SentenceTransformerEmbedder
from infra.reports.drift import Columns, write_report
from infra.reports.drift_page import CheckedWindow, Page, head
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.drift import SqlAnswers
from schemas.drift import DRIFT_CHECK, Baseline, DriftCheck
from schemas.errors import ConfigurationError
from schemas.features import Interaction
from schemas.learning import Window
from schemas.tasks import Task

_SHOWN_NOVEL = 8
_COMPONENTS = 3


def run(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``arguments``: task, baseline, champion, config. ``folder``: ``<home>/work/runs/<run id>``.

    Gives ``{"check": …}``.
    """
    settings = settings_of(arguments, folder)
    task = settings.tasks.get(arguments["task"])
    if task is None:
        raise ConfigurationError(f"there is no task {arguments['task']}: add it to everlearn.toml")
    baseline = Baseline(sequence=arguments["baseline"], champion=arguments["champion"])
    write_progress(folder, 0.05, "reading the answers")
    found = _read(settings, task, baseline)
    check = _too_few(folder.name, task, baseline, found, settings)
    if found.currents:
        write_progress(folder, 0.1, "embedding the questions")
        vectors = _embed(settings, found)
        write_progress(folder, 0.6, "testing")
        judged = judge(found, vectors, task, _verdict_policy(settings))
        check = replace(check, checked_at=datetime.now(UTC), **_outcome(found, judged))
        write_progress(folder, 0.7, "writing the report")
        check = _report(settings, task, check, found, vectors, judged)
    return {"check": DRIFT_CHECK.dump_python(check, mode="json")}


def _read(settings: Settings, task: Task, baseline: Baseline) -> Windows:
    policy = WindowPolicy(
        reference_rows=settings.monitor.reference_rows,
        current_rows=settings.monitor.current_rows,
        every_rows=settings.monitor.every_rows,
        of=settings.monitor.of,
    )
    database = Database(settings.sql_url())
    try:
        answers = SqlAnswers(database)
        first = answers.rows(task.name, baseline, limit=policy.reference_rows)
        newest = answers.rows(task.name, baseline, newest=True, limit=policy.newest_rows)
    finally:
        database.close()
    return windows.cut(first, newest, policy)


def _too_few(check_id: str, task: Task, baseline: Baseline, found: Windows, settings: Settings) -> DriftCheck:
    """The check of windows that are not full yet; its current window is empty, so that the next check is due soon."""
    now = datetime.now(UTC)
    reference = windows.span(found.reference, now)
    needed = settings.monitor.reference_rows + settings.monitor.current_rows
    since = "since the champion changed" if baseline.sequence else "so far"
    reason = (
        f"too few answers to compare: {len(found.reference) + found.rest_rows} {since}, {needed} are needed "
        f"({settings.monitor.reference_rows} for the reference, {settings.monitor.current_rows} to hold against it)"
    )
    return DriftCheck(
        check_id=check_id,
        task=task.name,
        checked_at=now,
        baseline=baseline.sequence,
        reference=reference,
        current=Window(start=reference.start, end=reference.start, rows=0),
        findings=(),
        reasons=(reason,),
    )


def _verdict_policy(settings: Settings) -> VerdictPolicy:
    policy = settings.monitor
    return VerdictPolicy(
        alpha=policy.alpha,
        flags=policy.flags,
        of=policy.of,
        min_rated=policy.min_rated,
        min_corrected=policy.min_corrected,
    )


def _embed(settings: Settings, found: Windows) -> dict[str, Floats]:
    """Each answer's question as a unit vector, by answer id."""
    rows = {row.answer_id: row.question or "" for window in (found.reference, *found.currents) for row in window}
    texts = sorted(set(rows.values()))
    vectors = dict(zip(texts, SentenceTransformerEmbedder(settings).embed(texts), strict=True))
    return {answer_id: vectors[text] for answer_id, text in rows.items()}


def _outcome(found: Windows, judged: Judged) -> dict[str, Any]:
    """The fields of a check that say what was found."""
    now = datetime.now(UTC)
    flags = {f"flags.{kind}": float(count) for kind, count in judged.verdict.flags.items()}
    return {
        "reference": windows.span(found.reference, now),
        "current": windows.span(found.currents[0], now),
        "findings": judged.findings[0],
        "verdict": judged.verdict.kind,
        "remedy": judged.verdict.remedy,
        "reasons": judged.verdict.reasons,
        "figures": {**judged.figures, **flags},
    }


def _report(
    settings: Settings, task: Task, check: DriftCheck, found: Windows, vectors: dict[str, Floats], judged: Judged
) -> DriftCheck:
    """The check with its report written, and a reason more where Evidently failed."""
    tested = [
        CheckedWindow(window=windows.span(rows, check.checked_at), findings=findings)
        for rows, findings in zip(found.currents, judged.findings, strict=True)
    ]
    policy = settings.monitor
    novel = _novel(found.reference, found.currents[0], vectors)
    page = Page(check=check, windows=tested, novel=novel, alpha=policy.alpha, flags=policy.flags, of=policy.of)
    measured, named = windows.columns(found.reference, found.currents[0], task)
    measured |= _components([*found.reference, *found.currents[0]], vectors)
    facts = {
        "check": DRIFT_CHECK.dump_python(check, mode="json"),
        "windows": [
            {"window": each.window.model_dump(mode="json"), "findings": [asdict(one) for one in each.findings]}
            for each in tested
        ],
    }
    written = write_report(
        settings.reports_folder / "drift" / task.name,
        check.check_id,
        head=head(page),
        facts=facts,
        columns=Columns(reference_rows=len(found.reference), measured=measured, named=named),
        alpha=policy.alpha,
    )
    failed = (f"Evidently's part of the report failed: {written.problem}",) if written.problem else ()
    return replace(check, report_uri=written.html.as_uri(), reasons=(*check.reasons, *failed))


def _novel(
    reference: Sequence[Interaction], current: Sequence[Interaction], vectors: dict[str, Floats]
) -> list[tuple[str, float]]:
    """The current questions that are least like any of the reference, with their greatest similarity."""
    before, now = (np.vstack([vectors[row.answer_id] for row in rows]) for rows in (reference, current))
    similar = nearest(before, now)
    unlike = {current[place].question or "": float(similar[place]) for place in np.argsort(similar)}
    return list(unlike.items())[:_SHOWN_NOVEL]


def _components(rows: Sequence[Interaction], vectors: dict[str, Floats]) -> dict[str, list[float | None]]:
    """The first principal components of the questions' embeddings, as columns."""
    stacked = np.vstack([vectors[row.answer_id] for row in rows])
    centred = stacked - stacked.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    scores = centred @ axes[:_COMPONENTS].T
    return {f"question, component {number + 1}": scores[:, number].tolist() for number in range(scores.shape[1])}
