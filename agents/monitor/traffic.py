"""Simulates the traffic of a task: who asks what, when, and how good the answers are.

Real questions are not independent of each other. A few users ask most of them, in sessions, on some days and not on
others. Users have topics of their own, ask some questions again, and ask about other things in the morning than in the
evening, and on Sunday than on Monday. Some people rate more harshly than others. A test of drift must not take any of
this for drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

DAY = 86_400.0
_LONGEST_SESSION = 10
_MINUTE = 60.0


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The questions that people may ask. ``vectors``: unit vectors, shape (questions, dimension).

    ``topic``: of each question; topics are numbered from 0, and a topic's questions stand together. The last
    ``new_topics`` topics are asked about only after a drift.
    """

    vectors: NDArray[np.float32]
    topic: Integers
    new_topics: int


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What changes for good at a question. ``new``: the share of the questions that are then about new topics."""

    at: int
    new: float = 0.0
    bad: float | None = None
    """The rate of bad answers from then on, among rated ones."""
    declined: float | None = None
    """The rate of declined answers from then on."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Who asks, what about, and how the answers are received."""

    users: int = 2000
    zipf: float = 1.0
    """The n-th user asks n ** -zipf times as often as the first."""
    a_day: float = 250.0
    """Questions on a mean day."""
    active: float = 0.4
    """The part of the days on which a user comes."""
    repeats: float = 0.0
    """The part of the questions of a session, after its first, that repeat one of its earlier ones word by word."""
    own: float = 0.3
    """The part of a user's sessions that are about one of three topics of their own."""
    day_cycle: float = 0.0
    """How much the topics depend on the time of day: the standard deviation of the logarithms of their rates."""
    week_cycle: float = 0.0
    """How much they depend on whether it is a weekend; fewer people come then, too."""
    viral: int = 0
    """So many users ask one odd question, each of them several times within a few days after the first days."""
    rated: float = 0.5
    """The part of the answers that is rated."""
    bad: float = 0.2
    """The rate of bad answers among rated ones."""
    declined: float = 0.02
    """The rate of answers that are refusals to answer."""
    bias: float = 0.5
    """How much raters differ: the standard deviation of the log-odds of a bad rating."""
    difficulty: float = 0.5
    """How much topics differ: the standard deviation of the log-odds of a bad and of a declined answer."""
    drift: Drift | None = None


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Questions in the order of their time, one row each. ``question``: its place in ``Questions``."""

    seconds: Floats
    """Since a Monday, 0:00."""
    user: Integers
    session: Integers
    question: Integers
    rated: Flags
    bad: Flags
    """Whether the answer is bad, rated or not."""
    declined: Flags

    def __len__(self) -> int:
        return len(self.user)


def simulate(traffic: Traffic, questions: Questions, *, rows: int, seed: int) -> Stream:
    """Draws so many questions."""
    random = np.random.default_rng(seed)
    session_user, begins = _sessions(traffic, rows, random)
    length = random.integers(1, _LONGEST_SESSION + 1, len(begins))
    session = np.repeat(np.arange(len(begins)), length)
    place = np.arange(len(session)) - np.repeat(np.cumsum(length) - length, length)
    seconds = begins[session] + place * _MINUTE * random.uniform(0.5, 2.0, len(session))
    order = np.argsort(seconds, kind="stable")[:rows]
    session, place, seconds = session[order], place[order], seconds[order]
    user = session_user[session]

    topics = int(questions.topic[-1]) + 1 - questions.new_topics
    topic = _topics(traffic, topics, session, user, seconds, random)
    changed = np.zeros(rows, dtype=bool)
    if traffic.drift is not None:
        changed[traffic.drift.at :] = True
        new = changed & (random.random(rows) < traffic.drift.new)
        if questions.new_topics:
            topic[new] = topics + random.integers(0, questions.new_topics, int(new.sum()))
    question = _of_topics(topic, questions, random)
    rated = random.random(rows) < traffic.rated
    bad_rate, declined_rate = np.full(rows, traffic.bad), np.full(rows, traffic.declined)
    if traffic.drift is not None:
        bad_rate[changed] = traffic.bad if traffic.drift.bad is None else traffic.drift.bad
        declined_rate[changed] = traffic.declined if traffic.drift.declined is None else traffic.drift.declined
    hard = random.normal(0, traffic.difficulty, topics + questions.new_topics)[topic]
    harsh = random.normal(0, traffic.bias, traffic.users)[user]
    bad = random.random(rows) < _shifted(bad_rate, hard + harsh, np.hypot(traffic.difficulty, traffic.bias))
    declined = random.random(rows) < _shifted(declined_rate, hard, traffic.difficulty)
    _repeat(traffic, session, place, changed, (question, bad, declined), random)
    _go_viral(traffic, user, question, questions, random)
    return Stream(
        seconds=seconds, user=user, session=session, question=question, rated=rated, bad=bad, declined=declined
    )


def _sessions(traffic: Traffic, rows: int, random: np.random.Generator) -> tuple[Integers, Floats]:
    """Returns each session's user and the second at which it begins; enough for so many questions."""
    days = 7 + int(np.ceil(2 * rows / traffic.a_day))
    weights = np.arange(1, traffic.users + 1) ** -traffic.zipf
    a_day = traffic.a_day / ((1 + _LONGEST_SESSION) / 2) * weights / weights.sum()
    first = random.integers(7)  # the stream begins on any day of the week
    weekend = (np.arange(days) + first) % 7 >= 5
    comes = random.random((days, traffic.users)) < traffic.active
    quiet = np.where(weekend, 1 / (1 + traffic.week_cycle), 1.0)[:, None]
    count = random.poisson(a_day * comes * quiet / traffic.active)
    day, user = np.nonzero(count)
    day, user = np.repeat(day, count[day, user]), np.repeat(user, count[day, user])
    at = (random.normal(14.0, 4.0, len(day)) % 24) * DAY / 24
    return user, (first + day) * DAY + at


