"""The only reader of the environment and of ``everlearn.toml``: one frozen object that says where everything is.

A setting comes from, in this order: the environment (``EVERLEARN_<TABLE>_<SETTING>``), the file, the default.

The environment is merged here and not by pydantic-settings. That library reads ``os.environ`` only, and callers here
give a mapping of their own. For a list that is not JSON it raises an error that names no setting and hides all other
faults. It also refuses every unknown variable that begins with a table's name, such as ``EVERLEARN_KAFKA_NOTES``.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from schemas.errors import ConfigurationError, Unavailable
from schemas.faults import MAX_SHOWN_FAULTS, shown
from schemas.policies import (
    EMBEDDED,
    TASK_POLICIES,
    AnswererSettings,
    EmbeddingSettings,
    FeedbackPolicy,
    IndexerSettings,
    KafkaSettings,
    MilvusSettings,
    ModelSettings,
    MonitorPolicy,
    PromoterPolicy,
    QuantizerPolicy,
    RegistrySettings,
    RetentionPolicy,
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
DATABASE_NAME = "everlearn.db"
"""The embedded SQL database, in the home folder."""
P = TypeVar("P", bound=Table)


class WrongSettings(ConfigurationError):
    """A configuration with faults, each one a line that names its table and setting."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        more = [f"and {len(faults) - MAX_SHOWN_FAULTS} more"] if len(faults) > MAX_SHOWN_FAULTS else []
        super().__init__(f"{path}: {'; '.join([*faults[:MAX_SHOWN_FAULTS], *more])}")
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
    feedback: FeedbackPolicy = FeedbackPolicy()
    registry: RegistrySettings = RegistrySettings()
    monitor: MonitorPolicy = MonitorPolicy()
    trainer: TrainerPolicy = TrainerPolicy()
    validator: ValidatorPolicy = ValidatorPolicy()
    promoter: PromoterPolicy = PromoterPolicy()
    quantizer: QuantizerPolicy = QuantizerPolicy()
    worker: WorkerSettings = WorkerSettings()
    retention: RetentionPolicy = RetentionPolicy()
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

    def monitor_policy(self, task: str) -> MonitorPolicy:
        """Gives [monitor] with what the task overrides; the same for the other policies below."""
        return _overridden(self.monitor, self.tasks[task].monitor if task in self.tasks else {})

    def trainer_policy(self, task: str) -> TrainerPolicy:
        return _overridden(self.trainer, self.tasks[task].trainer if task in self.tasks else {})

    def validator_policy(self, task: str) -> ValidatorPolicy:
        return _overridden(self.validator, self.tasks[task].validator if task in self.tasks else {})

    def promoter_policy(self, task: str) -> PromoterPolicy:
        return _overridden(self.promoter, self.tasks[task].promoter if task in self.tasks else {})

    def kafka_bootstrap(self) -> str:
        """Raises Unavailable when the embedded broker is not running."""
        if self.kafka.bootstrap_servers != EMBEDDED:
            return self.kafka.bootstrap_servers
        return self._endpoint("kafka")

    def milvus_uri(self) -> str:
        """Raises Unavailable when the embedded server is not running."""
        return self.milvus.uri if self.milvus.uri != EMBEDDED else self._endpoint("milvus")

    def sql_url(self) -> str:
        return self.sql.url if self.sql.url != EMBEDDED else f"sqlite:///{self.home / DATABASE_NAME}"

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

TABLES_OF_TASKS = frozenset(TABLES) - (frozenset(Task.model_fields) - frozenset(TASK_POLICIES))
"""Names of tables that mean an override where they stand in a task; a task's ``retrieval`` is a setting of its own."""


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
    wrong = []
    if isinstance(tasks, dict):
        for name, task in tasks.items():
            if isinstance(task, dict):
                found = override_faults(task, values)
                wrong += [f"tasks.{shown(name)}.{fault}" for fault in found]
                own = {key: value for key, value in task.items() if not found or key not in TABLES_OF_TASKS}
                tasks[name] = {"name": name, **own}
    try:
        settings = Settings(**{**values, "home": home, "config": path if path.is_file() else None})
    except ValidationError as error:
        faults += map(str, _problems_of(error))
    faults += wrong
    if faults:
        raise WrongSettings(path, faults)
    return settings


def override_faults(task: Mapping[str, object], tables: Mapping[str, object]) -> list[str]:
    """Names what is wrong with the policies that a task overrides, such as ``trainer.epochs: …``.

    ``tables``: what the file and the environment say of all tables. A rule about several settings holds for what
    both say together.
    """
    faults: list[str] = []
    for name, own in task.items():
        if name in TASK_POLICIES:
            faults += _faults_of_override(name, own, tables.get(name))
        elif name in TABLES_OF_TASKS:
            faults.append(f"{name}: cannot be set for a task, only {', '.join(TASK_POLICIES)} can")
    return faults


def misspelled(setting: str, known: Iterable[str]) -> str:
    """Says that there is no such setting, and which one was probably meant."""
    known = list(known)
    near = difflib.get_close_matches(setting, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
    return f"{shown(setting)}: unknown setting; {hint}"


def merge_environment(values: dict[str, Any], environ: Mapping[str, str] | None = None) -> None:
    """Puts what the environment sets into the tables, over what the file says. An empty variable sets nothing."""
    environ = os.environ if environ is None else environ
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


class _Problem(NamedTuple):
    """What pydantic says of one setting, or a validator of ours (``is_rule``) of a whole table."""

    place: list[str]
    message: str
    is_rule: bool

    def __str__(self) -> str:
        if self.is_rule and len(self.place) == 1:
            return f"[{self.place[0]}] {self.message}"
        return f"{'.'.join(self.place)}: {self.message}"


def _faults_of_override(name: str, own: object, table: object) -> list[str]:
    policy = TASK_POLICIES[name]
    if not isinstance(own, Mapping):
        return [f"{name}: is not a table: write [tasks.NAME.{name}]"]
    known = [setting for setting in policy.model_fields if setting not in policy.PER_PROCESS]
    faults = []
    for setting in own:
        if setting in policy.PER_PROCESS:
            faults.append(f"{name}.{setting}: holds for all tasks of a process: set it in [{name}]")
        elif setting not in known:
            faults.append(f"{name}.{misspelled(setting, known)}")
    sound = {setting: value for setting, value in own.items() if setting in known}
    general = table if isinstance(table, Mapping) else {}
    for each in _problems(policy, {**general, **sound}):
        if each.place and each.place[0] in sound:
            faults.append(f"{name}.{each}")
        elif not each.place and not _problems(policy, general):  # otherwise the table itself breaks the rule
            faults.append(f"{name}: {each.message}")
    return faults


def _problems(table: type[Table], values: Mapping[str, object]) -> list[_Problem]:
    try:
        table.model_validate(values)
    except ValidationError as error:
        return _problems_of(error)
    return []


def _problems_of(error: ValidationError) -> list[_Problem]:
    return [
        _Problem(
            [shown(part) if isinstance(part, str) else str(part) for part in each["loc"]],
            each["msg"].removeprefix("Value error, "),
            each["type"] == "value_error",
        )
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _overridden(policy: P, own: Mapping[str, object]) -> P:
    return type(policy).model_validate({**policy.model_dump(), **own}) if own else policy


def _variable(table: str, setting: str) -> str:
    return f"EVERLEARN_{table.upper()}_{setting.upper()}"
