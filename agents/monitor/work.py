"""Makes one drift check in a run's child process: reads the windows, embeds their questions, has the columns tested,
decides, and writes a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from agents.monitor import windows
from agents.monitor.columns import Embeddings, Examination
from agents.monitor.corrections import CorrectionsFound, look_for
from agents.monitor.differences import Floats
from agents.monitor.ports import Answers, Detector, DocumentSearch, DocumentVersions, DriftReports, QuestionEmbedder
from agents.monitor.verdict import DriftVerdict, evidence, judge
from agents.monitor.windows import Windows
from schemas.drift import Baseline, CheckedWindow, DescribedColumns, Detection, DriftCheck, DriftReport
from schemas.errors import Unavailable
from schemas.features import Interaction
from schemas.learning import Window
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

SHOWN_NOVEL = 8
"""How many of the most unfamiliar questions a report shows."""
COMPONENTS = 3
"""How many principal components of the questions' embeddings a report shows."""


class DriftChecker:
    """Makes drift checks."""

    def __init__(
        self,
        *,
        answers: Answers,
        embedder: QuestionEmbedder,
        detector: Detector,
        search: DocumentSearch,
        versions: DocumentVersions,
        reports: DriftReports,
        policy: MonitorPolicy,
        now: Callable[[], datetime],
        progress: Callable[[float, str], None],
    ) -> None:
        """``progress`` gets the share that is done, from 0 to 1, and a text for the user."""
        self._answers, self._embedder, self._detector, self._reports = answers, embedder, detector, reports
        self._search, self._versions = search, versions
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
        examined = Examination(found, vectors, task, self._policy)
        detection = self._detector.detect(examined.columns, _described(found, vectors, task))
        self._progress(0.9, "deciding")
        corrections = self._look_for_corrections(task, examined, detection)
        verdict = judge(examined, detection, evidence(examined, detection, corrections), task, self._policy)
        check = self._judged(check, found, examined, verdict)
        problems = [each for each in (corrections.problem, detection.problem) if each]
        check = replace(check, reasons=(*check.reasons, *problems))
        self._progress(0.95, "writing the report")
        return self._reported(check, found, examined, detection, verdict)

    def _read(self, task: Task, baseline: Baseline) -> Windows:
        limit = self._policy.read_rows
        first = self._answers.rows(task.name, baseline, limit=limit)
        newest = self._answers.rows(task.name, baseline, newest=True, limit=limit)
        return windows.make_windows(first, newest, self._policy)

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

    def _look_for_corrections(self, task: Task, examined: Examination, detection: Detection) -> CorrectionsFound:
        """Looks where the documents have what users corrected, if that may decide what helps."""
        if not detection.drifted or not task.retrieval:
            return CorrectionsFound()
        try:
            rows = [examined.rows[number] for number in examined.newest(detection.drifted)]
            return look_for(rows, self._search, self._versions)
        except Unavailable as error:
            return CorrectionsFound(problem=f"the corrections were not looked for in the documents: {error}")

    def _judged(self, check: DriftCheck, found: Windows, examined: Examination, verdict: DriftVerdict) -> DriftCheck:
        now = self._now()
        flags = {f"flags.{kind}": float(count) for kind, count in verdict.flags.items()}
        return replace(
            check,
            checked_at=now,
            reference=windows.span(found.reference, now),
            current=windows.span(found.currents[0], now),
            findings=examined.findings()[0],
            verdict=verdict.kind,
            remedy=verdict.remedy,
            reasons=verdict.reasons,
            figures={**windows.figures(found.currents[0]), **flags},
            to_label=tuple(row.answer_id for row in verdict.to_label),
        )

    def _reported(
        self, check: DriftCheck, found: Windows, examined: Examination, detection: Detection, verdict: DriftVerdict
    ) -> DriftCheck:
        """Writes the report, and returns the check with the report's URI."""
        report = DriftReport(
            check=check,
            detection=detection,
            windows=[
                CheckedWindow(window=windows.span(rows, check.checked_at), findings=findings)
                for rows, findings in zip(found.currents, examined.findings(), strict=True)
            ],
            novel=_novel(examined, found.currents[0]),
            to_label=[(row.answer_id, row.asked) for row in verdict.to_label],
            alpha=self._policy.alpha,
            flags=self._policy.flags,
            of=self._policy.of,
        )
        return replace(check, report_uri=self._reports.write(report))


def _described(found: Windows, vectors: Embeddings, task: Task) -> DescribedColumns:
    """The columns that a report describes: of the reference, and of the newest window."""
    reference, current = found.reference, found.currents[0]
    measured, named = windows.described(reference, current, task)
    components = _components([*reference, *current], vectors)
    return DescribedColumns(reference_rows=len(reference), measured=measured | components, named=named)


def _novel(examined: Examination, current: Sequence[Interaction]) -> list[tuple[str, float]]:
    """The current questions that are least like any of the reference, with their greatest similarity."""
    numbers = range(len(examined.rows) - len(current), len(examined.rows))
    unlike = {examined.rows[number].asked: float(examined.nearest[number]) for number in numbers}
    return sorted(unlike.items(), key=lambda each: each[1])[:SHOWN_NOVEL]


def _components(rows: Sequence[Interaction], vectors: Embeddings) -> dict[str, list[float | None]]:
    """The first principal components of the questions' embeddings, as columns."""
    stacked = np.vstack([vectors[row.answer_id] for row in rows])
    centred = stacked - stacked.mean(axis=0)
    # The eigenvectors of the covariance, the greatest last: decomposing all rows gives the same and takes far longer.
    _, axes = np.linalg.eigh(centred.T @ centred)
    scores = centred @ axes[:, : -COMPONENTS - 1 : -1]
    return {f"question, component {number + 1}": scores[:, number].tolist() for number in range(scores.shape[1])}
