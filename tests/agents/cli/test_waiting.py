"""One way to wait for what a command asked for, until a deadline that news may renew."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from agents.cli.waiting import GRACE_SECONDS, Deadline, events_until, follow_run, look_until, wait_until_indexed
from infra.kafka import StoredRecord
from schemas.delivery import Run
from schemas.documents import DocumentIndexed, DocumentSubmitted
from schemas.envelope import Position, Record, encode, new_context
from schemas.errors import TimedOut
from schemas.event import Event
from schemas.learning import TrainingDeclined

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Records:
    """A reader that gives one batch a poll, and nothing after the last one."""

    def __init__(self, *batches: Sequence[StoredRecord]) -> None:
        self._batches = list(batches)

    def poll(self, timeout_seconds: float) -> Sequence[StoredRecord]:
        return self._batches.pop(0) if self._batches else []


class Clock:
    """A second passes with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def stored(event: Event) -> StoredRecord:
    return as_stored(encode(event, new_context("/test", now=NOW)))


def as_stored(record: Record) -> StoredRecord:
    return StoredRecord(
        position=Position(record.topic, 0, 0), key=record.key, value=record.value, headers=record.headers, time=NOW
    )


def indexed(document_id: str) -> StoredRecord:
    return stored(
        DocumentIndexed(
            document_id=document_id, content_hash="0", chunk_count=1, embedding_model="none", submitted_at=NOW
        )
    )


def key_of(document_id: str) -> str:
    return DocumentSubmitted(document_id=document_id, text="a", submitted_at=NOW).key


def test_a_malformed_record_is_passed_over():
    broken = as_stored(Record(topic="adapters.v1", key=b"k", value=b"{", headers=()))
    declined = stored(TrainingDeclined(task="routing", reason="no rows", cause="mine"))

    found = list(events_until(Records([broken, declined]), Deadline(5.0, Clock())))

    assert [type(event) for event, _ in found] == [TrainingDeclined]


def test_a_run_ends_with_the_event_whose_cause_is_the_request():
    other = stored(TrainingDeclined(task="routing", reason="not yours", cause="somebody-else"))
    mine = stored(TrainingDeclined(task="routing", reason="no rows", cause="mine"))

    ended = follow_run(Records([other], [mine]), "mine", list, lambda _share, _text: None, Deadline(9.0, Clock()))

    assert isinstance(ended, TrainingDeclined)
    assert ended.reason == "no rows"


def test_each_indexed_document_renews_the_deadline():
    submitted = {key_of(name): NOW for name in ("a", "b", "c")}
    nothing: list[StoredRecord] = []

    missing = wait_until_indexed(
        Records(nothing, [indexed("a")], nothing, [indexed("b")]), submitted, Deadline(4.0, Clock())
    )

    assert missing == {key_of("c"): NOW}


def test_nothing_is_waited_for_when_nothing_was_submitted():
    assert wait_until_indexed(Records(), {}, Deadline(0.0, Clock())) == {}


def test_a_look_is_taken_even_when_the_deadline_has_passed():
    assert look_until(lambda: "there", Deadline(0.0)) == "there"
    assert look_until(lambda: None, Deadline(0.0)) is None


def test_the_runs_progress_is_shown_while_it_is_waited_for():
    run = Run(
        run_id="r1",
        agent="trainer",
        kind="train",
        state="running",
        attempt=1,
        arguments={"cause": "mine"},
        progress={"done": 0.5, "text": "training: step 5 of 10", "eta_seconds": 12.4},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    shown: list[tuple[float, str]] = []
    times = iter([0.0, 0.0, 0.0, 99.0])

    ended = follow_run(
        Records(),
        "mine",
        lambda: [run],
        lambda share, text: shown.append((share, text)),
        Deadline(1.0, clock=lambda: next(times)),
    )

    assert ended is None
    assert shown[0] == (0.5, "training: step 5 of 10, 12 s left")


def test_a_call_that_blocks_is_ended_after_the_deadline_and_the_timers_of_others_go_on():
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    timer_before = signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(TimedOut, match=r"in 0\.2 s.*everlearn status.*--timeout"), Deadline(0.2):
            threading.Event().wait()
        while not rang:
            signal.pause()
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer_before)


def test_news_postpones_the_end_of_what_blocks():
    seconds = 0.1
    with Deadline(seconds) as deadline:
        for _ in range(5):
            time.sleep(GRACE_SECONDS / 2)
            deadline.renew()


def test_a_deadline_of_another_thread_ends_no_call_but_passes():
    def wait() -> bool:
        with Deadline(0.0) as deadline:
            return deadline.passed()

    with ThreadPoolExecutor() as threads:
        assert threads.submit(wait).result()
