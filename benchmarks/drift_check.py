"""Measures a drift check without its embedding model: ``python -m benchmarks.drift_check``.

A check of synthetic answers of a task with retrieval: half are in the reference window, the rest in current windows
that overlap. It measures our tests, and then Evidently's part in one warm process: our report, in which Evidently is
given the results of the tests, and in turns Evidently's bare report of the described columns with tests of its own.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from agents.monitor.differences import Floats
from agents.monitor.work import DriftChecker
from infra.reports.drift import DriftReportFolder
from infra.reports.evidently_detector import EvidentlyDetector
from schemas.drift import Baseline, CheckedColumn, DescribedColumns, Detection, DriftReport
from schemas.features import DocumentState, Interaction
from schemas.policies import MonitorPolicy
from schemas.retrieval import Hit, Search
from schemas.tasks import Task

SIZES = (1_000, 10_000, 100_000)
TESTS_SECONDS = 3.0
EVIDENTLY_RATIO = 1.1
WARM_UP = 600
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
                user=f"u{int(drawn.zipf(1.3)) % max(1, count // 10)}",
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

    def embed(self, texts: Sequence[str]) -> Floats:
        drawn = np.random.default_rng(1).normal(size=(len(texts), DIMENSION)).astype(np.float32)
        units: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return units


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock, and of the process on its processors. The second hardly depends on what runs beside it."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Taken:
        return cls(time.perf_counter(), time.process_time())

    def since(self, begun: Taken) -> Taken:
        return Taken(self.wall - begun.wall, self.processor - begun.processor)

    def __str__(self) -> str:
        return f"{self.wall:6.2f} s ({self.processor:6.2f} s of processor)"


class Stopwatch:
    """Notes how long each step of a check takes, as its progress says."""

    def __init__(self) -> None:
        self.steps: dict[str, Taken] = {}
        self._name, self._begun = "start", Taken.now()

    def step(self, share: float, name: str) -> None:
        now = Taken.now()
        self.steps[self._name] = now.since(self._begun)
        self._name, self._begun = name, now


class KeptReport:
    """Keeps the report that a check would write, and what the check has a detector test and describe."""

    report: DriftReport
    columns: Sequence[CheckedColumn]
    described: DescribedColumns

    def detect(self, columns: Sequence[CheckedColumn], described: DescribedColumns) -> Detection:
        """Runs each test once, so that only their time is measured; they keep their results."""
        self.columns, self.described = columns, described
        return Detection(results={column.kind: column.result(described.reference_rows) for column in columns})

    def write(self, report: DriftReport) -> str:
        self.report = report
        return "memory:report"


class NoDocuments:
    """Has no documents to look for corrections in."""

    def search(self, searches: Sequence[Search]) -> list[list[Hit]]:
        return [[] for _ in searches]

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        return {}


def check(rows: list[Interaction]) -> tuple[KeptReport, dict[str, Taken]]:
    """Makes a check of all rows but its report. Returns what the report would hold, and how long each step took."""
    current = max(20, len(rows) // 32)
    policy = MonitorPolicy(
        reference_rows=len(rows) // 2,
        longest_reference_rows=len(rows) // 2,
        current_rows=current,
        every_rows=current // 6,
    )
    watch, kept, documents = Stopwatch(), KeptReport(), NoDocuments()
    checker = DriftChecker(
        answers=GivenAnswers(rows),
        embedder=RandomEmbedder(),
        detector=kept,
        search=documents,
        versions=documents,
        reports=kept,
        policy=policy,
        now=lambda: START,
        progress=watch.step,
    )
    checker.check("benchmark", TASK, Baseline())
    watch.step(1.0, "end")
    return kept, watch.steps


def ours(kept: KeptReport, folder: Path) -> None:
    """Has Evidently run the tests, whose results are known, and describe the other columns; writes the report."""
    detection = EvidentlyDetector().detect(kept.columns, kept.described)
    DriftReportFolder(folder).write(replace(kept.report, detection=detection))


def bare(kept: KeptReport, folder: Path) -> None:
    """Writes Evidently's own report of the described columns with two of its own tests, as its documentation does."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset
    from pandas import DataFrame

    described = kept.described
    measured = {name: values for name, values in described.measured.items() if len(set(values)) > 1}
    named = {name: values for name, values in described.named.items() if len(set(values)) > 1}
    frame = DataFrame({**measured, **named})
    definition = DataDefinition(numerical_columns=list(measured), categorical_columns=list(named))
    parts = (frame.iloc[: described.reference_rows], frame.iloc[described.reference_rows :])
    reference, current = (
        Dataset.from_pandas(part.reset_index(drop=True), data_definition=definition) for part in parts
    )
    preset = DataDriftPreset(num_method="ks", cat_method="chisquare")
    snapshot = Report([preset, DataSummaryPreset()]).run(current, reference)
    snapshot.save_html(str(folder / "bare.html"))
    snapshot.save_json(str(folder / "bare.json"))


def taken(work: Callable[[], object]) -> Taken:
    """Runs something, and returns how long it took."""
    gc.collect()
    begun = Taken.now()
    work()
    return Taken.now().since(begun)


def compare(kept: KeptReport, folder: Path, rounds: int) -> list[tuple[Taken, Taken]]:
    """Writes our report and the bare one in turns. Each is first in every other round."""
    pairs = []
    for number in range(rounds):
        works = [lambda: ours(kept, folder), lambda: bare(kept, folder)]
        both = [taken(each) for each in (works[::-1] if number % 2 else works)]
        mine, other = both[::-1] if number % 2 else both
        pairs.append((mine, other))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="answers of a check, in all its windows")
    parser.add_argument("--rounds", type=int, default=5, help="how often each report is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Evidently's libraries warn about columns with few values
    print(f"limits: a report {EVIDENTLY_RATIO} of the bare one, our tests {TESTS_SECONDS} s at 10,000 answers\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare(check(answers(WARM_UP))[0], folder, 1)
        for size in arguments.sizes:
            kept, steps = check(answers(size))
            pairs = compare(kept, folder, arguments.rounds)
            described = len(kept.described.measured) + len(kept.described.named)
            print(f"{size:,} answers, {len(kept.columns)} columns tested and {described} described")
            print(f"  our tests         {steps['testing']}")
            print(f"  the verdict       {steps['deciding']}")
            for title, index in (("our report", 0), ("bare Evidently", 1)):
                middle = sorted((pair[index] for pair in pairs), key=lambda each: each.wall)[len(pairs) // 2]
                print(f"  {title:16}  {middle}")
            wall, processor = (
                statistics.median(getattr(mine, kind) / getattr(other, kind) for mine, other in pairs)
                for kind in ("wall", "processor")
            )
            page = (folder / TASK.name / "benchmark.html").stat().st_size
            print(f"  ratio             {wall:6.2f}   ({processor:6.2f})")
            print(
                f"  page              {page / 1e3:,.0f} kB; bare {(folder / 'bare.html').stat().st_size / 1e3:,.0f} kB"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
