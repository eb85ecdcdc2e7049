"""Simulated drift checks, on made-up traffic and on recorded rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from agents.monitor.simulation import (
    MIXED,
    Alarms,
    alarms,
    delays,
    interval,
    made_up_questions,
    recorded,
    stable_alarms,
    without_drift,
)
from agents.monitor.traffic import Drift, simulate
from schemas.features import Interaction
from schemas.policies import MonitorPolicy

POLICY = MonitorPolicy()
QUESTIONS = made_up_questions()
START = datetime(2026, 1, 1, 9, tzinfo=UTC)  # a Thursday


def test_mixed_traffic_without_drift_is_seldom_taken_for_drift():
    found = stable_alarms(MIXED, QUESTIONS, POLICY, streams=10, rows=2000)
    assert found.drifted.shape == (10, 10)
    assert found.drifted.mean() <= 0.05


def test_new_topics_are_said_soon_and_what_never_comes_is_missed():
    soon = delays("questions", replace(MIXED, drift=Drift(at=1000, new=0.5)), QUESTIONS, POLICY, streams=3)
    assert np.median(soon) <= 600
    never = delays("outcomes", replace(MIXED, drift=Drift(at=3000)), QUESTIONS, POLICY, streams=2)
    assert np.isinf(never).all()


def test_an_interval_is_over_streams():
    one_stream = np.zeros((10, 10), dtype=bool)
    assert interval(one_stream) == (0.0, 0.3)
    one_stream[0] = True
    low, high = interval(one_stream)
    assert low == 0
    assert 0.2 <= high <= 0.4  # as of 10 streams, and not of 100 checks


def test_a_history_in_another_order_drifts_no_more_and_keeps_users_their_questions_and_hours():
    drifted = simulate(replace(MIXED, drift=Drift(at=1000, bad=0.6, new=0.5)), QUESTIONS, rows=2000, seed=1)
    assert alarms([(drifted, QUESTIONS)], POLICY).drifted.any()
    random = np.random.default_rng(2)
    streams = [without_drift(drifted, random) for _ in range(20)]
    found: Alarms = alarms([(each, QUESTIONS) for each in streams], POLICY)
    assert found.drifted.mean() <= 0.05
    before, after = (
        sorted(zip(each.user, each.question, np.round(each.seconds % 86_400, 3), each.bad, strict=True))
        for each in (drifted, streams[0])
    )
    assert before == after
    assert (np.diff(streams[0].seconds) >= 0).all()


def test_recorded_rows_become_a_stream_in_the_order_of_time():
    def row(number: int, **fields: object) -> Interaction:
        at = START + timedelta(hours=number)
        values = {"answer_id": f"a{number}", "question": "Where?", "answer": "orders", "user": "u", "answered_at": at}
        return Interaction(**{**values, **fields})  # type: ignore[arg-type]  # fields of a row

    rows = [
        row(3, question="When?", outcome="corrected", answer="delivery"),
        row(0, user=None, session="s", outcome="approved"),
        row(1, finish_reason="retrieve_only"),
        row(2, answer=None, failure="too late"),
        row(4, declined=True),
    ]
    found = recorded(rows, lambda texts: np.eye(len(texts), 4, dtype=np.float32))
    assert found is not None
    stream, questions = found
    assert len(stream) == 3
    assert (stream.rated.tolist(), stream.bad.tolist()) == ([True, True, False], [False, True, False])
    assert stream.declined.tolist() == [False, False, True]
    assert len(set(stream.user)) == 2
    assert stream.question[0] == stream.question[2] != stream.question[1]
    assert len(questions.vectors) == 2
    days = stream.seconds / 86_400 % 7
    assert np.allclose(days, [3 + 9 / 24, 3 + 12 / 24, 3 + 13 / 24])  # of the week, from Monday
    assert recorded([], lambda texts: np.zeros((0, 4), dtype=np.float32)) is None
