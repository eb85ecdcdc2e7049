"""Whose word counts: per rater the newest, among raters the most trusted, in whatever order the words come."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Iterable
from typing import Any, get_args

import pytest

from agents.recorder.features import MOST_RATERS, Question, merge
from agents.recorder.voices import Rules
from schemas.envelope import Received
from schemas.event import Event
from schemas.features import Feedback, Interaction, Stamp, Trust
from schemas.interactions import FeedbackSource, Rating
from tests.agents.recorder.facts import START, answer, failure, feedback

RULES = Rules(reviewers={"rita"}, labels={"routing": ("billing", "card café")})
ANSWER = answer("30 days.", at=1)


def asked(facts: Iterable[Received[Any]], rules: Rules = RULES) -> Question:
    question: Question | None = None
    for fact in facts:
        question = merge(question, fact, rules)
    assert question is not None
    return question


def merged(*facts: Received[Any]) -> Interaction:
    rows = {repr(asked(order).row) for order in itertools.permutations(facts)}
    assert len(rows) == 1
    return asked(facts).row


SPEAKERS: dict[Trust, dict[str, Any]] = {
    "reviewer": {"user": "rita"},
    "owner": {"user": "user-8"},
    "application": {"user": "user-8", "source": "application"},
    "anonymous": {"user": None},
    "other": {"user": "eve"},
}


def test_each_class_of_trust_is_told_by_who_speaks():
    assert [*SPEAKERS, "unknown"] == list(get_args(Trust))
    for trust, speaker in SPEAKERS.items():
        row = merged(ANSWER, feedback("down", correction="60 days.", **speaker))
        assert (row.rating_trust, row.correction_trust, row.outcome) == (trust, trust, "corrected")
        assert row.rated_by == row.corrected_by == speaker["user"]
    claimed = merged(ANSWER, feedback("down", user=None, source="reviewer"))
    assert (claimed.rated_by, claimed.rating_trust) == (None, "reviewer")
    assert merged(ANSWER, feedback("down", user="rita", source="application")).rating_trust == "application"
    assert merged(feedback("up"), failure()).rating_trust == "owner"


@pytest.mark.parametrize(("more", "less"), list(itertools.pairwise(SPEAKERS)))
def test_the_more_trusted_word_counts_though_it_is_older(more: Trust, less: Trust):
    row = merged(
        ANSWER,
        feedback("up", at=2, event_id="b1", **SPEAKERS[more]),
        feedback("down", correction="60 days.", at=3, event_id="b2", **SPEAKERS[less]),
    )
    assert (row.outcome, row.rating, row.rating_trust, row.correction) == ("approved", "up", more, None)
    row = merged(
        ANSWER,
        feedback("down", correction="60 days.", at=2, event_id="b1", **SPEAKERS[more]),
        feedback("up", at=3, event_id="b2", **SPEAKERS[less]),
    )
    assert (row.outcome, row.rating, row.corrected_by) == ("corrected", "down", SPEAKERS[more]["user"])


def test_a_correction_stands_beside_a_more_trusted_complaint_but_not_that_of_a_stranger():
    complaint = feedback("down", at=2, event_id="b1", user="rita")
    own = merged(ANSWER, complaint, feedback(correction="60 days.", at=3, event_id="b2"))
    assert (own.outcome, own.rating_trust, own.correction_trust) == ("corrected", "reviewer", "owner")
    other = merged(ANSWER, complaint, feedback(correction="0 days.", reason="ha", at=3, event_id="b2", user="eve"))
    assert (other.outcome, other.correction, other.reason) == ("disapproved", None, None)


def test_among_equals_the_newest_word_counts():
    rules = Rules(reviewers={"rita", "rob"})
    facts = [
        ANSWER,
        feedback(correction="60 days.", at=2, event_id="b1", user="rita"),
        feedback("up", at=3, event_id="b2", user="rob"),
    ]
    assert asked(facts, rules).row.outcome == "approved"
    assert asked([*facts, feedback(correction="9 days.", at=4, event_id="b3", user="rita")], rules).row.outcome == (
        "corrected"
    )


def test_sixty_votes_of_one_person_on_answers_of_others_are_one_unit():
    rows = [
        asked([answer(answer_id=f"q{n}"), feedback("up", answer_id=f"q{n}", user="eve", event_id=f"b{n}")]).row
        for n in range(60)
    ]
    assert {row.rater for row in rows} == {"eve"}
    assert merged(ANSWER, feedback(correction="60 days.", user="eve")).rater == "eve"
    assert merged(ANSWER, feedback("up", user="rita")).rater == "user-8"
    assert merged(ANSWER, feedback("up", user="eve", at=9), feedback("up", event_id="c")).rater == "user-8"


def test_a_session_stands_in_for_a_user():
    in_session = answer()
    event = in_session.event.model_copy(update={"user": None, "session": "s1"})
    asked_there = Received(event=event, context=in_session.context, position=in_session.position)
    mine = merged(asked_there, feedback("up", user=None, session="s1"))
    assert (mine.rated_by, mine.rating_trust, mine.rater) == ("session:s1", "owner", "session:s1")
    other = merged(asked_there, feedback("up", user=None, session="s2"))
    assert (other.rating_trust, other.rater) == ("other", "session:s2")
    assert merged(asked_there, feedback("up", user="ann")).rating_trust == "other"


def test_a_retraction_takes_back_what_is_older_than_it_and_nothing_of_others():
    down = feedback("down", correction="60 days.", reason="old", at=2, event_id="b1")
    row = merged(ANSWER, down, feedback(retract=True, at=3, event_id="b2"))
    assert (row.outcome, row.rating, row.correction, row.reason, row.rated_by) == ("unrated", None, None, None, None)
    again = merged(ANSWER, down, feedback(retract=True, at=3, event_id="b2"), feedback("up", at=4, event_id="b3"))
    assert (again.outcome, again.correction) == ("approved", None)
    for user, source in (("eve", None), (None, None), ("user-8", "application"), (None, "reviewer")):
        others = feedback(retract=True, at=3, event_id="b2", user=user, source=source)  # type: ignore[arg-type]
        assert merged(ANSWER, down, others).outcome == "corrected"
    # What a more trusted rater takes back leaves the word of the next.
    reviewed = merged(
        ANSWER,
        down,
        feedback("up", user="rita", at=3, event_id="b2"),
        feedback(retract=True, user="rita", at=4, event_id="b3"),
    )
    assert (reviewed.outcome, reviewed.correction_trust) == ("corrected", "owner")


def test_what_was_taken_back_is_not_kept():
    question = asked([feedback("down", correction="secret", reason="secret"), feedback(retract=True, at=3)])
    assert "secret" not in repr(question)


@pytest.mark.parametrize("correction", ["30 days.", " 30  days.\n"])
def test_a_correction_that_says_the_same_is_an_approval(correction: str):
    row = merged(ANSWER, feedback(correction=correction))
    assert (row.outcome, row.rating, row.rated_by, row.correction) == ("approved", "up", "user-8", None)
    assert merged(ANSWER, feedback("down", correction=correction)).outcome == "approved"
    later = feedback("down", at=3, event_id="c")
    assert merged(ANSWER, feedback(correction=correction), later).outcome == "disapproved"
    assert merged(ANSWER, feedback(correction="30 Days.")).outcome == "corrected", "in free text, case may be the fault"


def of_routing(text: str) -> Received[Event]:
    support = answer(text)
    event = support.event.model_copy(update={"task": "routing"})
    return Received(event=event, context=support.context, position=support.position)


def test_labels_are_compared_without_case_and_in_any_unicode_form():
    decomposed = unicodedata.normalize("NFD", "Card Café")
    row = merged(of_routing("billing"), feedback(correction=decomposed))
    assert (row.outcome, row.correction, row.has_unusable_correction) == ("corrected", "Card Café", False)
    assert merged(of_routing(decomposed), feedback(correction=" card CAFÉ ")).outcome == "approved"


def test_a_correction_that_is_no_label_says_that_the_answer_is_bad_and_teaches_nothing():
    row = merged(of_routing("billing"), feedback(correction="biling"))
    assert (row.outcome, row.correction, row.has_unusable_correction) == ("disapproved", "biling", True)
    assert not merged(of_routing("billing"), feedback("down")).has_unusable_correction


def random_fact(dice: random.Random, number: int) -> Received[Event]:
    at, event_id = float(dice.randrange(5)), f"{number}"
    if dice.random() < 0.25:
        return (
            failure(at=at, event_id=event_id)
            if dice.random() < 0.3
            else answer(dice.choice("xyz"), at=at, event_id=event_id)
        )
    sources: tuple[FeedbackSource | None, ...] = (None, None, "user", "reviewer", "application")
    speaker: dict[str, Any] = {
        "user": dice.choice(("user-8", "eve", "bob", "rita", None)),
        "source": dice.choice(sources),
    }
    if dice.random() < 0.2:
        return feedback(retract=True, at=at, event_id=event_id, **speaker)
    ratings: tuple[Rating | None, ...] = ("up", "down", None)
    given: dict[str, Any] = {
        "correction": dice.choice((None, None, "x", "c", "d")),
        "reason": dice.choice((None, "r", "s")),
    }
    rating = dice.choice(ratings) if any(given.values()) else dice.choice(ratings[:2])
    return feedback(rating, at=at, event_id=event_id, **given, **speaker)


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_many_raters_facts_gives_the_same_row_and_the_same_words(seed: int):
    dice = random.Random(seed)
    facts = [random_fact(dice, number) for number in range(14)]
    expected = asked(facts)
    for _ in range(40):
        dice.shuffle(facts)
        assert asked(facts) == expected


def test_of_very_many_raters_the_first_are_heard_and_strangers_silence_nobody_who_is_trusted_more():
    stamp = Stamp(time=START, event="b")
    strangers = [
        Feedback(answer_id="q-1", source="user", rater=f"u{number}", rating="down", rating_stamp=stamp)
        for number in range(MOST_RATERS)
    ]
    full = Question(row=asked([ANSWER]).row, words={(each.source, each.rater): each for each in strangers})

    def then(fact: Received[Any]) -> Question:
        return merge(full, fact, RULES)

    late = then(feedback("up", user="eve", at=9))
    assert late.words == full.words
    assert late.row.outcome == "disapproved"
    assert then(feedback("up", user="u7", at=9)).row.outcome == "approved", "one of them, with a new word"
    trusted: tuple[Trust, ...] = ("reviewer", "owner", "application", "anonymous")
    for speaker in trusted:
        row = then(feedback("up", at=9, **SPEAKERS[speaker])).row
        assert (row.outcome, row.rating_trust) == ("approved", speaker)
