"""Translates the registry's records to tags of MLflow's model versions and back."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from schemas.figures import finite
from schemas.registry import AdapterRecord, ModelRecord
from schemas.tasks import TaskFingerprint

ADAPTERS, MODELS = "everlearn.", "everlearn-model."
"""Prefixes of MLflow's registered models; the name of a task or a model follows."""
REMOVED = "removed_at"
JUDGEMENT = "judgement"
"""One tag for state, scores, reasons and report, so that a judgement is written whole."""


class MlflowVersion(Protocol):
    """What is read of MLflow's ``ModelVersion``."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def tags(self) -> dict[str, str]: ...


def adapter_tags(record: AdapterRecord) -> dict[str, str]:
    return {
        "adapter_id": record.adapter_id,
        "task": record.task,
        "base_model": record.base_model,
        "dataset_id": record.dataset_id,
        "run_id": record.run_id,
        "size_bytes": str(record.size_bytes),
        "created_at": record.created_at.isoformat(),
        "metrics": json.dumps(finite(record.metrics)),
        **({"cause": record.cause} if record.cause is not None else {}),
        **({"trained_as": record.trained_as.model_dump_json()} if record.trained_as is not None else {}),
        **judgement_tags(record.state, record.scores, list(record.reasons), record.report_uri, record.validated_as),
    }


def judgement_tags(
    state: str,
    scores: dict[str, float],
    reasons: list[str],
    report_uri: str | None,
    validated_as: TaskFingerprint | None,
) -> dict[str, str]:
    """Returns the tags of a judgement. ``state`` is repeated for people who look into MLflow; no code reads it."""
    judgement: dict[str, Any] = {
        "state": state, "scores": finite(scores), "reasons": reasons, "report_uri": report_uri,
    }  # fmt: skip
    if validated_as is not None:
        judgement["validated_as"] = validated_as.model_dump(mode="json")
    return {JUDGEMENT: json.dumps(judgement), "state": state}


def adapter_of(version: MlflowVersion, aliases: tuple[str, ...]) -> AdapterRecord:
    tags = version.tags
    judgement: dict[str, Any] = json.loads(tags[JUDGEMENT])
    return AdapterRecord(
        adapter_id=tags["adapter_id"],
        task=tags["task"],
        base_model=tags["base_model"],
        dataset_id=tags["dataset_id"],
        run_id=tags["run_id"],
        size_bytes=int(tags["size_bytes"]),
        created_at=datetime.fromisoformat(tags["created_at"]),
        version=int(version.version),
        cause=tags.get("cause"),
        state=judgement["state"],
        scores=finite(judgement["scores"]),
        reasons=tuple(judgement["reasons"]),
        report_uri=judgement["report_uri"],
        aliases=aliases,
        metrics=finite(json.loads(tags["metrics"])),
        removed_at=datetime.fromisoformat(tags[REMOVED]) if tags.get(REMOVED) else None,
        trained_as=TaskFingerprint.model_validate_json(tags["trained_as"]) if "trained_as" in tags else None,
        validated_as=TaskFingerprint.model_validate(judgement["validated_as"]) if "validated_as" in judgement else None,
    )


def model_tags(record: ModelRecord) -> dict[str, str]:
    optional = {
        "scheme": record.scheme,
        "loss": None if record.loss is None else repr(record.loss),
        "source_version": None if record.source_version is None else str(record.source_version),
    }
    return {
        "model": record.name,
        "location": record.location,
        "size_bytes": str(record.size_bytes),
        "created_at": record.created_at.isoformat(),
        **{name: value for name, value in optional.items() if value is not None},
    }


def model_of(version: MlflowVersion) -> ModelRecord:
    tags = version.tags
    return ModelRecord(
        name=tags["model"],
        location=tags["location"],
        size_bytes=int(tags["size_bytes"]),
        created_at=datetime.fromisoformat(tags["created_at"]),
        version=int(version.version),
        scheme=tags.get("scheme"),
        loss=float(tags["loss"]) if "loss" in tags else None,
        source_version=int(tags["source_version"]) if "source_version" in tags else None,
    )


def model_source(location: str) -> str:
    """Returns an MLflow source: a folder as a URI, or the name by which the model was added."""
    return Path(location).as_uri() if Path(location).is_absolute() else f"everlearn:{location}"
