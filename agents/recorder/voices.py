"""Decides whose word counts, where several raters judged one answer.

Each rater's newest word is kept. The row gets the rating and the correction of the most trusted rater, and among equals
the newest. That depends on the words alone, and not on the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, get_args

from schemas.features import UNKNOWN_RATER, Feedback, Interaction, Stamp, Trust, rater_name
from schemas.interactions import FeedbackGiven, InteractionOutcome, Rating
from schemas.words import comparable, composed, label_of, spaced

T = TypeVar("T")
_RANKS = {trust: rank for rank, trust in enumerate(get_args(Trust))}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the configuration says about feedback."""

    reviewers: Collection[str] = ()
    """Users whose word weighs more than that of the user who asked."""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The labels of each task that has any."""

    def labels_of(self, row: Interaction) -> Sequence[str]:
        """Returns the labels of the row's task, none where any text is an answer."""
        return self.labels.get(row.task, ()) if row.task is not None else ()


@dataclass(frozen=True, kw_only=True)
class _Claim(Generic[T]):
    """One rater's rating, correction or reason."""

    value: T
    stamp: Stamp
    by: tuple[str, str]
    trust: Trust

    @property
    def weight(self) -> tuple[int, Stamp]:
        return -_RANKS[self.trust], self.stamp


def key_of(given: FeedbackGiven) -> tuple[str, str]:
    """Returns the source and the rater: of each pair the newest word counts."""
    return given.source or "user", rater_name(given.user, given.session)


def heard(word: Feedback | None, given: FeedbackGiven, stamp: Stamp) -> Feedback:
    """Returns a rater's word with one more event. A later rating does not erase an earlier correction."""
    source, rater = key_of(given)
    word = word or Feedback(answer_id=given.answer_id, source=source, rater=rater)  # type: ignore[arg-type]  # a source
    if not _is_later(stamp, word.retraction_stamp):
        return word
    changes: dict[str, Any] = {}
    if given.retract:
        changes["retraction_stamp"] = stamp
        for name in ("rating", "correction", "reason"):
            said: Stamp | None = getattr(word, f"{name}_stamp")
            if said is not None and said < stamp:
                changes |= {name: None, f"{name}_stamp": None}
    if given.rating is not None and _is_later(stamp, word.rating_stamp):
        changes |= {"rating": given.rating, "rating_stamp": stamp}
    if given.correction is not None and _is_later(stamp, word.correction_stamp):
        changes |= {"correction": composed(given.correction), "correction_stamp": stamp}
    if given.reason is not None and _is_later(stamp, word.reason_stamp):
        changes |= {"reason": given.reason, "reason_stamp": stamp}
    return replace(word, **changes) if changes else word


def trust_of(word: Feedback, row: Interaction, reviewers: Collection[str]) -> Trust:
    """Says how much a rater's word on this answer weighs.

    ``reviewer`` as the source of an event counts by itself: there is no access control, so that whoever may write to
    the topic could as well take the name of a reviewer.
    """
    if word.source == UNKNOWN_RATER:
        return "unknown"
    if word.source == "reviewer" or (word.source == "user" and word.rater in reviewers):
        return "reviewer"
    if word.source == "application":
        return "application"
    if not word.rater:
        return "anonymous"
    asked = row.answer_stamp is not None and word.rater == rater_name(row.user, row.session)
    return "owner" if asked else "other"


def decided(row: Interaction, words: Iterable[Feedback], rules: Rules) -> dict[str, Any]:
    """Returns the row's fields that say what counts of the raters' words.

    - Of ratings, of corrections and of reasons the most trusted rater's counts, and among equals the newest.
    - A correction that says the same as the answer is an approval.
    - A correction does not count if somebody else of more weight approves the answer.
    - Users who judge somebody else's answer are heard only where nobody more trusted rated or corrected it.
    """
    labels = rules.labels_of(row)
    ratings: list[_Claim[Rating]] = []
    corrections: list[_Claim[str]] = []
    reasons: list[_Claim[str]] = []
    for word in words:
        trust = trust_of(word, row, rules.reviewers)
        by = (word.source, word.rater)
        approved_at = None
        if word.correction is not None and word.correction_stamp is not None:
            if _says_the_same(word.correction, row.answer, labels):
                approved_at = word.correction_stamp
            else:
                corrections.append(_Claim(value=word.correction, stamp=word.correction_stamp, by=by, trust=trust))
        if approved_at is not None and (word.rating_stamp is None or word.rating_stamp <= approved_at):
            ratings.append(_Claim(value="up", stamp=approved_at, by=by, trust=trust))
        elif word.rating is not None and word.rating_stamp is not None:
            ratings.append(_Claim(value=word.rating, stamp=word.rating_stamp, by=by, trust=trust))
        if word.reason is not None and word.reason_stamp is not None:
            reasons.append(_Claim(value=word.reason, stamp=word.reason_stamp, by=by, trust=trust))
    best = max([each.weight[0] for each in ratings] + [each.weight[0] for each in corrections], default=None)

    def weightiest(claims: Sequence[_Claim[T]]) -> _Claim[T] | None:
        counting = (each for each in claims if each.trust != "other" or best in (None, each.weight[0]))
        return max(counting, key=lambda each: each.weight, default=None)

    rating, correction, reason = weightiest(ratings), weightiest(corrections), weightiest(reasons)
    if rating is not None and correction is not None and _overrules(rating, correction):
        correction = None
    return {
        **_fields("rating", rating, "rated_by", "rating_trust"),
        **_fields("correction", correction, "corrected_by", "correction_trust"),
        **_fields("reason", reason),
    }


def outcome_of(row: Interaction, given: Mapping[str, Any], labels: Sequence[str]) -> InteractionOutcome:
    """Returns the outcome of a question, as far as it is known. ``given``: what counts of its feedback.

    A correction that is no label of the task says that the answer was bad, but not which one is right.
    """
    if row.answer_stamp is None:
        return "pending"
    if row.failure is not None:
        return "failed"
    if (correction := given.get("correction")) is not None:
        return "corrected" if not labels or label_of(correction, labels) is not None else "disapproved"
    if (rating := given.get("rating")) is None:
        return "unrated"
    return "approved" if rating == "up" else "disapproved"


def _overrules(rating: _Claim[Rating], correction: _Claim[str]) -> bool:
    """Whether somebody else of more weight than the corrector approves the answer."""
    return rating.value == "up" and rating.by != correction.by and rating.weight > correction.weight


def _says_the_same(correction: str, answer: str | None, labels: Sequence[str]) -> bool:
    """Whether a correction is the answer. Case matters only where answers are free text."""
    same: Callable[[str], str] = comparable if labels else spaced
    return answer is not None and same(correction) == same(answer)


def _fields(name: str, claim: _Claim[Any] | None, by: str | None = None, trust: str | None = None) -> dict[str, Any]:
    fields = {name: claim.value if claim else None, f"{name}_stamp": claim.stamp if claim else None}
    if by is not None and trust is not None:
        fields |= {by: claim.by[1] or None if claim else None, trust: claim.trust if claim else None}
    return fields


def _is_later(stamp: Stamp, than: Stamp | None) -> bool:
    return than is None or stamp > than
