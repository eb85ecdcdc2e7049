"""Limits how much of a dataset comes from one user, one tenant, or nobody's name, so that none of them steers it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from agents.trainer.candidates import Candidate
from agents.trainer.quarantine import Sorted
from schemas.datasets import QuarantinedRow, QuarantineReason
from schemas.policies import TrainerPolicy


def share_of(share: float, sources: int) -> float:
    """Returns the largest share that one of so many sources may have: the policy's, or twice an equal part if more.

    With 40 users or more a share of 5 % is the policy's. Ten users may have 20 % each, five 40 %. From four users on,
    nobody can have more than all others together, and twice an equal part can always be kept, so that a home with a
    handful of users learns.
    """
    return max(share, min(1.0, 2 / sources)) if sources else 1.0


def limit(counts: Mapping[str, int], share: float, standing: Mapping[str, int] | None = None) -> int:
    """Returns the most rows of one source such that none has more than its share of what remains of all of them.

    ``standing``: by source the rows that stay in any case. A source may always have one row.
    """
    most = share_of(share, len(counts))
    stay = standing or {}

    def total(rows: int) -> int:
        return sum(max(stay.get(source, 0), min(count, rows)) for source, count in counts.items())

    # total(rows) / rows falls, so a binary search finds the first limit that is too much.
    limits = range(1, max(counts.values(), default=0) + 1)
    return max(1, bisect_left(limits, True, key=lambda rows: rows > most * total(rows) + 1e-9))


def capped(candidates: Sequence[Candidate], policy: TrainerPolicy) -> Sorted:
    """Takes out what is above the share of a user, of a tenant, and of those who give no name.

    Examples and the rows of reviewers have no limit and do not count. The champion's rows count, but stay. Of a source
    with too many rows, those with the lowest sampling keys remain.
    """
    rows = list(candidates)
    quarantined: list[QuarantinedRow] = []

    def cut(
        chosen: Callable[[Candidate], bool], key: Callable[[Candidate], str], share: float, why: QuarantineReason
    ) -> None:
        nonlocal rows
        some = [each for each in rows if chosen(each)]
        counts: Counter[str] = Counter(key(each) for each in some)
        standing: Counter[str] = Counter(key(each) for each in some if each.kept)
        most = limit(counts, share, standing)
        detail = f"at most {most} of one, {share_of(share, len(counts)):.0%} of the rows"
        rows = _first(rows, chosen, key, lambda _: most, why, detail, quarantined)

    for circle in ("named", "anonymous"):
        cut(
            lambda each, circle=circle: each.circle == circle and each.is_somebodys,  # type: ignore[misc]  # a default
            lambda each: each.unit,
            policy.user_share,
            "user_share",
        )
    named = sum(each.circle == "named" for each in rows)
    if named:
        share = policy.anonymous_share
        most = int(named * share / (1 - share)) if share < 1 else len(rows)
        detail = f"at most {most} beside {named} of named users"
        rows = _first(
            rows,
            lambda each: each.circle == "anonymous",
            lambda _: "",
            lambda _: most,
            "anonymous_share",
            detail,
            quarantined,
        )
    if policy.tenant_share < 1:
        cut(
            lambda each: each.circle != "trusted",
            lambda each: each.row.tenant or "",
            policy.tenant_share,
            "tenant_share",
        )
    return rows, quarantined


def _first(
    rows: Sequence[Candidate],
    chosen: Callable[[Candidate], bool],
    key: Callable[[Candidate], str],
    most: Callable[[str], int],
    why: QuarantineReason,
    detail: str,
    quarantined: list[QuarantinedRow],
) -> list[Candidate]:
    """Returns the rows, of each source among the chosen ones no more than its limit; adds the others to the list."""
    remaining: list[Candidate] = []
    by_source: dict[str, list[Candidate]] = defaultdict(list)
    for each in rows:
        if chosen(each):
            by_source[key(each)].append(each)
        else:
            remaining.append(each)
    for source, given in by_source.items():
        given.sort(key=lambda each: (not each.kept, each.row.sampling_key))
        allowed = max(most(source), sum(each.kept for each in given))
        remaining += given[:allowed]
        quarantined += [each.quarantined(why, detail) for each in given[allowed:]]
    return remaining
