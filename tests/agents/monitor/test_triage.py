"""The remedy is right in at least nine of ten situations of each kind.

The rules and their thresholds were chosen on the situations at even places; they are scored on the others.
"""

from __future__ import annotations

import pytest

from tests.agents.monitor.situations import SITUATIONS, triaged

SEEDS = 3


@pytest.mark.parametrize("kind", SITUATIONS)
def test_nine_of_ten_situations_get_the_right_remedy(kind: str):
    found = [
        (triaged(situation, 1000 + 100 * place + seed)[0].remedy, situation.remedy)
        for place, situation in list(enumerate(SITUATIONS[kind]))[1::2]
        for seed in range(SEEDS)
    ]
    assert len(SITUATIONS[kind]) >= 12
    right = sum(remedy == wanted for remedy, wanted in found)
    assert right >= 0.9 * len(found), found


def test_what_is_to_be_labelled_is_new_and_unrated():
    unrated = SITUATIONS["label"][1]
    verdict, rows = triaged(unrated, 5)
    assert verdict.to_label
    named = {row.answer_id for row in verdict.to_label}
    assert {row.outcome for row in rows if row.answer_id in named} == {"unrated"}
    new = {row.answer_id for row in rows if int((row.question or "").split()[-1].rstrip("?")) >= 600}
    assert len(named & new) >= 0.8 * len(named)
