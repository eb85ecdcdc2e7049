"""From what a detector found to a verdict and a remedy, on answers whose drift is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from agents.monitor.corrections import CorrectionsFound
from agents.monitor.verdict import TO_LABEL, Evidence, Rated, decide, short_reference
from schemas.drift import ColumnResult, Finding
from schemas.features import Interaction
from schemas.interactions import InteractionOutcome
from schemas.questions import Turn
from tests.agents.monitor.rows import POLICY, ROUTING, START, SUPPORT, judged, row, vectors

KINDS = ("questions", "outcomes", "failures", "answers", "sources", "declined")
WORSE = Rated(rows=60, rated=40, corrected=20, p_worse=0.001)
AS_BEFORE = replace(WORSE, p_worse=0.7)


def given(now: Rated, novel: Rated | None = None, corrections: CorrectionsFound | None = None) -> Evidence:
    novel = novel or Rated()
    return Evidence(now=now, latest=now, novel=novel, latest_novel=novel, corrections=corrections or CorrectionsFound())


def decided(drifted: str, evidence: Evidence, task=ROUTING):
    """Decides after a detector found that these kinds drifted."""
    results = {
        kind: ColumnResult(score=0.0001 if kind in drifted.split() else 0.5, threshold=0.002, drifted=kind in drifted)
        for kind in KINDS
    }
    window = [
        Finding(kind=kind, p_value=each.score, effect=0.1, flagged=each.drifted, detail=f"{kind} changed")
        for kind, each in results.items()
    ]
    return decide(results, [window, window, []], evidence, task, POLICY)


@pytest.mark.parametrize(
    ("drifted", "kind"),
    [("", None), ("outcomes", "outcomes"), ("questions outcomes", "outcomes"), ("outcomes declined", "declined")],
)
def test_the_detector_says_what_drifted_and_the_verdict_names_the_most_telling_kind(drifted, kind):
    assert decided(drifted, given(WORSE)).kind == kind


@pytest.mark.parametrize(
    ("drifted", "evidence", "task", "remedy"),
    [
        ("outcomes", given(WORSE), ROUTING, "retrain"),
        ("outcomes questions", given(replace(WORSE, corrected=10)), ROUTING, "retrain"),
        ("outcomes", given(replace(WORSE, corrected=9)), ROUTING, "label"),
        ("questions", given(replace(AS_BEFORE, rated=19)), ROUTING, "label"),
        ("questions", given(AS_BEFORE), ROUTING, "none"),
        ("questions", given(AS_BEFORE, Rated(rows=30, rated=9)), ROUTING, "label"),
        ("questions", given(AS_BEFORE, Rated(rows=30, rated=10)), ROUTING, "none"),
        ("questions", given(AS_BEFORE, Rated(rows=3, rated=3)), ROUTING, "none"),
        ("questions", given(AS_BEFORE, Rated(rows=30, rated=15, corrected=10, p_worse=0.01)), ROUTING, "retrain"),
        ("answers", given(Rated(rows=60)), ROUTING, "label"),
        ("failures", given(AS_BEFORE), ROUTING, "none"),
        ("sources", given(AS_BEFORE), SUPPORT, "index"),
        ("declined", given(AS_BEFORE), SUPPORT, "index"),
        ("sources outcomes", given(WORSE), SUPPORT, "index"),
        ("outcomes", given(WORSE, corrections=CorrectionsFound(checked=20, served=20)), SUPPORT, "retrain"),
        ("sources", given(WORSE, corrections=CorrectionsFound(checked=20, served=15)), SUPPORT, "retrain"),
        ("outcomes", given(WORSE, corrections=CorrectionsFound(checked=20, newer=6)), SUPPORT, "index"),
        ("outcomes", given(WORSE, corrections=CorrectionsFound(checked=20, missed=12)), SUPPORT, "index"),
        ("outcomes", given(WORSE, corrections=CorrectionsFound(checked=20, newer=5)), SUPPORT, "retrain"),
        ("outcomes", given(WORSE, corrections=CorrectionsFound(checked=4, newer=2)), SUPPORT, "retrain"),
    ],
)  # fmt: skip
def test_the_remedy_is_what_would_help(drifted, evidence, task, remedy):
    verdict = decided(drifted, evidence, task)
    assert verdict.remedy == remedy
    assert verdict.reasons[-1].startswith(f"{remedy}: ")


def test_when_other_questions_are_certain_a_weaker_sign_of_worse_answers_is_enough_to_call_for_training():
    verdict = decided("questions", given(replace(WORSE, p_worse=0.02)))
    assert (verdict.kind, verdict.remedy) == ("questions", "retrain")


def test_the_reasons_say_what_was_seen_and_how_often():
    verdict = decided("outcomes", given(WORSE))
    assert verdict.reasons[0] == "outcomes: outcomes changed (flagged in 2 of the last 3 windows)"
    assert verdict.flags["outcomes"] == 2
    assert decided("", given(WORSE)).reasons == ("no test tells the current windows from the reference",)


def answers(count: int, outcomes: tuple[InteractionOutcome, ...], start: int = 0, **fields) -> list[Interaction]:
    return [row(start + place, outcome=outcomes[place % len(outcomes)], **fields) for place in range(count)]


def verdict_on(rows: Sequence[Interaction], task=ROUTING, **drift):
    return judged(rows, vectors(rows, **drift), task)[0]


def test_answers_that_got_worse_and_were_corrected_call_for_training():
    verdict = verdict_on(
        answers(100, ("approved",) * 6 + ("corrected",)) + answers(100, ("approved", "corrected"), 100)
    )
    assert (verdict.kind, verdict.remedy) == ("outcomes", "retrain")
    assert "from 14% (14 of 100) to 50% (30 of 60)" in verdict.reasons[0]


def test_a_window_is_not_certain_before_others_are_flagged_too():
    rows = answers(100, ("approved",)) + answers(60, ("approved",), 100) + answers(40, ("corrected",), 160)
    [uncertain, _] = verdict_on(rows[:180]).reasons
    assert uncertain == "not certain yet: outcomes were flagged in 1 of the last windows, and 2 of 3 are needed"
    assert verdict_on(rows).kind == "outcomes"


def test_failures_are_no_ratings_so_that_fresh_unrated_windows_do_not_look_bad():
    rows = answers(100, ("approved",)) + answers(100, ("unrated",) * 19 + ("failed",), 100)
    assert verdict_on(rows).kind is None


def test_many_failures_are_drift_that_training_does_not_mend():
    verdict = verdict_on(answers(100, ("approved",)) + answers(100, ("approved", "failed"), 100))
    assert (verdict.kind, verdict.remedy) == ("failures", "none")


def test_new_questions_without_ratings_call_for_labels_of_the_newest_kind():
    rows = answers(200, ("unrated",))
    rows = [replace(each, question=f"q{number}") for number, each in enumerate(rows)]
    verdict = verdict_on(rows, shift=8.0, shifted=range(100, 200, 2))
    assert (verdict.kind, verdict.remedy) == ("questions", "label")
    assert verdict.to_label
    assert len(verdict.to_label) <= TO_LABEL
    assert {int(each.answer_id[1:]) % 2 for each in verdict.to_label[:1]} == {0}


def test_answers_that_users_disliked_without_a_correction_are_to_be_labelled_first():
    rows = answers(100, ("approved",)) + answers(100, ("approved", "disapproved", "unrated"), 100)
    verdict = verdict_on(rows)
    assert verdict.remedy == "label"
    assert {each.outcome for each in verdict.to_label} == {"disapproved"}
    assert verdict.to_label[0].answer_id == "a00197"


def test_other_labels_are_noticed():
    rows = answers(100, ("approved",)) + answers(100, ("approved",), 100, answer="returns")
    assert verdict_on(rows).kind == "answers"


def test_sources_that_fit_worse_call_for_documents():
    rows = [row(place, score=0.7 - place % 7 / 100 - 0.2 * (place >= 100), task="support") for place in range(200)]
    verdict = verdict_on(rows, SUPPORT)
    assert (verdict.kind, verdict.remedy) == ("sources", "index")


def test_questions_that_are_declined_call_for_documents():
    rows = [row(place, score=0.5, task="support") for place in range(200)]
    rows = [replace(each, declined=place % 3 == 0 and place >= 100) for place, each in enumerate(rows)]
    verdict = verdict_on(rows, SUPPORT)
    assert (verdict.kind, verdict.remedy) == ("declined", "index")
    assert "declined questions went from 0% (0 of 100) to 33%" in verdict.reasons[0]


def test_only_what_makes_sense_for_a_task_is_tested():
    rows = answers(160, ("approved",))
    for task, more in ((ROUTING, ["answers"]), (SUPPORT, ["sources", "declined"])):
        _, examined = judged(rows, vectors(rows), task)
        assert [column.kind for column in examined.columns] == ["questions", "outcomes", "failures", *more]
        assert {column.threshold for column in examined.columns} == {POLICY.alpha / (3 + len(more))}


def test_a_follow_up_is_a_repeat_only_after_the_same_turn():
    """Ten users ask "And for my wife?" six times each, and dislike half of the answers."""
    found = []
    for subjects in (1, 6):
        rows = answers(100, ("approved",) * 9 + ("corrected",)) + answers(60, ("approved", "corrected"), 100)
        for place in range(100, 160):
            earlier = Turn(role="user", text=f"What about insurance {place // 10 % subjects}?")
            rows[place] = replace(
                rows[place], user=f"u{(place + place // 10) % 10}", question="And for my wife?", history=(earlier,)
            )
        _, examined = judged(rows, vectors(rows))
        [score] = [each.p_value for each in examined.findings()[0] if each.kind == "outcomes"]
        found.append(score)
    same, different = found
    assert different < same


def test_one_user_who_dislikes_everything_is_no_drift():
    rows = answers(100, ("approved",)) + answers(100, ("approved",), 100)
    alone = [replace(each, user="u", outcome="corrected") if place >= 150 else each for place, each in enumerate(rows)]
    assert verdict_on(alone).kind is None
    many = [replace(each, outcome="corrected") if place >= 150 else each for place, each in enumerate(rows)]
    assert verdict_on(many).remedy == "retrain"


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (1 / 60, "1 minute, less than a day"),
        (0.25, "15 minutes, less than a day"),
        (30, "30 hours, less than a week"),
        (168, None),
    ],
)
def test_a_reference_that_is_shorter_than_a_cycle_is_reported(hours, words):
    rows = [replace(row(place), answered_at=START + timedelta(hours=hours * place)) for place in range(2)]
    assert (
        (short_reference(rows) or "").startswith(f"the reference covers {words}")
        if words
        else not short_reference(rows)
    )


def test_hours_that_the_reference_has_not_seen_start_no_training():
    """The reference is of one morning; what was asked at night is not compared with it."""
    rows = answers(100, ("approved",)) + answers(100, ("corrected",), 100)
    night = [replace(each, answered_at=START + timedelta(hours=16, seconds=place)) for place, each in enumerate(rows)]
    verdict = verdict_on([*rows[:100], *night[100:]])
    assert (verdict.kind, verdict.remedy) == (None, "none")
    assert "100 of 100 current answers are from hours that the reference has not seen" in verdict.reasons
    assert verdict_on(rows).remedy == "retrain"
