"""How often the gate is wrong, by simulation: ``python -m benchmarks.gate --runs 2000``.

Every adapter is judged by ``agents.validator.verdict.decide`` with the default policy. Rates have 95 % intervals
(Wilson).

- No candidate is better: how often any of k candidates in a row passes, each judged on the same held-out rows, with the
  error spent over the tries and with the whole error for each try.
- A candidate is better: how often it passes at the first, third and tenth try.
- Right answers turn wrong: how often the candidate is rejected for it, by the true share of such rows.
- Slices: how often a slice is called worse though none is, and though one is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agents.validator.slices import Slice
from agents.validator.verdict import Evidence, PairedScores, decide
from benchmarks.canary import interval
from schemas.policies import ValidatorPolicy

CHAMPION = 0.7
"""The share of the rows that the champion answers right."""
CHANGED = 0.2
"""The share of the rows on which an equal candidate differs from the champion."""
SHARED = 0.5
"""The share of those rows that is the same for all candidates, because they learn from much the same data."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The share of the rows that turns from wrong to right, and from right to wrong."""

    better: float
    worse: float


EQUAL = Changes(better=CHANGED / 2, worse=CHANGED / 2)


def draw(random: np.random.Generator, changes: Changes, rows: int) -> np.ndarray:
    """Returns 1, -1 or 0 for each row: it turns right, turns wrong, or stays."""
    stays = 1 - changes.better - changes.worse
    return random.choice([1, -1, 0], size=rows, p=[changes.better, changes.worse, stays])


def evidence(moved: np.ndarray, tries: int = 1, slices: tuple[Slice, ...] = ()) -> Evidence:
    """Returns what an evaluation would have measured. Rows that stay are right as often as the champion is."""
    kept = np.arange(len(moved)) < CHAMPION * len(moved)
    reference = np.where(moved > 0, 0.0, np.where(moved < 0, 1.0, kept))
    candidate = np.where(moved > 0, 1.0, np.where(moved < 0, 0.0, kept))
    return Evidence(
        metric="exact_match",
        reference="the champion",
        current=PairedScores(candidate=tuple(candidate.tolist()), reference=tuple(reference.tolist())),
        retention=PairedScores(candidate=(), reference=()),
        labelled=(),
        general_candidate=3.0,
        general_base=3.0,
        tries=tries,
        slices=slices,
    )


def first_passes(runs: int, *, rows: int, tries: int, spent: bool, seed: int = 1) -> np.ndarray:
    """Returns for each run the try at which a candidate that is no better passed first; 0 where none did.

    ``spent``: whether the error is spent over the tries. Shape (runs,).
    """
    random = np.random.default_rng(seed)
    policy = ValidatorPolicy(max_flips=0.9)  # so that nothing but the check for "better" rejects a candidate
    found = np.zeros(runs, dtype=int)
    for run in range(runs):
        alike, same = draw(random, EQUAL, rows), random.random(rows) < SHARED
        for number in range(1, tries + 1):
            moved = np.where(same, alike, draw(random, EQUAL, rows))
            if spent:
                passed = decide(evidence(moved, number), policy).accepted
            else:  # a chance as large as the level of a first try
                whole = policy.model_copy(update={"chance": policy.chance * math.pi**2 / 6})
                passed = decide(evidence(moved), whole).accepted
            if passed:
                found[run] = number
                break
    return found


def passed(runs: int, *, rows: int, changes: Changes, tries: int = 1, seed: int = 2) -> int:
    """Returns how many candidates of so many pass at this try."""
    random, policy = np.random.default_rng(seed), ValidatorPolicy()
    return sum(decide(evidence(draw(random, changes, rows), tries), policy).accepted for _ in range(runs))


def rejected_for(runs: int, word: str, *, rows: int, changes: Changes, seed: int = 3) -> int:
    """Returns how many candidates are rejected for a reason with this word in it."""
    random, policy = np.random.default_rng(seed), ValidatorPolicy()
    verdicts = (decide(evidence(draw(random, changes, rows)), policy) for _ in range(runs))
    return sum(any(word in reason for reason in verdict.reasons) for verdict in verdicts)


def slice_alarms(runs: int, *, slices: int, size: int, drop: float, seed: int = 4) -> int:
    """Returns how often a slice is called worse. ``drop``: what is turned from right to wrong in the first slice."""
    random, policy = np.random.default_rng(seed), ValidatorPolicy()
    names = tuple(
        Slice(kind="tenant", name=str(place), places=tuple(range(place * size, place * size + size)))
        for place in range(slices)
    )
    found = 0
    for _ in range(runs):
        moved = draw(random, EQUAL, slices * size)
        moved[:size] = draw(random, Changes(better=EQUAL.better, worse=EQUAL.worse + drop), size)
        found += any("tenant" in reason for reason in decide(evidence(moved, slices=names), policy).reasons)
    return found


def tables(runs: int) -> Iterator[str]:
    """Gives the lines of the tables."""
    yield "| rows | tries | any of them passes, error spent | any passes, 5 % for each |"
    yield "|---|---|---|---|"
    for rows in (60, 200):
        spent, whole = (first_passes(runs, rows=rows, tries=10, spent=each) for each in (True, False))
        for tries in (1, 2, 3, 5, 10):
            counts = (int(((each > 0) & (each <= tries)).sum()) for each in (spent, whole))
            yield f"| {rows} | {tries} | {' | '.join(rate(count, runs) for count in counts)} |"
    yield ""
    yield "| rows | better by | passes at try 1 | at try 3 | at try 10 |"
    yield "|---|---|---|---|---|"
    for rows in (60, 200):
        for gain in (0.05, 0.1, 0.2):
            changes = Changes(better=gain + 0.03, worse=0.03)
            counts = (passed(runs, rows=rows, changes=changes, tries=tries) for tries in (1, 3, 10))
            yield f"| {rows} | {gain:.0%} | {' | '.join(rate(count, runs) for count in counts)} |"
    yield ""
    yield "| rows | turn from right to wrong | rejected for it |"
    yield "|---|---|---|"
    for rows in (60, 200, 400):
        for share in (0.02, 0.05, 0.1, 0.15, 0.2):
            count = rejected_for(runs, "turned from right", rows=rows, changes=Changes(better=0.3, worse=share))
            yield f"| {rows} | {share:.0%} | {rate(count, runs)} |"
    yield ""
    yield "| slices | rows of each | one of them falls by | any is called worse |"
    yield "|---|---|---|---|"
    for slices in (3, 10):
        for size in (30, 100):
            for drop in (0.0, 0.1, 0.25, 0.4):
                count = slice_alarms(runs, slices=slices, size=size, drop=drop)
                yield f"| {slices} | {size} | {drop:.0%} | {rate(count, runs)} |"


def rate(hits: int, of: int) -> str:
    """Returns a rate with its 95 % interval."""
    low, high = interval(hits, of)
    return f"{hits / of:.1%} ({max(low, 0):.1%}–{high:.1%})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="simulated runs a cell (default 500)")
    options = parser.parse_args(arguments)
    for line in tables(options.runs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
