"""How often a debounced verdict is wrong without drift, simulated with windows that overlap as they really do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from agents.monitor.differences import kinds_differ, rate_rose, rejected
from agents.monitor.verdict import decide
from schemas.drift import Finding
from tests.agents.monitor.rows import POLICY, ROUTING

ALPHA = 0.1
"""Ten times the default, so that a few hundred trials are enough."""
REFERENCE, CURRENT = 100, 60
TRIALS = 500


def findings(bad: np.ndarray, labels: np.ndarray, end: int) -> list[Finding]:
    """Runs two of the tests on the reference and the window that ends there."""
    window = slice(end - CURRENT, end)
    differences = {
        "outcomes": rate_rose((int(bad[:REFERENCE].sum()), REFERENCE), (int(bad[window].sum()), CURRENT)),
        "answers": kinds_differ(labels[:REFERENCE].tolist(), labels[window].tolist(), 199),
    }
    flags = rejected([each.p_value for each in differences.values()], ALPHA)
    return [
        Finding(kind=kind, p_value=each.p_value, effect=each.effect, flagged=flagged, detail="")
        for flagged, (kind, each) in zip(flags, differences.items(), strict=True)
    ]


def trials(every_rows: int) -> Iterator[list[list[Finding]]]:
    """Returns the findings of three successive windows, newest first, of answers without drift."""
    random = np.random.default_rng(11)
    rows = REFERENCE + CURRENT + 2 * every_rows
    for _ in range(TRIALS):
        bad, labels = random.random(rows) < 0.3, random.choice(["a", "b", "c"], rows)
        yield [findings(bad, labels, rows - back * every_rows) for back in range(3)]


@pytest.mark.parametrize("every_rows", [15, 60])
def test_the_stated_bound_holds_and_debouncing_earns_its_keep(every_rows):
    windows = list(trials(every_rows))
    policy = POLICY.model_copy(update={"alpha": ALPHA})
    figures = {"rated": 60.0, "corrected": 20.0}
    single = np.mean([any(each.flagged for each in newest) for newest, *_ in windows])
    debounced = np.mean([decide(each, figures, ROUTING, policy).kind is not None for each in windows])
    assert single <= ALPHA + 2.6 * np.sqrt(ALPHA * (1 - ALPHA) / TRIALS)
    assert debounced <= ALPHA * policy.of / policy.flags
    assert debounced <= single
