"""Simulated traffic is as it says."""

from __future__ import annotations

import numpy as np
import pytest

from agents.monitor.traffic import DAY, Drift, Stream, Traffic, simulate
from tests.agents.monitor.questions import NEW, TOPICS, questions

QUESTIONS = questions()
ROWS = 4000


def stream(seed: int = 1, **traffic) -> Stream:
    return simulate(Traffic(**traffic), QUESTIONS, rows=ROWS, seed=seed)


def topics(of: Stream) -> np.ndarray:
    return QUESTIONS.topic[of.question]


def test_a_seed_gives_the_same_stream_again():
    one, other, third = stream(3), stream(3), stream(4)
    assert np.array_equal(one.question, other.question)
    assert np.array_equal(one.bad, other.bad)
    assert not np.array_equal(one.question, third.question)


def test_questions_come_in_the_order_of_time_and_in_sessions_of_one_to_ten():
    some = stream()
    assert len(some) == ROWS
    assert (np.diff(some.seconds) >= 0).all()
    sizes = np.bincount(some.session)[1:]
    assert sizes.max() == 10
    for each in np.unique(some.session):
        assert len(set(some.user[some.session == each])) == 1


def test_a_few_users_ask_much_and_come_on_some_days_only():
    some = stream(users=100, active=0.3)
    share = np.sort(np.bincount(some.user, minlength=100))[::-1] / ROWS
    assert share[:10].sum() > 0.35
    days = some.seconds // DAY
    came = [len(set(days[some.user == user])) for user in range(10)]
    assert max(came) < 0.6 * len(set(days))


def test_questions_of_a_session_are_repeated_as_often_as_said():
    def again(repeats: float) -> float:
        some = stream(repeats=repeats)
        return 1.0 - float(np.unique(np.stack([some.session, some.question]), axis=1).shape[1]) / ROWS

    # The first question of a session repeats nothing, and some questions are drawn twice by chance.
    assert again(0.0) < 0.08
    assert again(0.3) - again(0.0) == pytest.approx(0.3 * 0.82, abs=0.04)


def test_repeated_questions_have_answers_that_are_as_good():
    some = stream(repeats=0.5)
    first: dict[tuple[int, int], bool] = {}
    same = [
        first.setdefault((int(session), int(question)), bool(bad)) == bad
        for session, question, bad in zip(some.session, some.question, some.bad, strict=True)
    ]
    assert np.mean(same) > 0.97


def test_topics_depend_on_the_time_only_in_cycles():
    def spread(day_cycle: float) -> float:
        some = stream(own=0.0, day_cycle=day_cycle)
        evening = some.seconds % DAY > 0.75 * DAY
        shares = [np.bincount(topics(some)[side], minlength=TOPICS) / side.sum() for side in (evening, ~evening)]
        return float(np.abs(shares[0] - shares[1]).sum())

    assert spread(1.5) > 1.5 * spread(0.0)


def test_fewer_people_come_at_weekends_in_a_cycle_of_the_week():
    some = stream(week_cycle=1.0)
    weekend = (some.seconds // DAY % 7 >= 5).mean()
    assert weekend < 0.22


def test_new_topics_come_with_the_drift_and_not_before():
    some = stream(drift=Drift(at=2000, new=0.2))
    new = topics(some) >= TOPICS
    assert not new[:2000].any()
    assert new[2000:].mean() == pytest.approx(0.2, abs=0.04)
    assert len(set(some.user[new])) >= 10
    assert len(set(topics(some)[new])) == NEW


def test_rates_are_those_that_were_asked_for_and_change_with_the_drift():
    traffic = Traffic(bad=0.2, declined=0.02, drift=Drift(at=2000, bad=0.3, declined=0.1))
    streams = [simulate(traffic, QUESTIONS, rows=ROWS, seed=seed) for seed in range(8)]
    for part, bad, declined in ((slice(2000), 0.2, 0.02), (slice(2000, None), 0.3, 0.1)):
        assert np.mean([each.bad[part].mean() for each in streams]) == pytest.approx(bad, abs=0.04)
        assert np.mean([each.declined[part].mean() for each in streams]) == pytest.approx(declined, abs=0.015)
    assert np.mean([each.rated.mean() for each in streams]) == pytest.approx(0.5, abs=0.02)


def test_one_odd_question_goes_viral_among_the_given_users():
    odd = len(QUESTIONS.topic) - 1
    some = stream(viral=8)
    assert not (some.question[: ROWS // 2] == odd).any()
    assert len(set(some.user[some.question == odd])) == 8
    assert not (stream().question == odd).any()
