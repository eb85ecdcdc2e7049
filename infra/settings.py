"""The only reader of the environment and of ``everlearn.toml``: one frozen object that says where everything is.

A setting comes from, in this order: the environment (``EVERLEARN_<TABLE>_<SETTING>``), the file, the default.

The environment is merged here and not by pydantic-settings. That library reads ``os.environ`` only, and callers here
give a mapping of their own. For a list that is no JSON it raises an error that names no setting and hides all other
faults. It also makes an error of every variable that begins with a table's name, which others may have set.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from schemas.errors import ConfigurationError, Unavailable
from schemas.faults import MAX_FAULTS_TOLD, shown
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


class WrongSettings(ConfigurationError):
    """A configuration with faults, each one a line that names its table and setting."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        more = [f"and {len(faults) - MAX_FAULTS_TOLD} more"] if len(faults) > MAX_FAULTS_TOLD else []
        super().__init__(f"{path}: {'; '.join([*faults[:MAX_FAULTS_TOLD], *more])}")
        self.faults = tuple(faults)


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


TABLES: Mapping[str, type[Table]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Table)
}
"""The tables of the file besides the tasks, by name."""


def is_secret(field: FieldInfo) -> bool:
    """Tells whether a setting is read from the environment alone."""
    return SecretStr in get_args(field.annotation)


def locate(
    home: Path | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Gives the home folder and its configuration file. Neither need exist, but a file that was named must."""
    environ = os.environ if environ is None else environ
    home = (home or Path(environ.get("EVERLEARN_HOME") or DEFAULT_HOME)).expanduser().absolute()
    config = config or (Path(environ["EVERLEARN_CONFIG"]) if environ.get("EVERLEARN_CONFIG") else None)
    if config is not None and not config.is_file():
        raise ConfigurationError(
            f"there is no configuration file {config}: give --config a file, or run 'everlearn init'"
        )
    return home, config or home / CONFIG_NAME


def load(home: Path | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings of a home folder, which need not exist yet.

    Raises WrongSettings with every fault, and ConfigurationError when the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    home, path = locate(home, config, environ)
    values = _read(path) if path.is_file() else {}
    faults = _secrets_in(values)
    merge_environment(values, environ)
    tasks = values.get("tasks", {})
    if isinstance(tasks, dict):
        values["tasks"] = {
            name: {"name": name, **task} if isinstance(task, dict) else task for name, task in tasks.items()
        }
    try:
        settings = Settings(**{**values, "home": home, "config": path if path.is_file() else None})
    except ValidationError as error:
        faults += _faults_of(error)
    if faults:
        raise WrongSettings(path, faults)
    return settings


def merge_environment(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Puts what the environment sets into the tables, over what the file says. An empty variable sets nothing."""
    for table, known in TABLES.items():
        for setting in known.model_fields:
            text = environ.get(_variable(table, setting))
            if text and isinstance(values.setdefault(table, {}), dict):
                values[table][setting] = text


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _secrets_in(values: dict[str, Any]) -> list[str]:
    """Takes secrets out of what a file says, and gives a fault for each."""
    faults = []
    for table, known in TABLES.items():
        written = values.get(table)
        for setting in known.model_fields:
            if is_secret(known.model_fields[setting]) and isinstance(written, dict) and setting in written:
                del written[setting]
                faults.append(f"[{table}] {setting} is a secret: set {_variable(table, setting)} instead")
    return faults


def _faults_of(error: ValidationError) -> list[str]:
    """One line a fault. A rule about several settings of a table is named by the table: ``[monitor] flags = …``."""
    faults = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        message = each["msg"].removeprefix("Value error, ")
        place = [shown(part) if isinstance(part, str) else str(part) for part in each["loc"]]
        is_rule = each["type"] == "value_error" and len(place) == 1
        faults.append(f"[{place[0]}] {message}" if is_rule else f"{'.'.join(place)}: {message}")
    return faults


def _variable(table: str, setting: str) -> str:
    return f"EVERLEARN_{table.upper()}_{setting.upper()}"
