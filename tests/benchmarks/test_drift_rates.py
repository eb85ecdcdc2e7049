"""The simulation of drift checks, with few streams and questions that cost nothing to embed."""

from __future__ import annotations

import numpy as np
import pytest

from agents.monitor.traffic import Drift, Traffic
from benchmarks.drift_rates import MIXED, STABLE, Cell, alarms, delays, quantile, rate
from tests.agents.monitor.questions import questions

QUESTIONS = questions()
CHECKED = (600, 900, 1400)


def cell(kind: str, drift: Drift, unit: str = "questions") -> Cell:
    return Cell(name=kind, drift=drift, kind=kind, unit=unit, quantile=0.5, bar=None)


@pytest.mark.parametrize("name", STABLE)
def test_stable_streams_of_every_kind_raise_no_alarm(name):
    assert not alarms(STABLE[name], QUESTIONS, range(4), CHECKED).any()


def test_a_new_domain_is_found_soon():
    found = delays(cell("questions", Drift(at=2000, new=0.5)), MIXED, QUESTIONS, range(5), most=600)
    assert np.median(found) <= 600


def test_declined_questions_are_found_soon():
    found = delays(cell("declined", Drift(at=2000, declined=0.1)), Traffic(), QUESTIONS, range(5), most=500)
    assert np.median(found) <= 500


def test_many_bad_ratings_are_found_and_counted_in_ratings():
    drift = Drift(at=1200, bad=0.6)
    [found] = delays(cell("outcomes", drift, "rated answers"), Traffic(), QUESTIONS, range(1), most=600)
    assert 20 < found < 250


def test_rates_of_checks_have_intervals_over_streams():
    random = np.random.default_rng(0)
    assert rate(np.zeros((300, 10), dtype=bool), random) == "0 (at most 1.00%)"
    flags = np.zeros((100, 10), dtype=bool)
    flags[0] = True  # all alarms in one stream are hardly more than one
    assert rate(flags, random) == "1.00% (0.00%–3.00%)"


def test_a_quantile_of_streams_may_be_never():
    random = np.random.default_rng(0)
    assert quantile(np.array([100.0, 200.0, np.inf, np.inf]), 0.9, random).startswith("never")
    assert quantile(np.full(9, 250.0), 0.5, random) == "250 (250–250)"
