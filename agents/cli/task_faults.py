"""What is wrong with the tasks of a configuration, as one list, so that nobody mends them one error at a time."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agents.cli.jsonl import explanations
from agents.validator import metrics
from schemas.tasks import Task

METRICS = tuple(metrics.METRICS)
"""How answers can be scored."""

SEARCHING = ("top_k", "min_score", "mode", "floor", "unknown", "chunk_tokens", "overlap_tokens")
"""Settings of a task that searches documents."""

STAND_IN = "unnamed"
"""In place of what is missing or wrong and reported, so that the rest of the table is still looked at."""


def find_faults(tasks: Mapping[str, Any], *, chunk_tokens: int, context_tokens: int) -> list[str]:
    """Every fault of the tables under ``[tasks]``, each with its place; none when all is well."""
    if not tasks:
        return ["tasks: no task is configured: add one with 'everlearn tasks add NAME --instruction …'"]
    found: list[str] = []
    for name, table in tasks.items():
        if not isinstance(table, Mapping):
            found.append(f"tasks.{name}: is not a table: write [tasks.{name}]")
            continue
        faults = _misspelled(table)
        settings = {key: table[key] for key in table if key in Task.model_fields}
        try:
            task = Task(**{"name": name, **settings})
        except ValidationError as error:
            faults += explanations(error, {})
            wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
            sound = {key: value for key, value in settings.items() if key not in wrong}
            task = Task(**{"instruction": STAND_IN, **sound, "name": STAND_IN})
        faults += _inconsistent(task, table, chunk_tokens=chunk_tokens, context_tokens=context_tokens)
        found += [f"tasks.{name}.{fault}" for fault in faults]
    return found


def _misspelled(table: Mapping[str, Any]) -> list[str]:
    known = [each for each in Task.model_fields if each != "name"]
    found = []
    for setting in table:
        if setting not in Task.model_fields:
            near = difflib.get_close_matches(setting, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            found.append(f"{setting}: unknown setting; {hint}")
    return found


def _inconsistent(task: Task, table: Mapping[str, Any], *, chunk_tokens: int, context_tokens: int) -> list[str]:
    found = []
    if not task.instruction.strip():
        found.append("instruction: is empty")
    if task.metric is not None and task.metric not in METRICS:
        near = difflib.get_close_matches(task.metric, METRICS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(METRICS)}"
        found.append(f"metric: {task.metric!r} is unknown; {hint}")
    repeated = [label for label, count in Counter(label.strip().lower() for label in task.labels).items() if count > 1]
    if repeated:
        found.append(f"labels: {', '.join(map(repr, repeated))} stand there more than once (case is ignored)")
    if any(not label.strip() for label in task.labels):
        found.append("labels: one is empty")
    if len(task.labels) == 1:
        found.append("labels: a choice needs two labels at least")
    if not task.retrieval:
        found += [f"{setting}: has no effect without retrieval = true" for setting in SEARCHING if setting in table]
        return found
    if task.chunk_tokens is None and task.overlap_tokens is not None:
        found.append("overlap_tokens: has no effect without chunk_tokens, which gives the task an index of its own")
    elif task.chunk_tokens is not None and (task.overlap_tokens or 0) >= task.chunk_tokens:
        found.append(f"overlap_tokens: is as long as a chunk of {task.chunk_tokens} tokens: lower it")
    if task.floor == 0 and "unknown" in table:
        found.append("unknown: is never said without a floor above 0")
    chunk_tokens = task.chunk_tokens or chunk_tokens
    if task.top_k * chunk_tokens > context_tokens:
        found.append(
            f"top_k: {task.top_k} chunks of {chunk_tokens} tokens are more than [answerer] context_tokens = "
            f"{context_tokens}: lower one or raise the other"
        )
    return found
