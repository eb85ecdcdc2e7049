"""What the promoter deletes of adapters, datasets, releases and the registry, and above all what it never deletes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from agents.promoter import changes
from agents.promoter.keeping import GRACE, Keeper
from infra.memory.database import MemoryDatabase
from infra.memory.datasets import MemoryDatasets
from infra.memory.registry import MemoryRegistry
from infra.memory.releases import MemoryReleases
from infra.memory.runs import MemoryRunStore
from schemas.datasets import DatasetRow
from schemas.errors import Unavailable
from schemas.policies import RetentionPolicy
from schemas.registry import AdapterRecord, AdapterState
from schemas.release_state import Release, ReleaseChange
from tests.agents.promoter.room import START

POLICY = RetentionPolicy(
    rejected_adapter_days=10, adapter_days=60, dataset_days=30, registry_days=365, release_days=20, rollbacks=3
)
TASK = "routing"
DAY = timedelta(days=1)


class Folders:
    """The folder of adapters. The ids in ``stuck`` cannot be deleted."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.stuck: set[str] = set()

    def ids(self) -> list[str]:
        return sorted(self.there)

    def remove(self, adapter_id: str) -> bool:
        if adapter_id in self.stuck:
            raise Unavailable("the disk refuses")
        known = adapter_id in self.there
        self.there.discard(adapter_id)
        return known


class Home:
    """Adapters with their datasets, and a release."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.releases = MemoryReleases(self.database)
        self.registry, self.folders = MemoryRegistry(), Folders()
        self.datasets, self.runs = MemoryDatasets(self.database), MemoryRunStore(self.database)
        self.dataset_of: dict[str, str] = {}
        self.logged: list[str] = []
        self.keeper = Keeper(
            releases=self.releases, registry=self.registry, adapters=self.folders, datasets=self.datasets,
            runs=self.runs, transaction=self.database.transaction, policy=POLICY,
            log=lambda event, **fields: self.logged.append(event), baseline=lambda task: None,
        )  # fmt: skip

    def train(self, adapter_id: str, *, days: float, state: AdapterState = "validated", task: str = TASK) -> str:
        """Trains an adapter so many days ago; returns the id of its dataset."""
        at = START - timedelta(days=days)
        row = DatasetRow(
            row_id=adapter_id, input=adapter_id, output="x", origin="example", origin_id="e", at=at, split="train"
        )
        dataset_id = self.datasets.put(task, [row], created_at=at).dataset_id
        self.dataset_of[adapter_id] = dataset_id
        self.registry.register(
            AdapterRecord(
                adapter_id=adapter_id, task=task, base_model="m", dataset_id=dataset_id, run_id=f"run-{adapter_id}",
                size_bytes=1, created_at=at,
            )
        )  # fmt: skip
        self.registry.judge(adapter_id, state=state, scores={}, reasons=(), report_uri=None)
        self.folders.there.add(adapter_id)
        return dataset_id

    def release(self, days: float = 0, **state: object) -> Release:
        """Makes the next release of the task, so many days ago, and sets the registry's aliases by it."""
        known = self.releases.current(TASK)
        at = START - timedelta(days=days)
        after = replace(known, sequence=known.sequence + 1, changed_at=at, **state)  # type: ignore[arg-type]  # any field
        with self.database.transaction():
            self.releases.change(after, event_type="everlearn.adapter.promoted.v1", cause=None, at=at)
        self.registry.set_aliases(TASK, champion=after.champion, challenger=after.challenger)
        return after

    def removed(self, now: datetime = START) -> set[str]:
        """The adapters whose files are deleted by two rounds, far enough apart."""
        before = set(self.folders.there)
        self.keeper.remove_adapters(now)
        assert self.folders.there == before  # the first round only marks
        self.keeper.remove_adapters(now + GRACE)
        return before - self.folders.there

    def datasets_left(self) -> set[str]:
        return {each.dataset_id for each in self.datasets.older(START + 1000 * DAY)}


@pytest.fixture
def home() -> Home:
    return Home()


def test_nothing_that_serves_or_may_serve_again_is_deleted(home: Home) -> None:
    for name in ("champion", "challenger", "previous", "earlier", "earliest", "waiting", "unreleased"):
        home.train(name, days=500)
    home.release(
        champion="champion", challenger="challenger", previous="previous", earlier=("earlier", None, "earliest"),
        waiting="waiting", stage="experiment", share=0.5,
    )  # fmt: skip
    assert home.removed() == {"unreleased"}
    assert home.registry.find("unreleased") is not None


