"""What every registry does, and that MLflow's may be used by many processes at once."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from infra.memory.registry import MemoryRegistry
from infra.registry.mlflow import MlflowRegistry
from schemas.errors import AdapterMissing
from schemas.registry import AdapterRecord, ModelRecord
from schemas.tasks import TaskFingerprint

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
_numbers = itertools.count(1)


def adapter(task: str, letter: str = "a", **changes: object) -> AdapterRecord:
    """A record of its own task: the tests share one registry, because MLflow takes seconds to make one."""
    record = AdapterRecord(
        adapter_id=f"{task}-{letter}",
        task=task,
        base_model="tiny",
        dataset_id="d" * 32,
        run_id=f"run-{task}-{letter}",
        size_bytes=123,
        created_at=NOW,
        cause="event-1",
        metrics={"loss": 0.5, "seconds": 60.0},
    )
    return replace(record, **changes)  # type: ignore[arg-type]  # values of any field


def model(name: str, **changes: object) -> ModelRecord:
    return replace(ModelRecord(name=name, location="/models/m", size_bytes=9, created_at=NOW), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql"])
def registry(request, tmp_path_factory):
    if request.param == "memory":
        yield MemoryRegistry()
        return
    home = tmp_path_factory.mktemp("registry")
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("registry_template"), home, dirs_exist_ok=True)
        url = f"sqlite:///{home / 'registry.db'}"
    else:
        url = _new_postgres_database(request.getfixturevalue("postgres_url"))
    opened = MlflowRegistry(url, home / "registry")
    opened.prepare()
    yield opened
    opened.close()


def _new_postgres_database(server: str) -> str:
    from sqlalchemy import create_engine, text

    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE everlearn_registry"))
    engine.dispose()
    return make_url(server).set(database="everlearn_registry").render_as_string(hide_password=False)


@pytest.fixture
def task() -> str:
    return f"task{next(_numbers)}"


def test_a_registered_adapter_is_found_as_it_was_given_with_a_version(registry, task):
    record = adapter(task)
    assert registry.find(record.adapter_id) is None
    assert registry.register(record) == replace(record, version=1)
    assert registry.find(record.adapter_id) == replace(record, version=1)


def test_an_adapter_names_the_task_that_it_was_trained_on_and_the_one_that_it_was_validated_on(registry, task):
    trained = TaskFingerprint(instruction="Ä?", labels=("a", "b"), retrieval="off", prompt_format=1, engine="e 1")
    validated = trained.model_copy(update={"labels": ("a", "c")})
    record = registry.register(adapter(task, trained_as=trained))
    assert (record.fingerprint, registry.find(record.adapter_id).trained_as) == (trained, trained)
    judgement: dict[str, Any] = {"scores": {}, "reasons": (), "report_uri": None}
    registry.judge(record.adapter_id, state="validated", validated_as=validated, **judgement)
    found = registry.find(record.adapter_id)
    assert (found.trained_as, found.validated_as, found.fingerprint) == (trained, validated, validated)
    registry.judge(record.adapter_id, state="rejected", **judgement)
    assert registry.find(record.adapter_id).fingerprint == trained
    assert registry.register(adapter(task, "b")).fingerprint is None


def test_registering_twice_is_registering_once(registry, task):
    registry.register(adapter(task))
    registry.judge(adapter(task).adapter_id, state="validated", scores={}, reasons=(), report_uri=None)
    again = registry.register(adapter(task, created_at=NOW + timedelta(days=1)))
    assert (again.version, again.state, again.created_at) == (1, "validated", NOW)
    assert len(registry.adapters(task)) == 1


def test_versions_count_in_their_task_and_the_newest_comes_first(registry, task):
    other = f"{task}b"
    for number, letter in enumerate("abc"):
        registry.register(adapter(task, letter, created_at=NOW + timedelta(minutes=number)))
    registry.register(adapter(other))
    assert [(each.adapter_id, each.version) for each in registry.adapters(task)] == [
        (f"{task}-c", 3),
        (f"{task}-b", 2),
        (f"{task}-a", 1),
    ]
    assert [each.version for each in registry.adapters(other)] == [1]
    assert {each.task for each in registry.adapters()} >= {task, other}
    assert registry.adapters("nothing-like-it") == []


def test_a_judgement_is_kept_whole(registry, task):
    record = registry.register(adapter(task))
    reasons = ("it forgot: 'old' fell by 0.3", "zu wenig Ä")
    registry.judge(
        record.adapter_id, state="rejected", scores={"exact_match": 0.25}, reasons=reasons, report_uri="file:///r"
    )
    judged = registry.find(record.adapter_id)
    assert judged == replace(
        record, state="rejected", scores={"exact_match": 0.25}, reasons=reasons, report_uri="file:///r"
    )
    registry.judge(record.adapter_id, state="validated", scores={}, reasons=(), report_uri=None)
    assert registry.find(record.adapter_id) == replace(record, state="validated")


def test_an_adapter_that_is_not_registered_is_neither_judged_nor_served(registry, task):
    registry.register(adapter(task))
    registry.set_aliases(task, champion=f"{task}-a", challenger=None)
    with pytest.raises(AdapterMissing, match="is not in the registry"):
        registry.judge("zz", state="validated", scores={}, reasons=(), report_uri=None)
    with pytest.raises(AdapterMissing, match="is not in the registry"):
        registry.set_aliases(task, champion=None, challenger="zz")
    assert registry.find(f"{task}-a").aliases == ("champion",)


def test_aliases_follow_the_release_state(registry, task):
    for letter in "ab":
        registry.register(adapter(task, letter))
    one, two = f"{task}-a", f"{task}-b"

    def aliases() -> list[tuple[str, ...]]:
        return [registry.find(each).aliases for each in (one, two)]

    registry.set_aliases(task, champion=one, challenger=None)
    assert aliases() == [("champion",), ()]
    registry.set_aliases(task, champion=one, challenger=two)
    registry.set_aliases(task, champion=one, challenger=two)
    assert aliases() == [("champion",), ("challenger",)]
    registry.set_aliases(task, champion=two, challenger=None)
    assert aliases() == [(), ("champion",)]
    registry.set_aliases(task, champion=None, challenger=None)
    assert aliases() == [(), ()]
    registry.set_aliases(f"{task}-without-adapters", champion=None, challenger=None)


@pytest.mark.parametrize("adapter_id", ["x' OR '1'='1", "", "a\0b", "é", "x" * 1000])
def test_an_odd_id_is_not_found(registry, adapter_id):
    assert registry.find(adapter_id) is None


def test_models_are_versions_of_their_name(registry, task):
    plain = registry.register_model(model(task, location="smollm2-135m-instruct"))
    assert (plain.version, plain.scheme, plain.loss) == (1, None, None)
    small = model(task, location="/m/1-int8", scheme="int8", loss=3.75, source_version=1, size_bytes=4)
    assert registry.register_model(small) == replace(small, version=2)
    assert registry.register_model(replace(small, loss=9.0)) == replace(small, version=2)
    assert registry.register_model(model(task, location="/elsewhere")).version == 3
    assert sorted(each.version for each in registry.models(task)) == [1, 2, 3]
    assert {each.name for each in registry.models()} >= {task}
    assert registry.models(f"{task}-none") == []


def test_a_training_is_logged_once(registry, task):
    record = registry.register(adapter(task))
    params = {"learning_rate": 5e-4, "targets": "all", "note": "x" * 10_000}
    registry.log_training(record, params, {"loss": 0.5, "broken": float("nan"), "seconds": 60.0})
    registry.log_training(record, {"learning_rate": 1.0}, {"loss": 0.1})
    if isinstance(registry, MemoryRegistry):
        assert registry.trainings[record.run_id].metrics["loss"] == 0.5
        return
    (run,) = _runs(registry, task)
    assert run.info.run_name == record.run_id
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 60_000
    assert run.data.metrics == {"loss": 0.5, "seconds": 60.0}
    assert run.data.params["learning_rate"] == "0.0005"
    assert "/registry/artifacts/" in run.info.artifact_uri


def _runs(registry, task):
    def runs(client):
        return client.search_runs([client.get_experiment_by_name(f"everlearn.{task}").experiment_id])

    return registry._mlflow.read(runs)


def test_a_logging_that_was_cut_off_is_made_good(registry, task):
    if isinstance(registry, MemoryRegistry):
        pytest.skip("nothing is cut off in memory")
    record = registry.register(adapter(task))

    def begin(client):
        experiment = client.create_experiment(f"everlearn.{task}")
        client.create_run(experiment, tags={"everlearn.run_id": record.run_id})

    registry._mlflow.write(begin)
    registry.log_training(record, {"rank": 8}, {"loss": 0.5})
    (run,) = _runs(registry, task)
    assert (run.info.status, run.data.params) == ("FINISHED", {"rank": "8"})


# ---- MLflow alone ----


def test_a_removed_adapter_keeps_its_entry_and_training_it_again_brings_it_back(registry, task):
    registry.register(adapter(task))
    registry.judge(f"{task}-a", state="validated", scores={"f1": 0.5}, reasons=(), report_uri=None)
    registry.mark_removed(f"{task}-a", NOW + timedelta(days=60))
    removed = registry.find(f"{task}-a")
    assert (removed.removed_at, removed.state, removed.scores) == (NOW + timedelta(days=60), "validated", {"f1": 0.5})
    registry.mark_removed(f"{task}-a", None)
    assert registry.find(f"{task}-a").removed_at is None
    registry.mark_removed(f"{task}-a", NOW + timedelta(days=61))
    again = registry.register(adapter(task, created_at=NOW + timedelta(days=70)))
    assert (again.version, again.removed_at, again.created_at) == (1, None, NOW + timedelta(days=70))
    assert registry.find(f"{task}-a") == again
    with pytest.raises(AdapterMissing):
        registry.mark_removed("zz", NOW)


def test_an_entry_is_forgotten_with_its_training_but_not_one_that_an_alias_points_to(registry, task):
    for letter in "abc":
        registry.log_training(adapter(task, letter), {"epochs": 3}, {"loss": 0.5})
        registry.register(adapter(task, letter))
    registry.set_aliases(task, champion=f"{task}-a", challenger=f"{task}-b")
    for letter in "abcz":
        registry.forget(f"{task}-{letter}")
    assert {each.adapter_id for each in registry.adapters(task)} == {f"{task}-a", f"{task}-b"}
    assert [registry.find(f"{task}-{letter}").aliases for letter in "ab"] == [("champion",), ("challenger",)]
    assert registry.register(adapter(task, "d")).version == 4  # no number is given twice


def test_what_mlflow_logged_of_a_forgotten_training_is_gone_from_its_tables(tmp_path, registry_in):
    registry = registry_in(tmp_path)
    for letter in "ab":
        registry.log_training(adapter("task", letter), {"epochs": 3}, {"loss": 0.5})
        registry.register(adapter("task", letter))
    registry.forget("task-a")
    with closing(sqlite3.connect(tmp_path / "registry.db")) as tables:
        for table in ("params", "metrics", "runs"):
            assert tables.execute(f"SELECT count(DISTINCT run_uuid) FROM {table}").fetchone() == (1,)
        # A version's row stays, so that its number is not given again.
        stages = tables.execute("SELECT version, current_stage FROM model_versions ORDER BY version").fetchall()
    assert stages == [(1, "Deleted_Internal"), (2, "None")]
    assert [each.adapter_id for each in registry.adapters()] == ["task-b"]
