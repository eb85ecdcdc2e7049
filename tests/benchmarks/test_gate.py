"""The gate's error rates, by a quick version of the simulation of ``benchmarks/gate.py``."""

from __future__ import annotations

from benchmarks.canary import interval
from benchmarks.gate import EQUAL, Changes, first_passes, main, passed, rejected_for, slice_alarms
from schemas.policies import ValidatorPolicy

CHANCE = ValidatorPolicy().chance


def test_ten_candidates_that_are_no_better_pass_as_seldom_together_as_one_may():
    runs = 400
    low, high = interval(int((first_passes(runs, rows=100, tries=10, spent=True) > 0).sum()), runs)
    assert high <= CHANCE + 0.02
    low, high = interval(int((first_passes(runs, rows=100, tries=10, spent=False) > 0).sum()), runs)
    assert low > CHANCE, "the whole error for each try would be too much"


def test_a_candidate_that_is_clearly_better_passes_also_at_a_later_try():
    assert passed(60, rows=100, changes=Changes(better=0.33, worse=0.03), tries=3) >= 57


def test_many_flips_are_rejected_whatever_was_gained_and_few_are_not():
    assert rejected_for(60, "turned from right", rows=200, changes=Changes(better=0.4, worse=0.2)) >= 57
    assert rejected_for(60, "turned from right", rows=200, changes=Changes(better=0.2, worse=0.05)) == 0


def test_many_slices_find_harm_by_chance_at_most_as_often_as_one_may():
    assert EQUAL.worse == EQUAL.better
    assert slice_alarms(100, slices=10, size=40, drop=0.0) <= 20
    assert slice_alarms(60, slices=10, size=60, drop=0.5) >= 54


def test_the_tables_are_printed(capsys):
    main(["--runs", "2"])
    assert capsys.readouterr().out.count("\n") > 40
