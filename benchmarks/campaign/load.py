"""Publishes events of every kind that clients send, at a steady rate, while brokers and agents die."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from benchmarks.campaign.home import TASK
from infra.kafka import RecordPublisher, kafka_connection
from infra.settings import Settings
from schemas.documents import DocumentSubmitted, IndexRebuildRequested
from schemas.envelope import Record, encode, new_context
from schemas.errors import EverlearnError
from schemas.event import Event
from schemas.interactions import ExampleSubmitted, FeedbackGiven
from schemas.learning import (
    DriftCheckRequested,
    PromotionRequested,
    TrainingRequested,
)
from schemas.models import ModelRegistered
from schemas.questions import QuestionAsked
from schemas.topics import BULK_DOCUMENTS
from tests.fixtures.tiny_model import WORDS

SECONDS_BETWEEN = 0.5
RATES = {
    "question": 6.0,
    "feedback": 8.0,
    "document": 1.0,
    "bulk document": 2.0,
    "example": 1.0,
    "drift check": 0.1,
    "training": 0.1,
    "promotion": 0.2,
    "model": 0.03,
    "rebuild": 0.02,
}
"""Events per second of each kind. None is refused whatever has happened before, so no dead letter is expected."""
FIRST_EXAMPLES = 60
"""Examples that are published first, so that the first training has rows."""


class Load(threading.Thread):
    """Publishes until ``finish``. Every record is sent again, with the same bytes, until Kafka has confirmed it."""

    def __init__(self, settings: Settings, seed: int, *, model: tuple[str, str], rate: float = 1.0) -> None:
        """``model``: name and version of a registered model, which is quantized. ``rate``: multiplies all rates."""
        super().__init__(name="load", daemon=True)
        self._settings = settings
        self._random = random.Random(seed)
        self._model = model
        self._tag = f"b{seed}"
        self._rate = rate
        self._over = threading.Event()
        self._count = 0
        self._questions = 0
        self.adapters: tuple[str, ...] = ()
        """Adapters that are validated, which may therefore be promoted."""
        self.sent = 0
        self.failure: Exception | None = None

    def finish(self, seconds: float = 120.0) -> None:
        """Stops after the current records are confirmed. Raises what the thread raised."""
        self._over.set()
        self.join(seconds)
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        try:
            records = [self._record("example") for _ in range(FIRST_EXAMPLES)]
            while not self._over.is_set() or records:
                records = self._publish(records)
        except Exception as error:  # noqa: BLE001  # raised in the thread that calls ``finish``
            self.failure = error

    def _publish(self, records: list[Record]) -> list[Record]:
        """Publishes over one connection for as long as it lasts. Returns the records that may not be confirmed."""
        try:
            # Found anew each time, because a broker may come back on another port.
            with RecordPublisher(kafka_connection(self._settings), connect_seconds=5, delivery_seconds=10) as to:
                while True:
                    to.publish(records)
                    self.sent += len(records)
                    records = []
                    if self._over.wait(SECONDS_BETWEEN):
                        return records
                    records = list(self._next())
        except EverlearnError:  # Unavailable; or no such topic, while a broker is starting
            time.sleep(0.5)
            return records

    def _next(self) -> Iterator[Record]:
        for kind, rate in RATES.items():
            expected = rate * self._rate * SECONDS_BETWEEN
            for _ in range(int(expected) + (self._random.random() < expected % 1)):
                if kind == "promotion" and not self.adapters:
                    continue  # nothing can be promoted yet
                yield self._record(kind)

    def _record(self, kind: str) -> Record:
        self._count += 1
        context = new_context("/campaign", now=datetime.now(UTC), event_id=f"{self._tag}-{self._count}")
        return encode(self._event(kind), context, BULK_DOCUMENTS if kind == "bulk document" else None)

    def _event(self, kind: str) -> Event:
        chance, number = self._random, self._count
        text = " ".join(chance.choices(WORDS, k=6))
        if kind == "question":
            self._questions += 1
            task = "support" if chance.random() < 0.3 else TASK
            return QuestionAsked(
                question_id=self._question(self._questions), task=task, text=text, user=f"u{number % 40}"
            )
        if kind == "feedback":
            answer = self._question(max(1, self._questions - chance.randrange(20)))
            return FeedbackGiven(answer_id=answer, rating=chance.choice(("up", "down")), user=f"u{number % 40}")
        if kind in ("document", "bulk document"):
            return DocumentSubmitted(
                document_id=f"{self._tag}-d{number}", text=f"{text} {number}", submitted_at=datetime.now(UTC)
            )
        if kind == "example":
            return ExampleSubmitted(task=TASK, input=f"{text} {number}", output=chance.choice(("rain", "stone")))
        if kind == "drift check":
            return DriftCheckRequested(task=TASK)
        if kind == "training":
            return TrainingRequested(task=TASK)
        if kind == "rebuild":
            return IndexRebuildRequested()
        if kind == "model":
            return ModelRegistered(name=self._model[0], version=self._model[1], quantize=("int8",))
        if kind == "promotion":
            return PromotionRequested(task=TASK, adapter_id=chance.choice(self.adapters))
        raise ValueError(kind)

    def _question(self, number: int) -> str:
        return f"{self._tag}-q{number}"
