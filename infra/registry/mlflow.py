"""The registry on MLflow: adapters and models as versions, with their lineage and their validation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.registry.connection import MlflowConnection
from infra.registry.tags import (
    ADAPTERS,
    MODELS,
    REMOVED,
    adapter_of,
    adapter_tags,
    judgement_tags,
    model_of,
    model_source,
    model_tags,
)
from schemas.errors import AdapterMissing
from schemas.figures import finite
from schemas.registry import AdapterRecord, AdapterState, ModelRecord
from schemas.tasks import TaskFingerprint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.entities.model_registry import ModelVersion

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What may be put into an MLflow filter, which has no parameters."""
_PAGE = 1000
_LONGEST_PARAMETER = 6000
_RUN_TAG = "everlearn.run_id"


class MlflowRegistry:
    """MLflow's model registry behind an SQLAlchemy URL. Usable from many threads and processes at once.

    Every method raises Unavailable when the store cannot be reached or has no tables yet. ``adapters_folder`` is the
    folder that adapters' versions point to; ``adapters`` beside ``folder`` where absent.
    """

    def __init__(self, url: str, folder: Path, *, adapters_folder: Path | None = None) -> None:
        self._mlflow = MlflowConnection(url, folder)
        self._adapters_folder = (adapters_folder or folder.parent / "adapters").absolute()

    def prepare(self) -> None:
        """Creates or upgrades MLflow's tables; quick when there is nothing to do, harmless in two processes at once."""
        self._mlflow.prepare()

    def close(self) -> None:
        """Closes idle connections; they open again when they are needed."""
        self._mlflow.close()

    def register(self, record: AdapterRecord) -> AdapterRecord:
        """Registers an adapter; returns the record with its version, counted from 1 in its task.

        Returns the record that exists already, if there is one. If its files were removed, they are there again.
        """
        source = (self._adapters_folder / record.adapter_id).as_uri()

        def register(client: MlflowClient) -> AdapterRecord:
            version = _first_adapter(client, record.adapter_id) or _create(
                client, ADAPTERS + record.task, source, adapter_tags(record)
            )
            # Another machine may have registered it at the same time: the first version counts.
            first = _first_adapter(client, record.adapter_id) or version
            if first.version != version.version:
                client.delete_model_version(version.name, version.version)
            if first.tags.get(REMOVED):
                for name, value in ((REMOVED, ""), ("created_at", record.created_at.isoformat())):
                    client.set_model_version_tag(first.name, first.version, name, value)
                first = _required(client, record.adapter_id)
            return _with_aliases(client, [first])[0]

        return self._mlflow.write(register)

    def mark_removed(self, adapter_id: str, at: datetime | None) -> None:
        """Notes that the files of an adapter may go, or with None that they are kept. Raises AdapterMissing."""

        def mark(client: MlflowClient) -> None:
            version = _required(client, adapter_id)
            value = "" if at is None else at.isoformat()
            client.set_model_version_tag(version.name, version.version, REMOVED, value)

        self._mlflow.write(mark)

    def forget(self, adapter_id: str) -> None:
        """Deletes the entry of an adapter and what was logged of its training, unless an alias points to it.

        MLflow keeps a hidden row of the version, so that its number is not given again.
        """

        def forget(client: MlflowClient) -> None:
            version = _first_adapter(client, adapter_id)
            if version is None or str(version.version) in map(str, _aliases(client, version.name).values()):
                return
            if (experiment := client.get_experiment_by_name(version.name)) is not None:
                _delete_runs(client, str(experiment.experiment_id), version.tags["run_id"])
            client.delete_model_version(version.name, version.version)

        self._mlflow.write(forget)

    def find(self, adapter_id: str) -> AdapterRecord | None:
        """Returns the record of an adapter, or None."""

        def find(client: MlflowClient) -> AdapterRecord | None:
            version = _first_adapter(client, adapter_id)
            return None if version is None else _with_aliases(client, [version])[0]

        return self._mlflow.read(find)

    def adapters(self, task: str | None = None) -> list[AdapterRecord]:
        """Lists the adapters of a task or of all, newest first."""
        if task is not None and not _PLAIN.fullmatch(task):
            return []
        wanted = f"name LIKE '{ADAPTERS}%'" if task is None else f"name = '{ADAPTERS}{task}'"
        records = self._mlflow.read(lambda client: _with_aliases(client, list(_search(client, wanted))))
        return sorted(records, key=lambda each: (each.created_at, each.version), reverse=True)

    def judge(
        self,
        adapter_id: str,
        *,
        state: AdapterState,
        scores: dict[str, float],
        reasons: Sequence[str],
        report_uri: str | None,
        validated_as: TaskFingerprint | None = None,
    ) -> None:
        """Records the validator's judgement. Raises AdapterMissing when the adapter is not registered."""

        def judge(client: MlflowClient) -> None:
            version = _required(client, adapter_id)
            for name, value in judgement_tags(state, scores, list(reasons), report_uri, validated_as).items():
                client.set_model_version_tag(version.name, version.version, name, value)

        self._mlflow.write(judge)

    def set_aliases(self, task: str, *, champion: str | None, challenger: str | None) -> None:
        """Sets the aliases of a task to these adapter ids; None removes an alias.

        Raises AdapterMissing, and changes nothing, when one of the adapters is not registered.
        """

        def set_aliases(client: MlflowClient) -> None:
            wanted = {
                alias: _required(client, adapter_id).version
                for alias, adapter_id in (("champion", champion), ("challenger", challenger))
                if adapter_id is not None
            }
            name = ADAPTERS + task
            current = _aliases(client, name)
            for alias in ("champion", "challenger"):
                if alias in wanted and str(current.get(alias)) != str(wanted[alias]):
                    client.set_registered_model_alias(name, alias, str(wanted[alias]))
                if alias not in wanted and alias in current:
                    client.delete_registered_model_alias(name, alias)

        self._mlflow.write(set_aliases)

    def register_model(self, record: ModelRecord) -> ModelRecord:
        """Registers a model; returns the record with its version.

        Returns the record of the same name, scheme and location, if there is one.
        """

        def register(client: MlflowClient) -> ModelRecord:
            for each in self._models(client, record.name):
                if (each.scheme, each.location) == (record.scheme, record.location):
                    return each
            source = model_source(record.location)
            return model_of(_create(client, MODELS + record.name, source, model_tags(record)))

        return self._mlflow.write(register)

    def models(self, name: str | None = None) -> list[ModelRecord]:
        """Lists the versions of a model or of all, newest first."""
        if name is not None and not _PLAIN.fullmatch(name):
            return []
        records = self._mlflow.read(lambda client: list(self._models(client, name)))
        return sorted(records, key=lambda each: (each.created_at, each.version), reverse=True)

    def log_training(self, record: AdapterRecord, params: dict[str, Any], metrics: dict[str, float]) -> None:
        """Logs a training as an MLflow run in the task's experiment, under the training run's id.

        Does nothing when that run is logged already. Metrics that are not finite are left out.
        """
        shown = {name: str(value)[:_LONGEST_PARAMETER] for name, value in params.items()}
        tags = {_RUN_TAG: record.run_id, "adapter_id": record.adapter_id, "dataset_id": record.dataset_id}

        def log(client: MlflowClient) -> None:
            experiment = self._experiment(client, record.task)
            filter_string = f"tags.`{_RUN_TAG}` = '{_filterable(record.run_id)}'"
            for run in client.search_runs([experiment], filter_string=filter_string):
                if run.info.status == "FINISHED":
                    return
                client.delete_run(run.info.run_id)  # an interrupted attempt; parameters cannot be written twice
            began = record.created_at.timestamp() - metrics.get("seconds", 0.0)
            run_id = client.create_run(
                experiment, start_time=int(began * 1000), tags=tags, run_name=record.run_id
            ).info.run_id
            logged, described = _batch(finite(metrics), shown, record.created_at)
            client.log_batch(run_id, metrics=logged, params=described)
            client.set_terminated(run_id, end_time=int(record.created_at.timestamp() * 1000))

        self._mlflow.write(log)

    def _experiment(self, client: MlflowClient, task: str) -> str:
        found = client.get_experiment_by_name(ADAPTERS + task)
        if found is not None:
            return str(found.experiment_id)
        return str(client.create_experiment(ADAPTERS + task, artifact_location=f"{self._mlflow.artifacts}/{task}"))

    def _models(self, client: MlflowClient, name: str | None) -> Iterator[ModelRecord]:
        wanted = f"name LIKE '{MODELS}%'" if name is None else f"name = '{MODELS}{_filterable(name)}'"
        return map(model_of, _search(client, wanted))


