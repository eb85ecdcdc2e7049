"""The only reader of the environment and of ``everlearn.toml``: one frozen object that says where everything is.

A setting comes from, in this order: the environment (``EVERLEARN_<TABLE>_<SETTING>``), the file, the default.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from schemas.errors import ConfigurationError, Unavailable
from schemas.faults import describe
from schemas.policies import (
    EMBEDDED,
    AnswererSettings,
    EmbeddingSettings,
    IndexerSettings,
    KafkaSettings,
    MilvusSettings,
    ModelSettings,
    MonitorPolicy,
    PromoterPolicy,
    QuantizerPolicy,
    RegistrySettings,
    RetrievalSettings,
    SqlSettings,
    Table,
    TenantsSettings,
    TrainerPolicy,
    ValidatorPolicy,
    WorkerSettings,
)
from schemas.tasks import Task

DEFAULT_HOME = Path(".everlearn")
CONFIG_NAME = "everlearn.toml"


class Settings(Table):
    """Everything configurable. ``home`` is absolute."""

    home: Path
    config: Path | None = None
    kafka: KafkaSettings = KafkaSettings()
    sql: SqlSettings = SqlSettings()
    milvus: MilvusSettings = MilvusSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    model: ModelSettings = ModelSettings()
    indexer: IndexerSettings = IndexerSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    tenants: TenantsSettings = TenantsSettings()
    answerer: AnswererSettings = AnswererSettings()
    registry: RegistrySettings = RegistrySettings()
    monitor: MonitorPolicy = MonitorPolicy()
    trainer: TrainerPolicy = TrainerPolicy()
    validator: ValidatorPolicy = ValidatorPolicy()
    promoter: PromoterPolicy = PromoterPolicy()
    quantizer: QuantizerPolicy = QuantizerPolicy()
    worker: WorkerSettings = WorkerSettings()
    tasks: dict[str, Task] = Field(default_factory=dict)

    @property
    def run_folder(self) -> Path:
        """Endpoints, process ids and logs of the embedded stack."""
        return self.home / "run"

    @property
    def models_folder(self) -> Path:
        return self.home / (self.model.folder or Path("models")).expanduser()

    @property
    def adapters_folder(self) -> Path:
        return self.home / "adapters"

    @property
    def datasets_folder(self) -> Path:
        return self.home / "datasets"

    @property
    def reports_folder(self) -> Path:
        return self.home / "reports"

    @property
    def registry_folder(self) -> Path:
        """What MLflow keeps beside its tables, and quantized models."""
        return self.home / "registry"

    def kafka_bootstrap(self) -> str:
        """Raises Unavailable when the embedded broker is not running."""
        if self.kafka.bootstrap_servers != EMBEDDED:
            return self.kafka.bootstrap_servers
        return self._endpoint("kafka")

    def milvus_uri(self) -> str:
        """Raises Unavailable when the embedded server is not running."""
        return self.milvus.uri if self.milvus.uri != EMBEDDED else self._endpoint("milvus")

    def sql_url(self) -> str:
        return self.sql.url if self.sql.url != EMBEDDED else f"sqlite:///{self.home / 'everlearn.db'}"

    def registry_url(self) -> str:
        return self.registry.url if self.registry.url != EMBEDDED else f"sqlite:///{self.home / 'registry.db'}"

    def _endpoint(self, name: str) -> str:
        path = self.run_folder / "endpoints.json"
        try:
            return str(json.loads(path.read_text())[name])
        except (OSError, KeyError, ValueError):
            raise Unavailable(
                f"no embedded {name} runs in {self.home}: start it with 'everlearn up', "
                f"or set [{name}] in {CONFIG_NAME}"
            ) from None


def locate(
    home: Path | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """The home folder and its configuration file; neither need exist, but a file that was asked for must."""
    environ = os.environ if environ is None else environ
    home = (home or Path(environ.get("EVERLEARN_HOME") or DEFAULT_HOME)).expanduser().absolute()
    config = config or (Path(environ["EVERLEARN_CONFIG"]) if environ.get("EVERLEARN_CONFIG") else None)
    if config is not None and not config.is_file():
        raise ConfigurationError(
            f"there is no configuration file {config}: give --config a file, or run 'everlearn init'"
        )
    return home, config or home / CONFIG_NAME


def load(home: Path | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a home folder, which need not exist yet. Raises ConfigurationError with every fault named."""
    environ = os.environ if environ is None else environ
    home, path = locate(home, config, environ)
    values: dict[str, Any] = _read(path) if path.is_file() else {}
    for table in ("kafka", "milvus"):
        for secret in ("sasl_password", "token"):
            if isinstance(values.get(table), dict) and secret in values[table]:
                raise ConfigurationError(
                    f"{path}: [{table}] {secret} is a secret: set EVERLEARN_{table.upper()}_{secret.upper()} instead"
                )
    _merge_environment(values, environ)
    tasks = values.get("tasks", {})
    if isinstance(tasks, dict):
        values["tasks"] = {
            name: {"name": name, **task} if isinstance(task, dict) else task for name, task in tasks.items()
        }
    try:
        return Settings(**{**values, "home": home, "config": path if path.is_file() else None})
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {describe(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _merge_environment(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    for table, field in Settings.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Table)):
            continue
        for setting in field.annotation.model_fields:
            text = environ.get(f"EVERLEARN_{table.upper()}_{setting.upper()}")
            if text:
                values.setdefault(table, {})[setting] = text
