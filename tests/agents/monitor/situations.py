"""Scripted situations after a drift: what changed, what users said, what the documents hold, and what would help.

Users ask in sessions, by Zipf's law, over days (``agents.monitor.traffic``). A topic has one fact, which a document
states and questions ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from agents.monitor.columns import Examination
from agents.monitor.corrections import CorrectionsFound, look_for
from agents.monitor.traffic import Drift, Questions, Stream, Traffic, simulate
from agents.monitor.verdict import DriftVerdict, evidence, judge
from agents.monitor.windows import make_windows
from infra.memory.database import MemoryDatabase
from infra.memory.documents import MemoryDocuments
from infra.memory.drift import MemoryDetector
from infra.memory.retriever import MemoryRetriever
from schemas.drift import DescribedColumns
from schemas.features import DocumentState, Interaction
from schemas.interactions import InteractionOutcome
from schemas.learning import Remedy
from schemas.policies import MonitorPolicy
from schemas.retrieval import Chunk
from schemas.tasks import Task

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
TOPICS, NEW_TOPICS, A_TOPIC = 30, 6, 20
BEFORE, AFTER = 1600, 500
DIMENSION = 48
POLICY = MonitorPolicy()
THINGS = (
    "return period", "delivery fee", "warranty", "gift card limit", "pickup window", "repair price", "loan term",
    "membership fee", "refund delay", "parcel weight limit", "assembly price", "trial period",
)  # fmt: skip
UNITS = ("days", "euros", "months", "euros", "hours", "euros", "weeks", "euros", "days", "kilograms", "euros", "days")
OPINIONS = ("This did not help me at all.", "Please let a person call me.", "Much too long, be brief.")
CORRECTIONS = (
    "{new} {unit}",
    "It is {new} {unit} now, not {old}.",
    "The {thing} is {new} {unit}.",
    "Wrong: {new}!",
    "should say {new} {unit}, that changed",
)
Where = Literal["newer", "missed", "served", "nowhere"]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is different after a drift, and which remedy helps.

    ``bad`` and ``declined``: the rates after it; before it they are 0.15 and 0.02. ``new``: the share of questions on
    new topics; ``new_bad``, ``new_declined``, ``new_score``: how these are answered. ``rated``: the part of the answers
    that is rated after it. ``corrected``: the part of the bad ratings with a correction. ``where``: what has the facts
    that users correct to. ``opinions``: the part of the corrections that state no fact. ``updated``: for "newer", after
    this part of the answers the documents hold the new facts. ``score``: by how much sources fit worse. ``failed``: the
    part of the answers that fail.
    """

    remedy: Remedy
    task: Literal["routing", "support"] = "support"
    bad: float = 0.15
    declined: float = 0.02
    new: float = 0.0
    new_bad: float | None = None
    new_declined: float | None = None
    new_score: float = 0.0
    rated: float = 0.5
    corrected: float = 0.6
    where: Where = "nowhere"
    opinions: float = 0.1
    updated: float = 1.0
    score: float = 0.0
    failed: float = 0.0


def _each(names: str, *values: tuple[object, ...], **same: object) -> list[Situation]:
    """Makes a situation of each row of a table."""
    return [Situation(**{**same, **dict(zip(names.split(), row, strict=True))}) for row in values]  # type: ignore[arg-type]


