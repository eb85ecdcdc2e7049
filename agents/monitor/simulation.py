"""Simulates drift checks on synthetic traffic or on a home's own, to see how often a policy's verdicts are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.monitor.differences import Asked, Difference, mix_changed, nearest, novelty, rose, strata
from agents.monitor.traffic import Drift, Questions, Stream, Traffic, simulate
from schemas.features import Interaction
from schemas.policies import MonitorPolicy

KINDS = ("questions", "outcomes", "failures", "answers", "sources", "declined")
"""Of which failures and sources are not simulated; they share in the error."""
WORSE = 0.05
"""A training may start if there is any drift and the answers look worse by this p-value."""
TOPICS_OF_A_LABEL = 15
MOST_LABELS = 100
"""Recorded answers with more different texts are no labels, and their mix is not tested."""
STABLE: Mapping[str, Traffic] = {
    "each question once": Traffic(),
    "20 % repeats within sessions": Traffic(repeats=0.2),
    "60 users with topics of their own": Traffic(users=60, own=0.8),
    "cycles of the day and the week": Traffic(day_cycle=1.0, week_cycle=1.0),
    "a question goes viral among 8 users": Traffic(viral=8),
}
"""Traffic without drift."""
MIXED = Traffic(repeats=0.2, day_cycle=0.5, week_cycle=0.5)
"""Traffic with a little of everything."""
DRIFTS: Mapping[str, tuple[str, Drift]] = {
    "new topics at 20%": ("questions", Drift(at=2000, new=0.2)),
    "new topics at 50%": ("questions", Drift(at=2000, new=0.5)),
    "bad ratings 20% → 30%": ("outcomes", Drift(at=2000, bad=0.3)),
    "declined 2% → 10%": ("declined", Drift(at=2000, declined=0.1)),
}
"""Drifts, and the kind that must be said. They begin when the reference has 1,000 answers, by the default policy."""
MOST_AFTER = 3000
"""A drift that is not said within so many questions counts as missed."""


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
    labels = questions.topic[stream.question[rows]] // TOPICS_OF_A_LABEL
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


@dataclass(frozen=True)
class Alarms:
    """What checks of streams said. Shape (streams, checks)."""

    drifted: NDArray[np.bool_]
    trains: NDArray[np.bool_]


def interval(flags: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns the 95 % interval of a rate of checks, by resampling whole streams: their checks depend on each other.

    Where none is true, the bound is 3 / streams.
    """
    streams = len(flags)
    if not flags.any():
        return 0.0, min(1.0, 3 / streams)
    drawn = np.random.default_rng(0).integers(0, streams, (2000, streams))
    means = flags.mean(axis=1)[drawn].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def alarms(streams: Sequence[tuple[Stream, Questions]], policy: MonitorPolicy, checks: int = 10) -> Alarms:
    """Checks each stream at so many moments, from the first possible one to its end."""
    found = np.zeros((len(streams), checks, 2), dtype=bool)
    for place, (stream, questions) in enumerate(streams):
        for number, answers in enumerate(np.linspace(policy.rows_needed, len(stream), checks).astype(int)):
            result = check(stream, questions, int(answers), policy)
            found[place, number] = bool(result.drifted), result.trains
    return Alarms(found[..., 0], found[..., 1])


def stable_alarms(
    traffic: Traffic, questions: Questions, policy: MonitorPolicy, *, streams: int, rows: int, seed: int = 0
) -> Alarms:
    """Checks synthetic streams without drift."""
    made = [(simulate(traffic, questions, rows=rows, seed=seed + each), questions) for each in range(streams)]
    return alarms(made, policy)