def test_rejected_adapters_go_sooner_than_those_that_might_still_be_released(home: Home) -> None:
    for days in (9, 11, 59, 61):
        home.train(f"rejected {days}", days=days, state="rejected")
        home.train(f"validated {days}", days=days)
        home.train(f"trained {days}", days=days, state="trained")
    assert home.removed() == {"rejected 11", "rejected 59", "rejected 61", "validated 61", "trained 61"}


@pytest.mark.parametrize(("agent", "argument"), [("validator", "adapter_id"), ("validator", "champion")])
def test_an_adapter_that_a_run_works_with_stays(home: Home, agent: str, argument: str) -> None:
    home.train("old", days=500)
    home.runs.add(agent, "r", "validate", {"task": TASK, argument: "old"}, {}, START)
    assert home.removed() == set()


def test_an_adapter_that_is_promoted_after_its_mark_stays_and_loses_the_mark(home: Home) -> None:
    home.train("old", days=500)
    home.keeper.remove_adapters(START)
    assert home.registry.adapters()[0].removed_at == START
    home.release(champion="old")
    home.keeper.remove_adapters(START + GRACE)
    assert home.folders.there == {"old"}
    assert home.registry.adapters()[0].removed_at is None


def test_an_alias_alone_keeps_an_adapter(home: Home) -> None:
    """The promoter may have changed the release a moment ago: until the alias follows, nothing of the task goes."""
    for name in ("before", "after", "other"):
        home.train(name, days=500)
    home.release(champion="before")
    with home.database.transaction():
        home.releases.change(
            Release(task=TASK, sequence=2, champion="after"), event_type="promoted", cause=None, at=START
        )
    assert home.removed() == set()
    assert "nothing is deleted: the registry and the releases differ" in home.logged
    home.registry.set_aliases(TASK, champion="after", challenger=None)
    assert home.removed() == {"before", "other"}


def test_with_the_database_of_another_home_nothing_is_deleted(home: Home) -> None:
    home.train("champion", days=500)
    home.train("old", days=500)
    home.release(champion="champion")
    other = Home()  # an empty database; the registry and the files are the old ones
    for name in ("registry", "adapters"):
        setattr(other.keeper, f"_{name}", {"registry": home.registry, "adapters": home.folders}[name])
    for round_ in range(3):
        assert other.keeper.remove_adapters(START + round_ * DAY) == other.keeper.forget_adapters(START) == 0
    assert home.folders.there == {"champion", "old"}


def test_with_an_empty_registry_no_dataset_of_a_released_adapter_is_deleted(home: Home) -> None:
    dataset = home.train("champion", days=500)
    home.release(champion="champion")
    home.registry._adapters.clear()
    assert home.keeper.remove_datasets(START) == 0
    assert home.datasets_left() == {dataset}


def test_adapters_that_the_registry_does_not_know_are_left_alone(home: Home) -> None:
    home.folders.there.add("installed by hand")
    home.train("old", days=500)
    assert home.removed() == {"old"}


def test_an_adapter_that_cannot_be_deleted_does_not_keep_the_others(home: Home) -> None:
    for name in "abc":
        home.train(name, days=500)
    home.folders.stuck = {"a"}
    assert home.removed() == {"b", "c"}
    home.folders.stuck = set()
    home.keeper.remove_adapters(START + 2 * GRACE)
    assert home.folders.there == set()


def test_the_dataset_of_every_adapter_with_files_outlives_it(home: Home) -> None:
    datasets = {name: home.train(name, days=500) for name in ("champion", "previous", "old", "newest validated")}
    home.release(champion="champion", previous="previous")
    home.registry.judge("old", state="rejected", scores={}, reasons=(), report_uri=None)
    assert home.keeper.remove_datasets(START) == 0
    assert home.removed() == {"old", "newest validated"}
    assert home.keeper.remove_datasets(START) == 1
    assert home.datasets_left() == set(datasets.values()) - {datasets["old"]}


def test_the_newest_validated_adapters_dataset_outlives_its_files(home: Home) -> None:
    """The trainer reads from it what was learned already."""
    old, newest = home.train("old", days=500), home.train("newest", days=400)
    home.removed()
    home.keeper.remove_datasets(START)
    assert home.folders.there == set()
    assert home.datasets_left() == {newest}
    assert old != newest


