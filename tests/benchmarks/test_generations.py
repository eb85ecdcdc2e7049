"""Later generations are trained on the champion's rows and on what is new, as well as if all had come at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from agents.demo.shop import TEAMS, messages
from agents.trainer.dataset import Pool, Selection, select
from benchmarks.poison import Learner
from schemas.features import Interaction, Stamp
from schemas.policies import TrainerPolicy
from schemas.tasks import Task

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TASK = Task(name="routing", instruction="Which team?", metric="exact_match", labels=TEAMS)


def test_the_third_generation_answers_as_well_as_one_that_is_taught_everything_at_once():
    stages = (("orders", "delivery", "returns", "repairs"), ("courses", "account"), ("skates",))
    taught = {each.id: each for each in messages("examples", "ordinary", "drift_new")}
    judged = messages("heldout_old", "heldout_new")
    learner = Learner([each.text for each in (*taught.values(), *judged)], TEAMS)

    def said(teams: Sequence[str], at: datetime) -> list[Interaction]:
        return [
            Interaction(
                answer_id=each.id, outcome="corrected", task="routing", question=each.text, correction=each.label,
                correction_stamp=Stamp(time=at, event=each.id), user=each.user, corrected_by=each.user,
                correction_trust="owner",
            )
            for each in taught.values()
            if each.label in teams
        ]  # fmt: skip

    def accuracy(chosen: Selection) -> float:
        answers = learner.fit(chosen.train)([each.text for each in judged])
        return float(np.mean([answer == each.label for answer, each in zip(answers, judged, strict=True)]))

    champion = Selection(rows=())
    for stage, teams in enumerate(stages):
        at = NOW + timedelta(days=stage)
        pool = Pool(interactions=said(teams, at), learned=champion.rows, learned_at=at if champion.rows else None)
        champion = select(TASK, pool, TrainerPolicy(), secret="s")
    at_once = select(TASK, Pool(interactions=said(TEAMS, NOW)), TrainerPolicy(), secret="s")

    assert accuracy(champion) >= 0.95 * accuracy(at_once) > 0.5
