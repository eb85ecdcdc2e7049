"""Answers as the feature table holds them, with questions whose embeddings are known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from agents.monitor.columns import Embeddings, Examination
from agents.monitor.corrections import CorrectionsFound
from agents.monitor.verdict import DriftVerdict, evidence, judge
from agents.monitor.windows import make_windows
from infra.memory.drift import MemoryDetector
from schemas.drift import DescribedColumns
from schemas.features import Interaction
from schemas.interactions import InteractionOutcome, Rating
from schemas.policies import MonitorPolicy
from schemas.questions import Arm
from schemas.tasks import Task

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ROUTING = Task(name="routing", instruction="Route.", metric="exact_match", labels=("orders", "returns"))
SUPPORT = Task(name="support", instruction="Answer.", retrieval=True)
POLICY = MonitorPolicy(
    reference_rows=100,
    longest_reference_rows=100,
    current_rows=60,
    every_rows=20,
    alpha=0.01,
    flags=2,
    of=3,
    min_rated=20,
    min_corrected=10,
)
SCHEDULE = MonitorPolicy.model_construct(reference_rows=6, current_rows=4, every_rows=2, cool_down_seconds=3600)
"""Smaller windows than the settings allow, so that a few answers fill them."""
_RATINGS: dict[InteractionOutcome, Rating] = {"approved": "up", "disapproved": "down", "corrected": "down"}


def row(
    number: int,
    *,
    outcome: InteractionOutcome = "approved",
    answer: str = "orders",
    question: str = "Where is it?",
    adapter: str | None = None,
    sequence: int = 0,
    arm: Arm = "champion",
    score: float | None = None,
    task: str = "routing",
    user: str | None = None,
    correction: str = "returns",
) -> Interaction:
    """The answer that was given ``number`` seconds after the start, to a user who asks nothing else."""
    at = START + timedelta(seconds=number)
    return Interaction(
        answer_id=f"a{number:05}",
        revision=1,
        outcome=outcome,
        task=task,
        user=user or f"u{number}",
        question=question,
        answer=None if outcome == "failed" else answer,
        failure="the engine is tired" if outcome == "failed" else None,
        sources=() if score is None else ({"document_id": "d", "score": score},),
        adapter_id=adapter,
        release_sequence=sequence,
        arm=arm,
        latency_ms=12.0,
        completion_tokens=2,
        prompt_tokens=30,
        finish_reason=None if outcome == "failed" else "stop",
        answered_at=at,
        rating=_RATINGS.get(outcome),
        correction=correction if outcome == "corrected" else None,
        first_event_at=at,
        last_event_at=at,
    )


def judged(
    rows: Sequence[Interaction],
    embeddings: Embeddings,
    task: Task = ROUTING,
    *,
    policy: MonitorPolicy = POLICY,
    corrections: CorrectionsFound | None = None,
) -> tuple[DriftVerdict, Examination]:
    """Makes a check's decision about answers, the oldest first, with the columns tested by themselves."""
    found = make_windows(rows[: policy.read_rows], rows[-policy.read_rows :], policy)
    examined = Examination(found, embeddings, task, policy)
    described = DescribedColumns(reference_rows=examined.reference_rows, measured={}, named={})
    detection = MemoryDetector().detect(examined.columns, described)
    given = evidence(examined, detection, corrections or CorrectionsFound())
    return judge(examined, detection, given, task, policy), examined


def vectors(rows: Sequence[Interaction], seed: int = 0, *, shift: float = 0.0, shifted: Sequence[int] = ()):
    """Makes random unit vectors for the rows' questions; those at the indices in ``shifted`` are moved to where there
    are no others."""
    drawn = np.random.default_rng(seed).normal(size=(len(rows), 16))
    drawn[:, 8:] /= 10
    drawn[list(shifted), 15] += shift
    units = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return {each.answer_id: unit for each, unit in zip(rows, units, strict=True)}
