"""One small block of each kind of the campaign, with a seed that stays. ``python -m benchmarks.campaign`` runs more."""

from __future__ import annotations

import pytest

from benchmarks.campaign import clocks, kills, results, slow_consumer
from schemas.event import JsonObject

pytestmark = [pytest.mark.flow, pytest.mark.long, pytest.mark.timeout(900)]
WRONG = tuple(name for name in results.COUNTED if name != "events")


def wrong(result: JsonObject) -> dict[str, object]:
    """Returns every count that is not 0, with what was found."""
    counts = {name: result[name] for name in WRONG if result[name]}
    return {**counts, "found": result["found"]} if counts else {}


@pytest.mark.usefixtures("models_folder")
def test_kills_at_random_moments_lose_double_and_give_up_nothing() -> None:
    result = kills.block(seed=2026, kills=20)
    assert wrong(result) == {}
    assert sum(result["kills"].values()) == 20


def test_a_consumer_that_is_slower_than_its_producer_keeps_its_memory_and_reports_its_lag() -> None:
    assert wrong(slow_consumer.block(seed=1, per_second=1.0, pause_seconds=0.004)) == {}


def test_clocks_that_are_minutes_wrong_and_jump_lose_double_and_silence_nothing() -> None:
    result = clocks.block(seed=1, seconds=60)
    assert wrong(result) == {}
    assert result["done"]["ticks"] > 10
