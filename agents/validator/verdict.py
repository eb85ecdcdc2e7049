"""Decides whether an adapter may be released. It must be significantly better on its task, and no worse elsewhere.

"Better" is tested at a level that falls with the number of candidates that were judged on the same rows. Every other
check looks for harm, and fails on weak evidence of it.

Each check gives a sentence with its figures. The adapter is accepted when all checks pass.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.validator.metrics import RIGHT
from agents.validator.significance import (
    PERMUTATIONS,
    drop_test,
    level_of_try,
    permutation_test,
    share_test,
    sign_test,
)
from agents.validator.slices import Slice
from schemas.policies import ValidatorPolicy
from schemas.words import comparable

HARM_CHANCE = 0.2
"""Harm counts if its p-value is at most this: a fall on the retention suite, on the golden set or in any slice, and
right answers that turned wrong.

It is laxer than the level for a gain: to keep what was learned matters more, so weak evidence of harm is enough.
"""
CLEAR = 0.005
"""The permutation test runs only if perfect answers would reach this p-value. On fewer rows it would find nothing."""
MOSTLY_KEPT = 0.6
"""The test does not run either if a permutation would leave more than this share of the right answers in place.

If nearly all rows have the same right answer, shuffled labels do little harm, and the other checks show what they do.
"""


def is_flip(candidate: float, reference: float) -> bool:
    """Returns whether a right answer turned wrong."""
    return candidate < RIGHT <= reference


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
    def flips(self) -> int:
        """How many rows turned from right to wrong. Those that turned from wrong to right do not offset them."""
        return sum(map(is_flip, self.candidate, self.reference))

    def at(self, places: Sequence[int]) -> PairedScores:
        """Returns the scores of some rows."""
        return PairedScores(
            candidate=tuple(self.candidate[place] for place in places),
            reference=tuple(self.reference[place] for place in places),
        )

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
    golden: PairedScores = PairedScores(candidate=(), reference=())
    tries: int = 1
    """The number of the candidate among those that were judged on the same held-out rows, counted from 1."""
    right: frozenset[str] = frozenset()
    """The different right answers of all judged rows, in the form in which answers are compared."""
    slices: tuple[Slice, ...] = ()
    """Their places are those of ``together``."""
    divergence: float | None = None
    """KL(base || candidate) on the task's prompts, in nats per token. No check uses it."""

    @property
    def together(self) -> PairedScores:
        """The scores of all judged rows: held out, retention suite, golden set."""
        suites = (self.current, self.retention, self.golden)
        return PairedScores(
            candidate=tuple(score for suite in suites for score in suite.candidate),
            reference=tuple(score for suite in suites for score in suite.reference),
        )


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
    level = level_of_try(policy.chance, evidence.tries)
    checks = (
        _gain(evidence, policy, level),
        *_fit(evidence, level),
        *_one_answer(evidence),
        _retention(evidence, policy),
        *_golden(evidence),
        _flips(evidence, policy),
        *_slices(evidence, policy),
        _general(evidence, policy),
    )
    return GateVerdict(findings=checks)


def rejected(*sentences: str) -> GateVerdict:
    """Returns the verdict on an adapter that could not be evaluated."""
    return GateVerdict(findings=tuple(GateFinding(passed=False, sentence=sentence) for sentence in sentences))


def mean(scores: Sequence[float]) -> float:
    """Returns 0 without scores."""
    return sum(scores) / len(scores) if scores else 0.0


def slice_fails(scores: PairedScores, judged: int, policy: ValidatorPolicy) -> bool:
    """Returns whether a slice fell by more than is allowed, and by more than chance, as one of ``judged`` slices.

    The level is divided by their number (Bonferroni), so that many slices do not find harm by chance.
    """
    fell = -scores.gain > policy.max_slice_drop + 1e-9
    return fell and drop_test(scores.candidate, scores.reference, policy.max_slice_drop) <= HARM_CHANCE / judged


def _gain(evidence: Evidence, policy: ValidatorPolicy, level: float) -> GateFinding:
    current = evidence.current
    by_chance = sign_test(current.better, current.worse)
    large = current.gain >= policy.min_gain - 1e-9
    sentence = (
        f"{evidence.metric} is {mean(current.candidate):.3f} on {_rows(current.rows)} held out, against "
        f"{mean(current.reference):.3f} of {evidence.reference}: {current.gain:+.3f}, where {policy.min_gain:+.3f} is "
        f"needed; better on {current.better} and worse on {current.worse}, which chance alone does in "
        f"{_often(by_chance)} of cases, where {_often(level)} are allowed (try {evidence.tries} on these rows, and "
        f"{policy.chance:.0%} for all tries together)"
    )
    fewest = math.ceil(-math.log2(level))
    if current.rows < fewest:
        sentence += f"; no adapter can be better on so few rows: at least {fewest} must be held out"
    return GateFinding(passed=large and by_chance <= level, sentence=sentence)


