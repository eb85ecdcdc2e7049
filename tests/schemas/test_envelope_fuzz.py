"""Any record is decoded to an event or raises MalformedRecord, and never another error."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest

from schemas.envelope import MalformedRecord, decode, encode
from schemas.topics import TOPICS, dead_letter_topic
from tests.schemas.payloads import NOW, context, golden_events, value_of

RECORDS = [encode(event, context()) for event in golden_events().values()]
NAMES = [*dict(RECORDS[0].headers), "ce_", "CE_ID", "", "ce_ü", "ce_" + "x" * 5000, "traceparent"]
ROUNDS = 1500


def survives(topic: str, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Returns whether it was an event. A refusal must be one printable line of limited length."""
    try:
        event, read = decode(topic, value, headers, now=NOW)
    except MalformedRecord as error:
        message = str(error)
        assert message.isprintable(), repr(message)
        assert 0 < len(message) < 4000
        return False
    encode(event, read)
    return True


def random_bytes(dice: random.Random) -> bytes:
    return dice.choice(
        [
            dice.randbytes(dice.randrange(40)),
            "".join(dice.choices("aé語🙂\0\n ", k=dice.randrange(600))).encode(),
            b"9" * dice.choice([1, 20, 6000]),
            b"\xed\xa0\x80",
        ]
    )


def random_json(dice: random.Random, depth: int = 0) -> Any:
    kinds = [
        None,
        True,
        -1,
        1e308,
        10**30,
        "",
        "x" * 600,
        "\0",
        "\n",
        "2026-03-02T09:15:27Z",
        "0001-01-01T00:00:00+14:00",
    ]
    if depth < 3 and dice.random() < 0.4:
        inner = [random_json(dice, depth + 1) for _ in range(dice.randrange(4))]
        return inner if dice.random() < 0.5 else {str(random_bytes(dice)): value for value in inner}
    return dice.choice(kinds)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_and_headers_are_refused(seed):
    dice = random.Random(seed)
    topics = [topic.name for topic in TOPICS] + [dead_letter_topic("documents.v1", "indexer"), "nobody.v1", ""]
    for _ in range(ROUNDS):
        headers = [(dice.choice(NAMES), random_bytes(dice)) for _ in range(dice.randrange(12))]
        assert not survives(dice.choice(topics), dice.choice([None, random_bytes(dice)]), headers)


@pytest.mark.parametrize("seed", range(4))
def test_a_record_with_one_changed_header_is_read_or_refused(seed):
    dice = random.Random(seed)
    outcomes = set()
    for _ in range(ROUNDS):
        record = dice.choice(RECORDS)
        headers = [*record.headers, (dice.choice(NAMES), dice.choice([None, random_bytes(dice)]))]
        outcomes.add(survives(record.topic, record.value, headers))
    assert outcomes == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_a_record_with_a_cut_or_changed_value_is_read_or_refused(seed):
    dice = random.Random(seed)
    outcomes = set()
    for _ in range(ROUNDS):
        record = dice.choice(RECORDS)
        value = bytearray(value_of(record))
        place = dice.randrange(len(value))
        kind = dice.randrange(3)
        if kind == 0:
            del value[place:]
        elif kind == 1:
            value[place] = dice.randrange(256)
        else:
            fields = json.loads(value_of(record))
            fields[dice.choice(list(fields) or ["task"])] = random_json(dice)
            value = bytearray(json.dumps(fields).encode())
        outcomes.add(survives(record.topic, bytes(value), record.headers))
    assert outcomes == {True, False}
