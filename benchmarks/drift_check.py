"""Measures a drift check without its embedding model: ``python -m benchmarks.drift_check``.

Synthetic answers of a task with retrieval, two thirds in the reference window and one third in the current window. The
check's own tests, and its report beside the bare Evidently report of the same columns with the same tests, in one warm
process, in turns.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from agents.monitor.differences import Floats
from agents.monitor.work import DriftChecker
from infra.reports import drift
from infra.reports.drift import DriftReportFolder
from schemas.drift import Baseline, DriftCheck, DriftReport
from schemas.features import Interaction
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

SIZES = (1_000, 10_000, 100_000)
TESTS_SECONDS_AT_10_000 = 3.0
EVIDENTLY_RATIO = 1.1
DIMENSION = 384
START = datetime(2026, 1, 1, tzinfo=UTC)
TASK = Task(name="support", instruction="Answer.", retrieval=True)
OPENINGS = ("Yes, you", "No, we", "Please open", "The parcel", "You can", "It takes", "We do")


def answers(count: int) -> list[Interaction]:
    """Returns the answers of a task, oldest first; those of the last third are slower and liked less."""
    drawn = np.random.default_rng(7)
    rows = []
    for number in range(count):
        late = number >= count * 2 // 3
        bad = drawn.random() < (0.2 if late else 0.1)
        at = START + timedelta(seconds=number)
        rows.append(
            Interaction(
                answer_id=f"a{number:07}",
                outcome="disapproved" if bad else "approved",
                rating="down" if bad else "up",
                task=TASK.name,
                question=f"question {number} " + "word " * int(drawn.integers(1, 30)),
                answer=f"{drawn.choice(OPENINGS)} {number} " + "word " * int(drawn.integers(1, 60)),
                sources=({"document_id": "d", "score": float(drawn.random())},),
                release_sequence=0,
                arm="champion",
                prompt_tokens=int(drawn.integers(200, 900)),
                completion_tokens=int(drawn.integers(3, 90)),
                latency_ms=float(drawn.gamma(4.0, 120.0 if late else 100.0)),
                finish_reason="stop" if drawn.random() < 0.95 else "length",
                answered_at=at,
                first_event_at=at,
                last_event_at=at,
            )
        )
    return rows


class GivenAnswers:
    """The answers of one task, in memory."""

    def __init__(self, rows: list[Interaction]) -> None:
        self._rows = rows

    def count(
        self, task: str, baseline: Baseline, *, since: datetime | None = None, rated: bool = False, limit: int
    ) -> int:
        raise NotImplementedError  # a check does not count

    def rows(self, task: str, baseline: Baseline, *, newest: bool = False, limit: int) -> list[Interaction]:
        return self._rows[-limit:] if newest else self._rows[:limit]

    def last_of_others(self, task: str, champion: str | None, sequence: int) -> int | None:
        raise NotImplementedError  # nor does it look for other champions


class RandomEmbedder:
    """Stands in for the embedding model, whose cost is the texts' and not the check's."""

    def embed(self, texts: list[str]) -> Floats:
        drawn = np.random.default_rng(1).normal(size=(len(texts), DIMENSION)).astype(np.float32)
        units: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return units


@dataclass
class Stopwatch:
    """Notes when each step of a check begins, as its progress says."""

    steps: dict[str, float] = field(default_factory=dict)
    _last: tuple[str, float] | None = None

    def step(self, share: float, name: str) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.steps[self._last[0]] = now - self._last[1]
        self._last = name, now


class KeptReport:
    """Keeps the report that a check would write."""

    report: DriftReport

    def write(self, report: DriftReport) -> tuple[str, str | None]:
        self.report = report
        return "memory:report", None


def check(rows: list[Interaction]) -> tuple[DriftCheck, DriftReport, dict[str, float]]:
    """Makes a check of all rows. Returns the seconds of each step, too."""
    current = len(rows) // 3
    policy = MonitorPolicy(reference_rows=len(rows) - current, current_rows=current, every_rows=current // 4, of=3)
    # The older of the overlapping current windows need more rows than the newest one alone.
    policy = policy.model_copy(update={"reference_rows": len(rows) - policy.newest_rows})
    watch, kept = Stopwatch(), KeptReport()
    checker = DriftChecker(
        answers=GivenAnswers(rows),
        embedder=RandomEmbedder(),  # type: ignore[arg-type]
        reports=kept,
        policy=policy,
        now=lambda: START,
        progress=watch.step,
    )
    made = checker.check("benchmark", TASK, Baseline())
    watch.step(1.0, "end")
    return made, kept.report, watch.steps


def bare(report: DriftReport, folder: Path) -> None:
    """Writes Evidently's own report of the same columns with the same tests, as its documentation does."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset
    from pandas import DataFrame

    measured = {name: values for name, values in report.measured.items() if len(set(values)) > 1}
    named = {name: values for name, values in report.named.items() if len(set(values)) > 1}
    frame = DataFrame({**measured, **named})
    definition = DataDefinition(numerical_columns=list(measured), categorical_columns=list(named))
    parts = (frame.iloc[: report.reference_rows], frame.iloc[report.reference_rows :])
    reference, current = (
        Dataset.from_pandas(part.reset_index(drop=True), data_definition=definition) for part in parts
    )
    preset = DataDriftPreset(num_method="ks", cat_method="chisquare")
    snapshot = Report([preset, DataSummaryPreset()]).run(current, reference)
    snapshot.save_html(str(folder / "bare.html"))
    snapshot.save_json(str(folder / "bare.json"))


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="answers of a check")
    parser.add_argument("--rounds", type=int, default=5, help="how often both reports are written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Evidently's libraries warn about columns with few values
    _, report, _ = check(answers(600))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = DriftReportFolder(folder)
        ours.write(report)
        bare(report, folder)
        for size in arguments.sizes:
            _, report, steps = check(answers(size))
            pairs = [(seconds(lambda: ours.write(report)), seconds(lambda: bare(report, folder))) for _ in range(arguments.rounds)]  # noqa: B023
            mean = [statistics.median(each) for each in zip(*pairs, strict=True)]
            page = (folder / TASK.name / "benchmark.html").stat().st_size
            print({"rows": size, "steps": {k: round(v, 2) for k, v in steps.items()}, "ours": mean[0], "bare": mean[1], "ratio": statistics.median(a / b for a, b in pairs), "page": page, "bare page": (folder / "bare.html").stat().st_size}, flush=True)


if __name__ == "__main__":
    main()
