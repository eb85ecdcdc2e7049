"""The drift policy on the demo's own messages: quiet on the old ones, loud on those about the new product line."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np

from agents.demo import shop
from agents.demo.shop import CustomerMessage
from agents.monitor.verdict import DriftVerdict
from schemas.features import Interaction
from schemas.interactions import InteractionOutcome
from schemas.tasks import Task
from tests.agents.monitor.rows import POLICY, judged, row

NEW = "skates"
NEWEST = POLICY.current_rows + (POLICY.of - 1) * POLICY.every_rows
ROWS = POLICY.reference_rows + NEWEST
ACCURACY = 0.85
RATED = 0.6
MESSAGES = shop.messages()


@cache
def task() -> Task:
    labels = tuple(sorted({message.label for message in MESSAGES}))
    return Task(name="routing", instruction="Route.", metric="exact_match", labels=labels)


def answered(number: int, message: CustomerMessage, *, is_right: bool, is_rated: bool) -> Interaction:
    wrong = [label for label in task().labels if label not in (message.label, NEW)]
    rated: InteractionOutcome = "approved" if is_right else "corrected"
    return row(
        number,
        outcome=rated if is_rated else "unrated",
        question=message.text,
        answer=message.label if is_right else wrong[number % len(wrong)],
        user=message.user,
    )


def verdict_on(rows: list[Interaction], message_vectors: dict[str, np.ndarray]) -> DriftVerdict:
    verdict, _ = judged(rows, {each.answer_id: message_vectors[each.question or ""] for each in rows}, task())
    return verdict


def old_answers(draw: random.Random, count: int) -> list[Interaction]:
    old = draw.sample([message for message in MESSAGES if message.label != NEW], count)
    return [
        answered(number, message, is_right=draw.random() < ACCURACY, is_rated=draw.random() < RATED)
        for number, message in enumerate(old)
    ]


def drifted_answers(draw: random.Random, *, rated: float, newest: int = NEWEST) -> list[Interaction]:
    """After the reference every other message is about the new product line, and answered wrongly."""
    rows = old_answers(draw, POLICY.reference_rows + newest)
    new = draw.sample([message for message in MESSAGES if message.label == NEW], newest // 2)
    for number, message in zip(range(POLICY.reference_rows, len(rows), 2), new, strict=True):
        rows[number] = answered(number, message, is_right=False, is_rated=draw.random() < rated)
    return rows


def test_a_hundred_windows_without_drift_raise_one_alarm_at_most(message_vectors):
    draw = random.Random(2026)
    alarms = [verdict_on(old_answers(draw, ROWS), message_vectors).kind for _ in range(100)]
    assert sum(kind is not None for kind in alarms) <= 1, alarms


def test_new_messages_that_are_answered_wrongly_and_corrected_call_for_training(message_vectors):
    draw = random.Random(1)
    found = [verdict_on(drifted_answers(draw, rated=RATED), message_vectors) for _ in range(10)]
    assert [verdict.remedy for verdict in found] == ["retrain"] * 10
    assert [verdict.kind for verdict in found].count("outcomes") >= 8  # the others by their questions


def test_new_messages_that_nobody_rates_call_for_labels(message_vectors):
    draw = random.Random(2)
    found = []
    for _ in range(10):
        rows = drifted_answers(draw, rated=0.0, newest=2 * NEWEST)
        verdict = verdict_on([replace(each, outcome="unrated") for each in rows], message_vectors)
        found.append((verdict.kind, verdict.remedy))
    assert found.count(("questions", "label")) >= 8  # a hundred questions say little about what is new
