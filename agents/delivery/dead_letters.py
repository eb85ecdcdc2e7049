"""Writes dead letters: the whole message that could not be processed, and what happened to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.delivery import Message
from schemas.envelope import Headers, Position, Record
from schemas.topics import dead_letter_topic, dead_letters_of, origin_topic

PREFIX = "dlq_"
_MOST_CHARACTERS = 8000
"""Of an error: some hold all that they complain of, and a dead letter must fit into its topic."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a message is given up."""

    error: str
    """Class name."""
    message: str
    attempts: int
    first_failure: datetime


def dead_letter(message: Message, agent: str, failure: Failure, *, whole: bool = True) -> Record:
    """Returns the record for the agent's dead-letter topic: key, value and headers kept, the circumstances added.

    Where not ``whole``, the value is left out, because Kafka refuses the record with it. The original stays at the
    position that the letter names, for as long as its topic keeps it.
    """
    origin = origin_topic(message.position.topic)
    size = len(message.value or b"")
    cut = "" if whole else f" (its value of {size:,} bytes is left out, because Kafka refuses it here)"
    circumstances = {
        "topic": message.position.topic,
        "partition": message.position.partition,
        "offset": message.position.offset,
        "agent": agent,
        "error": failure.error,
        "message": failure.message[:_MOST_CHARACTERS] + cut,
        "attempts": failure.attempts,
        "first_failure": failure.first_failure.isoformat(),
    }
    headers = original_headers(message.headers)
    # An error may name a file whose name is no text.
    headers += tuple((f"{PREFIX}{name}", str(value).encode(errors="replace")) for name, value in circumstances.items())
    value = _value(message) if whole else b""
    return Record(topic=dead_letter_topic(origin, agent), key=message.key, value=value, headers=headers)


def _value(message: Message) -> bytes | None:
    """Returns a value that can be sent: Kafka's clients refuse a record that has neither key nor value."""
    return b"" if message.key is None and message.value is None else message.value


def dead_letter_identity(position: Position, topic_id: str) -> str:
    """Returns the journal identity of a dead letter: its position, so that a retry is not taken as done.

    The offsets of a topic that is made anew begin at 0 again, so its name does not identify a position. Its id does.
    """
    return f"{dead_letters_of(position.topic, topic_id)}{position.partition}/{position.offset}"


def original_headers(headers: Headers) -> Headers:
    """Returns the headers without those that a dead letter added."""
    return tuple((name, value) for name, value in headers if not name.startswith(PREFIX))