def _delete_runs(client: MlflowClient, experiment: str, run_id: str) -> None:
    """Deletes the rows of a training's runs."""
    from mlflow.entities import ViewType

    wanted = f"tags.`{_RUN_TAG}` = '{_filterable(run_id)}'"
    for run in client.search_runs([experiment], filter_string=wanted, run_view_type=ViewType.ALL):
        # Private: the public method only hides a run, and ``mlflow gc`` deletes its rows by this one.
        client._tracking_client.store._hard_delete_run(run.info.run_id)


def _search(client: MlflowClient, filter_string: str) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = client.search_model_versions(
            filter_string, max_results=_PAGE, order_by=["version_number ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _first_adapter(client: MlflowClient, adapter_id: str) -> ModelVersion | None:
    if not _PLAIN.fullmatch(adapter_id):
        return None
    return next(_search(client, f"tags.adapter_id = '{adapter_id}' AND name LIKE '{ADAPTERS}%'"), None)


def _required(client: MlflowClient, adapter_id: str) -> ModelVersion:
    version = _first_adapter(client, adapter_id)
    if version is None:
        raise AdapterMissing(f"{adapter_id} is not in the registry: train it again, or choose another")
    return version


def _create(client: MlflowClient, name: str, source: str, tags: dict[str, str]) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(name, source, tags=tags)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Returns versions by alias, which MLflow's search of versions leaves out."""
    return {
        alias: of for each in client.search_registered_models(f"name = '{name}'") for alias, of in each.aliases.items()
    }


def _with_aliases(client: MlflowClient, versions: Sequence[ModelVersion]) -> list[AdapterRecord]:
    aliases = {name: _aliases(client, name) for name in {version.name for version in versions}}
    return [
        adapter_of(
            version,
            tuple(sorted(each for each, of in aliases[version.name].items() if str(of) == str(version.version))),
        )
        for version in versions
    ]


def _batch(metrics: dict[str, float], params: dict[str, str], at: datetime) -> tuple[list[Metric], list[Param]]:
    from mlflow.entities import Metric, Param

    moment = int(at.astimezone(UTC).timestamp() * 1000)
    return (
        [Metric(name, value, moment, 0) for name, value in metrics.items()],
        [Param(name, value) for name, value in params.items()],
    )


def _filterable(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text!r} cannot be looked for in MLflow: use letters, digits, dots, dashes, underscores")
    return text
