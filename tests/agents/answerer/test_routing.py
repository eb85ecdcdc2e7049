"""Which arm answers: sticky, by the share, and by the newest state only."""

import pytest

from agents.answerer.routing import Choice, ReleaseStates, adapters_of, choose_arm, subject_of
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryAdvanced, CanaryStarted
from schemas.questions import QuestionAsked


def canary(share, *, salt="s1", sequence=1, stage="canary"):
    return CanaryStarted(
        task="support", sequence=sequence, champion="a1", challenger="a2", share=share, salt=salt, stage=stage
    )


def arms(state, count=4000):
    return [choose_arm(state, f"user-{number}").arm for number in range(count)]


def test_without_a_release_the_base_model_answers():
    assert choose_arm(None, "ada") == Choice(arm="champion", adapter_id=None, sequence=0)


def test_a_steady_release_gives_everybody_the_champion():
    state = AdapterPromoted(task="support", sequence=3, champion="a2", previous="a1", challenger="a9", share=1.0)
    assert choose_arm(state, "ada") == Choice(arm="champion", adapter_id="a2", sequence=3)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.25, 0.5, 1.0])
def test_the_challenger_gets_its_share_of_users(share):
    assert arms(canary(share)).count("challenger") / 4000 == pytest.approx(share, abs=0.02)


def test_a_user_stays_with_an_arm():
    assert arms(canary(0.3)) == arms(canary(0.3))


def test_a_growing_share_keeps_those_who_had_the_challenger():
    small, large = arms(canary(0.1)), arms(canary(0.4))
    assert all(after == "challenger" for before, after in zip(small, large, strict=True) if before == "challenger")


def test_another_salt_chooses_other_users():
    first, second = arms(canary(0.5)), arms(canary(0.5, salt="s2"))
    same = sum(one == other for one, other in zip(first, second, strict=True)) / 4000
    assert same == pytest.approx(0.5, abs=0.05)


def test_a_challenger_that_is_no_adapter_gets_nobody():
    state = CanaryStarted(task="support", sequence=1, champion="a1", stage="canary", share=1.0)
    assert choose_arm(state, "ada").adapter_id == "a1"


def test_a_choice_sticks_to_the_user_then_the_session_then_the_question():
    question = QuestionAsked(question_id="q", task="t", text="x", user="u", session="s")
    assert subject_of(question) == "u"
    assert subject_of(question.model_copy(update={"user": None})) == "s"
    assert subject_of(question.model_copy(update={"user": None, "session": None})) == "q"


def test_lower_and_equal_sequences_are_ignored():
    states = ReleaseStates()
    assert states.apply(canary(0.1, sequence=4))
    assert not states.apply(AdapterPromoted(task="support", sequence=4, champion="a2"))
    assert not states.apply(AdapterPromoted(task="support", sequence=3, champion="a2"))
    assert states.apply(CanaryAdvanced(task="support", sequence=6, champion="a1", challenger="a2", stage="canary"))
    assert states.apply(AdapterRolledBack(task="routing", sequence=1))
    assert {task: state.sequence for task, state in states.latest.items()} == {"support": 6, "routing": 1}


def test_only_the_adapters_that_may_be_asked_for_are_needed():
    assert adapters_of(canary(0.1)) == ("a1", "a2")
    assert adapters_of(AdapterPromoted(task="support", sequence=1, champion="a1", challenger="a2")) == ("a1",)
    assert adapters_of(AdapterRolledBack(task="support", sequence=1)) == ()