def _topics(
    traffic: Traffic, topics: int, session: Integers, user: Integers, seconds: Floats, random: np.random.Generator
) -> Integers:
    """Draws the topic of each question: most questions of a session share one."""
    popular = random.normal(0, 1.0, topics)
    hours = random.normal(0, traffic.day_cycle, (4, topics))
    weekends = random.normal(0, traffic.week_cycle, (2, topics))
    weekend = (seconds // DAY % 7 >= 5).astype(int)
    quarter = (seconds % DAY // (DAY / 4)).astype(int)
    kind = weekend * 4 + quarter
    rates = popular + np.concatenate([hours + each for each in weekends])
    shares = np.exp(rates) / np.exp(rates).sum(axis=1, keepdims=True)
    drawn = np.empty(len(user), dtype=np.int64)
    for each in np.unique(kind):
        here = kind == each
        drawn[here] = random.choice(topics, int(here.sum()), p=shares[each])
    own = random.integers(0, topics, (traffic.users, 3))
    _, first, inverse = np.unique(session, return_index=True, return_inverse=True)
    theirs = random.random(len(first)) < traffic.own
    subject = np.where(theirs, own[user[first], random.integers(0, 3, len(first))], drawn[first])[inverse]
    return np.where(random.random(len(user)) < 0.7, subject, drawn)


def _of_topics(topic: Integers, questions: Questions, random: np.random.Generator) -> Integers:
    """Draws a question of each topic."""
    begins = np.searchsorted(questions.topic, topic)
    ends = np.searchsorted(questions.topic, topic, side="right")
    return begins + (random.random(len(topic)) * (ends - begins)).astype(np.int64)


def _shifted(rate: Floats, by: Floats, spread: float) -> Floats:
    """Returns the rates with their log-odds shifted, so that the mean over normal shifts stays about the same."""
    # The logistic function of a normal variable has about the mean logistic(m / sqrt(1 + pi s² / 8)).
    odds = np.log(rate / (1 - rate)) * np.sqrt(1 + np.pi * spread**2 / 8) + by
    return np.asarray(1 / (1 + np.exp(-odds)))


def _repeat(
    traffic: Traffic,
    session: Integers,
    place: Integers,
    changed: Flags,
    columns: tuple[NDArray[np.generic], ...],
    random: np.random.Generator,
) -> None:
    """Replaces some rows by an earlier one of their session, whose answer is as good or bad as the first time."""
    row_of = {(int(each), int(where)): row for row, (each, where) in enumerate(zip(session, place, strict=True))}
    again = (random.random(len(session)) < traffic.repeats) & (place > 0)
    earlier = (random.random(len(session)) * place).astype(np.int64)
    for row in np.flatnonzero(again):
        source = row_of.get((int(session[row]), int(earlier[row])))
        if source is not None and changed[source] == changed[row]:
            for column in columns:
                column[row] = column[source]


def _go_viral(
    traffic: Traffic, user: Integers, question: Integers, questions: Questions, random: np.random.Generator
) -> None:
    """Lets some users ask one question, up to ten times each, in the second half of the rows."""
    odd = len(questions.topic) - 1  # of a topic that is new, if there are any
    late = len(user) // 2
    for each in random.permutation(np.unique(user[late:]))[: traffic.viral]:
        rows = late + np.flatnonzero(user[late:] == each)[:_LONGEST_SESSION]
        question[rows] = odd
