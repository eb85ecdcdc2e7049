"""Asks candidate, champion and base model the same rows as an answerer would, and scores their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files

from agents.prompt import build_row_prompt
from agents.validator.metrics import METRICS, WHOLE
from agents.validator.ports import EvaluationEngine
from agents.validator.verdict import Evidence, LabelledAnswers, PairedScores
from schemas.datasets import DatasetRow
from schemas.generation import ChatMessage, GenerationRequest
from schemas.tasks import Task, unknown_task

BATCH_REQUESTS = 32
"""How many requests are generated between two reports of progress."""
BASE_ROWS = 40
"""How many rows the base model also answers when the champion is the reference. They are for the report only."""
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
    evidence: Evidence
    left_out: int
    """How many rows were not asked, because their prompts do not fit the model."""


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


def held_out_rows(rows: Sequence[DatasetRow], most: int) -> tuple[DatasetRow, ...]:
    """Returns at most ``most`` rows that the training did not use: the same rows each time."""
    return tuple(sorted((row for row in rows if row.split == "holdout"), key=lambda row: row.sampling_key)[:most])


def retention_rows(suite: Sequence[DatasetRow], rows: Sequence[DatasetRow], most: int) -> tuple[DatasetRow, ...]:
    """Returns at most ``most`` rows of the retention suite, without those that the dataset holds too.

    The adapter would score too well on a row that it was trained on, and a held-out row is asked anyway.
    """
    known = {row.row_id for row in rows} | {row.input_key for row in rows}
    others = [row for row in suite if row.row_id not in known and row.input_key not in known]
    return tuple(sorted(others, key=lambda row: row.sampling_key)[:most])


def evaluate(
    plan: EvaluationPlan, engine: EvaluationEngine, on_progress: OnProgress, base_loss: Callable[[], float]
) -> Evaluation:
    """Generates the answers of every arm, greedily, and scores them. The adapters must be loaded.

    ``base_loss`` returns the loss of the base model on the general texts. Raises EngineCrashed or Unavailable.
    """
    current, suite = _with_requests(plan, plan.rows, engine), _with_requests(plan, plan.suite, engine)
    metric = str(plan.task.metric)
    arms = {"candidate": plan.adapter_id, "reference": plan.champion}
    wanted = [(each, arm) for each in (*current, *suite) for arm in arms]
    if plan.champion is not None:
        arms["base"] = None
        wanted += [(each, "base") for each in current[:BASE_ROWS]]
    wanted.sort(key=lambda each: each[0].characters)  # similar lengths need little padding
    for start in range(0, len(wanted), BATCH_REQUESTS):
        batch = wanted[start : start + BATCH_REQUESTS]
        generations = engine.generate([replace(each.request, adapter_id=arms[arm]) for each, arm in batch])
        for (each, arm), generation in zip(batch, generations, strict=True):
            cut = generation.finish_reason == "length" and each.request.max_tokens < _answer_limit(plan.task, engine)
            each.answers[arm] = generation.text + (" …" if cut else "")
            each.scores[arm] = METRICS[metric](each.answers[arm], each.row.output)
        on_progress(min(start + BATCH_REQUESTS, len(wanted)), len(wanted))
    evidence = Evidence(
        metric=metric,
        reference="the base model" if plan.champion is None else "the champion",
        current=_paired_scores(current),
        retention=_paired_scores(suite),
        labelled=tuple(_labelled_answers(current)),
        general_candidate=engine.loss(plan.general, plan.adapter_id),
        general_base=base_loss(),
    )
    left_out = len(plan.rows) + len(plan.suite) - len(current) - len(suite)
    return Evaluation(current=current, retention=suite, evidence=evidence, left_out=left_out)


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
