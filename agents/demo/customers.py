"""The demo's customers: they ask, read the answer, and some of them say whether it was right."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from agents.demo.event_log import LoggedEvent, TopicFollower
from agents.demo.shop import TASK, TEAMS, CustomerMessage, is_right
from infra.kafka import RecordPublisher
from schemas.envelope import encode, new_context
from schemas.errors import EverlearnError
from schemas.event import Event
from schemas.interactions import FeedbackGiven
from schemas.kafka import KafkaConnection
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked

SOURCE = "/everlearn/demo/customers"
RATING_SHARE = 0.6
"""The share of customers who say whether an answer was right."""
AT_ONCE = 16
"""The most questions that wait for their answers at the same time."""
PATIENCE_SECONDS = 180.0

Corrections = Literal["right", "none", "shuffled"]


class NoAnswers(EverlearnError):
    """Questions of the customers were not answered in time."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A message and what came back for it."""

    message: CustomerMessage
    answer: AnswerProduced | AnswerFailed
    at: datetime
    feedback: FeedbackGiven | None = None
    """The customer's feedback on the answer, if any."""

    @property
    def right(self) -> bool:
        return isinstance(self.answer, AnswerProduced) and is_right(self.answer.text, self.message)


@dataclass
class Customers:
    """Asks through Kafka and rates the answers. Use it as a context manager; several threads may use it.

    ``corrections`` is what a customer with a wrong answer sends: the right team, no correction, or another team, as if
    the corrections had been shuffled.
    """

    config: KafkaConnection
    corrections: Corrections = "right"
    exchanges: list[Exchange] = field(default_factory=list)
    _waiting: dict[str, tuple[CustomerMessage, bool]] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _count: int = 0

    def __enter__(self) -> Customers:
        self._publisher = RecordPublisher(self.config)
        self._follower = TopicFollower(self.config, ["answers.v1"], self._receive, from_end=True)
        self._follower.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.__exit__()
        self._publisher.close()

    def ask(
        self, messages: Sequence[CustomerMessage], *, rate: bool, enough: Callable[[], bool] = lambda: False
    ) -> list[Exchange]:
        """Asks the messages, a few at a time, and gives the exchanges. ``enough`` ends it early. Raises NoAnswers."""
        asked: set[str] = set()
        for message in messages:
            if enough():
                break
            self._await(lambda: len(self._waiting) < AT_ONCE)
            asked.add(self._send(message, rate))
        self._await(lambda: asked.isdisjoint(self._waiting))
        return [each for each in self.exchanges if each.answer.answer_id in asked]

    @contextmanager
    def traffic(self, messages: Sequence[CustomerMessage], *, rate: bool = True) -> Iterator[None]:
        """Asks the messages again and again while the block runs. Raises the first error of the thread that asks."""
        over = threading.Event()
        failures: list[Exception] = []

        def keep_asking() -> None:
            try:
                while not over.is_set():
                    self.ask(messages, rate=rate, enough=over.is_set)
            except Exception as error:  # noqa: BLE001  # raised in the thread that waits
                failures.append(error)

        thread = threading.Thread(target=keep_asking, name="traffic", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENCE_SECONDS + 10)
        if failures:
            raise failures[0]

    def _send(self, message: CustomerMessage, rate: bool) -> str:
        with self._changed:
            self._count += 1
            question_id = f"{message.id}-{self._count:05d}"
            self._waiting[question_id] = (message, rate)
        question = QuestionAsked(question_id=question_id, task=TASK, text=message.text, user=message.user)
        self._publish(question)
        return question_id

    def _publish(self, event: Event) -> None:
        self._publisher.publish([encode(event, new_context(SOURCE, now=datetime.now(UTC)))])

    def _receive(self, logged: LoggedEvent) -> None:
        answer = logged.event
        if not isinstance(answer, AnswerProduced | AnswerFailed):
            return
        with self._changed:
            message, rate = self._waiting.pop(answer.answer_id, (None, False))
            if message is None:
                return
            exchange = Exchange(message=message, answer=answer, at=logged.time)
            if rate:
                exchange = replace(exchange, feedback=self._feedback(exchange))
            self.exchanges.append(exchange)
            self._changed.notify_all()
        if exchange.feedback is not None:
            self._publish(exchange.feedback)

    def _feedback(self, exchange: Exchange) -> FeedbackGiven | None:
        message, answer = exchange.message, exchange.answer
        if _share_of(message.id) >= RATING_SHARE or isinstance(answer, AnswerFailed):
            return None
        if exchange.right:
            return FeedbackGiven(answer_id=answer.answer_id, rating="up", user=message.user)
        correction: str | None = message.label
        if self.corrections == "none":
            correction = None
        elif self.corrections == "shuffled":
            others = [team for team in TEAMS if team != message.label]
            correction = others[int(_share_of(f"{message.id} shuffled") * len(others))]
        return FeedbackGiven(answer_id=answer.answer_id, rating="down", correction=correction, user=message.user)

    def _await(self, happened: Callable[[], bool]) -> None:
        """Waits until something has happened. Each answer renews the deadline. Raises NoAnswers."""
        with self._changed:
            count, deadline = len(self.exchanges), time.monotonic() + PATIENCE_SECONDS
            while not happened():
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise NoAnswers(
                        f"{len(self._waiting)} questions are not answered, and nothing came for "
                        f"{PATIENCE_SECONDS:.0f} s: see 'everlearn status' and 'everlearn dlq list'"
                    )
                if len(self.exchanges) > count:
                    count, deadline = len(self.exchanges), time.monotonic() + PATIENCE_SECONDS


def accuracy(exchanges: Sequence[Exchange]) -> float:
    """The share of right answers, 0 to 1."""
    return sum(each.right for each in exchanges) / len(exchanges) if exchanges else 0.0


def _share_of(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
