"""Asks candidate, champion and base model the same rows as an answerer would, and scores their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files

from agents.prompt import build_row_prompt
from agents.validator.metrics import METRICS, WHOLE
from agents.validator.ports import EvaluationEngine
from agents.validator.slices import make_slices
from agents.validator.verdict import Evidence, LabelledAnswers, PairedScores, is_flip
from schemas.datasets import DatasetRow, sampling_key_of
from schemas.generation import ChatMessage, GenerationRequest
from schemas.tasks import Task, unknown_task
from schemas.words import comparable

BATCH_REQUESTS = 32
"""How many requests are generated between two reports of progress."""
BASE_ROWS = 40
"""How many rows the base model also answers when the champion is the reference. They are for the report only."""
DIVERGENCE_ROWS = 16
"""On how many of these rows KL(base || adapter) is measured: each is read twice, as long as it is."""
CUT = " …"
"""Stands behind an answer that was cut because a longer one would be wrong anyway."""
SLACK_TOKENS = 8
"""How much longer than the longest right answer an answer may get, if a longer one would be wrong anyway."""

OnProgress = Callable[[int, int], None]
"""Gets how many requests are answered, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is evaluated."""

    task: Task
    adapter_id: str
    champion: str | None
    """None while the base model serves."""
    rows: tuple[DatasetRow, ...]
    """Held-out rows of the adapter's dataset."""
    suite: tuple[DatasetRow, ...]
    """Held-out rows of earlier adapters."""
    golden: tuple[DatasetRow, ...] = ()
    """Rows of the golden set."""
    tries: int = 1
    """The number of this candidate among those that were judged on the same held-out rows, counted from 1."""
    stale: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By suite and right answer, how many rows were left out because that answer is no label of the task any more."""
    general: tuple[str, ...]
    """Plain texts on which forgetting is measured."""
    context_tokens: int
    """The most tokens of a prompt, the same as the answerer's."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedRow:
    """A row, its request, and by arm the answer and its score. The arms are candidate, reference and base."""

    row: DatasetRow
    request: GenerationRequest
    answers: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def characters(self) -> int:
        """The length of the prompt."""
        return sum(len(message.content) for message in self.request.messages)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Every row that was asked, and the evidence for the verdict."""

    current: tuple[EvaluatedRow, ...]
    retention: tuple[EvaluatedRow, ...]
    golden: tuple[EvaluatedRow, ...]
    evidence: Evidence
    left_out: int
    """How many rows were not asked, because their prompts do not fit the model."""

    @property
    def judged(self) -> tuple[tuple[str, EvaluatedRow], ...]:
        """Every row with the name of its suite, in the order of ``evidence.together``."""
        suites = (("held out", self.current), ("retention", self.retention), ("golden", self.golden))
        return tuple((name, each) for name, rows in suites for each in rows)

    @property
    def flips(self) -> list[tuple[str, EvaluatedRow]]:
        """The rows that the reference answered right and the candidate answers wrong, with their suites."""
        return [
            (suite, each)
            for suite, each in self.judged
            if is_flip(candidate=each.scores["candidate"], reference=each.scores["reference"])
        ]


def reason_to_reject(name: str, tasks: Mapping[str, Task]) -> str | None:
    """Returns why no adapter of a task can be evaluated, or None when it can."""
    task = tasks.get(name)
    if task is None:
        return unknown_task(name, tasks)
    if task.metric not in METRICS:
        known = ", ".join(METRICS)
        fault = "names no metric" if task.metric is None else f"names the metric {task.metric}, which is unknown"
        return f"the task {task.name} {fault}: set metric in [tasks.{task.name}] to one of {known}"
    return None


def general_texts() -> tuple[str, ...]:
    """Returns the plain text on which forgetting is measured, a paragraph each."""
    text = files("agents.validator").joinpath("general.txt").read_text(encoding="utf-8")
    return tuple(each.strip() for each in text.split("\n\n") if each.strip())


def held_out_rows(rows: Sequence[DatasetRow], most: int, *, draw: str = "") -> tuple[DatasetRow, ...]:
    """Returns at most ``most`` rows that the training did not use: the same rows each time for the same ``draw``.

    ``draw``: the candidate's id. Where there are more rows than are asked, each candidate gets other ones.
    """
    return _drawn((row for row in rows if row.split == "holdout"), most, draw)


def golden_rows(rows: Sequence[DatasetRow], most: int, *, draw: str = "") -> tuple[DatasetRow, ...]:
    """Returns at most ``most`` rows of the golden set, likewise."""
    return _drawn((row for row in rows if row.split == "golden"), most, draw)


def retention_rows(
    suite: Sequence[DatasetRow], rows: Sequence[DatasetRow], most: int, *, draw: str = ""
) -> tuple[DatasetRow, ...]:
    """Returns at most ``most`` rows of the retention suite, likewise, without those that the dataset holds too.

    The adapter would score too well on a row that it was trained on, and a held-out row is asked anyway.
    """
    known = {row.row_id for row in rows} | {row.input_key for row in rows}
    others = [row for row in suite if row.row_id not in known and row.input_key not in known]
    return _drawn(others, most, draw)


def without_stale(task: Task, rows: Iterable[DatasetRow]) -> tuple[list[DatasetRow], dict[str, int]]:
    """Divides rows into those whose right answer the task still has, and the others, counted by that answer.

    No adapter may be blamed for not giving an answer that the task has no more.
    """
    kept, stale = [], Counter[str]()
    for row in rows:
        if task.accepts(row.output):
            kept.append(row)
        else:
            stale[row.output] += 1
    return kept, dict(stale.most_common())


def _drawn(rows: Iterable[DatasetRow], most: int, draw: str) -> tuple[DatasetRow, ...]:
    """Returns a random sample, which depends on the ids of the rows and on ``draw`` alone."""
    return tuple(sorted(rows, key=lambda row: sampling_key_of(draw + row.row_id))[:most])


def evaluate(
    plan: EvaluationPlan, engine: EvaluationEngine, on_progress: OnProgress, base_loss: Callable[[], float]
) -> Evaluation:
    """Generates the answers of every arm, greedily, and scores them. The adapters must be loaded.

    ``base_loss`` returns the loss of the base model on the general texts. Raises EngineCrashed or Unavailable.
    """
    current, suite, golden = (_with_requests(plan, rows, engine) for rows in (plan.rows, plan.suite, plan.golden))
    metric = str(plan.task.metric)
    arms = {"candidate": plan.adapter_id, "reference": plan.champion}
    wanted = [(each, arm) for each in (*current, *suite, *golden) for arm in arms]
    if plan.champion is not None:
        arms["base"] = None
        wanted += [(each, "base") for each in current[:BASE_ROWS]]
    wanted.sort(key=lambda each: each[0].characters)  # similar lengths need little padding
    for start in range(0, len(wanted), BATCH_REQUESTS):
        batch = wanted[start : start + BATCH_REQUESTS]
        generations = engine.generate([replace(each.request, adapter_id=arms[arm]) for each, arm in batch])
        for (each, arm), generation in zip(batch, generations, strict=True):
            cut = generation.finish_reason == "length" and each.request.max_tokens < _answer_limit(plan.task, engine)
            each.answers[arm] = generation.text + (CUT if cut else "")
            each.scores[arm] = METRICS[metric](each.answers[arm], each.row.output)
        on_progress(min(start + BATCH_REQUESTS, len(wanted)), len(wanted))
    asked = (*current, *suite, *golden)
    evidence = Evidence(
        metric=metric,
        reference="the base model" if plan.champion is None else "the champion",
        current=_paired_scores(current),
        retention=_paired_scores(suite),
        golden=_paired_scores(golden),
        tries=plan.tries,
        labelled=tuple(_labelled_answers(current)),
        right=frozenset(comparable(each.row.output) for each in asked),
        slices=make_slices(plan.task, [each.row for each in asked]),
        general_candidate=engine.loss(plan.general, plan.adapter_id),
        general_base=base_loss(),
        divergence=_divergence(plan, current, engine),
    )
    left_out = len(plan.rows) + len(plan.suite) + len(plan.golden) - len(asked)
    return Evaluation(current=current, retention=suite, golden=golden, evidence=evidence, left_out=left_out)


def _divergence(plan: EvaluationPlan, current: Sequence[EvaluatedRow], engine: EvaluationEngine) -> float | None:
    """Measures KL(base || candidate) on the first held-out rows, along the base model's own answers."""
    base = "reference" if plan.champion is None else "base"
    exchanges = [(each.request.messages, each.answers[base].removesuffix(CUT)) for each in current[:DIVERGENCE_ROWS]]
    return engine.divergence(exchanges, plan.adapter_id) if exchanges else None


