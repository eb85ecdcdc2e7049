"""What a check does in its child process, on memory twins: windows, tests, corrections, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from agents.monitor.differences import Floats
from agents.monitor.verdict import TO_LABEL
from agents.monitor.work import SHOWN_NOVEL, DriftChecker
from infra.memory.database import MemoryDatabase
from infra.memory.documents import MemoryDocuments
from infra.memory.drift import MemoryAnswers, MemoryDetector, MemoryDriftReports
from infra.memory.embedder import MemoryEmbedder
from infra.memory.features import MemoryFeatureTable
from infra.memory.retriever import MemoryRetriever
from schemas.drift import DRIFT_CHECK, Baseline, DriftCheck
from schemas.features import DocumentState
from schemas.questions import Turn
from schemas.retrieval import Chunk
from schemas.tasks import Task
from tests.agents.monitor.rows import POLICY, ROUTING, START, SUPPORT, row

NOW = START + timedelta(hours=1)
REFERENCE = POLICY.reference_rows
NEWEST = POLICY.current_rows + (POLICY.of - 1) * POLICY.every_rows
ODD = "\ufffd"


class Broken(MemoryEmbedder):
    """An embedder whose vectors of one text are no numbers."""

    def embed(self, texts: Sequence[str]) -> Floats:
        vectors = super().embed(texts).copy()
        vectors[[text == ODD for text in texts]] = np.nan
        return vectors


class Listening(MemoryEmbedder):
    """Keeps the texts that it embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def embed(self, texts: Sequence[str]) -> Floats:
        self.heard += texts
        return super().embed(texts)


class Work:
    """A checker on memory twins; remembers its reports and its progress."""

    def __init__(
        self, problem: str | None = None, embedder: MemoryEmbedder | None = None, chunks: Sequence[Chunk] = ()
    ) -> None:
        database = MemoryDatabase()
        self.features = MemoryFeatureTable(database)
        self.detector = MemoryDetector(problem)
        self.search = MemoryRetriever(chunks)
        self.documents = MemoryDocuments(database)
        self.reports = MemoryDriftReports()
        self.progress: list[float] = []
        self.checker = DriftChecker(
            answers=MemoryAnswers(database),
            embedder=embedder or MemoryEmbedder(),
            detector=self.detector,
            search=self.search,
            versions=self.documents,
            reports=self.reports,
            policy=POLICY,
            now=lambda: NOW,
            progress=lambda done, text: self.progress.append(done),
        )

    def answer(self, count: int, start: int = 0, question: str = "Where is my parcel?", **fields: object) -> None:
        for number in range(start, start + count):
            self.features.put_interaction(row(number, question=question, **fields))  # type: ignore[arg-type]  # of a row

    def check(self, sequence: int = 0, task: Task = ROUTING) -> DriftCheck:
        return self.checker.check("c1", task, Baseline(sequence=sequence))


def worse(work: Work) -> DriftCheck:
    """A check of answers that got worse to questions that are new."""
    work.answer(REFERENCE)
    work.answer(NEWEST, REFERENCE, question="Do the blades of ice skates rust?", outcome="corrected")
    return work.check()


def test_too_few_answers_are_not_tested_and_have_no_report():
    work = Work()
    work.answer(7)
    check = work.check()
    assert (check.verdict, check.findings, check.reference.rows, check.current.rows) == (None, (), 7, 0)
    assert check.reasons[0].startswith("too few answers to compare: 7 so far, 160 are needed")
    assert (check.report_uri, work.reports.written) == (None, [])


def test_after_a_release_the_reason_names_the_champion():
    work = Work()
    work.answer(3, sequence=2)
    assert "3 since the champion changed" in work.check(sequence=2).reasons[0]


def test_answers_that_got_worse_are_drift_with_a_report_of_what_is_new():
    work = Work()
    check = worse(work)
    assert (check.check_id, check.verdict, check.remedy, check.checked_at) == ("c1", "outcomes", "retrain", NOW)
    assert (check.reference.rows, check.current.rows) == (REFERENCE, NEWEST)
    assert check.figures["flags.outcomes"] == 3
    assert check.report_uri == "memory:routing/c1"
    [report] = work.reports.written
    assert [question for question, _ in report.novel] == ["Do the blades of ice skates rust?"]
    assert len(report.windows) == POLICY.of
    [described] = work.detector.described
    assert {len(column) for column in (*described.measured.values(), *described.named.values())} == {REFERENCE + NEWEST}
    assert "question, component 3" in described.measured
    assert report.detection.drifted == ("questions", "outcomes")
    assert work.progress == sorted(work.progress)