@pytest.mark.parametrize("agent", ["trainer", "validator"])
def test_no_dataset_is_deleted_while_a_training_or_a_validation_of_its_task_is_under_way(
    home: Home, agent: str
) -> None:
    dataset = home.train("old", days=500, state="rejected")
    home.removed()
    home.runs.add(agent, "r", "train", {"task": TASK}, {}, START)
    assert home.keeper.remove_datasets(START) == 0
    home.runs.claim(agent, "w", now=START, lease_seconds=1)
    assert home.keeper.remove_datasets(START) == 0
    assert home.datasets_left() == {dataset}
    home.runs.finish("r", 1, state="done", result={}, now=START)
    assert home.keeper.remove_datasets(START) == 1


def test_a_young_dataset_stays_without_an_adapter(home: Home) -> None:
    row = DatasetRow(row_id="r", input="i", output="o", origin="example", origin_id="e", at=START, split="train")
    home.datasets.put(TASK, [row], created_at=START - 29 * DAY)
    assert home.keeper.remove_datasets(START) == 0
    assert home.keeper.remove_datasets(START + 2 * DAY) == 1


def test_the_registry_forgets_what_is_gone_for_a_year_but_no_champion_and_not_the_last_validated_one(
    home: Home,
) -> None:
    for name, days in (("champion", 900), ("old", 800), ("newest validated", 700)):
        home.train(name, days=days)
    home.train("rejected", days=600, state="rejected")
    home.release(champion="champion")
    assert home.keeper.forget_adapters(START) == 0  # their files are there
    assert home.removed() == {"old", "newest validated", "rejected"}
    assert home.keeper.forget_adapters(START) == 2
    assert {each.adapter_id for each in home.registry.adapters()} == {"champion", "newest validated"}
    assert home.registry.adapters()[-1].aliases == ("champion",)


def test_the_history_loses_old_lines_and_rollbacks_stay_possible(home: Home) -> None:
    for name in "abcd":
        home.train(name, days=100)
        home.release(days=90, champion=name, previous=home.releases.current(TASK).champion)
    expected = changes.with_earlier(home.releases.current(TASK), home.releases.history(TASK)).earlier
    assert home.keeper.prune_history(START) == 3
    state = home.releases.current(TASK)
    assert (state.champion, state.previous, state.earlier) == ("d", "c", expected) == ("d", "c", ("b", "a", None))
    assert [each.release.sequence for each in home.releases.history(TASK)] == [4]
    assert home.removed() == set()


def test_the_lines_of_the_canary_that_is_under_way_and_young_ones_stay(home: Home) -> None:
    for name in "ab":
        home.train(name, days=90)
    home.release(days=90, champion="a", earlier=())
    home.release(days=80, challenger="b", stage="canary", since_sequence=2)
    home.release(days=1, share=0.5)
    home.keeper.prune_history(START)
    assert [each.release.sequence for each in home.releases.history(TASK)] == [3, 2]


def _walk(seed: int, rollbacks: int, steps: int) -> tuple[Release, Sequence[ReleaseChange]]:
    """A random walk of promotions and rollbacks; the history is newest first."""
    chance = random.Random(seed)
    release, history = Release(task=TASK, earlier=()), list[ReleaseChange]()
    for step in range(steps):
        if release.champion is not None and chance.random() < 0.45:
            change = changes.return_to_previous(release, reason="", at=START)
        else:
            change = changes.promote(release, f"a{step}", reason="", at=START, rollbacks=rollbacks)
        release = change.release
        history.insert(0, ReleaseChange(release=release, event_type=change.kind.type, cause=None, at=START))
    return release, history


@pytest.mark.parametrize("seed", range(40))
def test_the_state_knows_the_same_champions_as_the_whole_history(seed: int) -> None:
    release, history = _walk(seed, rollbacks=1000, steps=60)
    assert release.earlier is not None
    assert list(release.earlier) == changes.champions(history)[:-2][::-1]
    assert changes.with_earlier(replace(release, earlier=None), history) == release


@pytest.mark.parametrize("seed", range(20))
def test_no_more_champions_are_kept_than_rollbacks_allow_and_the_last_rollback_ends_at_the_base_model(
    seed: int,
) -> None:
    release, _ = _walk(seed, rollbacks=3, steps=60)
    assert len(release.adapters) <= 4
    for _ in range(4):
        release = changes.return_to_previous(release, reason="", at=START).release
    assert (release.champion, release.previous, release.earlier) == (None, None, ())
