"""What hostile users reach, in a few runs on the demo's messages; ``benchmarks.poison`` does many on others."""

from __future__ import annotations

import numpy as np
import pytest

from agents.demo.shop import messages
from benchmarks import poison
from schemas.policies import TrainerPolicy, ValidatorPolicy

RUNS = 3


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo has a thousand messages."""
    monkeypatch.setattr(poison, "LEARNED", 250)
    monkeypatch.setattr(poison, "ASKED", 240)
    monkeypatch.setattr(poison, "USERS", 30)


def outcomes(attack: str) -> list[poison.Outcome]:
    some = sorted({(each.text, each.label) for each in messages()})
    found = []
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        world = poison.make_world(some, rng, new=True, clean=300)
        policies = {"policy": TrainerPolicy(), "gate": ValidatorPolicy()}
        found.append(poison.simulate(world, poison.ATTACKS[attack], rng, **policies))  # type: ignore[arg-type]  # both
    return found


@pytest.mark.parametrize("attack", list(poison.ATTACKS))
def test_what_is_released_under_an_attack_is_not_worse_than_the_champion(attack: str):
    found = outcomes(attack)

    assert not [each for each in found if each.worse]
    assert sum(each.honest_out for each in found) <= 0.05 * sum(each.honest_rows for each in found)


@pytest.mark.parametrize("attack", ["one user, 20 % of all corrections", "200 chosen inputs of one user"])
def test_most_of_one_users_hostile_rows_are_quarantined(attack: str):
    found = outcomes(attack)

    assert sum(each.attack_out for each in found) >= 0.8 * sum(each.attack_rows for each in found)
    assert min(each.attack_rows for each in found) > 0