def _fit(evidence: Evidence, level: float) -> Iterator[GateFinding]:
    """Checks that the answers follow from the inputs. Shuffled labels teach only how frequent each label is."""
    permutations = max(PERMUTATIONS, math.ceil(4 / level))
    for labelled in evidence.labelled:
        counts = Counter(map(comparable, labelled.right))
        kept = sum((count / len(labelled.right)) ** 2 for count in counts.values())
        if kept > MOSTLY_KEPT:
            continue
        perfect, by_chance = (
            permutation_test(evidence.metric, answers, labelled.right, permutations=permutations)
            for answers in (labelled.right, labelled.answers)
        )
        if perfect > CLEAR:
            continue
        allowed = max(level, perfect)  # perfect answers pass, however many tries there were
        sentence = (
            f"on {_rows(len(labelled.right))} that come from {labelled.origin}s, right answers dealt out at random "
            f"would fit as well in {_often(by_chance)} of cases, where {_often(allowed)} are allowed"
        )
        yield GateFinding(passed=by_chance <= allowed, sentence=sentence)


def _one_answer(evidence: Evidence) -> Iterator[GateFinding]:
    """Fails when an adapter that gives one answer to everything would look perfect."""
    if len(evidence.right) == 1 and evidence.together.rows > 1:
        (answer,) = evidence.right
        yield GateFinding(
            passed=False,
            sentence=f"the right answer of all {_rows(evidence.together.rows)} is {answer!r}: an adapter that says "
            "nothing else would look perfect; collect rows with other answers",
        )


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


def _golden(evidence: Evidence) -> Iterator[GateFinding]:
    golden = evidence.golden
    if not golden.rows:
        return
    by_chance = sign_test(golden.worse, golden.better)
    sentence = (
        f"{evidence.metric} is {mean(golden.candidate):.3f} on {_rows(golden.rows)} of the golden set, against "
        f"{mean(golden.reference):.3f} of {evidence.reference}; worse on {golden.worse} and better on "
        f"{golden.better}, which chance alone does in {_often(by_chance)} of cases, and a fall counts below "
        f"{HARM_CHANCE:.0%}"
    )
    yield GateFinding(passed=not (golden.gain < -1e-9 and by_chance <= HARM_CHANCE), sentence=sentence)


def _flips(evidence: Evidence, policy: ValidatorPolicy) -> GateFinding:
    judged = evidence.together
    by_chance = share_test(judged.flips, judged.rows, policy.max_flips)
    many = judged.flips > policy.max_flips * judged.rows + 1e-9
    sentence = (
        f"{judged.flips} of {_rows(judged.rows)} turned from right to wrong against {evidence.reference} "
        f"({judged.flips / judged.rows:.1%}), where {policy.max_flips:.1%} are allowed; a candidate that turns that "
        f"share has so many in {_often(by_chance)} of cases, and more flips count below {HARM_CHANCE:.0%}"
    )
    return GateFinding(passed=not (many and by_chance <= HARM_CHANCE), sentence=sentence)


def _slices(evidence: Evidence, policy: ValidatorPolicy) -> Iterator[GateFinding]:
    judged = [each for each in evidence.slices if each.is_judged]
    if not judged:
        return
    failed = False
    for each in judged:
        scores = evidence.together.at(each.places)
        if slice_fails(scores, len(judged), policy):
            failed = True
            yield GateFinding(
                passed=False,
                sentence=f"{evidence.metric} is {mean(scores.candidate):.3f} on {_rows(scores.rows)} of the "
                f"{each.kind} {each.name!r}, against {mean(scores.reference):.3f} of {evidence.reference}: "
                f"{scores.gain:+.3f}, where {-policy.max_slice_drop:+.3f} is allowed to each of {len(judged)} slices",
            )
    if not failed:
        yield GateFinding(
            passed=True,
            sentence=f"none of {len(judged)} slices by label, tenant and length is worse by more than "
            f"{policy.max_slice_drop:.3f} and by more than chance",
        )


def _general(evidence: Evidence, policy: ValidatorPolicy) -> GateFinding:
    if not math.isfinite(evidence.general_candidate):
        overflow = "the loss on general text is no number: the adapter's weights are too large to compute with"
        return GateFinding(passed=False, sentence=overflow)
    if not math.isfinite(evidence.general_base):
        unknown = "the base model's loss on general text is no number, so nothing says what the adapter spoils"
        return GateFinding(passed=False, sentence=unknown)
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
