"""Finds what a person meant by the name of a topic or an agent."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from schemas.errors import Misuse
from schemas.topics import BY_NAME, TOPICS, all_topics

VERSION = ".v1"


def topic_name(given: str, among: Collection[str] | None = None) -> str:
    """The topic of that name; ``answers`` means ``answers.v1``. Raises Misuse that names near matches."""
    among = [topic.name for topic in all_topics()] if among is None else among
    for name in (given, given + VERSION):
        if name in among:
            return name
    near = difflib.get_close_matches(given, among, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(BY_NAME)}"
    raise Misuse(f"there is no topic {given!r}; {hint}")


def reader_name(given: str) -> str:
    """The agent of that name that reads topics. Raises Misuse."""
    readers = sorted({reader for topic in TOPICS for reader in topic.readers})
    if given not in readers:
        raise Misuse(f"no agent {given!r} reads a topic; there is {', '.join(readers)}")
    return given
