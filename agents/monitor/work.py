"""Makes one drift check in a run's child process: reads the windows, embeds their questions, tests, writes a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from agents.monitor import windows
from agents.monitor.differences import Floats, greatest_similarity, used_rows
from agents.monitor.ports import Answers, DriftReports, QuestionEmbedder
from agents.monitor.verdict import Judged, judge
from agents.monitor.windows import Windows
from schemas.drift import Baseline, CheckedWindow, DriftCheck, DriftReport
from schemas.features import Interaction
from schemas.learning import Window
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

SHOWN_NOVEL = 8
"""How many of the most unfamiliar questions a report shows."""
COMPARED = 10_000
"""How many questions of a window are compared for that, each with each; those of a larger window are sampled evenly."""
COMPONENTS = 3
"""How many principal components of the questions' embeddings a report shows."""


class DriftChecker:
    """Makes drift checks."""

    def __init__(
        self,
        *,
        answers: Answers,
        embedder: QuestionEmbedder,
        reports: DriftReports,
        policy: MonitorPolicy,
        now: Callable[[], datetime],
        progress: Callable[[float, str], None],
    ) -> None:
        """``progress`` gets the share that is done, from 0 to 1, and a text for the user."""
        self._answers, self._embedder, self._reports = answers, embedder, reports
        self._policy, self._now, self._progress = policy, now, progress

    def check(self, check_id: str, task: Task, baseline: Baseline) -> DriftCheck:
        """Compares the task's newest answers with its reference, and writes a report if there are enough answers."""
        self._progress(0.05, "reading the answers")
        found = self._read(task, baseline)
        check = self._too_few(check_id, task, baseline, found)
        if not found.currents:
            return check
        self._progress(0.1, "embedding the questions")
        vectors = self._embed(found)
        self._progress(0.6, "testing")
        judged = judge(found, vectors, task, self._policy)
        check = self._judged(check, found, judged)
        self._progress(0.7, "writing the report")
        return self._reported(task, check, found, vectors, judged)

    def _read(self, task: Task, baseline: Baseline) -> Windows:
        policy = self._policy
        first = self._answers.rows(task.name, baseline, limit=policy.reference_rows)
        newest = self._answers.rows(task.name, baseline, newest=True, limit=policy.newest_rows)
        return windows.make_windows(first, newest, policy)

    def _too_few(self, check_id: str, task: Task, baseline: Baseline, found: Windows) -> DriftCheck:
        """Returns the check of windows that are not full yet. Its current window is empty, so the next check is due
        soon."""
        now, policy = self._now(), self._policy
        reference = windows.span(found.reference, now)
        since = "since the champion changed" if baseline.sequence else "so far"
        reason = (
            f"too few answers to compare: {len(found.reference) + found.rest_rows} {since}, "
            f"{policy.rows_needed} are needed "
            f"({policy.reference_rows} for the reference, {policy.current_rows} to compare with it)"
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

    def _embed(self, found: Windows) -> dict[str, Floats]:
        """Embeds what each answer was asked; unit vectors by answer id."""
        rows = {row.answer_id: row.asked for window in (found.reference, *found.currents) for row in window}
        texts = sorted(set(rows.values()))
        # A vector that is no number would make every p-value the smallest, and so a drift out of one odd question.
        numbers = np.nan_to_num(self._embedder.embed(texts), nan=0.0, posinf=0.0, neginf=0.0)
        vectors = dict(zip(texts, numbers, strict=True))
        return {answer_id: vectors[text] for answer_id, text in rows.items()}

    def _judged(self, check: DriftCheck, found: Windows, judged: Judged) -> DriftCheck:
        now = self._now()
        flags = {f"flags.{kind}": float(count) for kind, count in judged.verdict.flags.items()}
        return replace(
            check,
            checked_at=now,
            reference=windows.span(found.reference, now),
            current=windows.span(found.currents[0], now),
            findings=judged.findings[0],
            verdict=judged.verdict.kind,
            remedy=judged.verdict.remedy,
            reasons=judged.verdict.reasons,
            figures={**judged.figures, **flags},
        )

    def _reported(
        self, task: Task, check: DriftCheck, found: Windows, vectors: dict[str, Floats], judged: Judged
    ) -> DriftCheck:
        """Writes the report, and returns the check with the report's URI and what went wrong with the report."""
        reference, current = found.reference, found.currents[0]
        measured, named = windows.columns(reference, current, task)
        report = DriftReport(
            check=check,
            windows=[
                CheckedWindow(window=windows.span(rows, check.checked_at), findings=findings)
                for rows, findings in zip(found.currents, judged.findings, strict=True)
            ],
            novel=_novel(reference, current, vectors),
            reference_rows=len(reference),
            measured=measured | _components([*reference, *current], vectors),
            named=named,
            alpha=self._policy.alpha,
            flags=self._policy.flags,
            of=self._policy.of,
        )
        uri, problem = self._reports.write(report)
        failed = (f"Evidently's part of the report failed: {problem}",) if problem else ()
        return replace(check, report_uri=uri, reasons=(*check.reasons, *failed))


def _novel(
    reference: Sequence[Interaction], current: Sequence[Interaction], vectors: dict[str, Floats]
) -> list[tuple[str, float]]:
    """The current questions that are least like any of the reference, with their greatest similarity."""
    before, now = ([rows[index] for index in used_rows(len(rows), COMPARED)] for rows in (reference, current))
    stacked = [np.vstack([vectors[row.answer_id] for row in rows]) for rows in (before, now)]
    similarity = greatest_similarity(*stacked)
    unlike = {now[index].question or "": float(similarity[index]) for index in np.argsort(similarity)}
    return list(unlike.items())[:SHOWN_NOVEL]


def _components(rows: Sequence[Interaction], vectors: dict[str, Floats]) -> dict[str, list[float | None]]:
    """The first principal components of the questions' embeddings, as columns."""
    stacked = np.vstack([vectors[row.answer_id] for row in rows])
    centred = stacked - stacked.mean(axis=0)
    # The eigenvectors of the covariance, the greatest last: decomposing all rows gives the same and takes far longer.
    _, axes = np.linalg.eigh(centred.T @ centred)
    scores = centred @ axes[:, : -COMPONENTS - 1 : -1]
    return {f"question, component {number + 1}": scores[:, number].tolist() for number in range(scores.shape[1])}
