"""The in-memory twin of ``infra.registry.mlflow``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Any

from schemas.errors import AdapterMissing, Unavailable
from schemas.registry import AdapterRecord, AdapterState, ModelRecord
from schemas.tasks import TaskFingerprint


@dataclass(frozen=True, kw_only=True)
class LoggedTraining:
    """What was logged of a training run."""

    adapter_id: str
    params: dict[str, Any]
    metrics: dict[str, float]


class MemoryRegistry:
    """Records in dictionaries. While ``away`` is true nothing can be reached."""

    def __init__(self) -> None:
        self.away = False
        self.trainings: dict[str, LoggedTraining] = {}
        self._adapters: dict[str, AdapterRecord] = {}
        self._versions: dict[str, int] = {}
        self._models: list[ModelRecord] = []
        self._lock = Lock()

    def prepare(self) -> None:
        """Nothing to prepare."""
        self._reach()

    def register(self, record: AdapterRecord) -> AdapterRecord:
        """The record with its version, counted from 1 in its task; the one that is there already, if there is one."""
        self._reach()
        with self._lock:
            known = self._adapters.get(record.adapter_id)
            if known is None:
                self._versions[record.task] = self._versions.get(record.task, 0) + 1
                known = replace(record, version=self._versions[record.task], aliases=())
                self._adapters[record.adapter_id] = known
            if known.removed_at is not None:
                known = replace(known, removed_at=None, created_at=record.created_at)
                self._adapters[record.adapter_id] = known
            return known

    def mark_removed(self, adapter_id: str, at: datetime | None) -> None:
        """Notes that the files of an adapter may go, or with None that they are kept. Raises AdapterMissing."""
        self._reach()
        with self._lock:
            self._adapters[adapter_id] = replace(self._required(adapter_id), removed_at=at)

    def forget(self, adapter_id: str) -> None:
        """Deletes the entry of an adapter and what was logged of its training, unless an alias points to it."""
        self._reach()
        with self._lock:
            record = self._adapters.get(adapter_id)
            if record is not None and not record.aliases:
                del self._adapters[adapter_id]
                self.trainings.pop(record.run_id, None)

    def find(self, adapter_id: str) -> AdapterRecord | None:
        """The record of an adapter."""
        self._reach()
        return self._adapters.get(adapter_id)

    def adapters(self, task: str | None = None) -> list[AdapterRecord]:
        """Of a task or of all, newest first."""
        self._reach()
        records = [each for each in self._adapters.values() if task in (None, each.task)]
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
        """Writes down what the validator found. Raises AdapterMissing when the adapter is not registered."""
        self._reach()
        with self._lock:
            self._adapters[adapter_id] = replace(
                self._required(adapter_id),
                state=state,
                scores=dict(scores),
                reasons=tuple(reasons),
                report_uri=report_uri,
                validated_as=validated_as,
            )

    def set_aliases(self, task: str, *, champion: str | None, challenger: str | None) -> None:
        """Makes the aliases follow the release state, by adapter ids; an alias of nobody is removed.

        Raises AdapterMissing, and changes nothing, when one of them is not registered.
        """
        self._reach()
        with self._lock:
            wanted = {"challenger": challenger, "champion": champion}
            for adapter_id in filter(None, wanted.values()):
                self._required(adapter_id)
            for adapter_id, record in self._adapters.items():
                if record.task == task:
                    aliases = tuple(alias for alias, holder in wanted.items() if holder == adapter_id)
                    self._adapters[adapter_id] = replace(record, aliases=aliases)

    def register_model(self, record: ModelRecord) -> ModelRecord:
        """The record with its version; the one of the same name, scheme and location, if there is one."""
        self._reach()
        with self._lock:
            same = [each for each in self._models if each.name == record.name]
            for each in same:
                if (each.scheme, each.location) == (record.scheme, record.location):
                    return each
            numbered = replace(record, version=len(same) + 1)
            self._models.append(numbered)
            return numbered

    def models(self, name: str | None = None) -> list[ModelRecord]:
        """Versions of a model or of all, newest first."""
        self._reach()
        records = [each for each in self._models if name in (None, each.name)]
        return sorted(records, key=lambda each: (each.created_at, each.version), reverse=True)

    def log_training(self, record: AdapterRecord, params: dict[str, Any], metrics: dict[str, float]) -> None:
        """What a training was done with and what it came to; the first time counts."""
        self._reach()
        logged = LoggedTraining(adapter_id=record.adapter_id, params=dict(params), metrics=dict(metrics))
        self.trainings.setdefault(record.run_id, logged)

    def _required(self, adapter_id: str) -> AdapterRecord:
        try:
            return self._adapters[adapter_id]
        except KeyError:
            raise AdapterMissing(f"{adapter_id} is not in the registry: train it again, or choose another") from None

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("the registry in memory is away: bring it back")