def _with_requests(
    plan: EvaluationPlan, rows: Sequence[DatasetRow], engine: EvaluationEngine
) -> tuple[EvaluatedRow, ...]:
    """Builds the prompts that an answerer would build. Leaves out rows that it would refuse as too long."""
    limit = _answer_limit(plan.task, engine)
    budget = min(plan.context_tokens, engine.window - limit)
    most = limit
    if plan.task.metric in WHOLE and rows:
        empty = engine.count_tokens([ChatMessage("user", "")])
        longest = max(engine.count_tokens([ChatMessage("user", text)]) for text in {row.output for row in rows})
        most = min(limit, longest - empty + SLACK_TOKENS)
    found = []
    for row in rows:
        prompt = build_row_prompt(plan.task, row, budget=budget, count=engine.count_tokens)
        if prompt.fits:
            found.append(EvaluatedRow(row=row, request=GenerationRequest(messages=prompt.messages, max_tokens=most)))
    return tuple(found)


def _answer_limit(task: Task, engine: EvaluationEngine) -> int:
    return min(task.max_tokens, engine.window // 2)


def _paired_scores(rows: Sequence[EvaluatedRow]) -> PairedScores:
    return PairedScores(
        candidate=tuple(each.scores["candidate"] for each in rows),
        reference=tuple(each.scores["reference"] for each in rows),
    )


def _labelled_answers(current: Sequence[EvaluatedRow]) -> list[LabelledAnswers]:
    """Groups the candidate's answers by origin. Approved answers are left out: a model wrote those, not a person."""
    found = []
    for origin in ("correction", "example"):
        rows = [each for each in current if each.row.fresh and each.row.origin == origin]
        if rows:
            answers = tuple(each.answers["candidate"] for each in rows)
            found.append(LabelledAnswers(origin=origin, answers=answers, right=tuple(each.row.output for each in rows)))
    return found
