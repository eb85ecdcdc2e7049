"""Which texts are nearly the same, however many there are."""

from __future__ import annotations

import itertools
import random

from agents.trainer.likeness import BLOCK, NEAR, Likeness, alike


def test_near_duplicates_are_all_pairs_above_the_threshold_in_rising_order_of_the_first():
    dice = random.Random(1)
    groups = [[str(dice.randrange(10**9)) for _ in range(12)] for _ in range(BLOCK // 2)]
    texts = [" ".join([*group[:11], dice.choice((group[11], "other"))]) for group in groups for _ in range(3)]
    assert len(texts) > BLOCK, "so many that they are compared in several blocks"

    found = list(Likeness(texts).near_duplicates())

    # Texts of different groups share nothing.
    within = (itertools.combinations(range(at, at + 3), 2) for at in range(0, len(texts), 3))
    pairs = itertools.chain.from_iterable(within)
    assert sorted(found) == [(one, other) for one, other in pairs if alike(texts[one], texts[other]) >= NEAR]
    assert [one for one, _ in found] == sorted(one for one, _ in found)
    late = len(texts) - 100
    assert list(Likeness(texts).near_duplicates(late)) == [pair for pair in found if pair[1] >= late]
