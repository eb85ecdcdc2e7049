"""Decides whether an adapter may be released. It must be significantly better on its task, and no worse elsewhere.

Each check gives a sentence with its figures. The adapter is accepted when all checks pass.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.validator.significance import permutation_test, sign_test
from schemas.policies import ValidatorPolicy
from schemas.words import comparable

HARM_CHANCE = 0.2
"""A fall on the retention suite counts if its p-value is at most this.

It is laxer than the level for a gain: to keep what was learned matters more, so weak evidence of harm is enough.
"""
CLEAR = 0.005
"""The permutation test runs only if perfect answers would reach this p-value. On fewer rows it would find nothing."""
MOSTLY_KEPT = 0.6
"""The test does not run either if a permutation would leave more than this share of the right answers in place.

If nearly all rows have the same right answer, shuffled labels do little harm, and the other checks show what they do.
"""


@dataclass(frozen=True, kw_only=True)
class PairedScores:
    """The scores, 0 to 1, of the candidate and of the reference (champion or base model) on the same rows."""

    candidate: tuple[float, ...]
    reference: tuple[float, ...]

    @property
    def rows(self) -> int:
        return len(self.candidate)

    @property
    def gain(self) -> float:
        """The difference of the means; 0 without rows."""
        return mean(self.candidate) - mean(self.reference)

    @property
    def better(self) -> int:
        return sum(new > old for new, old in zip(self.candidate, self.reference, strict=True))

    @property
    def worse(self) -> int:
        return sum(new < old for new, old in zip(self.candidate, self.reference, strict=True))


@dataclass(frozen=True, kw_only=True)
class LabelledAnswers:
    """The candidate's answers to fresh held-out rows whose right answers people wrote, all of one origin."""

    origin: str
    answers: tuple[str, ...]
    right: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the evaluation measured. ``general_*`` are losses on general text, in nats per token."""

    metric: str
    reference: str
    """Either "the champion" or "the base model"."""
    current: PairedScores
    retention: PairedScores
    labelled: tuple[LabelledAnswers, ...]
    general_candidate: float
    general_base: float


@dataclass(frozen=True, kw_only=True)
class GateFinding:
    """What one check found, in one sentence."""

    passed: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """The findings of all checks. ``reasons`` are the sentences of those that failed."""

    findings: tuple[GateFinding, ...]

    @property
    def accepted(self) -> bool:
        return all(finding.passed for finding in self.findings)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(finding.sentence for finding in self.findings if not finding.passed)


def decide(evidence: Evidence, policy: ValidatorPolicy) -> GateVerdict:
    """Returns the verdict on what the evaluation measured."""
    if not evidence.current.rows:
        return rejected("the dataset has no held-out rows: nothing says that the adapter is better")
    checks = (
        _gain(evidence, policy),
        *_fit(evidence, policy),
        _retention(evidence, policy),
        _general(evidence, policy),
    )
    return GateVerdict(findings=checks)


def rejected(*sentences: str) -> GateVerdict:
    """Returns the verdict on an adapter that could not be evaluated."""
    return GateVerdict(findings=tuple(GateFinding(passed=False, sentence=sentence) for sentence in sentences))


def mean(scores: Sequence[float]) -> float:
    """Returns 0 without scores."""
    return sum(scores) / len(scores) if scores else 0.0


def _gain(evidence: Evidence, policy: ValidatorPolicy) -> GateFinding:
    current = evidence.current
    by_chance = sign_test(current.better, current.worse)
    large = current.gain >= policy.min_gain - 1e-9
    sentence = (
        f"{evidence.metric} is {mean(current.candidate):.3f} on {_rows(current.rows)} held out, against "
        f"{mean(current.reference):.3f} of {evidence.reference}: {current.gain:+.3f}, where {policy.min_gain:+.3f} is "
        f"needed; better on {current.better} and worse on {current.worse}, which chance alone does in "
        f"{_often(by_chance)} of cases, where {policy.chance:.0%} are allowed"
    )
    return GateFinding(passed=large and by_chance <= policy.chance, sentence=sentence)


def _fit(evidence: Evidence, policy: ValidatorPolicy) -> Iterator[GateFinding]:
    """Checks that the answers follow from the inputs. Shuffled labels teach only how frequent each label is."""
    for labelled in evidence.labelled:
        counts = Counter(map(comparable, labelled.right))
        kept = sum((count / len(labelled.right)) ** 2 for count in counts.values())
        if kept > MOSTLY_KEPT or permutation_test(evidence.metric, labelled.right, labelled.right) > CLEAR:
            continue
        by_chance = permutation_test(evidence.metric, labelled.answers, labelled.right)
        sentence = (
            f"on {_rows(len(labelled.right))} that come from {labelled.origin}s, right answers dealt out at random "
            f"would fit as well in {_often(by_chance)} of cases, where {policy.chance:.0%} are allowed"
        )
        yield GateFinding(passed=by_chance <= policy.chance, sentence=sentence)


def _retention(evidence: Evidence, policy: ValidatorPolicy) -> GateFinding:
    kept = evidence.retention
    if not kept.rows:
        return GateFinding(passed=True, sentence="there is no retention suite yet: no earlier adapter was validated")
    by_chance = sign_test(kept.worse, kept.better)
    fell = -kept.gain > policy.max_drop + 1e-9
    sentence = (
        f"{evidence.metric} is {mean(kept.candidate):.3f} on {_rows(kept.rows)} of the retention suite, against "
        f"{mean(kept.reference):.3f} of {evidence.reference}: {kept.gain:+.3f}, where {-policy.max_drop:+.3f} is "
        f"allowed; worse on {kept.worse} and better on {kept.better}, which chance alone does in {_often(by_chance)} "
        f"of cases, and a larger fall counts below {HARM_CHANCE:.0%}"
    )
    return GateFinding(passed=not (fell and by_chance <= HARM_CHANCE), sentence=sentence)


def _general(evidence: Evidence, policy: ValidatorPolicy) -> GateFinding:
    if not math.isfinite(evidence.general_candidate):
        overflow = "the loss on general text is no number: the adapter's weights are too large to compute with"
        return GateFinding(passed=False, sentence=overflow)
    rise = evidence.general_candidate - evidence.general_base
    sentence = (
        f"the loss on general text is {evidence.general_candidate:.3f} nats per token, against "
        f"{evidence.general_base:.3f} of the base model: {rise:+.3f}, where {policy.max_general_loss:+.3f} is allowed"
    )
    return GateFinding(passed=rise <= policy.max_general_loss + 1e-9, sentence=sentence)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _often(chance: float) -> str:
    return f"{chance:.2%}" if chance >= 0.0001 else "less than 0.01%"
