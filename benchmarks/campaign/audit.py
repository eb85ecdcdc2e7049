"""Compares everything that Kafka holds with the journal and the tables: what is missing, and what happened twice.

*Lost*: an event that a reader has neither journaled nor dead-lettered, an output that the journal holds and Kafka does
not, an effect that is missing, or a run that never ended. *Doubled*: one id with different bytes, an output that no
journal holds, one cause with two different outcomes, or an effect that counted an event twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from agents.wiring.run import AGENTS
from infra.kafka import kafka_connection, read_all
from infra.kafka.reader import StoredRecord
from infra.settings import Settings
from infra.sql import tables
from infra.sql.database import Database
from infra.sql.records import unpack
from schemas.documents import DocumentIndexed, DocumentSubmitted, IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from schemas.envelope import EventContext, Record, decode, derived_id, identity
from schemas.event import Event
from schemas.interactions import ExampleSubmitted, FeedbackGiven, InteractionRecorded
from schemas.learning import AdapterRejected, AdapterTrained, AdapterValidated, TrainingDeclined, TrainingRequested
from schemas.promotions import ReleaseEvent
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked
from schemas.topics import BY_NAME, TOPICS, dead_letter_topic

AUDITED = tuple(topic for topic in TOPICS if topic.name != "fleet.v1")
DEAD_LETTERS = tuple(dead_letter_topic(topic.name, reader) for topic in AUDITED for reader in topic.readers)
_DEAD_LETTER = "dlq:"
MOST_OUTPUTS = 32
"""No outcome has more outputs than this."""
_SOURCES = frozenset(f"/everlearn/{agent}" for agent in AGENTS)
Journal = Mapping[tuple[str, str], tuple[tuple[Record, ...], bool]]
"""By agent and identity: the outputs, and whether they are marked as published."""
Logged = tuple[Event, EventContext]
Expectation = tuple[type[Event], tuple[type[Event], ...], Callable[[Logged], str], Callable[[Logged], str]]
EXPECTED: tuple[Expectation, ...] = (
    (QuestionAsked, (AnswerProduced, AnswerFailed), lambda of: of[0].question_id, lambda of: of[0].answer_id),  # type: ignore[attr-defined]  # the classes beside it say which events these are
    (DocumentSubmitted, (DocumentIndexed,), lambda of: of[1].id, lambda of: str(of[1].causation_id)),
    (FeedbackGiven, (InteractionRecorded,), lambda of: of[1].id, lambda of: str(of[1].causation_id)),
    (AnswerProduced, (InteractionRecorded,), lambda of: of[1].id, lambda of: str(of[1].causation_id)),
    (AnswerFailed, (InteractionRecorded,), lambda of: of[1].id, lambda of: str(of[1].causation_id)),
    (TrainingRequested, (AdapterTrained, TrainingDeclined), lambda of: of[1].id, lambda of: of[0].cause),  # type: ignore[attr-defined]  # likewise
    (IndexRebuildRequested, (IndexRebuilt, IndexNotRebuilt), lambda of: of[1].id, lambda of: of[0].cause),  # type: ignore[attr-defined]  # likewise
)
"""Each event of the first class has exactly one outcome of the second; the two functions give what connects them."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a home holds of its events."""

    records: Sequence[StoredRecord]
    """All topics except fleet.v1, the dead letters and the retries."""
    letters: Sequence[StoredRecord]
    journal: Journal
    runs: Sequence[tuple[str, str, str, object]]
    """Agent, run id, state and result of each run."""
    revisions: Mapping[str, int]
    """By answer: how many facts its row counts."""
    examples: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an audit found. Every tuple should be empty; each of its lines says what is wrong."""

    events: int
    """Events that clients and agents published, without repetitions."""
    repeated: int
    """Records that were published again with the same id and bytes, which at-least-once allows."""
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    dead_letters: tuple[str, ...]
    given_up: tuple[str, ...]
    """Runs that ended as failed."""


def audit(settings: Settings, readers: Sequence[str] = AGENTS) -> Findings:
    """Reads all topics and tables of a home. Nothing may be under way, or it counts as lost.

    ``readers``: the agents that run, which must have handled every event of the topics that they read.
    """
    config = kafka_connection(settings)
    records = list(read_all(config, [topic.name for topic in AUDITED]))
    letters = list(read_all(config, DEAD_LETTERS))
    database = Database(settings.sql_url())
    try:
        return judge(
            Evidence(
                records=records,
                letters=letters,
                journal=_journal(database),
                runs=_runs(database),
                revisions=_revisions(database),
                examples=_examples(database),
            ),
            readers,
        )
    finally:
        database.close()


def judge(evidence: Evidence, readers: Sequence[str] = AGENTS) -> Findings:
    """Returns what is missing and what happened twice."""
    records, journal = evidence.records, evidence.journal
    events = _events(records)
    lost = [*_not_handled(records, journal, readers), *_not_published(records, journal), *_unfinished(evidence.runs)]
    doubled = [*_differing(records), *_without_journal(records, journal)]
    compared = [_outcomes(events, *expectation) for expectation in EXPECTED]
    compared += [_effects(events, evidence.revisions, evidence.examples), _releases(events)]
    for missing, twice in compared:
        lost += missing
        doubled += twice
    failed = [f"{agent} {run_id}: {result}" for agent, run_id, state, result in evidence.runs if state == "failed"]
    return Findings(
        events=len(events),
        repeated=len(records) - len(events),
        lost=tuple(lost),
        doubled=tuple(doubled),
        dead_letters=tuple(map(_letter, evidence.letters)),
        given_up=tuple(failed),
    )


# -- what was read ---------------------------------------------------------------------------------------------------


def _content(record: StoredRecord | Record) -> tuple[object, ...]:
    return (record.key, record.value, tuple(record.headers))


def _names(record: StoredRecord | Record) -> tuple[str, str]:
    headers = dict(record.headers)
    return headers["ce_source"].decode(), headers["ce_id"].decode()


def _events(records: Sequence[StoredRecord]) -> list[Logged]:
    """Returns each event once, in the order of its first record."""
    later = datetime.now(UTC) + timedelta(days=1)  # with skewed clocks an event may seem to come from the future
    found: dict[tuple[str, str], Logged] = {}
    for record in records:
        if _names(record) not in found:
            found[_names(record)] = decode(record.position.topic, record.value, record.headers, now=later)
    return list(found.values())


def _letter(record: StoredRecord) -> str:
    headers = {name: value.decode(errors="replace") for name, value in record.headers if name.startswith("dlq_")}
    return " ".join(f"{name.removeprefix('dlq_')}={value}" for name, value in headers.items())


def _journal(database: Database) -> Journal:
    journal = tables.journal.c
    with database.connection() as connection:
        rows = connection.execute(select(journal.agent, journal.identity, journal.outputs, journal.published)).all()
    return {(agent, name): (unpack(outputs), published) for agent, name, outputs, published in rows}


def _runs(database: Database) -> list[tuple[str, str, str, object]]:
    runs = tables.runs.c
    with database.connection() as connection:
        rows = connection.execute(select(runs.agent, runs.run_id, runs.state, runs.result)).all()
    return [tuple(row) for row in rows]


def _revisions(database: Database) -> dict[str, int]:
    columns = tables.interactions.c
    with database.connection() as connection:
        return dict(connection.execute(select(columns.answer_id, columns.revision)).all())


def _examples(database: Database) -> int:
    with database.connection() as connection:
        return len(connection.execute(select(tables.examples.c.example_id)).all())


# -- delivery --------------------------------------------------------------------------------------------------------


def _not_handled(records: Iterable[StoredRecord], journal: Journal, readers: Sequence[str]) -> list[str]:
    missing = {}
    given_up = {
        (agent, _topic_of(name), place)
        for agent, name in journal
        if name.startswith(_DEAD_LETTER)
        for place in [name.partition("/")[2]]
    }
    for record in records:
        source, event_id = _names(record)
        topic, place = record.position.topic, f"{record.position.partition}/{record.position.offset}"
        for reader in BY_NAME[topic].readers:
            if reader not in readers or (reader, f"{source} {event_id}") in journal:
                continue
            if (reader, topic, place) not in given_up:
                missing[reader, event_id] = f"the {reader} has not handled {event_id} at {topic}/{place}"
    return list(missing.values())


def _topic_of(dead_letter: str) -> str:
    """Returns the topic in the identity of a dead letter, which may have the topic's id behind it."""
    return dead_letter.removeprefix(_DEAD_LETTER).partition("/")[0].partition("@")[0]


