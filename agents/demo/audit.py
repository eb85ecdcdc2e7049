"""Checks afterwards that every answer came from the adapter that was released for it.

An answer names its release and its adapter. There are three checks. The release states on promotions.v1 say which
adapter should have answered. The adapters' hashes say whether their files are what was validated. Where two adapters
answered a message differently, an engine outside the fleet answers it with both, and the text shows which one it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agents.answerer.routing import choose_arm
from agents.demo.customers import Exchange
from schemas.promotions import ReleaseEvent
from schemas.questions import AnswerProduced

Generate = Callable[[str | None, Sequence[str]], list[str]]
"""An adapter's greedy answers to messages of the task."""


@dataclass
class Audit:
    """``wrong``: answer ids with why. ``checked``: answers held against the release. ``probed``: answers whose text
    was held against what each adapter says.
    """

    wrong: dict[str, str] = field(default_factory=dict)
    checked: int = 0
    probed: int = 0


def audit(
    exchanges: Sequence[Exchange],
    releases: Sequence[ReleaseEvent],
    damaged: Mapping[str, str],
    generate: Generate,
    *,
    most_probes: int = 48,
) -> Audit:
    """Audits the answers. ``damaged``: adapters whose files do not match their id, with the reason."""
    answers = [each.answer for each in exchanges if isinstance(each.answer, AnswerProduced)]
    found = Audit(checked=len(answers))
    by_sequence = {release.sequence: release for release in releases}
    for answer in answers:
        reason = _against_release(answer, by_sequence, damaged)
        if reason is not None:
            found.wrong[answer.answer_id] = reason
    _probe(found, _answered_differently(answers)[:most_probes], generate)
    return found


def _against_release(
    answer: AnswerProduced, by_sequence: Mapping[int, ReleaseEvent], damaged: Mapping[str, str]
) -> str | None:
    release = by_sequence.get(answer.release_sequence)
    if release is None and answer.release_sequence > 0:
        return f"release {answer.release_sequence} was never announced"
    choice = choose_arm(release, answer.user or answer.answer_id)
    if (choice.adapter_id, choice.arm) != (answer.adapter_id, answer.arm):
        return f"release {answer.release_sequence} gives this user {choice.adapter_id or 'the base model'}"
    return damaged.get(answer.adapter_id or "")


def _answered_differently(answers: Sequence[AnswerProduced]) -> list[AnswerProduced]:
    """Answers to messages that several adapters answered, and not all in the same way."""
    by_message: dict[str, list[AnswerProduced]] = defaultdict(list)
    for answer in answers:
        by_message[answer.question].append(answer)
    differing = [
        alike
        for alike in by_message.values()
        if len({each.adapter_id for each in alike}) > 1 and len({each.text for each in alike}) > 1
    ]
    return [answer for alike in differing for answer in alike]


def _probe(found: Audit, answers: Sequence[AnswerProduced], generate: Generate) -> None:
    adapters = sorted({answer.adapter_id for answer in answers}, key=str)
    questions = list(dict.fromkeys(answer.question for answer in answers))
    texts = {adapter: dict(zip(questions, generate(adapter, questions), strict=True)) for adapter in adapters}
    found.probed = len(answers)
    for answer in answers:
        # A text that no adapter gives comes from rounding in its batch. A text that another adapter gives is the fault.
        others = {each: texts[each][answer.question] for each in adapters if each != answer.adapter_id}
        if answer.text != texts[answer.adapter_id][answer.question] and answer.text in others.values():
            theirs = next(each for each, text in others.items() if text == answer.text)
            found.wrong.setdefault(answer.answer_id, f"its text is that of {theirs or 'the base model'}")
