"""Finds the rows that nobody should learn from: bursts, contradictions, repetitions, and leaks of evaluation sets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from agents.trainer.candidates import Candidate
from agents.trainer.likeness import Likeness, alike
from schemas.datasets import DatasetRow, QuarantinedRow, QuarantineReason

SAME_ANSWER = 0.5
"""Free texts with this Jaccard index or more say the same, in other words."""

Sorted = tuple[list[Candidate], list[QuarantinedRow]]
"""The candidates that remain, and those that do not."""


def _split_by(
    candidates: Sequence[Candidate], is_bad: Callable[[Candidate], bool], reason: QuarantineReason, detail: str
) -> Sorted:
    bad = [each.quarantined(reason, detail) for each in candidates if is_bad(each)]
    return [each for each in candidates if not is_bad(each)], bad


def bursts(candidates: Sequence[Candidate], most: int, seconds: float) -> Sorted:
    """Takes out what one rater gave faster than ``most`` in ``seconds``, by the times that the feedback names."""
    by_rater: dict[str, list[Candidate]] = defaultdict(list)
    for each in candidates:
        if each.is_somebodys and not each.kept:
            by_rater[each.unit].append(each)
    hasty: set[str] = set()
    for given in by_rater.values():
        given.sort(key=lambda each: each.row.at)
        for start, (first, last) in enumerate(zip(given, given[most:], strict=False)):
            if last.row.at - first.row.at <= timedelta(seconds=seconds):
                hasty.update(each.row.origin_id for each in given[start : start + most + 1])
    detail = f"more than {most} within {seconds:g} s"
    return _split_by(candidates, lambda each: not each.kept and each.row.origin_id in hasty, "burst", detail)


def one_for_each_input(candidates: Sequence[Candidate], *, by_label: bool) -> Sorted:
    """Leaves one row for each input: what the most trusted of its raters say, and most of these.

    A rater's newest word counts, and one rater's word counts once. Of examples and reviewers the newest is right. Among
    others more than half must say the same. Otherwise what the champion was trained on stays, and where it has nothing
    to say, nothing is learned of this input.
    """
    by_input: dict[str, list[Candidate]] = defaultdict(list)
    for each in candidates:
        by_input[each.row.input_key].append(each)
    remaining: list[Candidate] = []
    quarantined: list[QuarantinedRow] = []
    for said in by_input.values():
        if len(said) == 1:
            remaining += said
            continue
        right = _decided(said, by_label=by_label)
        if right is not None:
            remaining.append(right)
        for each in said:
            if each is right:
                continue
            same = right is not None and _same(each.row, right.row, by_label=by_label)
            detail = f"of {right.row.origin_id}" if right is not None else "raters disagree"
            quarantined.append(each.quarantined("duplicate" if same else "contradicted", detail))
    return remaining, quarantined


def _decided(said: Sequence[Candidate], *, by_label: bool) -> Candidate | None:
    """Returns whose row stands for one input, or None where nothing is decided."""
    newest: dict[str, Candidate] = {}
    for each in sorted(said, key=_age):
        newest[each.unit] = each
    right = _heaviest(list(newest.values()), by_label=by_label)
    kept = [each for each in sorted(said, key=_age) if each.kept]
    if right is None:
        return kept[-1] if kept else None  # what was validated stays until something outweighs it
    return next((each for each in kept if _same(each.row, right.row, by_label=by_label)), right)


def _heaviest(said: Sequence[Candidate], *, by_label: bool) -> Candidate | None:
    """Returns the newest row of those that say what the most trusted voices, one each, mostly say."""
    best = min(each.rank for each in said)
    voices = sorted((each for each in said if each.rank == best), key=_age)
    if best == 0:
        return voices[-1]
    groups: list[list[Candidate]] = []
    group_of: dict[str, list[Candidate]] = {}  # most voices say what others say letter by letter
    for each in voices:
        like = group_of.get(each.row.output)
        if like is None:
            like = next((group for group in groups if _same(each.row, group[0].row, by_label=by_label)), None)
        if like is None:
            groups.append(like := [])
        group_of[each.row.output] = like
        like.append(each)
    largest = max(groups, key=len)
    return largest[-1] if 2 * len(largest) > len(voices) else None


def _same(one: DatasetRow, other: DatasetRow, *, by_label: bool) -> bool:
    return one.output == other.output or (not by_label and alike(one.output, other.output) >= SAME_ANSWER)


def _age(candidate: Candidate) -> tuple[datetime, str, str]:
    """Ids break ties of time, so that the order in which the rows were read does not matter."""
    return candidate.row.at, candidate.row.origin_id, candidate.row.output


def near_duplicates(candidates: Sequence[Candidate], evaluated: Iterable[DatasetRow]) -> Sorted:
    """Takes out rows that nearly repeat another one with the same output, or a row of an evaluation set.

    ``evaluated``: rows on which adapters are judged, that are in no dataset of this training, or are held out in it.
    A row whose input is exactly that of a held-out row may stay, to be held out itself; of the golden set none may.
    """
    golden: set[str] = set()
    judged: dict[str, DatasetRow] = {}
    for row in evaluated:
        judged.setdefault(row.input_key, row)
        if row.split == "golden":
            golden.add(row.input_key)
    # What comes first stays: rows of evaluation sets, then the champion's, then the more trusted, then the older.
    ordered = sorted(candidates, key=lambda each: (not each.kept, each.rank, *_age(each)))
    judges = sorted(judged.values(), key=lambda row: row.row_id)
    texts = [row.input_key for row in judges] + [each.row.input_key for each in ordered]
    gone: dict[int, QuarantinedRow] = {}
    for place, each in enumerate(ordered, len(judges)):
        if each.row.input_key in golden:
            gone[place] = each.quarantined("leaked", "an input of the golden set")
    new_from = len(judges) + sum(each.kept for each in candidates)
    # Where all inputs of a task are alike, each pair is near. So they are taken one by one, and not kept in memory.
    for first, second in Likeness(texts).near_duplicates(new_from):
        if second in gone or first in gone or texts[first] == texts[second]:
            continue
        each = ordered[second - len(judges)]
        like = judges[first] if first < len(judges) else ordered[first - len(judges)].row
        if each.row.output != like.output:  # what differs in the answer differs in more than wording
            continue
        if first < len(judges):
            gone[second] = each.quarantined("leaked", f"nearly {like.row_id}, on which adapters are judged")
        else:
            gone[second] = each.quarantined("near_duplicate", f"of {like.origin_id}")
    return [each for place, each in enumerate(ordered, len(judges)) if place not in gone], list(gone.values())


def counted(quarantined: Iterable[QuarantinedRow]) -> dict[str, int]:
    """Returns how many rows were left out, by reason."""
    return dict(sorted(Counter(each.reason for each in quarantined).items()))