def _not_published(records: Iterable[StoredRecord], journal: Journal) -> list[str]:
    present = {(record.position.topic, *_names(record)): _content(record) for record in records}
    missing = []
    for (agent, name), (outputs, published) in journal.items():
        if not published:
            missing.append(f"the {agent} has not published what follows from {name}")
        if name.startswith(_DEAD_LETTER):
            continue
        missing += [
            f"Kafka has no {output.topic} {_names(output)[1]}, which follows from {name}"
            for output in outputs
            if (output.topic, *_names(output)) not in present
        ]
    return missing


def _differing(records: Iterable[StoredRecord]) -> list[str]:
    contents: dict[tuple[str, str], set[object]] = defaultdict(set)
    for record in records:
        contents[_names(record)].add((record.position.topic, _content(record)))
    differing = {name: each for name, each in contents.items() if len(each) > 1}
    return [f"{source} {event_id} has {len(each)} contents" for (source, event_id), each in differing.items()]


def _without_journal(records: Iterable[StoredRecord], journal: Journal) -> list[str]:
    """Finds outputs that differ from those in the journal, or whose cause the journal does not know.

    Outputs that Kafka has confirmed may have left the journal. Then the cause tells which ids they can have.
    """
    kept = {(output.topic, *_names(output)): _content(output) for outputs, _ in journal.values() for output in outputs}
    causes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for agent, name in journal:
        source, _, cause = name.rpartition(" ")
        causes[agent, cause].append(source)
    wrong = {}
    for record in records:
        source, event_id = _names(record)
        topic = record.position.topic
        which = (topic, source, event_id)
        if source not in _SOURCES:
            continue
        agent, cause = source.rpartition("/")[2], dict(record.headers).get("ce_causationid", b"").decode()
        possible = {
            derived_id(each, cause, agent, ordinal) for each in causes[agent, cause] for ordinal in range(MOST_OUTPUTS)
        }
        if kept.get(which, _content(record)) != _content(record) or event_id not in possible:
            wrong[which] = f"the journal does not hold {topic} {event_id} of the {agent}"
    return list(wrong.values())