def delays(
    kind: str, traffic: Traffic, questions: Questions, policy: MonitorPolicy, *, streams: int, seed: int = 0
) -> NDArray[np.float64]:
    """Returns for each stream how many questions come until the traffic's drift is said; infinity if it is missed."""
    if traffic.drift is None:
        raise ValueError("the traffic has no drift")
    found = np.full(streams, np.inf)
    at, step = max(traffic.drift.at, policy.rows_needed), max(policy.every_rows, 100)
    traffic = replace(traffic, drift=replace(traffic.drift, at=at))
    for place in range(streams):
        stream = simulate(traffic, questions, rows=at + MOST_AFTER, seed=seed + place)
        for answers in range(at + step, at + MOST_AFTER + 1, step):
            if kind in check(stream, questions, answers, policy).drifted:
                found[place] = answers - at
                break
    return found


def made_up_questions(*, topics: int = 60, each: int = 60, dimension: int = 48, seed: int = 0) -> Questions:
    """Makes questions of random topics, a tenth of them new. Those of a topic are as alike as short sentences are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((topics, dimension))
    vectors = np.repeat(centres, each, axis=0) + 0.9 * random.standard_normal((topics * each, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Questions(
        vectors=vectors.astype(np.float32), topic=np.repeat(np.arange(topics), each), new_topics=topics // 10
    )


def recorded(
    rows: Sequence[Interaction], embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> tuple[Stream, Questions] | None:
    """Makes a stream of the rows of a task's feature table, in the order of time; None where there are no answers."""
    kept = [row for row in rows if row.answered_at is not None and row.question is not None and row.answer is not None]
    kept = sorted((row for row in kept if row.finish_reason != "retrieve_only"), key=_time)
    if not kept:
        return None
    texts, question = np.unique([row.question or "" for row in kept], return_inverse=True)
    answers = np.unique([row.answer or "" for row in kept], return_inverse=True)[1]
    topic = np.zeros(len(texts), dtype=np.int64)
    if answers.max() < MOST_LABELS:
        topic[question] = answers * TOPICS_OF_A_LABEL  # the label that was last answered
    begin = _time(kept[0])
    monday = begin - begin % _WEEK + _MONDAY  # the epoch was a Thursday
    asked = np.unique([row.asker for row in kept], return_inverse=True)[1]
    sessions = np.unique([row.session or row.answer_id for row in kept], return_inverse=True)[1]
    stream = Stream(
        seconds=np.array([_time(row) - monday for row in kept]) + _WEEK,
        user=asked,
        session=sessions,
        question=question,
        rated=np.array([row.outcome in ("approved", "disapproved", "corrected") for row in kept]),
        bad=np.array([row.outcome in ("disapproved", "corrected") for row in kept]),
        declined=np.array([bool(row.declined) for row in kept]),
    )
    vectors = np.asarray(embed(list(texts)), dtype=np.float32)
    return stream, Questions(vectors=vectors, topic=topic, new_topics=0)


def without_drift(stream: Stream, random: np.random.Generator) -> Stream:
    """Returns the stream with the days of each user in reverse order, or as they were, by the toss of a coin.

    So nothing drifts but by chance, whatever did in the stream, and users keep their questions, sessions and hours. A
    stream of four weeks or more has its weeks reversed instead, so that the days of the week stay, too. Users who were
    drawn again with replacement would not do: those drawn twice agree with each other, which looks like drift.
    """
    weeks = (stream.seconds[-1] - stream.seconds[0]) / _WEEK
    unit = _WEEK if weeks >= _FEWEST_WEEKS else _WEEK / 7
    place = stream.seconds // unit
    reversed_seconds = (place.min() + place.max() - place) * unit + stream.seconds % unit
    coin = random.random(int(stream.user.max()) + 1) < 0.5
    seconds = np.where(coin[stream.user], reversed_seconds, stream.seconds)
    order = np.argsort(seconds, kind="stable")
    columns = {name: values[order] for name, values in {**vars(stream), "seconds": seconds}.items()}
    return Stream(**columns)


_FEWEST_WEEKS = 4
_WEEK, _MONDAY = 7 * 86_400.0, 4 * 86_400.0


def _time(row: Interaction) -> float:
    return row.answered_at.timestamp() if row.answered_at is not None else 0.0
