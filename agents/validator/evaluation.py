"""Asks candidate, champion and base model the same rows as an answerer would, and scores what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agents.prompt import build_prompt, hit_of
from agents.validator.metrics import METRICS, WHOLE
from agents.validator.ports import Engine
from agents.validator.verdict import Compared, Evidence, Taught
from schemas.datasets import DatasetRow
from schemas.generation import ChatMessage, GenerationRequest
from schemas.tasks import Task

PORTION = 32
"""Requests that are generated between two signs of progress."""
BASE_ROWS = 40
"""Rows that the base model is asked too where a champion is the reference: for the report, not for the verdict."""
SLACK_TOKENS = 8
"""An answer this much longer than the longest right one is not read to its end where it would be wrong anyway."""

Tell = Callable[[int, int], None]
"""Told how many of how many requests are answered."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is examined. ``suite``: rows of earlier held-out sets. ``champion``: None where the base model serves.

    ``context_tokens``: the most tokens of a prompt, as the answerer has it.
    """

    task: Task
    adapter_id: str
    champion: str | None
    rows: tuple[DatasetRow, ...]
    suite: tuple[DatasetRow, ...]
    general: tuple[str, ...]
    context_tokens: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row, its request, what each arm said and how it scored. Arms: candidate, reference, base."""

    row: DatasetRow
    request: GenerationRequest
    said: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """All that was asked, and the evidence that it makes. ``left_out``: rows whose prompts do not fit the model."""

    current: tuple[Asked, ...]
    retention: tuple[Asked, ...]
    evidence: Evidence
    left_out: int


def fault(name: str, tasks: Mapping[str, Task]) -> str | None:
    """Why no adapter of a task can be examined; None when it can."""
    task = tasks.get(name)
    if task is None:
        return f"there is no task {name}: configured are {', '.join(sorted(tasks)) or 'none'}"
    if task.metric not in METRICS:
        known = ", ".join(METRICS)
        said = "names no metric" if task.metric is None else f"names the metric {task.metric}, which is unknown"
        return f"the task {task.name} {said}: set metric in [tasks.{task.name}] to one of {known}"
    return None


def held_out(rows: Sequence[DatasetRow], most: int) -> tuple[DatasetRow, ...]:
    """The rows that the training did not see, at most so many, always the same."""
    return tuple(sorted((row for row in rows if row.split == "holdout"), key=lambda row: row.sampling_key)[:most])


def suite_without(suite: Sequence[DatasetRow], rows: Sequence[DatasetRow], most: int) -> tuple[DatasetRow, ...]:
    """The retention suite without what this dataset holds: trained on, it flatters; held out, it is asked anyway."""
    known = {row.row_id for row in rows} | {row.input.strip().casefold() for row in rows}
    others = [row for row in suite if row.row_id not in known and row.input.strip().casefold() not in known]
    return tuple(sorted(others, key=lambda row: row.sampling_key)[:most])


def examine(case: Case, engine: Engine, tell: Tell, base_loss: Callable[[], float]) -> Examination:
    """Generates greedily. ``base_loss``: the base model's on the general texts. Raises EngineCrashed or Unavailable."""
    current, suite = _ready(case, case.rows, engine), _ready(case, case.suite, engine)
    metric = str(case.task.metric)
    arms = {"candidate": case.adapter_id, "reference": case.champion}
    wanted = [(asked, arm) for asked in (*current, *suite) for arm in arms]
    if case.champion is not None:
        arms["base"] = None
        wanted += [(asked, "base") for asked in current[:BASE_ROWS]]
    wanted.sort(key=lambda each: len(each[0].request.messages[-1].content))  # like lengths pad little
    for start in range(0, len(wanted), PORTION):
        portion = wanted[start : start + PORTION]
        said = engine.generate([replace(asked.request, adapter_id=arms[arm]) for asked, arm in portion])
        for (asked, arm), generation in zip(portion, said, strict=True):
            cut = generation.finish_reason == "length" and asked.request.max_tokens < _limit(case.task, engine)
            asked.said[arm] = generation.text + (" …" if cut else "")
            asked.scores[arm] = METRICS[metric](asked.said[arm], asked.row.output)
        tell(min(start + PORTION, len(wanted)), len(wanted))
    evidence = Evidence(
        metric=metric,
        reference="the base model" if case.champion is None else "the champion",
        current=_compared(current),
        retention=_compared(suite),
        taught=tuple(_taught(current)),
        general_candidate=engine.loss(case.general, case.adapter_id),
        general_base=base_loss(),
    )
    left_out = len(case.rows) + len(case.suite) - len(current) - len(suite)
    return Examination(current=current, retention=suite, evidence=evidence, left_out=left_out)


def _ready(case: Case, rows: Sequence[DatasetRow], engine: Engine) -> tuple[Asked, ...]:
    """The rows with the prompts that an answerer would make of them; without those that it would refuse as too long."""
    limit = _limit(case.task, engine)
    room = engine.window - limit
    budget = min(case.context_tokens, room)
    most = limit
    if case.task.metric in WHOLE and rows:
        empty = engine.count_tokens([ChatMessage("user", "")])
        longest = max(engine.count_tokens([ChatMessage("user", text)]) for text in {row.output for row in rows})
        most = min(limit, longest - empty + SLACK_TOKENS)
    found = []
    for row in rows:
        hits = [hit_of(source) for source in row.sources] if case.task.retrieval else []
        prompt = build_prompt(case.task, row.input, hits, (), budget=budget, count=engine.count_tokens)
        if prompt.tokens <= room:
            found.append(Asked(row=row, request=GenerationRequest(messages=prompt.messages, max_tokens=most)))
    return tuple(found)


def _limit(task: Task, engine: Engine) -> int:
    return min(task.max_tokens, engine.window // 2)


def _compared(asked: Sequence[Asked]) -> Compared:
    return Compared(
        candidate=tuple(each.scores["candidate"] for each in asked),
        reference=tuple(each.scores["reference"] for each in asked),
    )


def _taught(current: Sequence[Asked]) -> list[Taught]:
    """What people wrote by their own hand, by origin: an approved answer is the model's own and teaches nothing new."""
    found = []
    for origin in ("correction", "example"):
        rows = [each for each in current if each.row.fresh and each.row.origin == origin]
        if rows:
            answers = tuple(each.said["candidate"] for each in rows)
            found.append(Taught(origin=origin, answers=answers, right=tuple(each.row.output for each in rows)))
    return found
