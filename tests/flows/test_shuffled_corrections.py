"""Corrections that do not belong to their questions: the training runs, and validation rejects the adapter."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.wiring.trainer import train
from agents.wiring.validator import validate
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings, load
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.migrate import migrate
from schemas.event import JsonObject
from schemas.features import Interaction, Stamp
from tests.fixtures.registry import RegistryIn
from tests.flows.loop_scene import some

pytestmark = [pytest.mark.flow, pytest.mark.long, pytest.mark.timeout(900)]
NOW = datetime(2026, 5, 1, tzinfo=UTC)
CONFIGURATION = """\
[model]
folder = "{models}"

[trainer]
holdout_share = 0.3
learning_rate = 2e-3
batch_rows = 16
epochs = 2

[validator]
max_general_loss = 2.0

[tasks.routing]
instruction = "Which team handles this message?"
metric = "exact_match"
labels = ["delivery", "returns", "account", "skates"]
max_tokens = 6
"""


@pytest.fixture
def settings(models_folder: Path, tmp_path: Path, registry_in: RegistryIn) -> Settings:
    home = tmp_path / "home"
    registry_in(home)
    (home / "everlearn.toml").write_text(CONFIGURATION.format(models=models_folder))
    settings = load(home, environ={})
    migrate(settings.sql_url())
    return settings


def test_shuffled_corrections_are_refused_with_the_reason(settings: Settings) -> None:
    _correct_at_random(settings)

    trained = _run(train, settings, "train", task="routing", cause="e1")
    verdict = _run(
        validate,
        settings,
        "validate",
        task="routing",
        adapter_id=trained["adapter_id"],
        dataset_id=trained["dataset_id"],
        champion=None,
    )

    assert verdict["accepted"] is False
    assert any("dealt out at random would fit as well" in reason for reason in verdict["reasons"])
    registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
    (record,) = registry.adapters("routing")
    registry.close()
    assert (record.adapter_id, record.state) == (trained["adapter_id"], "rejected")
    assert not (settings.adapters_folder / record.adapter_id / "probes.json").exists()
    assert Path(verdict["report_uri"].removeprefix("file://")).is_file()


def _correct_at_random(settings: Settings) -> None:
    """Stores a correction for each question, in a random order of the corrections."""
    asked = [*some("ordinary", "canary_old", each=30), *some("drift_new", each=30)]
    corrections = [message.label for message in asked]
    random.Random(1).shuffle(corrections)
    database = Database(settings.sql_url())
    table = SqlFeatureTable(database)
    for number, (message, correction) in enumerate(zip(asked, corrections, strict=True)):
        at = NOW + timedelta(seconds=number)
        table.put_interaction(
            Interaction(
                answer_id=f"a{number}",
                revision=2,
                outcome="corrected",
                task="routing",
                question=message.text,
                answer="?",
                answered_at=at,
                answer_stamp=Stamp(time=at, event=f"q{number}"),
                correction=correction,
                correction_stamp=Stamp(time=at, event=f"f{number}"),
                first_event_at=at,
                last_event_at=at,
            )
        )
    database.close()


def _run(
    work: Callable[[JsonObject, Path], JsonObject], settings: Settings, run_id: str, **arguments: Any
) -> JsonObject:
    """Does the work of a run, and returns the result that its child process would have."""
    folder = settings.home / "work" / "runs" / run_id
    folder.mkdir(parents=True)
    result: JsonObject = work({"config": str(settings.config), **arguments}, folder)
    return dict(json.loads(json.dumps(result)))
