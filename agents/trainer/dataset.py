"""Chooses the rows of an adapter's dataset: corrections, approved answers, examples, and a replay of older rows.

The same rows always give the same dataset. A row that is held out once stays held out, because a hash of its input
decides.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from schemas.datasets import DatasetRow, RowOrigin, Split, input_key
from schemas.features import Example, Interaction
from schemas.policies import TrainerPolicy
from schemas.questions import Turn
from schemas.tasks import Task
from schemas.words import label_of

_ONE_SIDED = 0.95
"""If a larger share of the rows has the same output, a model that always gives this output still scores well."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The rows of a dataset. ``learned_until``: see ``select``."""

    rows: tuple[DatasetRow, ...]
    left_out: dict[str, int]
    """How many rows were left out, by reason."""
    learned_until: datetime | None = None

    @property
    def train(self) -> list[DatasetRow]:
        return [row for row in self.rows if row.split == "train"]

    @property
    def holdout(self) -> list[DatasetRow]:
        return [row for row in self.rows if row.split == "holdout"]

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """The times of the oldest and of the newest row."""
        times = [row.at for row in self.rows]
        return (min(times), max(times)) if times else None

    def only(self, fits: Callable[[DatasetRow], bool]) -> Selection:
        """Returns the selection without the rows that are too long for the model."""
        rows = tuple(row for row in self.rows if fits(row))
        too_long = len(self.rows) - len(rows)
        return replace(self, rows=rows, left_out={**self.left_out, "too long": too_long} if too_long else self.left_out)


def select(
    task: Task,
    interactions: Iterable[Interaction],
    examples: Iterable[Example],
    policy: TrainerPolicy,
    *,
    learned_until: datetime | None = None,
) -> Selection:
    """Chooses the rows: all fresh ones, and as many older ones as the policy wants to be replayed, label by label.

    ``learned_until``: the time of the newest row in the dataset of the last validated adapter; None if there is none.
    Newer rows are fresh. Older held-out rows are not selected: they are in the validator's retention suite.
    """
    left_out: Counter[str] = Counter()
    newest: dict[str, DatasetRow] = {}
    candidates = _candidates(task, interactions, examples, policy, left_out)
    # Ids break ties of time, so that the order in which the rows were read does not matter.
    for row in sorted(candidates, key=lambda each: (each.at, each.origin_id, each.output)):
        key = row.input_key
        if key in newest:
            left_out["contradicted" if newest[key].output != row.output else "repeated"] += 1
        newest[key] = row
    rows = [
        replace(row, fresh=learned_until is None or row.at > learned_until)
        for row in sorted(newest.values(), key=lambda row: row.sampling_key)
    ]
    fresh = [row for row in rows if row.fresh]
    older = [row for row in rows if not row.fresh and row.split == "train"]
    trained = sum(row.split == "train" for row in fresh)
    share = policy.replay_share
    replayed = _balanced(older, math.ceil(trained * share / (1 - share)))
    chosen = tuple(sorted([*fresh, *replayed], key=lambda row: row.sampling_key))
    return Selection(rows=chosen, left_out=dict(left_out), learned_until=learned_until)


def reason_to_decline(selection: Selection, task: Task, policy: TrainerPolicy) -> str | None:
    """Returns why these rows cannot be trained on, in one line that says what to do; or None when they can."""
    train, holdout = selection.train, selection.holdout
    left_out = f" (left out: {counted_reasons(selection.left_out)})" if selection.left_out else ""
    if selection.learned_until is not None and not any(row.fresh for row in train):
        return (
            f"nothing new to learn since {selection.learned_until:%Y-%m-%d %H:%M} UTC, when the last adapter's rows "
            f"end{left_out}: collect corrections or publish examples"
        )
    if len(train) < policy.minimum_rows:
        return (
            f"{len(train)} {'row' if len(train) == 1 else 'rows'} to train on, and {policy.minimum_rows} are needed "
            f"besides the {len(holdout)} held out"
            f"{left_out}: collect corrections, publish examples, or lower [trainer] minimum_rows"
        )
    if not holdout:
        return f"none of {len(train)} rows is held out{left_out}: collect more, or raise [trainer] holdout_share"
    label, most = Counter(row.output for row in train).most_common(1)[0]
    if task.labels and most > _ONE_SIDED * len(train):
        return f"{most} of {len(train)} rows say {label!r}{left_out}: collect rows of other labels too"
    return None


def counted_reasons(left_out: Mapping[str, int]) -> str:
    """Returns how many rows were left out for which reason, such as ``2 empty, 3 too long``."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))


def split_of(task: str, text: str, holdout_share: float, history: Sequence[Turn] = ()) -> Split:
    """Returns the split of an input. It depends on the input alone, so it never changes."""
    digest = sha256(f"{task}\x1f{input_key(text, history)}".encode()).digest()
    return "holdout" if int.from_bytes(digest[:8], "big") / 2**64 < holdout_share else "train"


def _candidates(
    task: Task,
    interactions: Iterable[Interaction],
    examples: Iterable[Example],
    policy: TrainerPolicy,
    left_out: Counter[str],
) -> Iterable[DatasetRow]:
    for row in interactions:
        if row.correction is not None and row.correction_stamp is not None:
            fact = _Fact(row.correction, "correction", row.answer_id, row.correction_stamp.time, row)
        elif row.declined:
            continue  # no model wrote that answer, so its approval teaches nothing
        elif row.outcome == "approved" and row.answer is not None and row.rating_stamp is not None:
            fact = _Fact(row.answer, "approved", row.answer_id, row.rating_stamp.time, row)
        else:
            continue
        made = _row(task, row.question or "", fact, policy, left_out)
        if made is not None:
            yield made
    for example in examples:
        fact = _Fact(example.output, "example", example.example_id, example.submitted_at)
        made = _row(task, example.input, fact, policy, left_out)
        if made is not None:
            yield made


@dataclass(frozen=True)
class _Fact:
    """A right output, and where it comes from. ``served``: the answer that it is about, with what its prompt held."""

    output: str
    origin: RowOrigin
    origin_id: str
    at: datetime
    served: Interaction | None = None


def _row(task: Task, text: str, fact: _Fact, policy: TrainerPolicy, left_out: Counter[str]) -> DatasetRow | None:
    output = fact.output.strip()
    if not text.strip() or not output:
        left_out["empty"] += 1
        return None
    if task.labels:
        label = label_of(output, task.labels)
        if label is None:
            left_out["with an answer that is none of the task's labels"] += 1
            return None
        output = label
    history = fact.served.history if fact.served is not None else ()
    return DatasetRow(
        row_id=sha256(f"{task.name}\x1f{input_key(text, history)}\x1f{output}".encode()).hexdigest()[:32],
        input=text,
        output=output,
        origin=fact.origin,
        origin_id=fact.origin_id,
        at=fact.at,
        split=split_of(task.name, text, policy.holdout_share, history),
        sources=fact.served.sources if task.retrieval and fact.served is not None else (),
        history=history,
    )


def _balanced(rows: Sequence[DatasetRow], wanted: int) -> list[DatasetRow]:
    """Returns ``wanted`` rows, taking the outputs in turn, so that rare outputs are not forgotten."""
    by_output: dict[str, list[DatasetRow]] = defaultdict(list)
    for row in rows:
        by_output[row.output].append(row)
    turns = sorted(
        ((place, row.sampling_key, row) for alike in by_output.values() for place, row in enumerate(alike)),
        key=lambda each: each[:2],
    )
    return [row for _, _, row in turns[:wanted]]
