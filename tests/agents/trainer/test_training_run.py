"""The trainer's run as it really is, on a tiny model: from rows in SQL to an adapter in the registry or a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.delivery.progress import read_progress
from agents.wiring.trainer import train
from infra.adapters.files import read_card, verify
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings, load
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.migrate import migrate
from schemas.features import Example, Interaction, Stamp

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CONFIGURATION = """\
[model]
base = "{model}"

[trainer]
learning_rate = 2e-2
batch_rows = 4

[tasks.routing]
instruction = "the man is"
metric = "exact_match"
labels = ["rain", "stone"]

[tasks.routing.trainer] # which both the dataset and LoRA must heed
minimum_rows = 8
epochs = 2
max_tokens = 40
"""
WORDS = ("hammer", "river", "soup", "pot", "glasses", "tools", "old", "blow")


class Home:
    """A home with tables, rows and a registry."""

    def __init__(self, settings: Settings, registry: MlflowRegistry) -> None:
        self.settings, self.registry = settings, registry
        migrate(settings.sql_url())

    def publish(self, examples: Iterable[Example] = (), interactions: Iterable[Interaction] = ()) -> None:
        database = Database(self.settings.sql_url())
        table = SqlFeatureTable(database)
        with database.transaction():
            for example in examples:
                table.put_example(example)
            for row in interactions:
                table.put_interaction(row)
        database.close()

    def folder(self, run_id: str) -> Path:
        folder = self.settings.home / "work" / "runs" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def train(self, run_id: str = "r1") -> dict[str, Any]:
        return train({"config": None, "task": "routing", "cause": "drift-1"}, self.folder(run_id))


@pytest.fixture
def home(tiny_model: Path, registry_in: Any, tmp_path: Path) -> Home:
    folder = tmp_path / "home"
    registry = registry_in(folder)
    (folder / "everlearn.toml").write_text(CONFIGURATION.format(model=tiny_model))
    return Home(load(home=folder, environ={}), registry)


def example(number: int, *, output: str = "", text: str = "", minutes: float = 0.0) -> Example:
    one, two = WORDS[number % 8], WORDS[number // 8 % 8]
    return Example(
        example_id=f"e{number}-{minutes}",
        task="routing",
        input=text or f"the {one} and the {two}",
        output=output or ("rain" if number % 2 else "stone"),
        origin=None,
        submitted_at=NOW + timedelta(minutes=minutes),
    )


def test_examples_become_an_adapter_with_its_lineage_in_the_registry_and_no_pickle(home: Home):
    home.publish([example(number) for number in range(40)])

    result = home.train()

    adapter_id, dataset_id = result["adapter_id"], result["dataset_id"]
    path = home.settings.adapters_folder / adapter_id
    verify(adapter_id, path)
    assert {each.name for each in path.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "everlearn.json"
    }  # fmt: skip
    assert (read_card(path).task, read_card(path).base_model) == ("routing", result["base_model"])
    record = home.registry.find(adapter_id)
    assert record is not None
    assert (record.state, record.cause, record.run_id, record.dataset_id) == ("trained", "drift-1", "r1", dataset_id)
    assert record.metrics["tokens"] > 0
    assert record.metrics["loss"] > 0
    manifest = json.loads((home.settings.datasets_folder / dataset_id / "manifest.json").read_text())
    assert record.metrics["steps"] == 2 * math.ceil(manifest["train_rows"] / 4)
    assert not list(home.folder("r1").glob("checkpoint-*"))
    assert 0.9 < read_progress(home.folder("r1"))["done"] < 1


def test_what_was_trained_on_is_not_trained_on_again_but_something_new_is_with_a_replay(home: Home):
    home.publish([example(number) for number in range(40)])
    first = home.train()

    assert "nothing new since" in home.train("r2")["declined"]

    home.registry.judge(first["adapter_id"], state="validated", scores={}, reasons=(), report_uri=None)
    assert "nothing new since" in home.train("r3")["declined"]
    home.registry.set_aliases("routing", champion=first["adapter_id"], challenger=None)
    assert "nothing new to learn since" in home.train("r4")["declined"]
    corrected = [
        Interaction(
            answer_id=f"a{number}", outcome="corrected", task="routing", question=f"soup is {WORDS[number]} old",
            answer="stone", correction="rain" if number % 3 else "stone", last_event_at=NOW + timedelta(minutes=9),
            correction_stamp=Stamp(time=NOW + timedelta(minutes=9), event=f"f{number}"),
        )
        for number in range(8)
    ]  # fmt: skip
    home.publish(
        [example(number, minutes=5, text=f"river {WORDS[number % 8]} river") for number in range(8)], corrected
    )

    second = home.train("r5")

    manifest = json.loads((home.settings.datasets_folder / second["dataset_id"] / "manifest.json").read_text())
    assert second["adapter_id"] != first["adapter_id"]
    before = json.loads((home.settings.datasets_folder / first["dataset_id"] / "manifest.json").read_text())
    replayed = manifest["train_rows"] + manifest["holdout_rows"] - manifest["fresh_rows"]
    assert manifest["fresh_rows"] >= 12
    assert replayed == before["train_rows"]


def test_a_run_that_was_killed_ends_with_the_dataset_that_it_began_with(home: Home):
    home.publish([example(number) for number in range(40)])
    begun = home.train()["dataset_id"]
    home.publish([example(number, minutes=1, text=f"pot {WORDS[number]} pot") for number in range(8)])

    assert home.train()["dataset_id"] == begun


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "0 rows to train on, and 8 are needed"),
        ([example(1)], "are needed besides the"),
        ([example(number, output="river") for number in range(40)], "40 with an answer that is none of the task's"),
        ([example(number, text=f"rain {number} " * 40) for number in range(40)], "too long"),
        ([example(number, output="rain") for number in range(40)], "rows say 'rain'"),
    ],
    ids=["none", "one", "other labels", "too long", "one-sided"],
)
def test_rows_that_cannot_be_trained_on_are_declined_in_one_line_and_leave_nothing(
    home: Home, examples: list[Example], words: str
):
    home.publish(examples)

    reason = home.train()["declined"]

    assert words in reason
    assert "\n" not in reason
    assert not home.settings.adapters_folder.exists()
    assert not home.settings.datasets_folder.exists()
    assert home.registry.adapters() == []
