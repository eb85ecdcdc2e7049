"""Gives questions of a file ids that are theirs alone, where the file's own ids are not."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence

from schemas.envelope import derived_id
from schemas.features import Interaction, rater_name, what_differs
from schemas.questions import QuestionAsked

_SMALL_INTEGER = re.compile(r"[0-9]{1,6}")
Find = Callable[[Sequence[str]], Mapping[str, Interaction]]
"""Returns the recorded questions with these ids."""


def unique_ids(questions: Sequence[QuestionAsked], find: Find) -> dict[str, str]:
    """Returns new ids for those that cannot be kept: small integers, and ids under which another question was asked.

    A new id depends on the old one and on the question. So the same file asked again asks the same questions again,
    under the same ids, and another file with the same ids asks others.
    """
    looked_up = [each.question_id for each in questions if not _is_uuid(each.question_id) and not _is_small(each)]
    recorded = find(looked_up) if looked_up else {}
    return {
        each.question_id: _own_id(each)
        for each in questions
        if _is_small(each) or (each.question_id in recorded and differs(recorded[each.question_id], each))
    }


def differs(row: Interaction, question: QuestionAsked) -> list[str]:
    """Names what of the question is not what the row's question has."""
    return what_differs(
        row,
        tenant=question.tenant,
        asker=rater_name(question.user, question.session),
        task=question.task,
        text=question.text,
    )


def _own_id(question: QuestionAsked) -> str:
    asker = rater_name(question.user, question.session)
    history = question.model_dump_json(include={"history"})
    return derived_id("ask", question.question_id, question.tenant, asker, question.task, question.text, history)


def _is_small(question: QuestionAsked) -> bool:
    return _SMALL_INTEGER.fullmatch(question.question_id) is not None


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