SITUATIONS: dict[str, list[Situation]] = {
    "retrain": [
        *_each("bad corrected", (0.4, 0.6), (0.5, 0.3), (0.35, 0.9), (0.6, 0.5), remedy="retrain", task="routing"),
        *_each(
            "new new_bad corrected rated",
            (0.3, 0.8, 0.6, 0.5),
            (0.5, 0.6, 0.8, 0.4),
            (0.4, 0.9, 0.4, 0.6),
            (0.6, 0.7, 0.5, 0.3),
            remedy="retrain",
            task="routing",
        ),
        *_each(
            "bad opinions score",
            (0.4, 0.0, 0.0),
            (0.5, 0.2, 0.0),
            (0.6, 0.1, 0.06),
            (0.45, 0.3, 0.04),
            (0.5, 0.1, 0.08),
            (0.4, 0.1, 0.0),
            remedy="retrain",
            where="served",
        ),
    ],
    "facts": _each(
        "bad corrected opinions updated",
        (0.4, 0.6, 0.1, 1.0),
        (0.5, 0.3, 0.2, 1.0),
        (0.35, 0.9, 0.0, 0.9),
        (0.6, 0.5, 0.3, 1.0),
        (0.5, 0.6, 0.1, 0.8),
        (0.4, 0.8, 0.4, 1.0),
        (0.7, 0.2, 0.1, 1.0),
        (0.45, 0.5, 0.0, 0.9),
        (0.5, 0.9, 0.3, 0.9),
        (0.4, 0.4, 0.1, 1.0),
        (0.6, 0.7, 0.2, 0.8),
        (0.5, 0.5, 0.1, 1.0),
        remedy="index",
        where="newer",
    ),
    "retrieval": [
        *_each("declined bad", (0.12, 0.15), (0.2, 0.2), (0.3, 0.3), (0.15, 0.25), remedy="index"),
        *_each(
            "new new_bad new_declined",
            (0.3, 0.6, 0.5),
            (0.4, 0.8, 0.3),
            (0.25, 0.5, 0.7),
            (0.5, 0.4, 0.4),
            remedy="index",
            new_score=0.35,
            corrected=0.2,
        ),
        *_each(
            "bad corrected score",
            (0.4, 0.6, 0.0),
            (0.5, 0.4, 0.05),
            (0.6, 0.5, 0.1),
            (0.45, 0.8, 0.1),
            remedy="index",
            where="missed",
        ),
    ],
    "label": [
        *_each(
            "task new new_bad rated",
            ("routing", 0.3, 0.7, 0.02),
            ("routing", 0.5, 0.1, 0.0),
            ("support", 0.4, 0.5, 0.03),
            ("support", 0.3, 0.1, 0.0),
            ("routing", 0.4, 0.9, 0.03),
            ("support", 0.5, 0.2, 0.02),
            remedy="label",
        ),
        *_each(
            "task bad corrected",
            ("routing", 0.45, 0.0),
            ("routing", 0.6, 0.03),
            ("support", 0.5, 0.0),
            ("support", 0.4, 0.02),
            ("routing", 0.5, 0.0),
            ("support", 0.6, 0.02),
            remedy="label",
        ),
    ],
    "none": [
        *_each(
            "task new new_bad rated",
            ("routing", 0.3, 0.1, 0.5),
            ("routing", 0.5, 0.15, 0.4),
            ("support", 0.4, 0.1, 0.6),
            ("support", 0.3, 0.15, 0.5),
            ("routing", 0.4, 0.05, 0.3),
            ("support", 0.5, 0.1, 0.4),
            ("routing", 0.6, 0.12, 0.6),
            ("support", 0.6, 0.15, 0.5),
            remedy="none",
        ),
        *_each("task failed", ("routing", 0.1), ("support", 0.2), ("routing", 0.3), ("support", 0.15), remedy="none"),
    ],
}
"""By kind, at least a dozen each. The rules were tuned on those at even places."""


def triaged(situation: Situation, seed: int) -> tuple[DriftVerdict, Sequence[Interaction]]:
    """What a check says after the situation, and the answers that it saw."""
    random = np.random.default_rng(seed)
    labels = tuple(f"label {topic}" for topic in range(TOPICS + NEW_TOPICS)) if situation.task == "routing" else ()
    task = Task(name=situation.task, instruction="i", labels=labels, retrieval=situation.task == "support")
    questions = _questions(random)
    drift = Drift(at=BEFORE, new=situation.new, bad=situation.bad, declined=situation.declined)
    traffic = Traffic(users=200, bad=0.15, drift=drift, bias=0.3, difficulty=0.3)
    stream = simulate(traffic, questions, rows=BEFORE + AFTER, seed=seed)
    rows = _rows(situation, stream, questions, random)
    embeddings = {row.answer_id: questions.vectors[stream.question[place]] for place, row in enumerate(rows)}
    found = make_windows(rows[: POLICY.read_rows], rows[-POLICY.read_rows :], POLICY)
    examined = Examination(found, embeddings, task, POLICY)
    described = DescribedColumns(reference_rows=examined.reference_rows, measured={}, named={})
    detection = MemoryDetector().detect(examined.columns, described)
    corrections = CorrectionsFound()
    if task.retrieval and detection.drifted:
        newest = [examined.rows[number] for number in examined.newest(detection.drifted)]
        corrections = look_for(newest, *_documents(situation, rows))
    return judge(examined, detection, evidence(examined, detection, corrections), task, POLICY), rows


