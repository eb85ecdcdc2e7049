"""Chooses the rows of an adapter's dataset: what the champion was trained on, and what has arrived since.

The same pool always gives the same dataset. Each row says why it is in, and each row that is not, why not.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agents.trainer.candidates import Candidate, Document, candidates_of, documents_of, example_row, taught_by, without
from agents.trainer.caps import capped, share_of
from agents.trainer.checks import faults
from agents.trainer.outvoted import outvoted
from agents.trainer.quarantine import Sorted, bursts, counted, near_duplicates, one_for_each_input
from agents.trainer.split import split_rows
from schemas.datasets import REASONS, DatasetRow, QuarantinedRow
from schemas.features import Example, Interaction
from schemas.policies import TrainerPolicy
from schemas.tasks import Task

_ONE_SIDED = 0.95
"""If a larger share of the rows has the same output, a model that always gives this output still scores well."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What a training chooses from.

    ``interactions`` and ``examples``: what arrived since the champion's dataset was made. ``learned``: the rows of that
    dataset, none where the base model serves; ``learned_at``: when it was made. ``held_out``: rows that were held out
    before, of the retention suite and of the newest dataset. ``golden``: the golden set. ``answers``: by id the answers
    that the learned rows come from, as they are now, as far as they are still stored.
    """

    interactions: Sequence[Interaction] = ()
    examples: Sequence[Example] = ()
    golden: Sequence[Example] = ()
    learned: Sequence[DatasetRow] = ()
    learned_at: datetime | None = None
    held_out: Sequence[DatasetRow] = ()
    answers: Mapping[str, Interaction] = field(default_factory=dict)

    def documents(self, task: Task) -> list[Document]:
        """Returns the documents that prompts of these rows would cite."""
        found = (each.row for each in candidates_of(task, self.interactions, ()))
        return documents_of([*found, *self.learned])


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The rows of a dataset, and those that were left out."""

    rows: tuple[DatasetRow, ...]
    quarantined: tuple[QuarantinedRow, ...] = ()
    learned_at: datetime | None = None
    golden: int = 0
    """How many golden examples there are; they are among the rows if they are enough."""

    @property
    def train(self) -> list[DatasetRow]:
        return [row for row in self.rows if row.split == "train"]

    @property
    def holdout(self) -> list[DatasetRow]:
        return [row for row in self.rows if row.split == "holdout"]

    @property
    def left_out(self) -> dict[str, int]:
        """How many rows were left out, by reason."""
        return counted(self.quarantined)

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """The times of the oldest and of the newest row."""
        times = [row.at for row in self.rows]
        return (min(times), max(times)) if times else None

    def only(self, fits: Callable[[DatasetRow], bool]) -> Selection:
        """Returns the selection without the rows that are too long for the model."""
        fitting = {row.row_id: fits(row) for row in self.rows}
        too_long = (QuarantinedRow(reason="too_long", row=row) for row in self.rows if not fitting[row.row_id])
        rows = tuple(row for row in self.rows if fitting[row.row_id])
        return replace(self, rows=rows, quarantined=(*self.quarantined, *too_long))


def select(
    task: Task,
    pool: Pool,
    policy: TrainerPolicy,
    *,
    secret: str,
    withdrawn: frozenset[Document] = frozenset(),
) -> Selection:
    """Chooses the rows: the champion's, as long as they hold, and those that arrived since and pass every check.

    ``secret``: the home's, by which rows are held out. ``withdrawn``: documents that are there no more.
    """
    quarantined: list[QuarantinedRow] = []
    golden = _golden(task, pool.golden)
    rows = _candidates(task, pool)

    def passed(result: Sorted) -> list[Candidate]:
        remaining, bad = result
        quarantined.extend(bad)
        return remaining

    rows = passed(_standing(rows, withdrawn))
    rows = passed(_still_said(rows, task, pool.answers))
    rows = passed(_well_formed(rows, task))
    rows = passed(bursts(rows, policy.burst_rows, policy.burst_seconds))
    rows = passed(one_for_each_input(rows, by_label=bool(task.labels)))
    held_out = [row for row in (*pool.learned, *pool.held_out) if row.split == "holdout"]
    rows = passed(near_duplicates(rows, [*golden, *held_out]))
    if task.labels:
        rows = passed(outvoted(rows))
    rows = passed(capped(rows, policy))
    keys = {row.input_key for row in held_out}
    made = split_rows(rows, secret=secret, task=task.name, share=policy.holdout_share, held_out=keys)
    chosen = _bounded(made, policy)
    if len(golden) >= policy.minimum_golden:
        chosen += golden[: policy.window_rows]
    return Selection(
        rows=tuple(sorted(chosen, key=lambda row: row.sampling_key)),
        quarantined=tuple(
            sorted(quarantined, key=lambda each: (each.reason, each.row.sampling_key, each.row.origin_id))
        ),
        learned_at=pool.learned_at,
        golden=len(golden),
    )


def reason_to_decline(selection: Selection, task: Task, policy: TrainerPolicy) -> str | None:
    """Returns why these rows cannot be trained on, in one line that says what to do; or None when they can."""
    train, holdout = selection.train, selection.holdout
    counts = selection.left_out
    left_out = f" (left out: {counted_reasons(counts)})" if counts else ""
    if selection.learned_at is not None and not any(row.fresh for row in train):
        return (
            f"nothing new to learn since {selection.learned_at:%Y-%m-%d %H:%M} UTC, when the champion's rows were "
            f"chosen{left_out}: collect corrections or publish examples"
        )
    if len(train) < policy.minimum_rows:
        return (
            f"{counted_rows(len(train))} to train on, and {policy.minimum_rows} are needed "
            f"besides the {len(holdout)} held out"
            f"{left_out}: {_missing(selection, policy)}collect corrections, publish examples, or lower "
            "[trainer] minimum_rows"
        )
    if not holdout:
        return f"none of {len(train)} rows is held out{left_out}: collect more, or raise [trainer] holdout_share"
    label, most = Counter(row.output for row in train).most_common(1)[0]
    if task.labels and most > _ONE_SIDED * len(train):
        return f"{most} of {len(train)} rows say {label!r}{left_out}: collect rows of other labels too"
    return None


