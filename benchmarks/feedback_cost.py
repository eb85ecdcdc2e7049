"""Compares the cost of recording a feedback event with that of an earlier version, by processor time.

``python -m benchmarks.feedback_cost --before FOLDER [--rounds N] [--events N] [--batch N]``: ``FOLDER`` is a checkout
of the earlier version, such as ``git worktree add /tmp/before 2a27c86`` makes. Both versions record the same events in
turn, each in a process of its own, on an empty SQLite file: they decode the records, merge them, and write rows,
tallies and journal in one transaction a batch, as the recorder does. Kafka has no part in it.
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

from agents.recorder.agent import Recorder
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.journal import SqlJournal
from infra.sql.migrate import migrate
from schemas.envelope import EventContext, Position, Received, Record, decode, encode, output_context
from schemas.event import Event
from schemas.interactions import FeedbackGiven
from schemas.questions import AnswerProduced

START = datetime(2026, 1, 1, tzinfo=UTC)
USERS = 500


def record(events: int, batch: int) -> float:
    """Returns the microseconds of processor time that one feedback event takes."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/everlearn.db"
        migrate(url)
        database = Database(url)
        table = SqlFeatureTable(database)
        recorder, journal = Recorder(table), SqlJournal(database)

        def commit(records: Sequence[Record]) -> None:
            received = []
            for number, each in enumerate(records):
                event, context = decode(each.topic, each.value, each.headers, now=START + timedelta(days=1))
                received.append(Received(event=event, context=context, position=Position(each.topic, 0, number)))
            outcomes = asyncio.run(recorder.record(received))  # type: ignore[arg-type]  # answers and feedback
            entries = []
            with database.transaction():
                for one, outcome in zip(received, outcomes, strict=True):
                    assert outcome.effect is not None
                    outputs = outcome.effect()
                    context = one.context
                    entries.append(
                        (
                            one.identity,
                            [encode(o.event, output_context(context, "recorder", 0, context.time)) for o in outputs],  # type: ignore[union-attr]  # the recorder starts no runs
                        )
                    )
                journal.add_many("recorder", entries, START)

        answers = [_record(_answer(number), number) for number in range(events)]
        feedback = [_record(_feedback(number), events + number) for number in range(events)]
        for start in range(0, events, 200):
            commit(answers[start : start + 200])
        began = time.process_time()
        for start in range(0, events, batch):
            commit(feedback[start : start + batch])
        took = time.process_time() - began
        database.close()
    return took / events * 1e6


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


def _record(event: Event, number: int) -> Record:
    return encode(event, EventContext(id=f"e{number}", source="/benchmark", time=START + timedelta(seconds=number)))


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
