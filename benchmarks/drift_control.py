"""A real shift of data without a drop of quality must start no training: ``python -m benchmarks.drift_control``.

The rows are people from the US census, in the order of their years (drift_employment_ma in ../shared), with what a
model predicted about them and what was true. The population changes from 2015 to 2018, and the share of wrong
predictions does not. A household is a user, each of its people a question; a wrong prediction is a bad rating. The
households of a year come in a random order: in the file, all institutions of 2018 stand together.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Sequence

import numpy as np

from agents.monitor.traffic import Questions, Stream
from benchmarks.drift_rates import check
from benchmarks.retrieval_data import DATA
from schemas.policies import MonitorPolicy

FOLDER = DATA / "drift_employment_ma"
FILES = ("reference_2015.csv.gz", "production_2016_2018.csv.gz")
FEATURES = 16
"""The columns after the first one."""


def people(reference: int, most: int | None = None) -> tuple[Stream, Questions]:
    """Returns the people as questions of one hour: so many of 2015 first, and then the first of the later years."""
    random = np.random.default_rng(0)
    before, after = (_shuffled(_rows(name), random) for name in FILES)
    rows = [*before[:reference], *after[:most]]
    features = np.array([list(row.values())[1 : FEATURES + 1] for row in rows], dtype=np.float64)
    centred = (features - features[:reference].mean(axis=0)) / np.maximum(features[:reference].std(axis=0), 1e-9)
    predicted = np.array([row["prediction"] == "1" for row in rows])
    wrong = np.array([row["prediction"] != row["employed"] for row in rows])
    number = np.arange(len(rows))
    household = np.cumsum([_begins_household(row) for row in rows])
    stream = Stream(
        seconds=number / len(rows) * 3600,
        user=household,
        session=household,
        question=number,
        rated=np.ones(len(rows), dtype=bool),
        bad=wrong,
        declined=np.zeros(len(rows), dtype=bool),
    )
    vectors = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)
    return stream, Questions(vectors=vectors, topic=15 * predicted.astype(np.int64), new_topics=0)


def _rows(name: str) -> list[dict[str, str]]:
    with gzip.open(FOLDER / name, "rt", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _begins_household(row: dict[str, str]) -> bool:
    """Whether a person is the first of a household, or lives in an institution."""
    return row["RELP"] in ("0", "16", "17")


def _shuffled(rows: list[dict[str, str]], random: np.random.Generator) -> list[dict[str, str]]:
    """Returns the households of each year in a random order."""
    year = np.array([int(row["year"]) for row in rows])
    household = np.cumsum([_begins_household(row) for row in rows])
    place = random.permutation(int(household[-1]) + 1)[household]
    return [rows[each] for each in np.lexsort((np.arange(len(rows)), place, year))]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=2000, help="people between two checks (default 2,000)")
    parser.add_argument("--most", type=int, help="people after 2015 (default: all 208,892)")
    options = parser.parse_args(arguments)
    policy = MonitorPolicy()
    reference = policy.longest_reference_rows
    stream, asked = people(reference, options.most)
    checks = [
        check(stream, asked, answers, policy)
        for answers in range(reference + options.every, len(stream) + 1, options.every)
    ]
    drifted = [each for each in checks if each.drifted]
    kinds = sorted({kind for each in drifted for kind in each.drifted})
    print(f"{len(checks)} checks, {len(drifted)} say drift ({', '.join(kinds) or 'of no kind'}), ", end="")
    print(f"{sum(each.trains for each in checks)} may start a training")


if __name__ == "__main__":
    main()
