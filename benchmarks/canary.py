"""How often canaries end as they should, by simulation: ``python -m benchmarks.canary --canaries 10000``.

Canaries are looked at after every rating, and 5,000 users come by Zipf's law. Three tables: ``rates`` (the displeased
rate five times as often, alike in both arms, and in the first eight lines the quality of both arms falls by 20 points
between two shares), ``bias`` (the rates are those among all answers, and raters distort them) and ``guardrails`` (arms
that are rated alike). Rates have 95 % intervals (Wilson). Ratings are those of the challenger's users. A line takes
about a minute and a half for 10,000 canaries on one core; ``--lines 3-5`` runs some of a table's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agents.promoter.simulation import CHAMPIONS, Conduct, End, Ends, Traffic, simulate
from schemas.policies import PromoterPolicy

MOVES = 0.2
POLICY = PromoterPolicy()
Line = tuple[str, PromoterPolicy, Traffic]


def rates() -> list[Line]:
    """What the policy is judged by."""
    cells = [(POLICY.shares, each, each + by, MOVES) for by in (0.0, 0.1) for each in CHAMPIONS]
    cells += [(shares, each, each + 0.25, 0.0) for shares in (POLICY.shares, (0.5,)) for each in CHAMPIONS]
    cells += [(POLICY.shares, 0.5, 0.07, 0.0)]
    return [
        (
            f"{', '.join(f'{each:.0%}' for each in shares)} | {champion:.0%} | {challenger:.0%}",
            POLICY.model_copy(update={"shares": shares}),
            Traffic(champion=champion, challenger=challenger, moves=moves),
        )
        for shares, champion, challenger, moves in cells
    ]


def bias() -> list[Line]:
    """Raters who are not like the others. The first of a pair is the challenger's."""
    rare, often = 0.1, 0.5
    biases = {
        "the displeased five times as often": ((often, often), (rare, rare)),
        "the pleased five times as often": ((rare, rare), (often, often)),
        "as the first, but the challenger's displeased half as often": ((often / 2, often), (rare, rare)),
        "as the first, but the challenger's displeased twice as often": ((often, often / 2), (rare, rare)),
        "as the first, but the challenger's pleased twice as often": ((often, often), (2 * rare, rare)),
    }
    return [
        (
            f"{name} | {champion:.0%} | {challenger:.0%}",
            POLICY,
            Traffic.of_truth(champion=champion, challenger=challenger, displeased=displeased, pleased=pleased),
        )
        for name, (displeased, pleased) in biases.items()
        for champion, challenger in ((0.2, 0.2), (0.2, 0.3), (0.2, 0.45))
    ]


def guardrails() -> list[Line]:
    """Challengers that are rated as the champion is, and differ in another way."""
    usual = Conduct()
    conducts = {
        "nothing": usual,
        "answers failed: 2% → 15%": Conduct(failed=0.15),
        "answers failed: 2% → 25%": Conduct(failed=0.25),
        "answers declined: 5% → 20%": Conduct(declined=0.2),
        "answers declined: 5% → 30%": Conduct(declined=0.3),
        "answers asked back: 10% → 40%": Conduct(asked_back=0.4),
        "latency: 1.5 times": Conduct(slower=1.5),
        "latency: 3 times": Conduct(slower=3.0),
        "length: twice": Conduct(longer=2.0),
        "length: 6 times": Conduct(longer=6.0),
    }
    return [
        (name, POLICY, Traffic(champion=0.2, challenger=0.2, conduct=(conduct, usual)))
        for name, conduct in conducts.items()
    ]


TABLES = {
    "rates": (rates, "shares | champion | challenger"),
    "bias": (bias, "who rates | champion | challenger"),
    "guardrails": (guardrails, "what differs"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canaries", type=int, default=500, help="simulated canaries a line (default 500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", choices=list(TABLES), help="only this table")
    parser.add_argument("--lines", metavar="FIRST-LAST", help="only these lines of each table, from 1")
    options = parser.parse_args(arguments)
    for name in [options.table] if options.table else list(TABLES):
        lines, head = TABLES[name]
        print(f"| {head} | promoted | rolled back | undecided | ratings, median and p90 |")
        print(f"|{'---|' * (head.count('|') + 5)}")
        first, last = (int(each) for each in options.lines.split("-")) if options.lines else (1, 1000)
        for label, policy, traffic in lines()[first - 1 : last]:
            print(_line(label, simulate(policy, traffic, canaries=options.canaries, seed=options.seed)), flush=True)


def _line(label: str, ends: Ends) -> str:
    usual: End = max(("promoted", "rolled back"), key=ends.share)
    median, most = (ends.outcomes_until(usual, quantile) for quantile in (0.5, 0.9))
    ratings = "–" if median is None or most is None else f"{median:.0f}, {most:.0f} ({usual})"
    shares = (_rate(ends, "promoted"), _rate(ends, "rolled back"), _rate(ends, "undecided"))
    return f"| {label} | {' | '.join(shares)} | {ratings} |"


def _rate(ends: Ends, end: End) -> str:
    low, high = ends.interval(end)
    return f"{ends.share(end):.1%} ({low:.1%}–{high:.1%})"


if __name__ == "__main__":
    main()