def counted_reasons(left_out: Mapping[str, int]) -> str:
    """Returns how many rows were left out for which reason, such as ``3 too long, 2 repeated``."""
    return ", ".join(f"{count} {REASONS[reason]}" for reason, count in left_out.items())


def too_few_golden(found: int, policy: TrainerPolicy) -> str:
    """Returns in one line that a golden set is too small to judge by."""
    return (
        f"the golden set has {counted_rows(found)}, and {policy.minimum_golden} are needed before adapters are judged "
        "on it: publish more with 'everlearn publish examples FILE --golden'"
    )


def counted_rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _missing(selection: Selection, policy: TrainerPolicy) -> str:
    """Says who is missing where shares left too few rows: how many users, if each gives as much as the others do."""
    counts = selection.left_out
    given = [each for each in map(_as_candidate, selection.rows) if each.circle == "named"]
    if counts.get("user_share"):
        users = len({each.unit for each in given})
        each_gives = max(1, sum(each.row.split == "train" for each in given) // max(1, users))
        more = math.ceil((policy.minimum_rows - len(selection.train)) / each_gives)
        share = share_of(policy.user_share, users)
        return (
            f"{more} more {'user' if more == 1 else 'users'} must correct answers, because one of {users} may give at "
            f"most {share:.0%} of the rows from feedback; or "
        )
    if counts.get("anonymous_share"):
        return (
            f"users must give their names, because others may give at most {policy.anonymous_share:.0%} of the rows "
            "from feedback; or "
        )
    return ""


def _as_candidate(row: DatasetRow) -> Candidate:
    return Candidate(row=row)


def _candidates(task: Task, pool: Pool) -> list[Candidate]:
    """Returns the champion's training rows, and what arrived since and is not in the champion's dataset."""
    kept = [Candidate(row=row, kept=True) for row in pool.learned if row.split == "train"]
    known = {(row.row_id, row.origin_id) for row in pool.learned}
    arrived = candidates_of(task, pool.interactions, pool.examples)
    return [*kept, *(each for each in arrived if (each.row.row_id, each.row.origin_id) not in known)]


def _golden(task: Task, examples: Sequence[Example]) -> list[DatasetRow]:
    """Returns the rows of the golden set, the newest of each input, without those that cannot be right."""
    newest: dict[str, DatasetRow] = {}
    for example in sorted(examples, key=lambda each: (each.submitted_at, each.example_id)):
        row = example_row(task, example)
        newest[row.input_key] = row
    rows = list(newest.values())
    wrong = faults(rows, task.labels)
    return sorted((row for place, row in enumerate(rows) if place not in wrong), key=lambda row: row.sampling_key)


def _standing(candidates: Iterable[Candidate], withdrawn: frozenset[Document]) -> Sorted:
    """Drops the sources of withdrawn documents, and the rows that had no other."""
    remaining, quarantined = [], []
    for each in candidates:
        row = without(each.row, withdrawn)
        if each.row.sources and not row.sources:
            quarantined.append(each.quarantined("withdrawn"))
        else:
            remaining.append(replace(each, row=row))
    return remaining, quarantined


def _still_said(candidates: Iterable[Candidate], task: Task, answers: Mapping[str, Interaction]) -> Sorted:
    """Takes out the champion's rows whose rater has taken the word back, or says another one since."""
    remaining, quarantined = [], []
    for each in candidates:
        answer = answers.get(each.row.origin_id) if each.kept and each.row.origin != "example" else None
        said = taught_by(task, answer) if answer is not None else each.row
        if said is not None and said.output == each.row.output:
            remaining.append(each)
        else:
            quarantined.append(each.quarantined("retracted"))
    return remaining, quarantined


def _well_formed(candidates: Sequence[Candidate], task: Task) -> Sorted:
    found = faults([each.row for each in candidates], task.labels)
    quarantined = [candidates[place].quarantined(reason) for place, reason in sorted(found.items())]
    return [each for place, each in enumerate(candidates) if place not in found], quarantined


def _bounded(rows: Sequence[DatasetRow], policy: TrainerPolicy) -> list[DatasetRow]:
    """Returns at most ``window_rows`` rows to train on, label by label: the champion's have their share, then new ones.

    New held-out rows are all kept. The champion's are not selected: they are in the validator's retention suite.
    """
    older = [row for row in rows if row.split == "train" and not row.fresh]
    fresh = [row for row in rows if row.split == "train" and row.fresh]
    most = policy.window_rows
    replayed = _balanced(older, max(math.ceil(most * policy.replay_share), most - len(fresh)))
    return [*replayed, *_balanced(fresh, most - len(replayed)), *(row for row in rows if row.split == "holdout")]


def _balanced(rows: Sequence[DatasetRow], wanted: int) -> list[DatasetRow]:
    """Returns ``wanted`` rows, taking the outputs in turn, so that rare outputs are not forgotten."""
    by_output: dict[str, list[DatasetRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.sampling_key):
        by_output[row.output].append(row)
    turns = sorted(
        ((place, row.sampling_key, row) for alike in by_output.values() for place, row in enumerate(alike)),
        key=lambda each: each[:2],
    )
    return [row for _, _, row in turns[: max(0, wanted)]]