# -- outcomes and effects --------------------------------------------------------------------------------------------


def _outcomes(
    events: Iterable[Logged],
    cause: type[Event],
    kinds: tuple[type[Event], ...],
    name: Callable[[Logged], str],
    causes: Callable[[Logged], str],
) -> tuple[list[str], list[str]]:
    outcomes: dict[str, set[str]] = defaultdict(set)
    wanted = []
    for logged in events:
        if isinstance(logged[0], kinds):
            outcomes[causes(logged)].add(identity(logged[1]))
        if isinstance(logged[0], cause):
            wanted.append(name(logged))
    what = " or ".join(kind.__name__ for kind in kinds)
    missing = [f"{cause.__name__} {each} has no {what}" for each in wanted if each not in outcomes]
    twice = [f"{cause.__name__} {each} has {len(outcomes[each])} {what}" for each in wanted if len(outcomes[each]) > 1]
    return missing, twice


def _effects(events: Sequence[Logged], features: Mapping[str, int], examples: int) -> tuple[list[str], list[str]]:
    facts = Counter(
        str(event.answer_id) for event, _ in events if isinstance(event, FeedbackGiven | AnswerProduced | AnswerFailed)
    )
    sent = sum(isinstance(event, ExampleSubmitted) for event, _ in events)
    lost = [f"the row of {name} has {features.get(name, 0)} of {count} facts" for name, count in facts.items()
            if features.get(name, 0) < count]  # fmt: skip
    doubled = [f"the row of {name} counts {count} facts of {facts[name]}" for name, count in features.items()
               if count > facts[name]]  # fmt: skip
    if examples < sent:
        lost.append(f"{sent - examples} of {sent} examples are missing")
    if examples > sent:
        doubled.append(f"{examples - sent} examples are there twice")
    return lost, doubled


def _releases(events: Sequence[Logged]) -> tuple[list[str], list[str]]:
    """Checks that every trained adapter was judged, and that the releases of a task are numbered without a gap."""
    judged = {event.adapter_id for event, _ in events if isinstance(event, AdapterValidated | AdapterRejected)}
    trained = {event.adapter_id for event, _ in events if isinstance(event, AdapterTrained)}
    sequences: dict[str, list[int]] = defaultdict(list)
    for event, _ in events:
        if isinstance(event, ReleaseEvent):
            sequences[event.task].append(event.sequence)
    lost = [f"adapter {adapter_id} was not judged" for adapter_id in trained - judged]
    doubled = []
    for task, numbers in sequences.items():
        lost += [f"release {each} of {task} is missing" for each in set(range(1, max(numbers) + 1)) - set(numbers)]
        doubled += [f"release {each} of {task} is there {n} times" for each, n in Counter(numbers).items() if n > 1]
    return lost, doubled


def _unfinished(runs: Iterable[tuple[str, str, str, object]]) -> list[str]:
    return [
        f"the {agent}'s run {run_id} is {state}" for agent, run_id, state, _ in runs if state not in ("done", "failed")
    ]
