"""From tests to a verdict and a remedy, on answers whose drift is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.monitor.verdict import decide, examine, judge
from agents.monitor.windows import make_windows
from schemas.drift import Finding
from schemas.features import Interaction
from schemas.interactions import InteractionOutcome
from tests.agents.monitor.rows import POLICY, ROUTING, SUPPORT, row, vectors

FIGURES = {"rated": 40.0, "bad": 20.0, "corrected": 20.0, "failed": 0.0}


def found(kind: str, *, flagged: bool) -> Finding:
    return Finding(kind=kind, p_value=0.0005 if flagged else 0.5, effect=0.1, flagged=flagged, detail=f"{kind} changed")


def windows_of(*flagged: str) -> list[list[Finding]]:
    """Makes windows, newest first, each with the kinds that are flagged in it."""
    kinds = ("questions", "outcomes", "failures", "answers", "sources")
    return [[found(kind, flagged=kind in names.split()) for kind in kinds] for names in flagged]


@pytest.mark.parametrize(
    ("flagged", "kind"),
    [
        (("outcomes", "", ""), None),
        (("outcomes", "outcomes", ""), "outcomes"),
        (("outcomes", "", "outcomes"), "outcomes"),
        (("", "outcomes", "outcomes"), "outcomes"),
        (("outcomes", "questions", ""), None),
        (("outcomes",), None),
        (("questions outcomes", "questions outcomes", ""), "outcomes"),
    ],
)
def test_a_kind_is_drift_when_two_of_three_windows_are_flagged_for_it(flagged, kind):
    assert decide(windows_of(*flagged), FIGURES, ROUTING, POLICY).kind == kind


def test_one_window_is_enough_where_the_policy_says_so():
    verdict = decide(windows_of("outcomes", "", ""), FIGURES, ROUTING, POLICY.model_copy(update={"flags": 1, "of": 1}))
    assert verdict.kind == "outcomes"


@pytest.mark.parametrize(
    ("kinds", "figures", "task", "remedy"),
    [
        ("outcomes", {}, ROUTING, "retrain"),
        ("outcomes questions", {"corrected": 10}, ROUTING, "retrain"),
        ("outcomes", {"corrected": 9}, ROUTING, "label"),
        ("questions", {"rated": 19}, ROUTING, "label"),
        ("questions", {"rated": 20}, ROUTING, "none"),
        ("answers", {"rated": 0}, ROUTING, "label"),
        ("failures", {}, ROUTING, "none"),
        ("sources", {}, SUPPORT, "index"),
        ("sources outcomes", {}, SUPPORT, "index"),
    ],
)
def test_the_remedy_is_what_would_help(kinds, figures, task, remedy):
    verdict = decide(windows_of(kinds, kinds, ""), {**FIGURES, **figures}, task, POLICY)
    assert verdict.remedy == remedy
    assert verdict.reasons[-1].startswith(f"{remedy}: ")


def test_when_other_questions_are_certain_a_weaker_sign_of_worse_answers_is_enough_to_call_for_training():
    windows = windows_of("questions", "questions", "")
    windows[0] = [replace(each, p_value=0.04) if each.kind == "outcomes" else each for each in windows[0]]
    verdict = decide(windows, FIGURES, ROUTING, POLICY)
    assert (verdict.kind, verdict.remedy) == ("questions", "retrain")


def test_the_reasons_say_what_was_seen_and_how_often():
    verdict = decide(windows_of("outcomes", "outcomes", ""), FIGURES, ROUTING, POLICY)
    assert verdict.reasons[0] == "outcomes: outcomes changed (flagged in 2 of the last 3 windows)"
    assert verdict.flags["outcomes"] == 2
    calm = decide(windows_of("", "", ""), FIGURES, ROUTING, POLICY)
    assert calm.reasons == ("no test tells the current windows from the reference",)
    [uncertain] = decide(windows_of("", "questions", ""), FIGURES, ROUTING, POLICY).reasons
    assert uncertain == "not certain yet: questions were flagged in 1 of the last windows, and 2 of 3 are needed"


def judged(rows: list[Interaction], task=ROUTING, **drift):
    windows = make_windows(rows[: POLICY.reference_rows], rows[-POLICY.newest_rows :], POLICY)
    return judge(windows, vectors(rows, **drift), task, POLICY)


def answers(count: int, outcomes: tuple[InteractionOutcome, ...], start: int = 0, **fields) -> list[Interaction]:
    return [row(start + place, outcome=outcomes[place % len(outcomes)], **fields) for place in range(count)]


def test_answers_that_got_worse_and_were_corrected_call_for_training():
    rows = answers(100, ("approved",) * 6 + ("corrected",)) + answers(100, ("approved", "corrected"), 100)
    found = judged(rows)
    assert (found.verdict.kind, found.verdict.remedy) == ("outcomes", "retrain")
    assert "from 14% (14 of 100) to 50% (30 of 60)" in found.verdict.reasons[0]


def test_failures_are_no_ratings_so_that_fresh_unrated_windows_do_not_look_bad():
    rows = answers(100, ("approved",)) + answers(100, ("unrated",) * 19 + ("failed",), 100)
    assert judged(rows).verdict.kind is None


def test_many_failures_are_drift_that_training_does_not_mend():
    rows = answers(100, ("approved",)) + answers(100, ("approved", "failed"), 100)
    assert (judged(rows).verdict.kind, judged(rows).verdict.remedy) == ("failures", "none")


def test_new_questions_without_ratings_call_for_labels():
    rows = answers(200, ("unrated",))
    found = judged(rows, shift=8.0, shifted=range(100, 200, 2))
    assert (found.verdict.kind, found.verdict.remedy) == ("questions", "label")


def test_other_labels_are_noticed():
    rows = answers(100, ("approved",)) + answers(100, ("approved",), 100, answer="returns")
    assert judged(rows).verdict.kind == "answers"


def test_sources_that_fit_worse_call_for_documents():
    rows = [row(place, score=0.7 - place % 7 / 100 - 0.2 * (place >= 100), task="support") for place in range(200)]
    found = judged(rows, SUPPORT)
    assert (found.verdict.kind, found.verdict.remedy) == ("sources", "index")


def test_only_what_makes_sense_for_a_task_is_tested():
    rows = answers(160, ("approved",))
    kinds = [each.kind for each in examine(rows[:100], rows[100:], vectors(rows), ROUTING, 0.01)]
    assert kinds == ["questions", "outcomes", "failures", "answers"]
    kinds = [each.kind for each in examine(rows[:100], rows[100:], vectors(rows), SUPPORT, 0.01)]
    assert kinds == ["questions", "outcomes", "failures", "sources"]
