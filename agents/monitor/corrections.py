"""Looks for the corrections of answers in the documents: is the model wrong, or has it not been given the facts?

A correction that agrees with a document that was not given to the model, because the document is newer or was not
found, asks for an index and not for a training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from agents.monitor.ports import DocumentSearch, DocumentVersions
from schemas.documents import DEFAULT_TENANT
from schemas.features import DocumentState, Interaction
from schemas.retrieval import Hit, Search
from schemas.words import FUNCTION_WORDS, words

MOST = 40
"""How many corrections are looked for at most: the latest."""
TOP_K = 5
_SHARE = 0.5
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, kw_only=True)
class CorrectionsFound:
    """Where corrections were found.

    ``checked``: how many were looked for. ``served``: found in what the model was given, so the model was wrong.
    ``newer``: found in a document that was submitted after the answer. ``missed``: found in an older document that the
    model was not given. ``documents``: those documents. ``problem``: why nothing could be looked for.
    """

    checked: int = 0
    served: int = 0
    newer: int = 0
    missed: int = 0
    documents: tuple[str, ...] = ()
    problem: str | None = None


def look_for(rows: Sequence[Interaction], search: DocumentSearch, versions: DocumentVersions) -> CorrectionsFound:
    """Looks for the latest corrections of these answers, the oldest first in ``rows``. Raises Unavailable."""
    corrected = [row for row in rows if row.correction and row.answered_at][-MOST:]
    searches = [
        Search(
            text=f"{row.asked} {row.correction}",
            tenant=row.tenant or DEFAULT_TENANT,
            k=TOP_K,
            scope=row.task or "",
        )
        for row in corrected
    ]
    found = search.search(searches) if searches else []
    keys = {(hit.chunk.tenant, hit.chunk.document_id) for hits in found for hit in hits}
    current = versions.current(sorted(keys))
    served = newer = missed = 0
    documents: dict[str, None] = {}
    for row, hits in zip(corrected, found, strict=True):
        if any(_agrees(row, str(source.get("text") or "")) for source in row.sources):
            served += 1
            continue
        holding = [hit for hit in hits if _agrees(row, hit.chunk.text)]
        later = [hit for hit in holding if _is_newer(hit, row, versions=current)]
        newer += bool(later)
        missed += bool(holding) and not later
        documents |= {hit.chunk.document_id: None for hit in (later or holding)[:1]}
    return CorrectionsFound(
        checked=len(corrected), served=served, newer=newer, missed=missed, documents=tuple(documents)
    )


def agrees(correction: str, text: str, *, known: str = "") -> bool:
    """Whether a passage of a text, two sentences at most, says what a correction says.

    ``known``: the question and the answer. What the correction adds to them counts: at least half of its words, and all
    of its numbers. A correction that adds nothing, or one short word, agrees with no text.
    """
    stated = set(words(known))
    new = {word for word in words(correction) if word not in stated and word not in FUNCTION_WORDS}
    numbers = {word for word in new if any(map(str.isdigit, word))}
    if not numbers and max(map(len, new), default=0) < 4:
        return False
    sentences = [set(words(each)) for each in _SENTENCE_END.split(text)]
    passages = [one | other for one, other in pairwise(sentences)] or sentences
    return any(numbers <= passage and len(new & passage) >= _SHARE * len(new) for passage in passages)


def _agrees(row: Interaction, text: str) -> bool:
    return agrees(row.correction or "", text, known=f"{row.asked} {row.answer or ''}")


def _is_newer(hit: Hit, row: Interaction, *, versions: dict[tuple[str, str], DocumentState]) -> bool:
    state = versions.get((hit.chunk.tenant, hit.chunk.document_id))
    return state is not None and row.answered_at is not None and state.submitted_at > row.answered_at
