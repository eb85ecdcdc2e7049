"""Later generations keep what the first could: they are trained on the champion's rows and on what is new."""

from __future__ import annotations

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


def test_the_third_generation_keeps_what_the_first_could_and_knows_what_came_since():
    stages = (("orders", "delivery", "returns", "repairs"), ("courses", "account"), ("skates",))
    taught = {each.id: each for each in messages("examples", "ordinary", "drift_new")}
    judged = messages("heldout_old", "heldout_new")
    learner = Learner([each.text for each in (*taught.values(), *judged)], TEAMS)
    champion: Selection | None = None
    scores: list[list[float]] = []
    for stage, teams in enumerate(stages):
        at = NOW + timedelta(days=stage)
        new = [
            Interaction(
                answer_id=each.id, outcome="corrected", task="routing", question=each.text, correction=each.label,
                correction_stamp=Stamp(time=at, event=each.id), user=each.user, corrected_by=each.user,
                correction_trust="owner",
            )
            for each in taught.values()
            if each.label in teams
        ]  # fmt: skip
        learned = champion.rows if champion is not None else ()
        pool = Pool(interactions=new, learned=learned, learned_at=at if learned else None)
        champion = select(TASK, pool, TrainerPolicy(), secret="s")
        predict = learner.fit(champion.train)
        scores.append([])
        for earlier in stages[: stage + 1]:
            some = [each for each in judged if each.label in earlier]
            said = predict([each.text for each in some])
            scores[-1].append(float(np.mean([one == each.label for one, each in zip(said, some, strict=True)])))

    assert scores[0][0] > 0.6
    assert scores[1][0] >= 0.9 * scores[0][0]
    assert scores[2][0] >= 0.9 * scores[0][0]
    assert scores[2][1] >= 0.9 * scores[1][1]
    assert scores[2][2] > 0.7
