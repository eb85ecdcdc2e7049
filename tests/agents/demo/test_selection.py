"""The demo's customers teach enough: their feedback passes the trainer's checks and leads to a training."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from agents.demo.customers import RATING_SHARE, _share_of
from agents.demo.shop import TASK, TEAMS, CustomerMessage, messages
from agents.trainer.dataset import Pool, reason_to_decline, select
from schemas.features import Example, Interaction, Stamp
from schemas.policies import TrainerPolicy
from schemas.tasks import Task

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ROUTING = Task(name=TASK, instruction="Which team handles this message?", metric="exact_match", labels=TEAMS)
POLICY = TrainerPolicy(minimum_rows=40, replay_share=0.4)


def rated(some: list[CustomerMessage]) -> Iterator[Interaction]:
    """The feedback of customers, to a champion that is right but for skates."""
    for number, each in enumerate(some):
        if _share_of(each.id) >= RATING_SHARE:
            continue
        stamp = Stamp(time=NOW + timedelta(seconds=number), event=each.id)
        right = each.label != "skates"
        yield Interaction(
            answer_id=each.id, outcome="approved" if right else "corrected", task=TASK, user=each.user,
            question=each.text, answer=each.label if right else "repairs", rating="up" if right else "down",
            rating_stamp=stamp, rated_by=each.user, rating_trust="owner", correction=None if right else each.label,
            correction_stamp=None if right else stamp, corrected_by=each.user, correction_trust="owner",
        )  # fmt: skip


def test_both_trainings_of_the_demo_have_enough_rows_and_nearly_all_that_customers_say():
    made = [
        Example(example_id=each.id, task=TASK, input=each.text, output=each.label, origin=None, submitted_at=NOW)
        for each in messages("examples")
    ]
    first = select(ROUTING, Pool(examples=made), POLICY, secret="s")
    said = list(rated(messages("canary_first", "ordinary", "drift_new")))
    second = select(ROUTING, Pool(interactions=said, learned=first.rows, learned_at=NOW), POLICY, secret="s")

    for chosen in (first, second):
        assert reason_to_decline(chosen, ROUTING, POLICY) is None
    assert sum(first.left_out.values()) <= 0.05 * len(made)
    assert sum(second.left_out.values()) <= 0.05 * len(said)
    assert sum(row.output == "skates" for row in second.train) >= 60
    assert sum(row.output == "skates" for row in second.holdout) >= 5
    assert {row.row_id for row in first.train} <= {row.row_id for row in second.train}
