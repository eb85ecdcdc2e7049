"""How often drift is said where there is none, and how soon where there is: ``python -m benchmarks.drift_rates``.

Simulates streams of questions with real texts (clinc150) and checks each of them with the monitor's own tests and
default policy, again and again as it grows. Rates have 95 % intervals: those of checks are found by resampling whole
streams, because the checks of a stream depend on each other. If none is seen, the bound is 3 / streams.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.monitor.differences import Asked, Difference, mix_changed, nearest, novelty, rose, strata
from agents.monitor.traffic import Drift, Questions, Stream, Traffic, simulate
from schemas.policies import MonitorPolicy

KINDS = ("questions", "outcomes", "failures", "answers", "sources", "declined")
"""Of which failures and sources are not simulated; they share in the error."""
WORSE = 0.05
"""A training may start if there is any drift and the answers look worse by this p-value."""
STABLE: Mapping[str, Traffic] = {
    "no repeats": Traffic(),
    "10 % repeats": Traffic(repeats=0.1),
    "20 % repeats": Traffic(repeats=0.2),
    "30 % repeats": Traffic(repeats=0.3),
    "60 users with topics of their own": Traffic(users=60, own=0.8),
    "cycles of the day and the week": Traffic(day_cycle=1.0, week_cycle=1.0),
    "the same, 5,000 questions a day": Traffic(day_cycle=1.0, week_cycle=1.0, a_day=5000.0),
    "a question goes viral among 8 users": Traffic(viral=8),
    "60 users, own topics, cycles, 20 % repeats": Traffic(
        users=60, own=0.8, day_cycle=1.0, week_cycle=1.0, repeats=0.2
    ),
}
CHECKED = (600, 650, 700, 750, 800, 900, 1000, 1200, 1500, 2000, 2500, 3000)
"""After how many answers a stable stream is checked."""
MIXED = Traffic(repeats=0.2, day_cycle=0.5, week_cycle=0.5)
"""Traffic with a little of everything."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A drift that must be found: ``bar`` at most, at ``quantile``. ``unit``: of what is counted until then."""

    name: str
    drift: Drift
    kind: str
    unit: str
    quantile: float
    bar: float | None


def cells() -> list[Cell]:
    found = []
    for at in (600, 1000, 2000, 4000):
        early = at < 1000
        for new, bar in ((0.2, 1500), (0.5, 600)):
            found.append(
                Cell(
                    name=f"a new domain at {new:.0%} after {at:,} answers",
                    drift=Drift(at=at, new=new),
                    kind="questions",
                    unit="questions",
                    quantile=0.5,
                    bar=None if early else bar,
                )
            )
    found += [
        Cell(
            name=f"bad ratings 20 → 30 % after {at // 2:,} rated answers",
            drift=Drift(at=at, bad=0.3),
            kind="outcomes",
            unit="rated answers",
            quantile=0.9,
            bar=1100 if at >= 2000 else None,
        )
        for at in (800, 4000)
    ]
    found += [
        Cell(
            name=f"declined 2 → 10 % after {at:,} answers",
            drift=Drift(at=at, declined=0.1),
            kind="declined",
            unit="questions",
            quantile=0.9,
            bar=500 if at >= 1000 else None,
        )
        for at in (600, 2000, 4000)
    ]
    return found


@dataclass(frozen=True)
class Checked:
    """What a check found. ``drifted``: which kinds."""

    drifted: frozenset[str]
    trains: bool