def _questions(random: np.random.Generator) -> Questions:
    topics = TOPICS + NEW_TOPICS
    centres = np.repeat(random.normal(size=(topics, DIMENSION)), A_TOPIC, axis=0)
    vectors = centres + 0.6 * random.normal(size=centres.shape)
    return Questions(
        vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        topic=np.repeat(np.arange(topics), A_TOPIC),
        new_topics=NEW_TOPICS,
    )


def _rows(situation: Situation, stream: Stream, questions: Questions, random: np.random.Generator) -> list[Interaction]:
    rows = []
    for place in range(len(stream)):
        topic, late = int(questions.topic[stream.question[place]]), place >= BEFORE
        new = topic >= TOPICS
        after = (place - BEFORE) / AFTER
        bad, declined = bool(stream.bad[place]), bool(stream.declined[place])
        if new and situation.new_bad is not None:
            bad = random.random() < situation.new_bad
        if new and situation.new_declined is not None:
            declined = random.random() < situation.new_declined
        fresh = late and situation.where == "newer" and after >= situation.updated
        if fresh:
            bad = random.random() < 0.15
        rated = bool(stream.rated[place]) if not late else random.random() < situation.rated
        failed = late and random.random() < situation.failed
        old, right = fact(topic, new=fresh), fact(topic, new=True)
        where = situation.where if late else "served"
        outcome: InteractionOutcome = "unrated"
        correction = None
        if failed:
            outcome = "failed"
        elif rated:
            outcome = "disapproved" if bad else "approved"
            if bad and not declined and random.random() < situation.corrected:
                outcome = "corrected"
                correction = str(random.choice(CORRECTIONS)).format(
                    new=right, old=old, unit=UNITS[topic % len(UNITS)], thing=THINGS[topic % len(THINGS)]
                )
                if random.random() < situation.opinions:
                    correction = str(random.choice(OPINIONS))
        score = 0.7 + 0.05 * random.normal() - (late * situation.score) - (situation.new_score if new else 0)
        at = MONDAY + timedelta(seconds=float(stream.seconds[place]))
        rows.append(
            Interaction(
                answer_id=f"a{place:05}",
                outcome=outcome,
                task=situation.task,
                tenant="default",
                user=f"u{stream.user[place]}",
                session=f"s{stream.session[place]}",
                question=f"What is the {THINGS[topic % len(THINGS)]} for group {stream.question[place]}?",
                answer=None if failed else f"label {topic}" if situation.task == "routing" else statement(topic, old),
                sources=()
                if situation.task == "routing"
                else (
                    {
                        "document_id": f"d{topic}",
                        "score": float(score),
                        "text": statement(topic, right if where == "served" and late else old),
                    },
                ),
                declined=declined,
                release_sequence=0,
                arm="champion",
                answered_at=at,
                correction=correction,
                first_event_at=at,
                last_event_at=at,
            )
        )
    return rows


def fact(topic: int, *, new: bool) -> int:
    return 10 + 7 * topic + 3 * new


def statement(topic: int, value: int) -> str:
    thing, unit = THINGS[topic % len(THINGS)], UNITS[topic % len(UNITS)]
    return f"Our shop has rules for everything. The {thing} of group {topic} is {value} {unit}. Ask us about more."


def _documents(situation: Situation, rows: Sequence[Interaction]) -> tuple[MemoryRetriever, MemoryDocuments]:
    database = MemoryDatabase()
    documents = MemoryDocuments(database)
    chunks = []
    last = rows[BEFORE + int(situation.updated * AFTER) - 1].answered_at
    assert last is not None
    for topic in range(TOPICS + NEW_TOPICS):
        changed = situation.where in ("newer", "missed")
        name = f"d{topic}" if situation.where != "missed" else f"e{topic}"
        at = last + timedelta(seconds=1) if situation.where == "newer" else MONDAY - timedelta(days=1)
        documents.put(
            DocumentState(
                tenant="default",
                document_id=name,
                version="2",
                content_hash="h",
                chunk_count=1,
                embedding_model="m",
                title=None,
                uri=None,
                submitted_at=at,
                event_id="e",
            )
        )
        text = statement(topic, fact(topic, new=changed or situation.where == "served"))
        chunks.append(Chunk(chunk_id=name, tenant="default", document_id=name, version="2", ordinal=0, text=text))
    return MemoryRetriever(chunks), documents