def test_a_report_shows_only_the_most_unfamiliar_questions():
    work = Work()
    work.answer(REFERENCE)
    for number in range(NEWEST):
        work.answer(1, REFERENCE + number, question=f"skates{number} rust{number}")
    work.check()
    [report] = work.reports.written
    similarities = [similarity for _, similarity in report.novel]
    assert len(similarities) == SHOWN_NOVEL
    assert similarities == sorted(similarities)


def test_the_components_of_the_questions_are_in_the_order_of_their_variance():
    work = Work()
    for number in range(REFERENCE + NEWEST):
        work.answer(1, number, question=" ".join(f"word{number * factor % 97}" for factor in (1, 3, 7)))
    work.check()
    [described] = work.detector.described
    columns = [np.array(described.measured[f"question, component {number}"], dtype=float) for number in (1, 2, 3)]
    variances = [column.var() for column in columns]
    assert variances == sorted(variances, reverse=True)
    assert variances[-1] > 0
    correlations = np.corrcoef(columns) - np.eye(3)
    # Only the newest current window is shown, so the components are computed over exactly these rows.
    assert np.abs(correlations).max() < 0.01


def test_when_evidently_fails_the_verdict_stands_and_the_check_says_so():
    check = worse(Work("the charts failed: out of paint"))
    assert check.verdict == "outcomes"
    assert check.reasons[-1] == "the charts failed: out of paint"


def test_corrections_are_looked_for_in_the_documents_when_something_drifted():
    texts = {"old": "A return is free for 14 days.", "new": "A return is free for 30 days."}
    chunks = [
        Chunk(chunk_id=name, tenant="default", document_id=name, version="1", ordinal=0, text=text)
        for name, text in texts.items()
    ]
    work = Work(chunks=chunks)
    for document, at in (("old", START), ("new", START + timedelta(minutes=30))):
        state = DocumentState(
            tenant="default", document_id=document, version="1", content_hash="h", chunk_count=1, embedding_model="m",
            title=None, uri=None, submitted_at=at, event_id="e"
        )  # fmt: skip
        work.documents.put(state)
    work.answer(REFERENCE, task="support", score=0.8, question="How long is a return free?", answer="14 days")
    work.answer(
        NEWEST, REFERENCE, task="support", score=0.8, question="How long is a return free?", answer="14 days",
        outcome="corrected", correction="It is 30 days.",
    )  # fmt: skip
    check = work.check(task=SUPPORT)
    assert (check.verdict, check.remedy) == ("outcomes", "index")
    assert "40 of 40 corrections agree with documents that are newer than the answers (new)" in check.reasons[-2]


def test_without_the_search_a_training_waits_and_the_check_says_so():
    work = Work()
    work.search.down = True
    work.answer(REFERENCE, task="support", score=0.8)
    work.answer(NEWEST, REFERENCE, task="support", score=0.8, outcome="corrected")
    check = work.check(task=SUPPORT)
    assert (check.verdict, check.remedy) == ("outcomes", "none")
    assert "a training waits until they can be looked for in the documents" in check.reasons[-3]
    assert check.reasons[-1].startswith("the corrections were not looked for in the documents: the search cannot")


def test_a_check_that_asks_for_labels_names_the_answers():
    work = Work()
    work.answer(REFERENCE, outcome="unrated")
    for number in range(NEWEST):
        work.answer(1, REFERENCE + number, question=f"skates{number} rust{number}", outcome="unrated")
    check = work.check()
    assert (check.verdict, check.remedy) == ("questions", "label")
    assert len(set(check.to_label)) == TO_LABEL
    [report] = work.reports.written
    assert [answer_id for answer_id, _ in report.to_label] == list(check.to_label)


def test_a_question_whose_embedding_is_no_number_is_no_drift():
    work = Work(embedder=Broken())
    work.answer(REFERENCE)
    in_every_window = REFERENCE + NEWEST - POLICY.current_rows
    work.answer(NEWEST - POLICY.current_rows, REFERENCE)
    work.answer(1, in_every_window, question=ODD)
    work.answer(POLICY.current_rows - 1, in_every_window + 1)
    check = work.check()
    assert check.verdict is None
    assert all(np.isfinite([finding.p_value, finding.effect]).all() for finding in check.findings)
    json.dumps(DRIFT_CHECK.dump_python(check, mode="json"), allow_nan=False)


def test_a_follow_up_is_compared_with_what_it_follows_up_on():
    embedder = Listening()
    work = Work(embedder=embedder)
    turns = (Turn(role="user", text="How do I renew a passport?"), Turn(role="assistant", text="At the town hall."))
    work.answer(REFERENCE)
    for number in range(REFERENCE, REFERENCE + NEWEST):
        work.features.put_interaction(replace(row(number, question="And for my wife?"), history=turns))

    work.check()

    assert set(embedder.heard) == {"Where is my parcel?", "How do I renew a passport?\nAnd for my wife?"}
