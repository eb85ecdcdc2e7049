"""How often canaries end as they should, by simulation: ``python -m benchmarks.canary --canaries 10000``.

Canaries are looked at after every rating, 5,000 users come by Zipf's law, and the quality of both arms falls
by 20 points between two shares. Rates have 95 % intervals (Wilson). Ratings are those of the challenger's users.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from agents.promoter.simulation import End, Ends, Traffic, simulate
from schemas.policies import PromoterPolicy

MOVES = 0.2
CHAMPIONS = (0.05, 0.1, 0.2, 0.3)


def interval(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Returns Wilson's interval of a rate."""
    rate, square = hits / of, z * z
    middle = (rate + square / (2 * of)) / (1 + square / of)
    half = z * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of)) / (1 + square / of)
    return middle - half, middle + half


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canaries", type=int, default=500, help="simulated canaries a line (default 500)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    policy = PromoterPolicy()
    print("| shares | champion | challenger | promoted | rolled back | undecided | ratings, median and p90 |")
    print("|---|---|---|---|---|---|---|")
    cells = [(policy.shares, each, each + by, MOVES) for by in (0.0, 0.1) for each in CHAMPIONS]
    cells += [(shares, each, each + 0.25, 0.0) for shares in (policy.shares, (0.5,)) for each in CHAMPIONS]
    cells += [(policy.shares, 0.5, 0.07, 0.0)]
    for shares, champion, challenger, moves in cells:
        traffic = Traffic(champion=champion, challenger=challenger, moves=moves)
        ends = simulate(
            policy.model_copy(update={"shares": shares}), traffic, canaries=options.canaries, seed=options.seed
        )
        rates = [_rate(ends, end) for end in ("promoted", "rolled back", "undecided")]
        wanted: End = "promoted" if challenger <= champion else "rolled back"
        ratings = f"{ends.outcomes_until(wanted):.0f}, {ends.outcomes_until(wanted, 0.9):.0f} ({wanted})"
        print(
            f"| {', '.join(f'{each:.0%}' for each in shares)} | {champion:.0%} | {challenger:.0%} | "
            f"{' | '.join(rates)} | {ratings} |",
            flush=True,
        )


def _rate(ends: Ends, end: End) -> str:
    hits, of = int((ends.ends == end).sum()), len(ends.ends)
    low, high = interval(hits, of)
    return f"{hits / of:.1%} ({max(low, 0):.1%}–{high:.1%})"


if __name__ == "__main__":
    main()
