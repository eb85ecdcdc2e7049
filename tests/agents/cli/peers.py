"""Small real Kafka clients that stand where agents do, so that commands have somebody to talk to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType

from infra.kafka import RecordPublisher, RecordReader, StoredRecord
from schemas.documents import DocumentIndexed, DocumentSubmitted, DocumentUnindexed, DocumentWithdrawn
from schemas.envelope import EventContext, Record, decode, encode, output_context
from schemas.event import Event
from schemas.kafka import KafkaConnection
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked, Source

React = Callable[[Event, EventContext], Iterable[Event]]


class Peer:
    """Reads a topic from its end and publishes what ``react`` says; a fault in it fails the test."""

    def __init__(self, config: KafkaConnection, topic: str, react: React, agent: str = "peer") -> None:
        self.seen: list[Event] = []
        self._react = react
        self._agent = agent
        self._reader = RecordReader(config, [topic], from_end=True)
        self._publisher = RecordPublisher(config)
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        self._reader.close()
        self._publisher.close()
        if self._fault is not None and error is None:
            raise self._fault

    def only_event(self, seconds: float = 10.0) -> Event:
        """Takes the one event that has come; fails where none comes, or several."""
        deadline = time.monotonic() + seconds
        while not self.seen and time.monotonic() < deadline:
            time.sleep(0.05)
        [event] = self.seen
        self.seen.clear()
        return event

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for stored in self._reader.poll(0.2):
                    self._publisher.publish(self._answer(stored))
        except BaseException as error:  # noqa: BLE001 - kept, and raised in the test's own thread
            self._fault = error

    def _answer(self, stored: StoredRecord) -> list[Record]:
        now = datetime.now(UTC)
        event, context = decode(stored.position.topic, stored.value, stored.headers, now=now)
        self.seen.append(event)
        return [
            encode(each, output_context(context, self._agent, ordinal, now))
            for ordinal, each in enumerate(self._react(event, context))
        ]


def answers(event: Event, _context: EventContext) -> Iterable[Event]:
    """An answerer: repeats the question; fails, is silent, finds nothing or declines where it is told to."""
    assert isinstance(event, QuestionAsked)
    if "silence" in event.text:
        return
    if "fail" in event.text:
        yield AnswerFailed(
            answer_id=event.question_id, task=event.task, question=event.text, reason="the engine\nis tired"
        )
        return
    source = Source(
        document_id="d1",
        chunk_id="d1/0",
        score=0.5,
        text=f"about {event.text}",
        title="A title",
        heading="A title > Part" if "part" in event.text else None,
    )
    declined = "unknown" in event.text
    yield AnswerProduced(
        answer_id=event.question_id,
        task=event.task,
        question=event.text,
        text="" if event.retrieve_only else "No idea." if declined else f"echo {event.text}",
        sources=() if "nothing" in event.text else (source,) * (event.top_k or 1),
        declined=declined,
        user=event.user,
        session=event.session,
        tenant=event.tenant,
        latency_ms=12.0,
        finish_reason="retrieve_only" if event.retrieve_only else "stop",
    )


def asked(peer: Peer) -> list[QuestionAsked]:
    """The questions that have come to it."""
    return [event for event in peer.seen if isinstance(event, QuestionAsked)]


def indexes(event: Event, _context: EventContext) -> Iterable[Event]:
    """An indexer: says of each document that it is done, of "empty…" that it has no chunk, of "lost" nothing."""
    if isinstance(event, DocumentSubmitted) and event.document_id != "lost":
        yield DocumentIndexed(
            document_id=event.document_id,
            tenant=event.tenant,
            content_hash="0",
            chunk_count=0 if event.document_id.startswith("empty") else 1,
            embedding_model="none",
            submitted_at=event.submitted_at,
        )
    if isinstance(event, DocumentWithdrawn):
        yield DocumentUnindexed(document_id=event.document_id, tenant=event.tenant, submitted_at=event.submitted_at)
