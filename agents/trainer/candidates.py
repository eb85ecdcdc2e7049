"""Makes candidates for a dataset of corrections, approved answers and examples, with whose word each of them is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Literal, get_args

from schemas.datasets import DatasetRow, QuarantinedRow, QuarantineReason, RowOrigin, input_key
from schemas.documents import DEFAULT_TENANT
from schemas.features import UNKNOWN_RATER, Example, Interaction, Trust
from schemas.tasks import Task
from schemas.words import composed, label_of

Document = tuple[str, str]
"""A document's tenant and id."""
Circle = Literal["trusted", "named", "anonymous"]
"""Who may have how much of a dataset: examples and reviewers as much as they like, users a share each, and all who give
no name a share of their own."""

_RANKS: Final = {trust: rank for rank, trust in enumerate(get_args(Trust))}
_NAMELESS: Final = ("anonymous", "unknown")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row that may come into the dataset. ``kept``: the champion was trained on it, or held it out."""

    row: DatasetRow
    kept: bool = False

    @property
    def rank(self) -> int:
        """How far the word is trusted; 0 is the most. An example counts like a reviewer's word."""
        return 0 if self.row.origin == "example" else _RANKS.get(str(self.row.trust), len(_RANKS))

    @property
    def unit(self) -> str:
        """Whose word it is. All examples are one voice, and so are all who name neither user nor session.

        A reviewer is another voice than a user of that name, so that no user's later word takes a reviewer's place.
        """
        if self.row.origin == "example":
            return "example"
        return f"{'reviewer' if self.row.trust == 'reviewer' else 'by'} {self.row.user or ''}"

    @property
    def is_somebodys(self) -> bool:
        """Whether the word is that of one person, who can be held to a share and a pace."""
        return self.circle != "trusted" and bool(self.row.user)

    @property
    def circle(self) -> Circle:
        if self.rank == 0:
            return "trusted"
        user = self.row.user or ""
        nameless = not user or user.startswith("session:") or self.row.trust in _NAMELESS
        return "anonymous" if nameless else "named"

    def quarantined(self, reason: QuarantineReason, detail: str = "") -> QuarantinedRow:
        return QuarantinedRow(reason=reason, row=self.row, detail=detail)


def candidates_of(task: Task, interactions: Iterable[Interaction], examples: Iterable[Example]) -> Iterator[Candidate]:
    """Yields a candidate for each corrected or approved answer and each example; the splits are not decided yet."""
    for answer in interactions:
        row = taught_by(task, answer)
        if row is not None:
            yield Candidate(row=row)
    for example in examples:
        yield Candidate(row=example_row(task, example))


def in_turn(answers: Sequence[Interaction], most: int) -> list[Interaction]:
    """Returns at most so many of these answers, in their order. Those whose word it is take turns, each from the first.

    So whoever gives more feedback than a training can use pushes out only what is their own.
    """
    given: Counter[str | None] = Counter()
    turns: list[tuple[int, int]] = []
    for place, answer in enumerate(answers):
        who = _speaker(answer)
        turns.append((given[who], place))
        given[who] += 1
    return [answers[place] for place in sorted(place for _, place in sorted(turns)[:most])]


def example_row(task: Task, example: Example) -> DatasetRow:
    """Returns the row of an example. A golden one is of the golden set."""
    row = _row(task, example.input, example.output, "example", example.example_id, example.submitted_at)
    why = f"example from {example.origin}" if example.origin else "example"
    return replace(row, why=why, split="golden" if example.golden else "train")


def without(row: DatasetRow, withdrawn: frozenset[Document]) -> DatasetRow:
    """Returns the row without the sources that are of withdrawn documents."""
    if not row.sources:
        return row
    standing = tuple(each for each in row.sources if document_of(row, each) not in withdrawn)
    return row if len(standing) == len(row.sources) else replace(row, sources=standing)


def documents_of(rows: Iterable[DatasetRow]) -> list[Document]:
    """Returns the documents that the rows' prompts cite, each once."""
    return sorted({document_of(row, source) for row in rows for source in row.sources})


def document_of(row: DatasetRow, source: dict[str, Any]) -> Document:
    """Returns a source's document. A row of an earlier version does not name its tenant, and then it is the default."""
    return (row.tenant or DEFAULT_TENANT, str(source.get("document_id") or ""))


def _speaker(answer: Interaction) -> str | None:
    """Returns whose word an answer's correction, or else its rating, is; None for somebody without a name.

    A user's feedback that names nobody mostly comes from who asked, who stands in for the rater; a reviewer's does not.
    """
    corrected = answer.correction is not None
    rater = answer.corrected_by if corrected else answer.rated_by
    trust = answer.correction_trust if corrected else answer.rating_trust
    named = rater and rater != UNKNOWN_RATER
    return (rater if named or trust == "reviewer" else answer.asker) or None


def taught_by(task: Task, answer: Interaction) -> DatasetRow | None:
    """Returns the row that an answer's correction or approval makes; None if nothing is to be learned from it."""
    question, tenant = answer.question or "", answer.tenant
    origin: RowOrigin
    if answer.correction is not None and answer.correction_stamp is not None:
        origin, output, at = "correction", answer.correction, answer.correction_stamp.time
        trust = answer.correction_trust
        if answer.outcome != "corrected":
            return None  # the correction is no label of the task
    elif answer.declined:
        return None  # no model wrote that answer, so its approval teaches nothing
    elif answer.outcome == "approved" and answer.answer is not None and answer.rating_stamp is not None:
        origin, output, at = "approved", answer.answer, answer.rating_stamp.time
        trust = answer.rating_trust
    else:
        return None
    row = _row(task, question, output, origin, answer.answer_id, at, answer)
    user = _speaker(answer)
    said = "corrected" if origin == "correction" else "approved"
    why = f"{said} by {user or 'somebody without a name'} ({trust or 'unknown'})"
    return replace(row, user=user, tenant=tenant, trust=trust or "unknown", why=why)


def _row(
    task: Task,
    text: str,
    output: str,
    origin: RowOrigin,
    origin_id: str,
    at: datetime,
    served: Interaction | None = None,
) -> DatasetRow:
    output = label_of(output, task.labels) or composed(output.strip())
    history = served.history if served is not None else ()
    return DatasetRow(
        row_id=sha256(f"{task.name}\x1f{input_key(text, history)}\x1f{output}".encode()).hexdigest()[:32],
        input=text,
        output=output,
        origin=origin,
        origin_id=origin_id,
        at=at,
        split="train",
        sources=served.sources if task.retrieval and served is not None else (),
        history=history,
    )
