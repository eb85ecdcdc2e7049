"""Compares the cost of recording a feedback event with that of an earlier version, by processor time.

``python -m benchmarks.feedback_cost --before FOLDER [--rounds N] [--events N] [--batch N]``: ``FOLDER`` is a checkout
of the earlier version, such as ``git worktree add /tmp/before 2a27c86`` makes. Both versions record the same events in
turn, each in a process of its own, on an empty SQLite file, by the whole recipe of delivery: decode, journal, marks,
merge, rows, tallies, outputs. Kafka is in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agents.delivery.deliver import Delivery
from agents.delivery.in_flight import InFlightTracker
from agents.delivery.outbox import Outbox
from agents.delivery.topic_ids import TopicIds
from agents.delivery.worker import dispatcher
from agents.recorder import AGENT
from agents.recorder.agent import Recorder
from infra.memory.kafka import MemoryKafka
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.journal import SqlInFlightMarks, SqlJournal
from infra.sql.kafka_topics import SqlKnownTopics
from infra.sql.migrate import migrate
from infra.sql.runs import SqlRunStore
from schemas.delivery import Message
from schemas.envelope import EventContext, Position, encode
from schemas.event import Event
from schemas.interactions import FeedbackGiven
from schemas.questions import AnswerProduced
from schemas.topics import read_by

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=1)
USERS = 500


def record(events: int, batch: int) -> float:
    """Returns the microseconds of processor time that one feedback event takes."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/everlearn.db"
        migrate(url)
        database = Database(url)
        delivery = _delivery(database)
        answers = [_message(_answer(number), number) for number in range(events)]
        feedback = [_message(_feedback(number), events + number) for number in range(events)]
        took = asyncio.run(_deliver(delivery, answers, feedback, batch))
        database.close()
    return took / events * 1e6


async def _deliver(delivery: Delivery, answers: list[Message], feedback: list[Message], batch: int) -> float:
    for start in range(0, len(answers), 200):
        await delivery.deliver(answers[start : start + 200])
    began = time.process_time()
    for start in range(0, len(feedback), batch):
        await delivery.deliver(feedback[start : start + batch])
    return time.process_time() - began


def _delivery(database: Database) -> Delivery:
    kafka = MemoryKafka()
    outbox = Outbox(
        AGENT,
        database=database,
        journal=SqlJournal(database),
        runs=SqlRunStore(database),
        publisher=kafka,
        clock=lambda: NOW,
    )
    topics = TopicIds(read_by(AGENT), kafka, SqlKnownTopics(database), clock=lambda: NOW)
    marks = SqlInFlightMarks(database)
    in_flight = InFlightTracker(AGENT, marks, life="one", clock=lambda: NOW, crashes=3, topic_id=topics.__getitem__)
    handle = dispatcher(AGENT, Recorder(SqlFeatureTable(database)).handlers())
    return Delivery(handle, outbox, in_flight, topics, clock=lambda: NOW)


def _answer(number: int) -> AnswerProduced:
    return AnswerProduced(
        answer_id=f"answer {number}",
        task="routing",
        question="Where is the parcel that I ordered on the day before yesterday?",
        text="delivery",
        user=f"user {number % USERS}",
        adapter_id="x",
        release_sequence=1,
    )


def _feedback(number: int) -> FeedbackGiven:
    """Half of the users correct their answer; the others approve it."""
    correction = "billing" if number % 2 else None
    rating = "down" if number % 2 else "up"
    return FeedbackGiven(
        answer_id=f"answer {number}", rating=rating, correction=correction, user=f"user {number % USERS}"
    )


def _message(event: Event, number: int) -> Message:
    context = EventContext(id=f"e{number}", source="/benchmark", time=START + timedelta(seconds=number))
    record = encode(event, context)
    return Message(
        position=Position(record.topic, 0, number), key=record.key, value=record.value, headers=record.headers
    )


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the earlier version")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=50)
    asked = parser.parse_args(words)
    if asked.before is None:
        print(record(asked.events, asked.batch))
        return
    here = Path(__file__).resolve().parents[1]
    took: dict[str, list[float]] = {"before": [], "now": []}
    for _ in range(asked.rounds):
        for name, tree in (("before", asked.before.resolve()), ("now", here)):
            command = [sys.executable, str(Path(__file__).resolve()), "--events", str(asked.events)]
            command += ["--batch", str(asked.batch)]
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": str(tree)}, cwd=tree, check=True, capture_output=True
            )
            took[name].append(float(done.stdout))
    ratios = [now / before for before, now in zip(took["before"], took["now"], strict=True)]
    print(
        f"batches of {asked.batch}: {statistics.median(took['before']):.0f} µs before, "
        f"{statistics.median(took['now']):.0f} µs now, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