def check(stream: Stream, questions: Questions, answers: int, policy: MonitorPolicy) -> Checked:
    """Checks a stream after so many answers, as the monitor does."""
    size = max(policy.reference_rows, min(policy.longest_reference_rows, answers // 2))
    begin = max(size, answers - policy.newest_rows)
    rows = np.concatenate([np.arange(size), np.arange(begin, answers)])
    asked = Asked(
        units=stream.user[rows],
        texts=stream.question[rows],
        strata=strata(stream.seconds[rows], size),
        reference_rows=size,
        shortest=policy.current_rows,
        longest=policy.longest_current_rows,
    )
    similarity = nearest(questions.vectors[stream.question[rows]], asked.units, size)
    values = {
        "questions": novelty(similarity, size),
        "outcomes": np.where(stream.rated[rows], stream.bad[rows].astype(np.float64), np.nan),
        "declined": stream.declined[rows].astype(np.float64),
    }
    labels = questions.topic[stream.question[rows]] // 15
    tests: dict[str, Callable[[int], Difference]] = {
        kind: lambda end, each=each: rose(each, asked, end)  # type: ignore[misc]
        for kind, each in values.items()
    }
    tests["answers"] = lambda end: mix_changed(labels, asked, end)
    ends = [len(rows) - number * policy.every_rows for number in range(policy.of)]
    ends = [end for end in ends if end - size >= policy.current_rows]
    found = {kind: [test(end).p_value for end in ends] for kind, test in tests.items()}
    limit = policy.alpha / len(KINDS)
    drifted = frozenset(kind for kind, p in found.items() if sum(each <= limit for each in p) >= policy.flags)
    return Checked(drifted, bool(drifted) and found["outcomes"][0] <= WORSE)


def alarms(traffic: Traffic, questions: Questions, streams: range, checked: Sequence[int]) -> NDArray[np.bool_]:
    """Returns for each stream and each check whether it says drift and whether it starts a training.

    Shape (streams, checks, 2).
    """
    policy = MonitorPolicy()
    found = np.zeros((len(streams), len(checked), 2), dtype=bool)
    for place, seed in enumerate(streams):
        stream = simulate(traffic, questions, rows=max(checked), seed=seed)
        for number, answers in enumerate(checked):
            result = check(stream, questions, answers, policy)
            found[place, number] = bool(result.drifted), result.trains
    return found


def delays(cell: Cell, traffic: Traffic, questions: Questions, streams: range, most: int = 3000) -> NDArray[np.float64]:
    """Returns for each stream how many questions, or rated answers, come until the drift is said; infinity if never."""
    policy = MonitorPolicy()
    at = cell.drift.at
    found = np.full(len(streams), np.inf)
    for place, seed in enumerate(streams):
        stream = simulate(replace(traffic, drift=cell.drift), questions, rows=at + most, seed=seed)
        for answers in range(at + policy.every_rows, at + most + 1, policy.every_rows):
            if cell.kind in check(stream, questions, answers, policy).drifted:
                since = stream.rated[at:answers] if cell.unit == "rated answers" else np.ones(answers - at)
                found[place] = since.sum()
                break
    return found


def rate(flags: NDArray[np.bool_], random: np.random.Generator) -> str:
    """Returns a rate of checks with its interval, by resampling streams. ``flags``: shape (streams, checks)."""
    streams = len(flags)
    if not flags.any():
        return f"0 (at most {3 / streams:.2%})"
    means = flags.mean(axis=1)[random.integers(0, streams, (2000, streams))].mean(axis=1)
    return f"{flags.mean():.2%} ({np.quantile(means, 0.025):.2%}–{np.quantile(means, 0.975):.2%})"


def quantile(found: NDArray[np.float64], q: float, random: np.random.Generator) -> str:
    drawn = found[random.integers(0, len(found), (2000, len(found)))]
    some = np.quantile(drawn, q, axis=1, method="higher")
    words = [
        "never" if np.isinf(each) else f"{each:,.0f}"
        for each in (
            np.quantile(found, q, method="higher"),
            *(np.quantile(some, each, method="nearest") for each in (0.025, 0.975)),
        )
    ]
    return f"{words[0]} ({words[1]}–{words[2]})"


def main(arguments: Sequence[str] | None = None) -> None:
    from benchmarks.clinc import questions

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=20, help="streams of each stable kind (default 20)")
    parser.add_argument("--drifts", type=int, default=10, help="streams of each drift (default 10)")
    parser.add_argument("--first", type=int, default=0, help="number of the first stream: its seed (default 0)")
    parser.add_argument("--save", type=Path, help="a folder for the single results")
    options = parser.parse_args(arguments)
    asked = questions(Path(os.environ.get("EVERLEARN_CACHE", ".cache")))
    random, begun = np.random.default_rng(0), time.monotonic()
    print(f"| stable stream ({options.streams} each) | checks that say drift | checks that start a training |")
    print("|---|---|---|")
    every = []
    for name, traffic in STABLE.items():
        if options.streams:
            found = alarms(traffic, asked, range(options.first, options.first + options.streams), CHECKED)
            every.append(found)
            print(f"| {name} | {rate(found[..., 0], random)} | {rate(found[..., 1], random)} |", flush=True)
    if every:
        found = np.concatenate(every)
        print(f"| all together | {rate(found[..., 0], random)} | {rate(found[..., 1], random)} |")
        if options.save:
            np.save(options.save / f"stable-{options.first}.npy", np.stack(every))
    print(f"\n{time.monotonic() - begun:.0f} s\n")
    print(f"| drift ({options.drifts} streams each) | found after | bar |\n|---|---|---|")
    for cell in cells() if options.drifts else []:
        delay = delays(cell, MIXED, asked, range(options.first, options.first + options.drifts))
        at = "in the median" if cell.quantile == 0.5 else f"in {cell.quantile:.0%} of the streams"
        bar = f"{cell.bar:,.0f}" if cell.bar else "none"
        print(f"| {cell.name} | {quantile(delay, cell.quantile, random)} {cell.unit} {at} | {bar} |", flush=True)
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
