"""The campaign's own parts: an audit that notices what is wrong, results that add up, and a small shuffled block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.campaign import results, shuffled
from benchmarks.campaign.audit import Evidence, Findings, judge
from infra.kafka.reader import StoredRecord
from schemas.envelope import EventContext, Position, Record, encode, identity, new_context, output_context
from schemas.event import Event
from schemas.interactions import FeedbackGiven, InteractionRecorded
from schemas.promotions import AdapterPromoted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READERS = ("recorder",)
CAUSE = new_context("/tests", now=NOW, event_id="e1")
FEEDBACK = encode(FeedbackGiven(answer_id="a1", rating="up"), CAUSE)


def recorded(outcome: str = "pending", ordinal: int = 0, cause: EventContext = CAUSE) -> Record:
    event = InteractionRecorded.model_validate({"answer_id": "a1", "outcome": outcome, "revision": 1})
    return encode(event, output_context(cause, "recorder", ordinal, NOW))


def stored(*records: Record) -> list[StoredRecord]:
    return [
        StoredRecord(
            position=Position(record.topic, 0, offset), key=record.key, value=record.value, headers=record.headers,
            time=NOW,
        )
        for offset, record in enumerate(records)
    ]  # fmt: skip


def journaled(*outputs: Record, published: bool = True) -> dict[tuple[str, str], tuple[tuple[Record, ...], bool]]:
    return {("recorder", identity(CAUSE)): (outputs, published)}


RIGHT = Evidence(
    records=stored(FEEDBACK, recorded()), letters=(), journal=journaled(recorded()), runs=(), revisions={"a1": 1},
    examples=0,
)  # fmt: skip


def wrong(findings: Findings) -> tuple[Sequence[str], ...]:
    return findings.lost, findings.doubled, findings.dead_letters, findings.given_up


def test_nothing_is_wrong_where_everything_was_handled_once_and_repeated_with_the_same_bytes() -> None:
    findings = judge(replace(RIGHT, records=stored(FEEDBACK, FEEDBACK, recorded(), recorded())), READERS)
    assert wrong(findings) == ((), (), (), ())
    assert (findings.events, findings.repeated) == (2, 2)


def test_nothing_is_wrong_once_confirmed_outputs_have_left_the_journal() -> None:
    assert wrong(judge(replace(RIGHT, journal=journaled()), READERS)) == ((), (), (), ())


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"journal": {}, "records": stored(FEEDBACK)}, "the recorder has not handled e1 at feedback.v1/0/0"),
        ({"journal": journaled(recorded(), published=False)}, "has not published"),
        ({"records": stored(FEEDBACK)}, "Kafka has no interactions.v1"),
        ({"records": stored(FEEDBACK), "journal": journaled()}, "FeedbackGiven e1 has no InteractionRecorded"),
        ({"revisions": {}}, "the row of a1 has 0 of 1 facts"),
        ({"runs": [("trainer", "r1", "running", {})]}, "the trainer's run r1 is running"),
    ],
)
def test_what_is_lost_is_named(changes: dict[str, object], what: str) -> None:
    findings = judge(replace(RIGHT, **changes), READERS)  # type: ignore[arg-type]  # the parameters above have the types
    assert any(what in line for line in findings.lost), findings
    assert findings.doubled == ()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"records": stored(FEEDBACK, recorded(), recorded("approved"))}, "has 2 contents"),
        ({"records": stored(FEEDBACK, recorded(), recorded(ordinal=99))}, "the journal does not hold"),
        ({"records": stored(FEEDBACK, recorded(), recorded(ordinal=1))}, "e1 has 2 InteractionRecorded"),
        ({"revisions": {"a1": 2}}, "the row of a1 counts 2 facts of 1"),
        ({"examples": 1}, "1 examples are there twice"),
    ],
)
def test_what_is_doubled_is_named(changes: dict[str, object], what: str) -> None:
    findings = judge(replace(RIGHT, **changes), READERS)  # type: ignore[arg-type]  # the parameters above have the types
    assert any(what in line for line in findings.doubled), findings


def test_a_missing_and_a_repeated_release_are_found() -> None:
    def release(sequence: int, event_id: str) -> Record:
        event: Event = AdapterPromoted(task="t", sequence=sequence, champion="a")
        return encode(event, new_context("/tests", now=NOW, event_id=event_id))

    findings = judge(replace(RIGHT, records=stored(release(1, "p1"), release(3, "p2"), release(3, "p3"))), READERS)
    assert "release 2 of t is missing" in findings.lost
    assert "release 3 of t is there 2 times" in findings.doubled


def test_dead_letters_and_runs_that_were_given_up_are_listed() -> None:
    letter = replace(FEEDBACK, headers=(*FEEDBACK.headers, ("dlq_error", b"ValueError"), ("dlq_offset", b"0")))
    evidence = replace(
        RIGHT, letters=stored(letter), runs=[("trainer", "r1", "failed", {"error": "x"})], journal={
            ("recorder", "dlq:feedback.v1@topicid/0/0"): ((), True)
        }, records=stored(FEEDBACK),
    )  # fmt: skip
    findings = judge(evidence, READERS)
    assert findings.dead_letters == ("error=ValueError offset=0",)
    assert findings.given_up == ("trainer r1: {'error': 'x'}",)
    assert not any("has not handled" in line for line in findings.lost)


def test_results_add_up_over_several_runs_and_no_seed_is_used_twice(tmp_path: Path) -> None:
    file = tmp_path / "results" / "campaign.jsonl"
    assert results.next_seed(results.read(file), "kills") == 1
    counts = dict.fromkeys(results.COUNTED, 0)
    for seed, kills in ((1, {"recorder": 2, "kafka": 1}), (2, {"recorder": 4})):
        done = {"kills": sum(kills.values())}
        results.append(file, {"kind": "kills", "seed": seed, "done": done, "kills": kills, **counts, "events": 1000})
    results.append(file, {"kind": "clocks", "seed": 1, "done": {"ticks": 30}, **counts, "lost": 1})
    lines = results.report(results.read(file)).splitlines()
    assert "| kills | 2 | 7 kills | 2,000 | 0 | 0 | 0 | 0 | 0 |" in lines
    assert "| clocks | 1 | 30 ticks | 0 | 1 | 0 | 0 | 0 | 0 |" in lines
    assert lines[-1] == "| times | 1 | 6 | 7 |"
    assert results.next_seed(results.read(file), "kills") == 3


def test_a_shuffled_block_ends_in_the_state_of_the_undisturbed_run() -> None:
    result = shuffled.block(seed=1, events=300)
    assert [result[name] for name in results.COUNTED[1:]] == [0, 0, 0, 0, 0]
    assert result["done"]["deliveries"] == 3 * result["events"]
    assert result["hash"] != shuffled.block(seed=2, events=300)["hash"], "the hash depends on the events"
