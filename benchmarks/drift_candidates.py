"""Compares tests of "other questions are asked" on the same streams: ``python -m benchmarks.drift_candidates``.

- sum: the monitor's self-normalized sum of the users' graded novelty (``agents/monitor/differences.py``).
- signs: maximum mean discrepancy without pairs of one user, calibrated by flipping the signs of whole users (the wild
  bootstrap of Leucht and Neumann, Annals of the Institute of Statistical Mathematics 65, 2013).
- rows: the discrepancy of all pairs, calibrated by permuting rows: the monitor's test until now.
- martingale: a conformal test martingale against the fixed reference (arXiv 2602.13848) over the mean novelty of each
  user's day, with the mixture of power bets.

All but the martingale see each question of a user once, and hours with the same hours.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.monitor.differences import Asked, nearest, novelty, rose, strata
from agents.monitor.traffic import DAY, Drift, Questions, Stream, Traffic, simulate
from benchmarks.clinc import questions
from benchmarks.drift_rates import KINDS, STABLE
from schemas.policies import MonitorPolicy

NAMES = ("sum", "signs", "rows", "martingale")
SPLITS = 1999
Doubles = NDArray[np.float64]


def p_values(stream: Stream, asked_of: Questions, reference: int, random: np.random.Generator) -> list[float]:
    """Returns the p-value of each candidate for the rows after the first ``reference`` ones, in the order of NAMES."""
    size = len(stream) - reference
    vectors = asked_of.vectors[stream.question].astype(np.float64)
    parts = strata(stream.seconds, reference)
    asked = Asked(
        units=stream.user, texts=stream.question, strata=parts, reference_rows=reference, shortest=size, longest=size
    )
    new = novelty(nearest(asked_of.vectors[stream.question], stream.user, reference), reference)
    found = rose(new, asked, len(stream))
    chosen, weights = asked.weights(np.ones(len(stream), dtype=bool), reference, len(stream))
    if not len(chosen):
        return [1.0] * len(NAMES)
    around = vectors[chosen] - np.abs(weights) @ vectors[chosen] / 2
    _, user = np.unique(stream.user[chosen], return_inverse=True)
    of_user = np.zeros((user.max() + 1, vectors.shape[1]))
    np.add.at(of_user, user, weights[:, None] * around)
    signs = random.choice([-1.0, 1.0], (SPLITS, len(of_user)))
    rows = np.array([random.permutation(weights) for _ in range(SPLITS)])
    return [
        found.p_value,
        _share(_cross(np.ones((1, len(of_user))), of_user)[0], _cross(signs, of_user)),
        _share(float(((weights @ around) ** 2).sum()), ((rows @ around) ** 2).sum(axis=1)),
        _martingale(stream, new, reference, random),
    ]


def _cross(signs: Doubles, of_user: Doubles) -> Doubles:
    """The squared length of the signed sum, without the users' squares."""
    return np.asarray(((signs @ of_user) ** 2).sum(axis=1) - (of_user**2).sum())


def _share(observed: float, drawn: Doubles) -> float:
    return float((1 + (drawn >= observed - 1e-12).sum()) / (1 + len(drawn)))


def _martingale(stream: Stream, new: Doubles, reference: int, random: np.random.Generator) -> float:
    days = stream.user * 10_000 + (stream.seconds // DAY).astype(np.int64)

    def means(rows: slice) -> Doubles:
        _, first, inverse = np.unique(days[rows], return_index=True, return_inverse=True)
        of_day = np.bincount(inverse, new[rows]) / np.bincount(inverse)
        return np.asarray(of_day[np.argsort(first)])

    known, now = np.sort(means(slice(reference))), means(slice(reference, None))
    above = len(known) - np.searchsorted(known, now, side="right")
    ties = len(known) - np.searchsorted(known, now, side="left") - above
    p = (above + random.random(len(now)) * (ties + 1)) / (len(known) + 1)
    powers = np.linspace(0.05, 0.95, 19)[:, None]
    wealth = np.exp(np.cumsum(np.log(powers) + (powers - 1) * np.log(p), axis=1)).mean(axis=0)
    return float(min(1.0, 1 / wealth.max()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--reference", type=int, default=1000)
    parser.add_argument("--current", type=int, default=800)
    options = parser.parse_args(arguments)
    asked_of = questions(Path(os.environ.get("EVERLEARN_CACHE", ".cache")))
    limit = MonitorPolicy().alpha / len(KINDS)
    some = ("no repeats", "20 % repeats", "60 users with topics of their own", "cycles of the day and the week")
    cases: list[tuple[str, Traffic]] = [(name, STABLE[name]) for name in some]
    cases.append(("a new domain at 20 %", Traffic(repeats=0.2, drift=Drift(at=options.reference, new=0.2))))
    print(f"p at most {limit:.2%} | {' | '.join(NAMES)}")
    for name, traffic in cases:
        random = np.random.default_rng(0)
        found = [
            p_values(
                simulate(traffic, asked_of, rows=options.reference + options.current, seed=seed),
                asked_of,
                options.reference,
                random,
            )
            for seed in range(options.streams)
        ]
        shares = (np.array(found) <= limit).mean(axis=0)
        print(f"{name} | {' | '.join(f'{share:.0%}' for share in shares)}", flush=True)


if __name__ == "__main__":
    main()
